"""The experiments of the paper that the project starts from."""
