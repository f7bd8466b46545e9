"""Programs that start many runs; used from the repository's root."""

from tttjax import program  # Ctrl-C is heard during the imports, which take seconds
