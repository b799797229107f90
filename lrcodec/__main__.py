"""`python -m lrcodec` is `lrq`."""

from .cli.main import main

main(prog_name="lrq")
