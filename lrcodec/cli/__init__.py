"""The command `lrq`."""
