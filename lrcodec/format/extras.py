"""What a file may hold beside indices: alpha and metadata, as zlib streams. SPEC.md, "Alpha" and "Metadata".

What a stream inflates to is bounded before it is inflated: by the size of the image, or by `MAX_METADATA`.

>>> alpha = np.arange(6, dtype=np.uint8).reshape(2, 3)
>>> bool((AlphaReader(pack_alpha(alpha), 2, 3).read(2) == alpha).all())
True
"""

import zlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..errors import FormatError, LimitError
from .container import CONTENTS, EXIF, ICC_PROFILE, XMP, Chunk

MAX_METADATA = 2**24
"""The ICC profile, EXIF and XMP are at most this many bytes each."""
AXES = (None, 1, 0)
"""For each filter of alpha the axis along which the bytes are differences: none, left and up."""
EXIF_PREFIX = b"Exif\0\0"
"""What JPEG puts in front of EXIF. Files do not hold it."""
PIECE_BYTES = 2**16
SKIP_PIXELS = 2**20


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
    stream = _Inflater(payload, CONTENTS[tag])
    content = stream.read(MAX_METADATA + 1)
    if len(content) > MAX_METADATA:
        raise _too_large(tag)
    stream.end()
    return content


def _too_large(tag: bytes) -> LimitError:
    return LimitError(f"the {CONTENTS[tag]} is larger than {MAX_METADATA:,} bytes")


def pack_alpha(alpha: np.ndarray) -> bytes:
    """The payload of an `A` chunk for alpha uint8 (height, width): the shortest that a filter gives."""
    rows = (alpha if axis is None else np.diff(alpha, axis=axis, prepend=np.uint8(0)) for axis in AXES)
    payloads = (bytes([number]) + zlib.compress(filtered.tobytes(), 9) for number, filtered in enumerate(rows))
    return min(payloads, key=len)


class AlphaReader:
    """The rows of an `A` chunk's alpha from top to bottom, in memory that does not grow with the image.

    Raises FormatError for a payload that is not that of a height x width image, as soon as reading comes to it.
    """

    def __init__(self, payload: bytes, height: int, width: int):
        if not payload or payload[0] >= len(AXES):
            raise FormatError("the alpha has no known filter")
        self.axis = AXES[payload[0]]
        self.rows_left, self.above = height, np.zeros((1, width), np.uint8)
        self.stream = _Inflater(memoryview(payload)[1:], "alpha")

    def read(self, rows: int) -> np.ndarray:
        """The next rows, uint8 (rows, width). They must not be more than are left."""
        width = self.above.shape[1]
        data = self.stream.read(rows * width)
        if len(data) < rows * width:
            raise FormatError("the alpha has fewer pixels than the image")
        out = np.frombuffer(data, np.uint8).reshape(rows, width)
        if self.axis == 1:
            out = np.cumsum(out, 1, np.uint8)
        elif self.axis == 0:
            out = np.cumsum(np.concatenate([self.above, out]), 0, np.uint8)[1:]
        self.above = out[-1:]
        self.rows_left -= rows
        if not self.rows_left:
            self.stream.end()
        return out

    def skip(self, rows: int) -> None:
        """Leave out the next rows."""
        step = max(1, SKIP_PIXELS // self.above.shape[1])
        for start in range(0, rows, step):
            self.read(min(step, rows - start))


class _Inflater:
    """Inflates a zlib stream as far as it is asked for. Raises FormatError where it is damaged or cut."""

    def __init__(self, data: bytes | memoryview, what: str):
        self.data, self.at, self.what = data, 0, what
        self.stream = zlib.decompressobj()

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer only at the end of the stream."""
        parts, left = [], count
        while left and not self.stream.eof:
            # In pieces: zlib copies what it is given and does not come to.
            given: bytes | memoryview = self.stream.unconsumed_tail
            if not given:
                given = self.data[self.at : self.at + PIECE_BYTES]
                self.at += len(given)
            try:
                part = self.stream.decompress(given, left)
            except zlib.error:
                raise FormatError(f"the {self.what} is damaged") from None
            if not part and not given:
                raise FormatError(f"the {self.what} is cut short")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def end(self) -> None:
        """Raise FormatError unless the stream ends here, and the data with it."""
        if self.read(1) or self.stream.unused_data or self.at < len(self.data):
            raise FormatError(f"the {self.what} is longer than it should be")
