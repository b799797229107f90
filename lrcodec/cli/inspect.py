"""`lrq info` and `lrq compare`."""

import json
from pathlib import Path

import click

from ..errors import UsageError
from ..files import STANDARD, check_place, naming, read_file, title
from ..format import container
from ..format.metadata import NO_METADATA
from .help import Command
from .images import Strips, bpp, size_text, write_image
from .options import FILE, MAX_PIXELS, MODELS, check_picture


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(file: Path, as_json: bool) -> None:
    """Check a .lrq file for damage, and show what it holds. - is standard input."""
    data = read_file(file)
    with naming(title(file)):
        header, chunks = container.unpack(data)
    rate = bpp(len(data), header.width, header.height)
    fields = header.describe()
    if as_json:
        rows = [{"tag": chunk.tag.decode(), "bytes": len(chunk.payload)} for chunk in chunks]
        click.echo(json.dumps({**fields, "bytes": len(data), "bpp": rate, "chunks": rows}, indent=2))
        return
    for field in container.FIELDS:
        click.echo(f"{field.name:<11} {fields[field.name]!s:<17} {field.meaning}")
    for chunk in chunks:
        what = container.CONTENTS.get(chunk.tag, "unknown")
        click.echo(f"chunk {chunk.tag.decode():<5} {f'{len(chunk.payload):,} bytes':<17} {what}")
    click.echo(f"file        {size_text(len(data), header.width, header.height)}")


@click.command(cls=Command)
@click.argument("reference", type=FILE)
@click.argument("files", metavar="FILE...", type=FILE, nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=FILE,
    help="Write a picture: a row for each FILE, with the reference, FILE and their difference.",
)
@click.option("--amplify", type=click.IntRange(1, 255), help="With -o: multiply the difference by this. Default: 8.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@MAX_PIXELS
@MODELS
def compare(
    reference: Path,
    files: tuple[Path, ...],
    output: Path | None,
    amplify: int | None,
    as_json: bool,
    max_pixels: int,
    models: tuple[str, ...],
) -> None:
    """Print PSNR, MS-SSIM and bits per pixel of images.

    Each FILE is measured against the image REFERENCE.

    All may be .lrq files or other images, one of them - for standard input. Alpha is left out.
    """
    from ..decoder import Decoder
    from ..measure import compare as comparing

    paths = [reference, *files]
    if paths.count(STANDARD) > 1:
        raise UsageError("- stands for standard input once: it holds one file")
    if output:
        check_picture("-o", output, paths)
        check_place(output)
    elif amplify:
        raise UsageError("--amplify goes with -o")
    decode = Decoder(models, max_pixels).decode
    data = read_file(reference)
    with naming(title(reference)):
        original = comparing.read(data, decode)
    rows, images = [], []
    for path in files:
        data = read_file(path)
        with naming(title(path)):
            image = comparing.read(data, decode)
            rows.append(comparing.compare(str(path), len(data), image, original))
        if output:
            images.append(image)
    click.echo(comparing.to_json(str(reference), rows) if as_json else comparing.table(rows))
    if output:
        strips = comparing.picture(original, images, amplify or 8)
        height, width = original.shape[:2]
        write_image(output, output.suffix, Strips(strips, 3 * width, height * len(images), NO_METADATA))
