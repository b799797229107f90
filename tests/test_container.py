"""The container: literal bytes, round trips, damage."""

import io
import zlib
from dataclasses import astuple, replace

import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from lrcodec.errors import FormatError, LrqError, UnsupportedError
from lrcodec.format.container import (
    FIELDS,
    GREY,
    OPTIONS,
    RGB,
    Chunk,
    Header,
    pack,
    scan,
    unpack,
    unpack_header,
    unpack_rest,
)

HEADER = Header(width=640, height=480, colour=RGB, rank=2, iterations=8, band=3, smoothing=1, model=b"\x01" * 4)

headers = st.builds(
    Header,
    **{
        field.name: st.binary(min_size=4, max_size=4) if field.kind == "bytes4" else st.integers(field.low, field.high)
        for field in FIELDS
    },
)
ancillary = st.lists(st.builds(Chunk, st.sampled_from([b"a", b"u", b"z"]), st.binary(max_size=300)), max_size=3)


def test_literal_bytes():
    """The bytes of a file, which no later version may change."""
    data = pack(HEADER, [Chunk(b"I", b"indices")])
    assert data.hex(" ") == ("4c 52 51 81 80 05 e0 03 77 06 01 01 01 01 49 07 69 6e 64 69 63 65 73 d9 8e 2a 62")


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
    for start in (b"", b"LRQ\x81"):
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


def test_at_least_one_chunk_of_indices():
    """How many there must be, the model says."""
    with pytest.raises(FormatError, match="no indices"):
        unpack(pack(HEADER, [Chunk(b"x", b"")]))
    with pytest.raises(FormatError, match="ends inside a chunk"):
        unpack(pack(HEADER, []))


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
    for length in range(14, len(data)):
        assert scan(io.BytesIO(data[:length]), [b"x"])[1] == chunks[: (length >= 25) + (length >= 37)]
    for bad in (b"x\xff\xff\xff\xff\x7f", b"x\xff\xff\xff\xff\xff\x7f", b"x\x80\x00", b"x\0\0\0\0\0"):
        assert scan(io.BytesIO(data + bad + b"more"), [b"x"])[1] == chunks
    with pytest.raises(FormatError, match="not an .lrq file"):
        scan(io.BytesIO(b"\x89PNG\r\n\x1a\n"), [b"x"])


@pytest.mark.parametrize(
    ("byte", "bit"),
    [(3, 0), (3, 1), (9, 6), (9, 7)],
    ids=["version 0", "version 3", "bit 14", "bit 15"],
)
def test_files_of_another_version_are_unsupported(byte: int, bit: int):
    """Or with a reserved bit of the options; with a CRC-32 that does not match it is damage."""
    data = bytearray(pack(HEADER, [Chunk(b"I", b"")]))
    data[byte] ^= 1 << bit
    for read in (unpack, unpack_rest, unpack_header):
        with pytest.raises(FormatError, match="CRC-32"):
            read(bytes(data))
        with pytest.raises(UnsupportedError, match="format version"):
            read(sealed(data[:-4]))
    # Where the first chunk is cut short, that it is damage cannot be told; but a whole file it is not.
    with pytest.raises(FormatError, match="ends inside"):
        unpack(bytes(data[:-1]))
    for read in (unpack_rest, unpack_header):
        with pytest.raises(UnsupportedError, match="format version"):
            read(bytes(data[:-1]))


def sealed(data: bytes) -> bytes:
    """A file of one chunk: with the right CRC-32."""
    return data + zlib.crc32(data).to_bytes(4, "little")


@settings(deadline=None)
@given(headers, st.binary(max_size=300), st.integers(0, 3), st.booleans())
def test_headers_that_are_damaged_in_a_byte(header: Header, payload: bytes, tag: int, later: bool):
    """Not valid, and never "not supported", whatever chunks follow."""
    header = replace(header, alpha=0)
    chunks = [Chunk(b"IcqZ"[tag : tag + 1], payload), *[Chunk(b"I", b"later")] * later]
    data = pack(header, chunks)
    for at in range(len(pack(header, []))):
        for change in (1, 2, 0x40, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= change
            with pytest.raises(FormatError):
                unpack(bytes(damaged))


def test_headers_that_are_damaged_in_any_way_in_a_byte():
    data = pack(HEADER, [Chunk(b"I", bytes(range(100)))])
    for at in range(len(pack(HEADER, []))):
        for value in {*range(256)} - {data[at]}:
            with pytest.raises(FormatError):
                unpack(data[:at] + bytes([value]) + data[at + 1 :])


@settings(deadline=None)
@given(
    headers, st.lists(st.sampled_from([b"I", b"c", b"q"]), min_size=1, max_size=3, unique=True), st.binary(max_size=200)
)
def test_every_prefix(header: Header, tags: list[bytes], payload: bytes):
    """Refused; and what is left of it has its header as soon as that is whole."""
    header = replace(header, alpha=0)
    chunks = [Chunk(tag, payload) for tag in tags]
    data, start = pack(header, chunks), len(pack(header, []))
    ends = [len(pack(header, chunks[: count + 1])) for count in range(len(chunks))]
    for length in range(len(data)):
        if length not in ends:  # there its last chunks are missing, which nothing tells but their number
            with pytest.raises(FormatError):
                unpack(data[:length])
        if length < start:
            for read in (unpack_header, unpack_rest):
                with pytest.raises(FormatError):
                    read(data[:length])
            continue
        assert unpack_header(data[:length]) == header
        rest = unpack_rest(data[:length])
        whole = sum(end <= length for end in ends)
        assert rest.header == header and rest.chunks[:whole] == chunks[:whole]
        assert (rest.damage is None) == (length in {start, *ends})
        for chunk in rest.chunks[whole:]:  # one that is cut short
            assert chunk.tag == b"I" == tags[whole] and len(chunk.payload) + rest.absent == len(payload)


def test_first_chunks_that_are_damaged():
    """Nothing is left of such a file: the header may be what is wrong. Of one that is cut short there is."""
    data = pack(HEADER, [Chunk(b"I", b"indices"), Chunk(b"q", b"")])
    first = len(pack(HEADER, [Chunk(b"I", b"indices")]))
    start = len(pack(HEADER, []))
    bad = [data[:start] + wrong for wrong in (b"1", b"\xe9", b"I\x83\0", b"I" + b"\xff" * 5)]
    bad += [data[: first - 1] + bytes([data[first - 1] ^ 1]) + data[first:]]
    for damaged in bad:
        for read in (unpack, unpack_rest, unpack_header):
            with pytest.raises(FormatError):
                read(damaged)
    for cut in (data[:start], data[: start + 1], data[:start] + b"I" + b"\xff" * 4, data[:start] + b"I\x83"):
        assert unpack_rest(cut).header == unpack_header(cut) == HEADER
    later = bytearray(data)
    later[-1] ^= 1
    assert unpack_rest(bytes(later)).chunks == [Chunk(b"I", b"indices")]


def test_varints_have_one_form():
    """Width 5 as `85 00` instead of `05`, under a CRC-32 that matches."""
    data = pack(replace(HEADER, width=5, height=5), [Chunk(b"I", b"")])
    with pytest.raises(FormatError, match="shortest"):
        unpack(sealed(data[:4] + b"\x85\x00" + data[5:-4]))


def test_varints_end():
    with pytest.raises(FormatError, match="too large"):
        unpack(b"LRQ\x81" + b"\xff" * 20)


@pytest.mark.parametrize("field", [field for field in FIELDS if field.kind != "bytes4"], ids=lambda field: field.name)
def test_fields_out_of_range(field):
    for value in {field.low - 1, field.high + 1} - {-1}:
        with pytest.raises(FormatError, match=field.name):
            pack(replace(HEADER, **{field.name: value}), [])


@pytest.mark.parametrize("sides", [b"\x00\x05", b"\x05\x00", b"\x80\x80\x04\x05", b"\x05\x80\x80\x04"])
def test_reading_checks_the_sides_too(sides: bytes):
    """Sides of 0 and of 65,536 pixels, under a CRC-32 that matches."""
    data = pack(replace(HEADER, width=5, height=5), [Chunk(b"I", b"")])
    with pytest.raises(FormatError, match="out of range"):
        unpack(sealed(data[:4] + sides + data[6:-4]))


def test_every_value_of_the_options_is_within_its_range():
    """No field but the sides can be out of range on reading: their ranges are whole powers of two."""
    assert sum(field.bits for field in OPTIONS) == 14
    data = bytearray(pack(HEADER, []))
    for options in range(0, 2**14, 7):
        data[8:10] = options.to_bytes(2, "little")
        assert pack(unpack_header(data), []) == data


def test_chunks_belong_to_their_place():
    """Whole chunks, undamaged, but elsewhere: behind another header, in another order, twice, not after all others."""
    first, second = Chunk(b"I", b"first"), Chunk(b"I", b"second")
    header, data = pack(HEADER, []), pack(HEADER, [first, second])
    parts = data[len(header) : -(2 + 6 + 4)], data[-(2 + 6 + 4) :]
    assert unpack(header + b"".join(parts)) == (HEADER, [first, second])
    other = pack(replace(HEADER, band=HEADER.band ^ 1), [])  # for which the first chunk vouches
    for wrong in (other + b"".join(parts), header + parts[1] + parts[0], header + parts[0] * 2, header + parts[1]):
        with pytest.raises(FormatError, match="chunk I is damaged"):
            unpack(wrong)


def test_overhead_of_a_small_file():
    header = replace(HEADER, width=64, height=64, colour=GREY)
    assert len(pack(header, [Chunk(b"I", bytes(200))])) - 200 == 19
