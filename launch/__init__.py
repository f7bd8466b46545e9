"""Programs that start many runs; used from the repository's root."""
