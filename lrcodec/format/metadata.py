"""Metadata <-> chunks: ICC profile, EXIF and XMP as zlib streams. SPEC.md, "Metadata", is the normative text."""

import zlib
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import LimitError
from .container import CONTENTS, EXIF, ICC_PROFILE, XMP, Chunk
from .inflate import Inflater

MAX_METADATA = 2**24
"""The ICC profile, EXIF and XMP are at most this many bytes each."""
EXIF_PREFIX = b"Exif\0\0"
"""What JPEG puts in front of EXIF. Files do not hold it."""


class Metadata(NamedTuple):
    """What an image comes with beside its pixels, byte for byte; None where there is nothing.

    icc_profile: ICC profile of its colours. exif: EXIF, a TIFF structure. xmp: XMP, XML in UTF-8.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None


NO_METADATA = Metadata()
TAGS = dict(zip(Metadata._fields, (ICC_PROFILE, EXIF, XMP), strict=True))


def pack_metadata(metadata: Metadata) -> list[Chunk]:
    """The chunks of what is not None or empty; the `Exif` and two zero bytes that JPEG puts before EXIF are left out.

    Raises LimitError for more than `MAX_METADATA` bytes.
    """
    if metadata.exif:
        metadata = metadata._replace(exif=metadata.exif.removeprefix(EXIF_PREFIX))
    chunks = []
    for name, tag in TAGS.items():
        if content := getattr(metadata, name):
            if len(content) > MAX_METADATA:
                raise _too_large(tag)
            chunks.append(Chunk(tag, zlib.compress(content, 9)))
    return chunks


def unpack_metadata(chunks: Iterable[Chunk]) -> Metadata:
    """The metadata among the chunks of a file. Raises FormatError, LimitError for more than `MAX_METADATA` bytes."""
    payloads = {chunk.tag: chunk.payload for chunk in chunks}
    return Metadata(**{name: _inflate(tag, payloads[tag]) for name, tag in TAGS.items() if tag in payloads})


def _inflate(tag: bytes, payload: bytes) -> bytes:
    stream = Inflater(payload, CONTENTS[tag])
    content = stream.read(MAX_METADATA + 1)
    if len(content) > MAX_METADATA:
        raise _too_large(tag)
    stream.end()
    return content


def _too_large(tag: bytes) -> LimitError:
    return LimitError(f"the {CONTENTS[tag]} is larger than {MAX_METADATA:,} bytes")
