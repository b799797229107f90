"""What the commands for images share: decoding in strips, and writing what was decoded."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..files import write_file
from ..format import container, grid
from ..format.metadata import Metadata, unpack_metadata
from .options import Region

if TYPE_CHECKING:
    from ..decoder import Decoder

Job = tuple[bytes, Region | None]
"""A file to decode, and the part of its image that is decoded strip by strip; None: the whole of a small image."""


class Strips(NamedTuple):
    """An image to write: its rows from top to bottom, uint8 (rows, width[, channels]), and its size in pixels.

    missing: as that of a `Preview`.
    """

    strips: Iterable[np.ndarray]
    width: int
    height: int
    metadata: Metadata
    missing: str | None = None


def job_of(data: bytes, region: Region | None = None, shrink: int = 1, partial: bool = False) -> Job:
    """How a file is to be decoded. Raises FormatError, UnsupportedError; UsageError for a region outside the image.

    region: of the image at 1/shrink of its size. partial: what may be incomplete is decoded strip by strip.
    """
    header = container.unpack_rest(data).header if partial else container.unpack(data)[0]
    size = header.shrunk(shrink)
    everything = Region(0, 0, size.width, size.height)
    if region:
        region.check(everything)
    large = header.width * header.height > grid.STRIP_PIXELS
    return data, region or (everything if large or partial else None)


def write_image(path: Path, suffix: str, image: Strips, quality: int | None = None) -> int:
    """Write an image file, strip by strip; `image_io.write_strips` says how. Returns its bytes."""
    from ..image_io import write_strips

    return write_file(path, write_strips(image.strips, image.height, suffix, image.metadata, quality))


def decode_images(decoder: "Decoder", jobs: list[Job], shrink: int = 1, partial: bool = False) -> list[Strips]:
    """Small images are decoded together, now; the others as their strips are asked for.

    shrink, partial: those that `job_of` had.
    """
    small = iter(decoder.decode_batch([data for data, part in jobs if part is None], shrink))
    images: list[Strips] = []
    for data, part in jobs:
        rest = container.unpack_rest(data)  # `decoder` refuses what is not complete, unless it is to be `partial`
        strips = part.columns(decoder.strips(data, part.rows, shrink, partial)) if part else [next(small)]
        size = part or rest.header.shrunk(shrink)
        missing = decoder.missing(data) if partial else None
        images.append(Strips(strips, size.width, size.height, unpack_metadata(rest.chunks), missing))
    return images


def bpp(count: int, width: int, height: int) -> float:
    """Bits per pixel of a file of so many bytes."""
    return 8 * count / (width * height)


def size_text(count: int, width: int, height: int) -> str:
    """Size and rate of a file of so many bytes, in words."""
    return f"{count:,} bytes, {width} x {height} pixels, {bpp(count, width, height):.3f} bits per pixel"
