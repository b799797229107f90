"""`lrq decode`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..files import STANDARD
from ..format import container
from ..format.shrink import SHRINKS
from .batch import Batch, Loaded, Written
from .help import Command
from .images import Job, Strips, decode_images, job_of, size_text, write_image
from .options import (
    FILE,
    MAX_PIXELS,
    MODELS,
    SOURCES,
    THREADS,
    Region,
    batch_options,
    check_decoded,
    image_suffix,
    is_image,
    is_lrq,
    name_output,
)

GROUP_PIXELS = 2**20
"""Pixels of small images in a batch: about a second's work, and as fast as more at once."""


@click.command(cls=Command)
@SOURCES
@click.option(
    "-o", "--output", metavar="OUT", type=FILE, help="The suffix gives the format. Default: IN with the suffix .png."
)
@click.option(
    "--format",
    "suffix",
    metavar="FORMAT",
    type=image_suffix,
    help="Such as png, ppm or webp. Default: the suffix of OUT; png without an OUT or on standard output.",
)
@click.option(
    "--output-quality",
    metavar="N",
    type=click.IntRange(0, 100),
    help="Quality as Pillow counts it. Default: 95 for .jpg; .webp is lossless without it.",
)
@batch_options
@MAX_PIXELS
@MODELS
@THREADS
@click.option(
    "--region", metavar="X,Y,W,H", type=Region.parse, help="Decode only this rectangle, in pixels from the top left."
)
@click.option(
    "--shrink",
    type=click.Choice([*map(str, SHRINKS)]),
    default="1",
    show_default=True,
    help="Decode at 1/N of the size, which is faster. --region then counts in pixels of that size.",
)
@click.option(
    "--partial",
    is_flag=True,
    help="Of a file that is cut short or damaged, decode what is left; the exit code is then 7.",
)
def decode(
    sources: tuple[Path, ...],
    output: Path | None,
    suffix: str | None,
    output_quality: int | None,
    batch_arguments: dict[str, Any],
    max_pixels: int,
    models: tuple[str, ...],
    threads: int,
    region: Region | None,
    shrink: str,
    partial: bool,
) -> None:
    """Decode .lrq files, or those in folders. - is standard input or output.

    `lrq decode IN OUT.png` is `lrq decode IN -o OUT.png` if there is no OUT.png yet, with any suffix of an image.

    If one of several files fails, the others go on; the exit code is that of the first failure.
    """
    from ..image_io import check_quality

    if not batch_arguments["out_dir"]:
        sources, output = name_output(sources, output, is_image)
    batch = Batch(sources, output, suffix or ".png", is_lrq, **batch_arguments)
    if output:
        check_decoded(output, suffix)
    check_quality(suffix or (".png" if output in (None, STANDARD) else output.suffix), output_quality)

    def read(data: bytes) -> Loaded[Job]:
        job, header = job_of(data, region, int(shrink), partial), container.unpack_header(data)
        return Loaded(job, header.width * header.height)

    def load() -> Callable[[list[Job]], list[Strips]]:
        from ..decoder import Decoder

        decoder = Decoder(models, max_pixels, threads)
        return lambda jobs: decode_images(decoder, jobs, int(shrink), partial)

    def write(target: Path, image: Strips) -> Written:
        kind = suffix or (".png" if target == STANDARD else target.suffix)
        written = write_image(target, kind, image, output_quality)
        return Written(written, size_text(written, image.width, image.height), missing=image.missing)

    batch.run(read, load, write, GROUP_PIXELS)
    batch.end()
