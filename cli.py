"""Run the command line from a checkout: `python cli.py encode photo.png`."""

from lrcodec.cli.main import main

main()
