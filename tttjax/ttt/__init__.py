"""Query-only test-time training: Algorithm 1 of the paper (step.py) and its public functions."""
