"""`lrq thumbnail`."""

from pathlib import Path

import click

from ..files import naming, read_file, refuse_input, title, write_file
from ..format import container
from ..format.metadata import unpack_metadata
from ..format.shrink import SHRINKS
from .help import Command
from .options import FILE, MAX_PIXELS, MODELS


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.argument("output", metavar="OUT.png", type=FILE)
@click.option(
    "--size",
    metavar="N",
    type=click.IntRange(1, container.MAX_SIDE),
    default=256,
    show_default=True,
    help="Pixels of the longer side; an image that is smaller keeps its own.",
)
@MAX_PIXELS
@MODELS
def thumbnail(file: Path, output: Path, size: int, max_pixels: int, models: tuple[str, ...]) -> None:
    """Write a small PNG of one .lrq file, upright as its EXIF says. - is standard input or output.

    File managers call this: see lrq integrate. A file OUT.png that exists is replaced. The image is decoded at 1/2 to
    1/16 of its size, as far as that is larger than N, and scaled down from there. It keeps its ICC profile.
    """
    from ..decoder import Decoder
    from ..image_io import upright_thumbnail

    refuse_input(output, [file])
    data = read_file(file)
    with naming(title(file)):
        header, chunks = container.unpack(data)
        longer = max(header.width, header.height)
        shrink = max((s for s in SHRINKS if s * size <= longer), default=1)
        pixels = Decoder(models, max_pixels).decode(data, shrink)
        box = header.width / shrink, header.height / shrink
        scale = min(1, size / longer)
        sides = max(1, round(header.width * scale)), max(1, round(header.height * scale))
        image = upright_thumbnail(pixels, box, sides, unpack_metadata(chunks))
    if output.is_file():
        output.write_bytes(image)  # in place: tumbler, which made it, holds it open, and would not see another
    else:
        write_file(output, image)
