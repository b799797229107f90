"""Fetch the photographs that the pack `photo` is trained on:

    python models/fetch_photographs.py photos-free

`photo/ATTRIBUTION.tsv` names them, with author and licence: they come from packages of Debian and from public
repositories. Each is reduced to the size that the table states and stored as a JPEG. Those that are in the folder
already stay as they are, so an interrupted run goes on where it was.
"""

import csv
import hashlib
import http.client
import io
import lzma
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import click
from PIL import Image, ImageOps

from lrcodec.files import write_file

TABLE = Path(__file__).parent / "photo" / "ATTRIBUTION.tsv"
SNAPSHOT = "https://snapshot.debian.org/archive/debian/20250520T000000Z"
"""Debian on a day when it had these versions of the packages: mirrors drop old ones, this archive does not."""
INDEX = "dists/{suite}/main/binary-amd64/Packages.xz"
"""Packages for all processors are in the index of each."""
JPEG = {"format": "JPEG", "quality": 97, "subsampling": "4:4:4", "optimize": True}
TIMEOUT = 60
"""Seconds without any answer."""
AR_MAGIC, AR_HEADER = b"!<arch>\n", 60
FAILURES = (
    *(OSError, ValueError, EOFError, SyntaxError),  # the last two from broken images
    *(http.client.HTTPException, tarfile.TarError, lzma.LZMAError, Image.DecompressionBombError),
)
"""What a source that is not there or is damaged leads to."""


class Photograph(NamedTuple):
    """A row of the table. width, height: pixels, after reduction. path: in the source."""

    file: str
    width: int
    height: int
    source: str
    path: str
    author: str
    licence: str
    licence_stated_in: str


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--mirror", metavar="URL", default=SNAPSHOT, show_default=True, help="A mirror of Debian.")
@click.option("--github", metavar="URL", default="https://github.com", show_default=True, help="A copy of GitHub.")
def main(folder: Path, mirror: str, github: str) -> None:
    """Fetch the photographs of the pack photo into FOLDER. Exits with 1 if any of them could not be had."""
    wanted = photographs()
    missing = 0
    for photograph in wanted:
        target = folder / photograph.file
        if target.exists():
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_file(target, reduce(photograph, fetch(photograph, mirror, github)))
            click.echo(f"{photograph.file}: {photograph.width} x {photograph.height}")
        except FAILURES as error:
            missing += 1
            click.echo(f"{photograph.file}: error: {error}", err=True)
    if missing:
        raise click.ClickException(f"{missing} of {len(wanted)} photographs are missing")
    click.echo(f"all {len(wanted)} photographs are in {folder}")


def photographs() -> list[Photograph]:
    """The rows of the table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file, "excel-tab")
    return [Photograph(name, int(width), int(height), *texts) for name, width, height, *texts in rows]


def fetch(photograph: Photograph, mirror: str, github: str) -> bytes:
    """The image file of the source. Raises one of `FAILURES`."""
    if photograph.source.startswith("Debian "):
        _, suite, package, version = photograph.source.split()
        return read_member(read_package(mirror, suite, package, version), photograph.path)
    repository, commit = photograph.source.removeprefix("github.com/").split("@")
    return download(f"{github}/{repository}/raw/{commit}/{quote(photograph.path)}")  # also what Git LFS keeps


def reduce(photograph: Photograph, data: bytes) -> bytes:
    """The JPEG file of a photograph, from the image file of its source. Raises one of `FAILURES`."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    size = (photograph.width, photograph.height)
    if image.width < size[0] or abs(image.width * size[1] / image.height - size[0]) > 1:
        raise ValueError(f"an image of {image.width} x {image.height} pixels does not reduce to {size[0]} x {size[1]}")
    out = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(out, **JPEG)
    return out.getvalue()


def download(url: str) -> bytes:
    """What is at an address. Raises OSError, ValueError or http.client.HTTPException."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return answer.read()
    except urllib.error.URLError as error:
        raise OSError(f"{url}: {error.reason}") from error


# ---- packages of Debian


@lru_cache(maxsize=1)
def read_index(mirror: str, suite: str) -> dict[tuple[str, str], dict[str, str]]:
    """The fields of all packages of a suite, by name and version."""
    text = lzma.decompress(download(f"{mirror}/{INDEX.format(suite=suite)}")).decode()
    entries = (dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line) for entry in text.split("\n\n"))
    return {(entry["Package"], entry["Version"]): entry for entry in entries if entry}


@lru_cache(maxsize=1)
def read_package(mirror: str, suite: str, name: str, version: str) -> bytes:
    """The tar archive, compressed, of the files that a package installs. The last one is kept."""
    entry = read_index(mirror, suite).get((name, version))
    if entry is None:
        raise FileNotFoundError(f"{mirror} does not have {name} {version}")
    package = download(f"{mirror}/{quote(entry['Filename'])}")
    if hashlib.sha256(package).hexdigest() != entry["SHA256"]:
        raise ValueError(f"{entry['Filename']} is damaged: another SHA-256 than the index states")
    return next(data for name, data in unpack_ar(package) if name.startswith("data.tar"))


def unpack_ar(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents in an ar archive, the outer format of Debian's packages: see the man page deb(5)."""
    if not archive.startswith(AR_MAGIC):
        raise ValueError("not a package of Debian")
    begin = len(AR_MAGIC) + AR_HEADER
    while begin <= len(archive):
        header = archive[begin - AR_HEADER : begin]
        size = int(header[48:58])
        yield header[:16].decode().rstrip(" /"), archive[begin : begin + size]
        begin += size + size % 2 + AR_HEADER


def read_member(archive: bytes, path: str) -> bytes:
    """A file in a tar archive, compressed or not, by its absolute path."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        try:
            member = files.extractfile(f".{path}")
        except KeyError:
            member = None
        if member is None:
            raise FileNotFoundError(f"the package has no file {path}")
        return member.read()


if __name__ == "__main__":
    main()
