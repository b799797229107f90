"""The container: literal bytes, round trips, damage."""

import io
from dataclasses import astuple, replace

import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from lrcodec.errors import FormatError, LrqError, UnsupportedError
from lrcodec.format.container import FIELDS, GREY, OPTIONS, RGB, Chunk, Header, pack, scan, unpack, unpack_header

HEADER = Header(width=640, height=480, colour=RGB, rank=2, iterations=8, band=3, smoothing=1, model=b"\x01" * 8)

headers = st.builds(
    Header,
    **{
        field.name: st.binary(min_size=8, max_size=8) if field.kind == "bytes8" else st.integers(field.low, field.high)
        for field in FIELDS
    },
)
ancillary = st.lists(st.builds(Chunk, st.sampled_from([b"a", b"u", b"z"]), st.binary(max_size=300)), max_size=3)


def test_literal_bytes():
    """The bytes of a file, which no later version may change."""
    data = pack(HEADER, [Chunk(b"I", b"indices")])
    assert data.hex(" ") == (
        "8c 4c 52 51 01 80 05 e0 03 77 06 01 01 01 01 01 01 01 01 a8 c5 62 24 49 07 69 6e 64 69 63 65 73 1e a0 c5 25"
    )


@given(headers, ancillary, st.lists(st.binary(max_size=300), min_size=1, max_size=4), ancillary)
def test_round_trip(header: Header, before: list[Chunk], payloads: list[bytes], after: list[Chunk]):
    first, *others = [Chunk(b"I", payload) for payload in payloads]
    alpha = [Chunk(b"A", b"payload")] * header.alpha
    chunks = [*before, first, *after, *alpha, *others]
    data = pack(header, chunks)
    assert unpack(data) == (header, chunks)
    assert unpack_header(data[:64]) == header
    assert reference.container(data) == (astuple(header), payloads, alpha[0].payload if alpha else None, 0, False)
    assert scan(io.BytesIO(data), [b"a", b"A"]) == (header, [chunk for chunk in chunks if chunk.tag in b"aA"])


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_only_our_errors(data: bytes):
    for start in (b"", b"\x8cLRQ\x01"):
        with pytest.raises(LrqError):
            unpack(start + data)


def test_truncation_at_every_byte():
    data = pack(HEADER, [Chunk(b"x", b"extra"), Chunk(b"I", bytes(range(200)))])
    for length in range(len(data)):
        with pytest.raises(FormatError):
            unpack(data[:length])


def test_every_single_bit_flip():
    data = pack(HEADER, [Chunk(b"x", b"extra"), Chunk(b"I", bytes(range(200)))])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            unpack(bytes(damaged))


def test_trailing_bytes_are_refused():
    with pytest.raises(FormatError):
        unpack(pack(HEADER, [Chunk(b"I", b"")]) + b"\0")


@pytest.mark.parametrize("chunks", [[], [Chunk(b"x", b"")]])
def test_at_least_one_chunk_of_indices(chunks: list[Chunk]):
    """How many there must be, the model says."""
    with pytest.raises(FormatError, match="no indices"):
        unpack(pack(HEADER, chunks))


def test_unknown_chunks():
    indices = Chunk(b"I", b"indices")
    assert unpack(pack(HEADER, [indices, Chunk(b"z", b"?")]))[1] == [indices, Chunk(b"z", b"?")]
    with pytest.raises(UnsupportedError, match="critical chunk Z"):
        unpack(pack(HEADER, [indices, Chunk(b"Z", b"?")]))
    with pytest.raises(FormatError, match="not a letter"):
        unpack(pack(HEADER, [indices, Chunk(b"0", b"?")]))


@pytest.mark.parametrize(("alpha", "chunks"), [(0, "A"), (0, "AA"), (1, ""), (1, "AA")])
def test_alpha_is_what_the_header_says(alpha: int, chunks: str):
    data = pack(replace(HEADER, alpha=alpha), [Chunk(b"I", b""), *(Chunk(tag.encode(), b"") for tag in chunks)])
    with pytest.raises(FormatError, match=f"{len(chunks)} chunks of alpha instead of {alpha}"):
        unpack(data)


@pytest.mark.parametrize(("tag", "what"), [(b"c", "ICC profile"), (b"e", "EXIF"), (b"x", "XMP")])
def test_metadata_comes_once(tag: bytes, what: str):
    once = [Chunk(b"I", b""), Chunk(tag, b"")]
    assert unpack(pack(HEADER, once))[1] == once
    with pytest.raises(FormatError, match=f"more than one chunk of {what}"):
        unpack(pack(HEADER, [Chunk(tag, b"other"), *once]))


class Counting(io.BytesIO):
    """Counts what is read of it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_scanning_reads_nothing_else():
    wanted = [Chunk(b"c", b"profile"), Chunk(b"x", b"")]
    data = pack(HEADER, [wanted[0], Chunk(b"I", bytes(10**6)), Chunk(b"z", bytes(10**5)), wanted[1]])
    file = Counting(data)
    assert scan(file, [b"c", b"e", b"x"]) == (HEADER, wanted)
    assert file.count < 200


def test_scanning_stops_at_damage():
    """Without a word; a length that the file does not have costs nothing."""
    chunks = [Chunk(b"x", b"first"), Chunk(b"x", b"second")]
    data = pack(HEADER, chunks)
    for length in range(23, len(data)):
        assert scan(io.BytesIO(data[:length]), [b"x"])[1] == chunks[: (length >= 34) + (length >= 46)]
    for bad in (b"x\xff\xff\xff\xff\x7f", b"x\xff\xff\xff\xff\xff\x7f", b"x\x80\x00", b"x\0\0\0\0\0"):
        assert scan(io.BytesIO(data + bad + b"more"), [b"x"])[1] == chunks
    with pytest.raises(FormatError, match="not an .lrq file"):
        scan(io.BytesIO(b"\x89PNG\r\n\x1a\n"), [b"x"])


@pytest.mark.parametrize(
    ("byte", "bit"),
    [(4, 0), (4, 1), (10, 6), (10, 7)],
    ids=["version 0", "version 3", "bit 14", "bit 15"],
)
def test_files_of_another_version_are_unsupported(byte: int, bit: int, with_crc):
    """Or with a reserved bit of the options; with a CRC-32 that does not match it is damage."""
    data = bytearray(pack(HEADER, [Chunk(b"I", b"")]))
    data[byte] ^= 1 << bit
    with pytest.raises(FormatError, match="CRC-32"):
        unpack(bytes(data))
    with pytest.raises(UnsupportedError, match="format version"):
        unpack(with_crc(data, 19))


@pytest.fixture
def with_crc():
    """A function that puts the right CRC-32 of the first `end` bytes behind them."""
    import struct
    import zlib

    def fix(data: bytearray, end: int) -> bytes:
        data[end : end + 4] = struct.pack("<I", zlib.crc32(data[:end]))
        return bytes(data)

    return fix


def test_varints_have_one_form(with_crc):
    """Width 5 as `85 00` instead of `05`, under a CRC-32 that matches."""
    data = bytearray(pack(replace(HEADER, width=5, height=5), []))
    data[5:6] = b"\x85\x00"
    with pytest.raises(FormatError, match="shortest"):
        unpack(with_crc(data, 18))


def test_varints_end():
    with pytest.raises(FormatError, match="too large"):
        unpack(b"\x8cLRQ\x01" + b"\xff" * 20)


@pytest.mark.parametrize("field", [field for field in FIELDS if field.kind != "bytes8"], ids=lambda field: field.name)
def test_fields_out_of_range(field):
    for value in {field.low - 1, field.high + 1} - {-1}:
        with pytest.raises(FormatError, match=field.name):
            pack(replace(HEADER, **{field.name: value}), [])


@pytest.mark.parametrize("sides", [b"\x00\x05", b"\x05\x00", b"\x80\x80\x04\x05", b"\x05\x80\x80\x04"])
def test_reading_checks_the_sides_too(sides: bytes, with_crc):
    """Sides of 0 and of 65,536 pixels, under a CRC-32 that matches."""
    data = bytearray(pack(replace(HEADER, width=5, height=5), []))
    data[5:7] = sides
    with pytest.raises(FormatError, match="out of range"):
        unpack(with_crc(data, 15 + len(sides)))


def test_every_value_of_the_options_is_within_its_range(with_crc):
    """No field but the sides can be out of range on reading: their ranges are whole powers of two."""
    assert sum(field.bits for field in OPTIONS) == 14
    data = bytearray(pack(HEADER, []))
    for options in range(0, 2**14, 7):
        data[9:11] = options.to_bytes(2, "little")
        assert pack(unpack_header(with_crc(data, 19)), []) == data


def test_chunks_belong_to_their_place():
    """Whole chunks, undamaged, but elsewhere: behind another header, in another order, twice, not after all others."""
    first, second = Chunk(b"I", b"first"), Chunk(b"I", b"second")
    header, data = pack(HEADER, []), pack(HEADER, [first, second])
    parts = data[len(header) : -(2 + 6 + 4)], data[-(2 + 6 + 4) :]
    assert unpack(header + b"".join(parts)) == (HEADER, [first, second])
    other = pack(replace(HEADER, band=HEADER.band ^ 1), [])
    for wrong in (other + b"".join(parts), header + parts[1] + parts[0], header + parts[0] * 2, header + parts[1]):
        with pytest.raises(FormatError, match="chunk I is damaged"):
            unpack(wrong)


def test_overhead_of_a_small_file():
    header = replace(HEADER, width=64, height=64, colour=GREY)
    assert len(pack(header, [Chunk(b"I", bytes(200))])) - 200 <= 28
