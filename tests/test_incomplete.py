"""Files that are cut short or damaged: what is left of them is drawn, if that is asked for, and it is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
from commands import fails, lrq
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_decoder import file_of, header, reader_of, strips_of

import lrcodec
from lrcodec import entropy
from lrcodec.errors import FormatError, LrqError, UnsupportedError
from lrcodec.format import container
from lrcodec.format.alpha import pack_alpha
from lrcodec.format.container import ALPHA, INDICES, Chunk
from lrcodec.packs import store

VECTORS = Path(__file__).parent.parent / "formats" / "vectors"


def vector(name: str) -> bytes:
    return (VECTORS / name / "image.lrq").read_bytes()


@pytest.fixture(scope="module")
def decoder() -> lrcodec.Decoder:
    return lrcodec.Decoder()


# ---- cut payloads


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_cut_payloads_decode_as_the_reference_tells(random_pack, random_planes, data):
    """And what is drawn is right whatever the absent bytes were."""
    pack, _ = random_pack
    fields = {"band": data.draw(st.integers(0, 1)), "iterations": data.draw(st.integers(1, 3))}
    head = header(data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60)), model=pack.fingerprint, **fields)
    planes = random_planes(pack, head, data.draw(st.integers(0, 9)))
    (payload,) = entropy.encode(planes, pack, head)
    size = data.draw(st.integers(0, max(0, len(payload) - 1)))
    absent = max(1, len(payload) - size)
    got = entropy.decode_cut(payload[:size], absent, pack, head, head.height)
    for one, want in zip(got, reference.strip(payload[:size], absent, head.height, pack.tables, head), strict=True):
        np.testing.assert_array_equal(one[0], want)
    for one, whole in zip(got, planes, strict=True):
        assert ((one == whole) | (one == 0)).all()
    count = data.draw(st.integers(1, 3))
    for one, want in zip(entropy.decode_cut(payload[:size], absent, pack, head, head.height, count), got, strict=False):
        np.testing.assert_array_equal(one, want)
    filled = payload[:size] + data.draw(st.binary(min_size=absent, max_size=absent))
    try:
        other = entropy.decode([filled], pack, head, head.height)
    except FormatError:
        return
    for one, whole in zip(got, other, strict=True):
        assert ((one == whole) | (one == 0)).all()


def test_more_bytes_never_draw_less():
    data = vector("any-depths-rgb")
    head, (chunk,) = container.unpack(data)
    pack, drawn = store.find("photo").load(), []
    for size in range(len(chunk.payload)):
        planes = entropy.decode_cut(chunk.payload[:size], len(chunk.payload) - size, pack, head, head.height)
        drawn.append([np.count_nonzero(plane) for plane in planes])
        for plane in planes:  # iterations come one after the other: no index follows a 0
            assert (np.diff((plane > 0).astype(int), axis=3) <= 0).all()
    for before, after in zip(drawn, drawn[1:], strict=False):
        assert all(a <= b for a, b in zip(before, after, strict=True))
    assert drawn[0] == [0] * 5 and len({*map(tuple, drawn)}) > 20
    full = [np.count_nonzero(plane) for plane in entropy.decode([chunk.payload], pack, head, head.height)]
    assert sum(drawn[-1]) < sum(full) and drawn[-1][:4] == full[:4]


def test_absent_bytes_beyond_the_first_sixteen_do_not_matter():
    head, (chunk,) = container.unpack(vector("any-depths-rgb"))
    pack, size = store.find("photo").load(), 150
    few, many = (entropy.decode_cut(chunk.payload[:size], n, pack, head, head.height) for n in (16, 10**9))
    for one, other in zip(few, many, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- files


@pytest.mark.parametrize("name", ["everything", "any-depths-grey", "alpha-last", "faces64-grey-alpha"])
def test_every_prefix(name: str, decoder: lrcodec.Decoder):
    """It has no header, or it is drawn, and told to be incomplete."""
    data = vector(name)
    head, _ = container.unpack(data)
    start = len(container.pack(head, []))
    tables = decoder.pack(head).tables
    whole = decoder.decode(data)
    for size in range(len(data)):
        if size < start:
            with pytest.raises(FormatError):
                decoder.preview(data[:size])
            continue
        pixels, missing = decoder.preview(data[:size])
        assert pixels.shape == whole.shape
        if size % 17 == 0:
            np.testing.assert_array_equal(pixels, reference.decode(data[:size], tables, partial=True))
            shrink = 2 << size // 17 % 4
            small = decoder.preview(data[:size], shrink).pixels
            np.testing.assert_array_equal(small, reference.decode(data[:size], tables, shrink, True))
        if reference.complete(data[:size], tables):  # only ancillary chunks are gone
            assert missing is None
            np.testing.assert_array_equal(decoder.decode(data[:size]), pixels)
        else:
            assert missing
            with pytest.raises(FormatError):
                decoder.decode(data[:size])
    assert decoder.preview(data).missing is None
    np.testing.assert_array_equal(decoder.preview(data).pixels, whole)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_damage_is_drawn_as_the_reference_tells_or_refused(random_pack, random_planes, data):
    """Bytes that are wrong, cut off or too many, in a file of several strips, with alpha and others between them."""
    pack, _ = random_pack
    head = header(20, 60, model=pack.fingerprint, alpha=1, iterations=2)
    alpha = Chunk(ALPHA, pack_alpha(np.arange(1200, dtype=np.uint8).reshape(60, 20) // 9))
    reader = reader_of(pack)
    with strips_of(1):
        strips = container.unpack(file_of(pack, random_planes(pack, header(20, 60, iterations=2), 41), header(20, 60)))[
            1
        ]
        chunks = [Chunk(b"q", b"any"), *strips[:2], alpha, Chunk(b"e", b"?"), *strips[2:]]
        hurt = bytearray(container.pack(head, data.draw(st.permutations(chunks))))
        for _ in range(data.draw(st.integers(0, 2))):
            hurt[data.draw(st.integers(12, len(hurt) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        file = bytes(hurt[: data.draw(st.integers(12, len(hurt)))]) + data.draw(st.sampled_from([b"", b"I", b"I\4ab"]))
        shrink = data.draw(st.sampled_from([1, 2, 4, 8, 16]))
        try:
            want = reference.decode(file, pack.tables, shrink, True)
        except ValueError:
            with pytest.raises(LrqError):
                reader.preview(file, shrink)
            return
        got = reader.preview(file, shrink)
        np.testing.assert_array_equal(got.pixels, want, strict=True)
        assert (got.missing is None) == reference.complete(file, pack.tables)
        assert reader.missing(file) == got.missing
        np.testing.assert_array_equal(
            np.concatenate([*reader.strips(file, shrink=shrink, partial=True)]), want, strict=True
        )
        if got.missing is None:
            np.testing.assert_array_equal(reader.decode(file, shrink), want)
        else:
            with pytest.raises(LrqError):
                reader.decode(file, shrink)


def test_what_is_told(random_pack, random_planes):
    pack, _ = random_pack
    head = header(20, 75, model=pack.fingerprint, alpha=1)
    with strips_of(1):
        plain = replace(head, alpha=0)
        strips = container.unpack(file_of(pack, random_planes(pack, plain, 42), plain))[1]
        alpha = Chunk(ALPHA, pack_alpha(np.zeros((75, 20), np.uint8)))
        data = container.pack(head, [alpha, *strips])
        ends = [len(container.pack(head, [alpha, *strips[:count]])) for count in range(6)]
        flipped = bytearray(data)
        flipped[ends[2] - 5] ^= 1
        told = {
            data: None,
            data + b"I": "file ends inside a chunk length: all of the picture is there",
            data[:-1]: "file ends inside chunk I: all of the picture is there",
            data[:-9]: "file ends inside a chunk: strip 5 of 5 is drawn in part",
            data[: ends[4]]: "the file ends early: strip 5 of 5 is missing",
            data[: ends[2]]: "the file ends early: strips 3 to 5 of 5 are missing",
            data[
                : ends[2] + 9
            ]: "file ends inside a chunk: strip 3 of 5 is drawn in part, strips 4 to 5 of 5 are missing",
            bytes(flipped): "chunk I is damaged (CRC-32 does not match): strips 2 to 5 of 5 are missing",
            container.pack(head, strips): "the file ends early: alpha is missing",
            data[:30]: "file ends inside a chunk: strips 1 to 5 of 5 are missing, alpha is missing",
        }
        for file, missing in told.items():
            assert reader_of(pack).preview(file).missing == missing
        pixels = reader_of(pack).preview(data[:30]).pixels
        assert (pixels[..., 3] == 255).all()


REFUSED: dict[str, tuple[type[LrqError], Callable[[bytes, bytes], bytes]]] = {
    "signature": (FormatError, lambda start, rest: b"x" + start[1:] + rest),
    "header cut": (FormatError, lambda start, rest: start[:-1]),
    "header damaged": (FormatError, lambda start, rest: start[:-1] + bytes([start[-1] ^ 1]) + rest),
    "newer version, damaged": (FormatError, lambda start, rest: start[:3] + b"\x82" + start[4:] + rest),
    "newer version, cut": (UnsupportedError, lambda start, rest: start[:3] + b"\x82" + start[4:] + rest[:9]),
    "first chunk damaged": (FormatError, lambda start, rest: start + rest[:9] + bytes([rest[9] ^ 1]) + rest[10:]),
    "first tag damaged": (FormatError, lambda start, rest: start + b"1" + rest[1:]),
    "first length damaged": (FormatError, lambda start, rest: start + rest[:1] + b"\x80\0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_preview_shows(name: str, decoder: lrcodec.Decoder):
    data = vector("rgba")
    start = len(container.pack(container.unpack_header(data), []))
    kind, change = REFUSED[name]
    with pytest.raises(kind):
        decoder.preview(change(data[:start], data[start:]))


def test_chunks_that_no_preview_takes(decoder: lrcodec.Decoder):
    """Undamaged chunks that must not be there, before the damage: critical ones, and too many of a kind."""
    data = vector("rgba")
    head, (alpha, indices) = container.unpack(data)
    unknown = Chunk(b"Z", b"new")
    for kind, chunks in (
        (UnsupportedError, [unknown, alpha, indices]),
        (UnsupportedError, [alpha, indices, unknown]),
        (FormatError, [alpha, alpha, indices]),
        (FormatError, [alpha, indices, indices]),
        (FormatError, [alpha, indices, Chunk(b"x", b""), Chunk(b"x", b"")]),
        (FormatError, [Chunk(ALPHA, b"\0no stream"), indices]),
        (FormatError, [alpha, Chunk(INDICES, b"\xff" * 8)]),
    ):
        for end in (b"", b"q"):
            with pytest.raises(kind):
                decoder.preview(container.pack(head, chunks) + end)
    with pytest.raises(FormatError, match="2 chunks of indices instead of 1"):
        decoder.preview(data + b"I\5abc")  # the cut chunk counts
    with pytest.raises(FormatError, match="1 chunks of alpha instead of 0"):
        decoder.preview(container.pack(replace(head, alpha=0), [alpha, indices])[:-1])
    with pytest.raises(UnsupportedError, match="needs model"):
        decoder.preview(container.pack(replace(head, model=bytes(4)), [alpha]))
    # What comes behind the damage does not count.
    hurt = bytearray(container.pack(head, [alpha, Chunk(b"q", b"any"), unknown, indices]))
    hurt[hurt.index(b"any")] ^= 1
    assert decoder.preview(bytes(hurt)).missing is not None


# ---- the command


def test_the_command(photo_file: Path, tmp_path: Path, decoder: lrcodec.Decoder):
    data, out, cut = photo_file.read_bytes(), tmp_path / "out.png", tmp_path / "cut.lrq"
    cut.write_bytes(data[:-20])
    assert "file ends inside a chunk" in fails(3, "decode", cut, "-o", out)
    assert not out.exists()
    for options, want in (
        ([], decoder.preview(data[:-20]).pixels),
        (["--shrink", 4], decoder.preview(data[:-20], 4).pixels),
        (["--region", "5,6,70,30"], decoder.preview(data[:-20]).pixels[6:36, 5:75]),
        (["--quiet"], decoder.preview(data[:-20]).pixels),
    ):
        result = lrq("decode", cut, "-o", out, "--partial", *options)
        line = f"lrq: incomplete: {cut}: file ends inside a chunk: strip 1 of 1 is drawn in part\n"
        assert (result.exit_code, result.stdout, result.stderr) == (7, "", line)
        np.testing.assert_array_equal(np.asarray(Image.open(out)), want)
        out.unlink()
    result = lrq("decode", photo_file, "-o", out, "--partial")
    assert (result.exit_code, result.output) == (0, "")
    np.testing.assert_array_equal(np.asarray(Image.open(out)), decoder.decode(data))
    assert "not an .lrq file" in fails(3, "decode", out, "-o", tmp_path / "other.png", "--partial")
    piped = lrq("decode", "-", "--partial", "--format", "ppm", stdin=data[:-20])
    assert piped.exit_code == 7 and piped.stdout_bytes.startswith(b"P6 97 61 255\n")
    assert piped.stderr.startswith("lrq: incomplete: standard input: file ends inside a chunk")


def test_the_command_for_many_files(photo_file: Path, tmp_path: Path):
    data, out = photo_file.read_bytes(), tmp_path / "out"
    contents = {"a": data[:-20], "b": data, "c": data[:25]}
    paths = [tmp_path / f"{name}.lrq" for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content)
    result = lrq("decode", *paths, "--out-dir", out, "--partial")
    first, second, summary = result.stderr.splitlines()
    assert first.startswith(f"lrq: incomplete: {paths[0]}: ") and second.startswith(f"lrq: incomplete: {paths[2]}: ")
    assert (result.exit_code, summary.split(":")[0]) == (7, "3 of 3 files written")
    assert {path.name for path in out.iterdir()} == {"a.png", "b.png", "c.png"}
    paths[1].write_bytes(b"no file")
    result = lrq("decode", *paths, "--out-dir", out, "--partial", "-f")
    assert result.exit_code == 3 and "1 of 3 files failed" in result.stderr
    assert result.stderr.count("lrq: incomplete: ") == 2
