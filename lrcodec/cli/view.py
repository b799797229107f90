"""`lrq view`."""

import io
import webbrowser
from pathlib import Path

import click

from ..errors import UsageError
from ..files import STANDARD, check_place, naming, read_file, refuse_input, say, title, write_file
from ..format import container
from .help import Command
from .options import FILE, MAX_PIXELS, MODELS

SHOWN = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Pillow's names of the formats that every browser shows. Images in others go into the page as PNG."""
SUFFIXES = (".html", ".htm")


@click.command(cls=Command)
@click.argument("files", metavar="FILE...", type=FILE, nargs=-1, required=True)
@click.option("--original", metavar="IMAGE", type=FILE, help="An image to compare with. Default: none.")
@click.option(
    "-o",
    "--output",
    metavar="PAGE.html",
    type=FILE,
    help="Write the page here. Default: FILE with the suffix .html; such a page is replaced, nothing else is.",
)
@click.option("--no-open", is_flag=True, help="Do not open the page in a browser.")
@MAX_PIXELS
@MODELS
def view(
    files: tuple[Path, ...],
    original: Path | None,
    output: Path | None,
    no_open: bool,
    max_pixels: int,
    models: tuple[str, ...],
) -> None:
    """Show .lrq files in a browser. - is standard input.

    Writes one page that has the files, their models and a decoder inside, and opens it. It needs no network and no
    server, can be passed on, and shows other .lrq files that are dropped onto it. It has some MB: those of its models
    and files, and a third more.
    """
    from ..decoder import Decoder
    from ..packs import modelfile
    from ..viewer import page

    inputs = [*files, *([original] if original else [])]
    if inputs.count(STANDARD) > 1:
        raise UsageError("- stands for standard input once: it holds one file")
    target = _target(files[0], output, no_open)
    refuse_input(target, inputs)
    check_place(target)
    decoder = Decoder(models, max_pixels)
    pictures, packs = [], {}
    for path in files:
        data = read_file(path)
        with naming(title(path)):
            for _ in decoder.strips(data):
                pass  # damage shows here, and not only in the browser
            pack = decoder.pack(container.unpack_header(data))
        packs[pack.fingerprint] = pack
        pictures.append((_name(path), data))
    contents = [(f"{pack.name}.lrqm", modelfile.save(pack)) for pack in packs.values()] + pictures
    if original:
        contents.append(_original(original))
    write_file(target, page(contents))
    if not no_open and not webbrowser.open(target.resolve().as_uri()):
        say(f"lrq: no browser could be opened: open {target} in one")


def _target(first: Path, output: Path | None, no_open: bool) -> Path:
    """Where the page is written. Raises UsageError."""
    from ..viewer import is_page

    if output == STANDARD and not no_open:
        raise UsageError("a browser reads no page from standard output: add --no-open, or name a file")
    if output and output != STANDARD and output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{output} would be a page under the name of something else: use the suffix .html")
    if output:
        return output
    if first == STANDARD:
        raise UsageError("standard input has no name to call the page after: name one with -o")
    target = first.with_suffix(".html")
    if target.exists() and not is_page(target):
        raise UsageError(f"{target} exists, and lrq view has not written it: name another page with -o")
    return target


def _name(path: Path) -> str:
    """What a file is called in the page, without its folder."""
    return path.name if path != STANDARD else title(path)


def _original(path: Path) -> tuple[str, bytes]:
    """Name and content of an image for the page. Raises UsageError, LimitError or OSError."""
    from PIL import Image

    from ..image_io import read_picture, write_image

    data = read_file(path)
    with naming(title(path)):
        pixels = read_picture(data, to_8bit=True).pixels
    with Image.open(io.BytesIO(data)) as image:
        return _name(path), data if image.format in SHOWN else write_image(pixels)
