"""The decoder in Flax Linen: configuration, modules, RoPE and YaRN; a file for each family."""
