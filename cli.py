"""Run the command line from a checkout: `python cli.py encode photo.png`."""

from lrcodec.cli import main

main()
