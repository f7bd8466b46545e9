"""Tasks of real documents: public benchmarks, and the files of a user."""
