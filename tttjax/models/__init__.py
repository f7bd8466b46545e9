"""Qwen3 in Flax Linen: configuration, modules, RoPE and YaRN."""
