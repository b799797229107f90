"""Pillow opens, verifies and saves .lrq files: lazily, in all modes, and with Pillow's own kinds of errors."""

import io
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import lrcodec
from lrcodec import plugin
from lrcodec.format.container import Chunk, Header, pack, unpack

EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010F] = 6, "camera"
EXTRA = {"icc_profile": b"profile" * 1000, "exif": EXIF, "xmp": b"<x:xmpmeta/>"}


def saved(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "LRQ", effort=0, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.fixture(scope="module")
def images(photo: np.ndarray) -> dict[str, Image.Image]:
    """`photo` in all modes."""
    grey, alpha = photo[..., 1], photo[..., 0]
    arrays = {"L": grey, "LA": np.dstack([grey, alpha]), "RGB": photo, "RGBA": np.dstack([photo, alpha])}
    return {mode: Image.fromarray(array, mode) for mode, array in arrays.items()}


@pytest.fixture(scope="module")
def data(images) -> bytes:
    """A file with alpha and all metadata."""
    return saved(images["RGBA"], **EXTRA)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_round_trip(mode: str, images, tmp_path: Path):
    """As the Python interface does it, and with the metadata byte for byte."""
    path = tmp_path / "image.lrq"
    images[mode].save(path, quality=30.5, rank=1, effort=0, **EXTRA)
    content = path.read_bytes()
    assert content == lrcodec.encode(
        np.asarray(images[mode]), quality=30.5, rank=1, effort=0, **EXTRA | {"exif": EXIF.tobytes()}
    )
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size, image.get_format_mimetype()) == (
            "LRQ",
            mode,
            (97, 61),
            "image/x-lrq",
        )
        np.testing.assert_array_equal(np.asarray(image), lrcodec.decode(content))
        assert image.info["icc_profile"] == EXTRA["icc_profile"]
        assert image.info["exif"] == EXIF.tobytes().removeprefix(b"Exif\0\0")
        assert image.info["xmp"] == EXTRA["xmp"]
        assert dict(image.getexif()) == dict(EXIF)
    again = opened(saved(Image.open(path)))
    assert again.info == {"icc_profile": EXTRA["icc_profile"]}  # as other formats: EXIF and XMP only where asked for


@pytest.mark.parametrize("size", [(1, 1), (1, 130), (67, 3)])
def test_small_sizes(size: tuple[int, int]):
    image = opened(saved(Image.new("LA", size, (90, 17))))
    assert (image.size, image.mode) == (size, "LA")
    assert image.getchannel("A").getextrema() == (17, 17)


def test_opening_reads_little(data: bytes, monkeypatch: pytest.MonkeyPatch):
    """Neither the indices nor the alpha, and nothing is decoded; pixels come with `load`."""
    header, chunks = unpack(data)
    data = pack(header, [Chunk(b"z", bytes(10**6)), *chunks])
    count = 0

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal count
            got = super().read(size)
            count += len(got)
            return got

    want = lrcodec.decode(data)
    with monkeypatch.context() as patch:
        patch.setattr("lrcodec.decoder.shared", None)
        image = Image.open(Counting(data))
        assert (image.size, image.mode, {*image.info}) == ((97, 61), "RGBA", {*EXTRA})
        assert count < 10_000  # other plugins of Pillow look at the file too
    np.testing.assert_array_equal(np.asarray(image), want)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize(
    ("size", "shrink"),
    [((97, 61), 1), ((49, 30), 1), ((48, 30), 2), ((24, 16), 2), ((24, 15), 4), ((12, 7), 8), ((1, 1), 16)],
)
def test_draft(size: tuple[int, int], shrink: int, mode: str, images):
    """The smallest that is as large as asked for in both directions; as JPEG's, which ends at 1/8."""
    content = saved(images[mode])
    image, jpeg = opened(content), io.BytesIO()
    images["RGB"].save(jpeg, "JPEG")
    other = opened(jpeg.getvalue())
    drafted = image.draft(None, size)
    assert drafted == (mode, (0, 0, 97 / shrink, 61 / shrink))
    if shrink < 16:
        assert other.draft("RGB", size) == ("RGB", drafted[1]) and other.size == image.size
    want = lrcodec.decode(content, shrink=shrink)
    assert image.size == (want.shape[1], want.shape[0]) == (-(-97 // shrink), -(-61 // shrink))
    np.testing.assert_array_equal(np.asarray(image), want)


def test_drafts_that_change_nothing(images):
    content = saved(images["RGB"])
    image = opened(content)
    assert image.draft("L", None) is None and image.size == (97, 61)
    assert image.draft("L", (20, 10)) is not None and image.mode == "RGB"
    assert image.draft(None, (2, 1)) is None  # only once
    assert image.size == (25, 16)
    image = opened(content)
    image.load()
    assert image.draft(None, (20, 10)) is None and image.size == (97, 61)


def test_thumbnails(images, monkeypatch: pytest.MonkeyPatch):
    """They are those of the whole image, nearly, and decoded at a part of the size."""
    content, shrinks = saved(images["RGB"]), []
    decoder = lrcodec.Decoder()

    class Spy:
        def decode(self, data: bytes, shrink: int) -> np.ndarray:
            shrinks.append(shrink)
            return decoder.decode(data, shrink)

    monkeypatch.setattr("lrcodec.decoder.shared", Spy)
    fast, exact = opened(content), Image.fromarray(decoder.decode(content))
    fast.thumbnail((11, 7))  # it asks for twice as much, which it then makes smaller
    exact.thumbnail((11, 7))
    assert (shrinks, fast.size, exact.size) == ([4], (11, 7), (11, 7))
    assert np.abs(np.asarray(fast).astype(int) - np.asarray(exact)).mean() < 5


def test_importing_it_imports_neither_torch_nor_onnxruntime():
    code = "import sys, lrcodec.plugin; assert not {'torch', 'onnxruntime'} & {*sys.modules}"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def headed(**fields) -> Header:
    given = dict(width=8, height=8, colour=1, smoothing=0, rank=1, iterations=1, band=0, model=bytes(4)) | fields
    return Header(**given)


def test_pillows_bomb_check_comes_first():
    bomb = pack(headed(width=60000, height=60000, alpha=1), [Chunk(b"A", b""), Chunk(b"I", b"")])
    assert len(bomb) < 60
    with pytest.raises(Image.DecompressionBombError):
        opened(bomb)


def test_pillows_limit_is_the_only_one():
    """The pixels are not refused for being many, but for their model."""
    decoder = plugin.LrqDecoder("RGB")
    decoder.setfd(io.BytesIO(pack(headed(width=60000, height=60000), [Chunk(b"I", b"")])))
    with pytest.raises(OSError, match="needs model 00000000"):
        decoder.decode(b"")


def test_damaged_headers_are_not_identified(data: bytes):
    """So that Pillow goes on to other formats, and names none."""
    small = bytearray(pack(headed(), [Chunk(b"I", b"indices")]))
    small[5] ^= 1
    for bad in (data[:3], data[:11], bytes(small), b"LRQ" + bytes(60), b"LRQ\x81" + bytes(60)):
        with pytest.raises(UnidentifiedImageError):
            opened(bad)


def test_damaged_headers_that_are_identified(data: bytes):
    """The first bytes do not tell; the first chunk, which is read with the pixels, does."""
    header, chunks = unpack(data)
    flipped = bytearray(pack(header, [Chunk(b"z", bytes(100)), *chunks]))
    flipped[5] ^= 1
    assert opened(bytes(flipped)).size == (97, 60)
    with pytest.raises(OSError, match="is damaged"):
        opened(bytes(flipped)).load()
    with pytest.raises(OSError, match="is damaged"):
        opened(bytes(flipped)).verify()


def test_a_newer_version_is_not_identified():
    data = bytearray(pack(headed(), [Chunk(b"I", b"")]))
    data[3] = 0x82
    data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
    with pytest.raises(UnidentifiedImageError):
        opened(bytes(data))


def damaged(data: bytes) -> list[bytes]:
    header, chunks = unpack(data)
    by_tag = {chunk.tag: chunk for chunk in chunks}
    others = [chunk for chunk in chunks if chunk.tag != b"c"]
    colours = [chunk for chunk in chunks if chunk.tag != b"A"]
    flipped = bytearray(data)
    flipped[-9] ^= 1
    return [
        data[:-1],
        data[: len(data) // 2],
        data[:30],
        bytes(flipped),
        data + b"\0",
        pack(header, [*chunks, Chunk(b"Z", b"")]),
        pack(header, [*chunks, by_tag[b"A"]]),
        pack(header, [*chunks, by_tag[b"x"]]),
        pack(header, colours),
        pack(header, [Chunk(b"c", b"damaged"), *others]),
        pack(header, [Chunk(b"c", zlib.compress(bytes(2**24 + 1))), *others]),
    ]


def test_damage_shows_with_the_pixels_and_when_verifying(data: bytes):
    for bad in damaged(data):
        assert opened(bad).size == (97, 61)
        with pytest.raises(OSError):
            opened(bad).load()
        with pytest.raises(OSError):
            opened(bad).verify()
    opened(data).verify()


def test_damage_that_only_decoding_finds(data: bytes):
    """`verify` does not decode."""
    header, chunks = unpack(data)
    others = [chunk for chunk in chunks if chunk.tag != b"A"]
    for bad in (
        pack(header, [*others, Chunk(b"A", b"\0" + zlib.compress(b"short"))]),
        pack(header, [*chunks, Chunk(b"I", b"one too many")]),
        pack(replace(header, model=bytes(4)), chunks),
    ):
        opened(bad).verify()
        with pytest.raises(OSError) as caught:
            opened(bad).load()
        assert not isinstance(caught.value, SyntaxError) and str(caught.value)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "I", "F", "YCbCr", "PA"])
def test_other_modes_are_not_written(mode: str, tmp_path: Path):
    with pytest.raises(OSError, match=f"cannot write mode {mode} as LRQ"):
        Image.new(mode, (5, 5)).save(tmp_path / "a.lrq")
    assert list(tmp_path.iterdir()) == []


def test_wrong_options(images, tmp_path: Path):
    path = tmp_path / "a.lrq"
    for options in ({"quality": 100.5}, {"quality": "high"}, {"rank": 5}, {"effort": 9}):
        with pytest.raises(ValueError, match=next(iter(options))):
            images["RGB"].save(path, **options)
    for options in ({"model": "nobody's"}, {"xmp": bytes(2**24 + 1)}):
        with pytest.raises(OSError):
            images["RGB"].save(path, **options)
    assert list(tmp_path.iterdir()) == []


def test_saving_without_the_encoder(images, monkeypatch: pytest.MonkeyPatch):
    plugin._encoder.cache_clear()
    for name in [name for name in sys.modules if name.startswith("lrcodec.encoder")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(OSError, match=r'pip install "lrcodec\[encode\]"'):
        saved(images["RGB"])
    plugin._encoder.cache_clear()


def test_many_threads_open_images(data: bytes):
    want = lrcodec.decode(data).tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(lambda _: opened(data).tobytes(), range(40))} == {want}
