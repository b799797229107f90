"""The .lrq container: bytes <-> header and chunks. SPEC.md, "Container", is the normative text.

`FIELDS` is the one description of the header: packing, unpacking, `lrq info` and the test of SPEC.md
derive from it.

>>> header = Header(width=64, height=48, colour=RGB, rank=2, iterations=8, band=1, smoothing=1, model=bytes(4))
>>> data = pack(header, [Chunk(b"I", b"payload")])
>>> unpack(data) == (header, [Chunk(b"I", b"payload")])
True
"""

import os
import struct
import zlib
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, Any, Literal, NamedTuple

from ..errors import FormatError, LimitError, UnsupportedError, UsageError
from .numbers import CRC_BYTES, BytesLike, Reader, varint

SIGNATURE = b"LRQ"
VERSION = 1
VERSION_BIT = 0x80  # set in the byte of the version, so that transfers show which keep 7 bits
FINGERPRINT_BYTES = 4
GREY, RGB = 0, 1
INDICES, ALPHA = b"I", b"A"
ICC_PROFILE, EXIF, XMP = b"c", b"e", b"x"
CONTENTS = {INDICES: "indices", ALPHA: "alpha", ICC_PROFILE: "ICC profile", EXIF: "EXIF", XMP: "XMP"}
"""The tags of the chunks of version 1, and what they hold."""
MAX_SIDE = 65535
"""Pixels of a side, at most."""
MAX_PIXELS = 2**28
"""Larger images are refused by default: a limit of this program, not of the format."""
ANCILLARY_BIT = 0x20


class Field(NamedTuple):
    """One header field.

    `varint` is LEB128 in its shortest form, `bytes4` four raw bytes. Fields of kind `bits` share the two bytes of
    the options: each takes as many bits as high - low needs, and holds its value less `low`.
    """

    name: str
    kind: Literal["varint", "bits", "bytes4"]
    low: int
    high: int
    meaning: str

    @property
    def bits(self) -> int:
        """How many bits of the options the field takes."""
        return (self.high - self.low).bit_length() if self.kind == "bits" else 0


FIELDS = (
    Field("width", "varint", 1, MAX_SIDE, "image width in pixels"),
    Field("height", "varint", 1, MAX_SIDE, "image height in pixels"),
    Field("colour", "bits", 0, 1, "0 grey, 1 RGB"),
    Field("smoothing", "bits", 0, 1, "1 if the smoothing pair runs"),
    Field("rank", "bits", 1, 4, "columns of U and rows of V that are used"),
    Field("iterations", "bits", 1, 32, "cap on the depth of every scale"),
    Field("band", "bits", 0, 15, "rate band: which set of frequency tables"),
    Field("alpha", "bits", 0, 1, "1 if the image has alpha"),
    Field("model", "bytes4", 0, 0, "content fingerprint of the model"),
)
OPTIONS = tuple(field for field in FIELDS if field.kind == "bits")


@dataclass(frozen=True)
class Header:
    """The header fields of SPEC.md; `model` is 4 bytes, all others integers within `FIELDS`' bounds."""

    width: int
    height: int
    colour: int
    smoothing: int
    rank: int
    iterations: int
    band: int
    model: bytes
    alpha: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the pixels: (height, width) for grey, with a third axis of 2 for grey and alpha, 3 for RGB, 4 for RGBA."""
        channels = (3 if self.colour == RGB else 1) + self.alpha
        return (self.height, self.width) if channels == 1 else (self.height, self.width, channels)

    def shrunk(self, shrink: int) -> "Header":
        """The header with the size that the image has when it is drawn at 1/shrink of its own."""
        return replace(self, width=-(-self.width // shrink), height=-(-self.height // shrink))

    def describe(self) -> dict[str, int | str]:
        """Field names and printable values (the fingerprint as 8 hexadecimal digits)."""
        values = {field.name: getattr(self, field.name) for field in FIELDS}
        return {k: v.hex() if isinstance(v, bytes) else v for k, v in values.items()}

    def check_size(self, max_pixels: int) -> None:
        """Raise LimitError if the image has more pixels, UsageError if not even one is allowed."""
        if max_pixels < 1:
            raise UsageError(f"max_pixels must be 1 or more, not {max_pixels}")
        if self.width * self.height > max_pixels:
            raise LimitError(f"{self.width} x {self.height} is more than {max_pixels} pixels")


class Chunk(NamedTuple):
    """One chunk: a one-letter ASCII tag (lower case: ancillary) and its payload."""

    tag: bytes
    payload: bytes


def pack(header: Header, chunks: list[Chunk]) -> bytes:
    """The bytes of a file. Raises FormatError if a field is outside its bounds."""
    values = {field.name: getattr(header, field.name) for field in FIELDS}
    for field in FIELDS:
        _check(field, values[field.name])
    options = shift = 0
    for field in OPTIONS:
        options |= values[field.name] - field.low << shift
        shift += field.bits
    out = bytearray(SIGNATURE + bytes([VERSION_BIT | VERSION]))
    out += varint(header.width) + varint(header.height) + struct.pack("<H", options) + header.model
    sealed = 0
    for tag, payload in chunks:
        out += tag + varint(len(payload)) + payload
        checksum = zlib.crc32(out[sealed:])
        sealed = len(out)
        out += struct.pack("<I", checksum)
    return bytes(out)


def unpack(data: BytesLike) -> tuple[Header, list[Chunk]]:
    """Header and all chunks, every CRC-32 checked.

    Unknown ancillary chunks are kept (the caller skips them). Raises FormatError for anything that is not
    a whole, undamaged file, UnsupportedError for a newer version or an unknown critical chunk. What the payloads hold
    is not looked at.
    """
    reader = Reader(data)
    header = _unpack_header(reader, cut=False)
    chunks: list[Chunk] = []
    while reader.at < len(reader.data):
        chunks.append(_known(_chunk(reader)))
    counts = _counts(header, chunks)
    if not counts[INDICES]:
        raise FormatError("the file holds no indices")
    if counts[ALPHA] < header.alpha:
        raise FormatError(f"0 chunks of alpha instead of {header.alpha}")
    return header, chunks


class Rest(NamedTuple):
    """What is left of a file that is cut short or damaged, or all of one that is not.

    chunks: those before the first that is not valid. If that one is of indices and the end of the file cuts it short,
    it is the last of them. absent: how many bytes its payload then lacks. damage: what ends the file early, in a line.
    """

    header: Header
    chunks: list[Chunk]
    absent: int
    damage: str | None


def unpack_rest(data: BytesLike) -> Rest:
    """`unpack` of a file as in SPEC.md, "Incomplete files".

    Raises as `unpack` does, but not where the first chunk is cut short, or others are damaged, cut short or missing.
    """
    reader = Reader(data)
    header = _unpack_header(reader)
    chunks: list[Chunk] = []
    absent, damage = 0, None
    while reader.at < len(reader.data) and damage is None:
        start = reader.at
        try:
            chunk = _chunk(reader)
        except FormatError as error:
            reader.at, damage = start, str(error)
            cut, absent = _cut_indices(reader)
            chunks += cut
        else:
            chunks.append(_known(chunk))
    _counts(header, chunks)
    return Rest(header, chunks, absent, damage)


def _cut_indices(reader: Reader) -> tuple[list[Chunk], int]:
    """The chunk of indices that the end of the file cuts short, if it is one, and how many bytes its payload lacks."""
    with suppress(FormatError):
        tag, length = reader.take(1, "a chunk tag"), reader.varint("a chunk length")
        left = len(reader.data) - reader.at
        if tag == INDICES and length + CRC_BYTES > left:
            payload = reader.take(min(length, left), "a chunk")
            return [Chunk(tag, payload)], length - len(payload)
    return [], 0


def _known(chunk: Chunk) -> Chunk:
    """The chunk. Raises UnsupportedError if it is critical and not known."""
    if chunk.tag not in CONTENTS and not chunk.tag[0] & ANCILLARY_BIT:
        raise UnsupportedError(f"critical chunk {chunk.tag.decode()} is not known to this version")
    return chunk


def _counts(header: Header, chunks: list[Chunk]) -> Counter[bytes]:
    """How many chunks have each tag. Raises FormatError if there are more than there may be."""
    counts = Counter(chunk.tag for chunk in chunks)
    if counts[ALPHA] > header.alpha:
        raise FormatError(f"{counts[ALPHA]} chunks of alpha instead of {header.alpha}")
    for tag in (ICC_PROFILE, EXIF, XMP):
        if counts[tag] > 1:
            raise FormatError(f"the file holds more than one chunk of {CONTENTS[tag]}")
    return counts


def unpack_header(data: BytesLike) -> Header:
    """The header alone, from the first bytes of a file (64 are always enough). Raises FormatError, UnsupportedError.

    If they have the first chunk, its checksum vouches for the header. Otherwise damage may pass for other values.
    """
    return _unpack_header(Reader(data))


def scan(file: IO[bytes], tags: Collection[bytes]) -> tuple[Header, list[Chunk]]:
    """Header and the chunks of these tags from a seekable file, of which nothing else is read.

    Raises as `unpack_header` does. Reading stops where damage shows or the file ends: `unpack` is what reports damage.
    """
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    reader = Reader(file.read(64))
    header, sealed, at = _unpack_header(reader), 0, reader.at
    chunks: list[Chunk] = []
    with suppress(FormatError):
        while at < size:
            file.seek(at)
            reader = Reader(file.read(6))
            tag = reader.take(1, "a chunk tag")
            end = reader.varint("a chunk length") + reader.at + CRC_BYTES + at
            if tag in tags and end <= size:
                file.seek(sealed)
                reader = Reader(file.read(end - sealed))
                reader.take(at - sealed, "what its checksum covers")
                chunks.append(_chunk(reader))
            sealed, at = end - CRC_BYTES, end
    return header, chunks


def _chunk(reader: Reader) -> Chunk:
    tag = reader.take(1, "a chunk tag")
    if not tag.isalpha():
        raise FormatError("a chunk tag is not a letter")
    payload = reader.take(reader.varint("a chunk length"), "a chunk")
    reader.crc(f"chunk {tag.decode()}")
    return Chunk(tag, payload)


def has_signature(start: bytes) -> bool:
    """Whether a file that starts so is a .lrq file of any version: the first 4 bytes are enough."""
    return start.startswith(SIGNATURE) and start[len(SIGNATURE) : len(SIGNATURE) + 1] >= bytes([VERSION_BIT])


def _unpack_header(reader: Reader, cut: bool = True) -> Header:
    """The header, in front of the chunks. cut: whether the first of them, which vouches for it, may be cut short."""
    if not has_signature(reader.data):
        raise FormatError("empty file" if not reader.data else "not an .lrq file")
    reader.take(len(SIGNATURE), "the signature")
    version = reader.take(1, "the version")[0] & ~VERSION_BIT
    values: dict[str, Any] = {name: reader.varint("the header") for name in ("width", "height")}
    (options,) = struct.unpack("<H", reader.take(2, "the header"))
    for field in OPTIONS:
        values[field.name] = field.low + (options & (1 << field.bits) - 1)
        options >>= field.bits
    values["model"] = reader.take(FINGERPRINT_BYTES, "the header")
    chunks = reader.at
    try:
        _chunk(reader)
    except FormatError:
        if not (cut and reader.cut):
            raise
    reader.at, reader.sealed = chunks, 0
    # Only now: a damaged byte must not pass for a newer version.
    if version != VERSION or options:
        raise UnsupportedError(f"format version {version}, flags {options}: this program reads version {VERSION}")
    for field in FIELDS:
        _check(field, values[field.name])
    return Header(**values)


def _check(field: Field, value) -> None:
    ok = len(value) == FINGERPRINT_BYTES if field.kind == "bytes4" else field.low <= value <= field.high
    if not ok:
        raise FormatError(f"header field {field.name} is out of range: {value!r}")
