"""Damage to .lrq files, and the repair of their checksums, so that damage also reaches what lies behind them.

Nothing here uses the parser of container.py, which is what is tested; packing is used to make valid parts.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from lrcodec.format import container
from lrcodec.format.container import FIELDS, Chunk, Header


class Seed(NamedTuple):
    """A whole file, and what it holds."""

    data: bytes
    header: Header
    chunks: list[Chunk]

    @classmethod
    def of(cls, data: bytes) -> "Seed":
        return cls(data, *container.unpack(data))


class Mutant(NamedTuple):
    """A file that was changed. sealed: whether checksums were made to match what was changed."""

    data: bytes
    sealed: bool


def mutate(random: Random, seeds: Sequence[Seed]) -> Mutant:
    """A seed, changed in one way or several, half of the time with its checksums repaired."""
    seed = random.choice(seeds)
    if random.random() < 0.25:
        return Mutant(random.choice(REBUILT)(random, seed, seeds), True)
    data = seed.data
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(DAMAGE)(random, data, seeds)
    if random.random() < 0.5:
        return Mutant(data, False)
    return Mutant(repair(data), True)


# ---- damage to the bytes


def _flip(random: Random, data: bytes, seeds: Sequence[Seed]) -> bytes:
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8)) if out else 0):
        out[random.randrange(len(out))] ^= 1 << random.randrange(8)
    return bytes(out)


def _cut(random: Random, data: bytes, seeds: Sequence[Seed]) -> bytes:
    return data[: random.randint(0, len(data))]


def _overwrite(random: Random, data: bytes, seeds: Sequence[Seed]) -> bytes:
    start, length = random.randint(0, len(data)), random.choice((1, 2, 4, 16, 64))
    new = random.choice((random.randbytes(length), bytes(length), b"\xff" * length))
    return data[:start] + new + data[start + length :]


def _insert(random: Random, data: bytes, seeds: Sequence[Seed]) -> bytes:
    start = random.randint(0, len(data))
    return data[:start] + random.randbytes(random.choice((1, 2, 4, 16, 64))) + data[start:]


def _delete(random: Random, data: bytes, seeds: Sequence[Seed]) -> bytes:
    start = random.randint(0, len(data))
    return data[:start] + data[start + random.choice((1, 2, 4, 16, 64)) :]


def _splice(random: Random, data: bytes, seeds: Sequence[Seed]) -> bytes:
    other = random.choice(seeds).data
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _noise(random: Random, data: bytes, seeds: Sequence[Seed]) -> bytes:
    return random.choice((b"", data[:3], data[:4])) + random.randbytes(random.choice((0, 1, 8, 64, 512)))


def _append(random: Random, data: bytes, seeds: Sequence[Seed]) -> bytes:
    """A chunk that is in order, of any tag: ancillary ones must change nothing."""
    return data + _chunk(data[-4:], random.choice(TAGS), random.randbytes(random.choice((0, 1, 30))))


DAMAGE: tuple[Callable[[Random, bytes, Sequence[Seed]], bytes], ...] = (
    _flip,
    _cut,
    _overwrite,
    _insert,
    _delete,
    _splice,
    _noise,
    _append,
)
TAGS = [bytes([letter]) for letter in b"IAZceqx"]


# ---- files with valid checksums that hold something else


def _header(random: Random, seed: Seed, seeds: Sequence[Seed]) -> bytes:
    field = random.choice(FIELDS)
    if field.kind == "bytes4":
        value: int | bytes = random.choice((random.randbytes(4), random.choice(seeds).header.model))
    else:
        value = random.choice((field.low, field.high, random.randint(field.low, field.high)))
    return container.pack(replace(seed.header, **{field.name: value}), seed.chunks)


def _payload(random: Random, seed: Seed, seeds: Sequence[Seed]) -> bytes:
    """Other bytes in a chunk, some of them long after the coder has what it needs."""
    chunks = list(seed.chunks)
    at = random.randrange(len(chunks))
    payload = chunks[at].payload
    length = random.choice((0, 1, 8, 300, len(payload)))
    new = random.choice(
        (
            payload[:length],
            payload + bytes(length),
            payload + random.randbytes(length),
            bytes(length),
            b"\xff" * length,
            random.randbytes(length),
            random.choice(random.choice(seeds).chunks).payload,
        )
    )
    chunks[at] = Chunk(chunks[at].tag, new)
    return container.pack(seed.header, chunks)


def _order(random: Random, seed: Seed, seeds: Sequence[Seed]) -> bytes:
    """Chunks twice, missing, in disorder, or of another file."""
    chunks = list(seed.chunks)
    chunks.insert(random.randint(0, len(chunks)), random.choice(random.choice((seed, random.choice(seeds))).chunks))
    if random.random() < 0.5:
        chunks.pop(random.randrange(len(chunks)))
    random.shuffle(chunks)
    return container.pack(seed.header, chunks)


REBUILT: tuple[Callable[[Random, Seed, Sequence[Seed]], bytes], ...] = (_header, _payload, _order)


# ---- checksums


def _chunk(before: bytes, tag: bytes, payload: bytes) -> bytes:
    length, size = b"", len(payload)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    body = tag + length + bytes([size]) + payload
    return body + struct.pack("<I", zlib.crc32(before + body))


def repair(data: bytes) -> bytes:
    """The same bytes with the CRC-32 of all chunks set to match, as far as there are any."""
    out = bytearray(data)
    _, at = _varint(out, 4)
    _, at = _varint(out, at)
    start, at = 0, at + 6
    while True:
        length, at = _varint(out, at + 1)
        at += length
        if at + 4 > len(out):
            return bytes(out)
        out[at : at + 4] = struct.pack("<I", zlib.crc32(out[start:at]))
        start, at = at, at + 4


def _varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    value = shift = 0
    while at < len(data) and shift < 35:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            break
    return value, at
