"""Decoding after a frozen context: the loop, sampling, the thinking budget, scoring."""
