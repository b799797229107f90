"""What every reader and writer of .lrq files must agree on: the container, its chunks, sizes of planes and numbers."""
