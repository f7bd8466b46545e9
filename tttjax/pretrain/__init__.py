"""Trains the embedded checkpoint: a small Qwen3 on synthetic bank logs, from scratch."""
