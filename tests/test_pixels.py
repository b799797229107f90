"""Image files <-> arrays: which modes are read, which are refused, and what each suffix writes."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lrcodec.errors import LimitError, UsageError
from lrcodec.pixels import WRITERS, read_image, write_image

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def save(image: Image.Image, name: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def png(width: int, height: int, bits: int = 8, colour: int = 0) -> bytes:
    """A PNG of zeros, without Pillow: colour 0 grey, 2 RGB, 4 grey with alpha."""
    channels = {0: 1, 2: 3, 4: 2}[colour]
    rows = (b"\0" + bytes(width * channels * bits // 8)) * height
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = [struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(t + b)) for t, b in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("pixels", [COLOUR, GREY], ids=["RGB", "grey"])
def test_rgb_and_grey_as_they_are(pixels: np.ndarray):
    read = read_image(save(Image.fromarray(pixels)))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


def test_one_bit():
    bits = GREY > 127
    np.testing.assert_array_equal(read_image(save(Image.fromarray(bits))), bits * np.uint8(255))


def test_palette():
    image = Image.fromarray(COLOUR).quantize(16)
    np.testing.assert_array_equal(read_image(save(image)), np.array(image.convert("RGB")))


@pytest.mark.parametrize("pixels", [COLOUR, GREY], ids=["RGBA", "LA"])
def test_opaque_alpha_is_dropped(pixels: np.ndarray):
    image = Image.fromarray(pixels)
    image.putalpha(255)
    np.testing.assert_array_equal(read_image(save(image)), pixels)


@pytest.mark.parametrize("pixels", [COLOUR, GREY], ids=["RGBA", "LA"])
def test_alpha_is_refused(pixels: np.ndarray):
    image = Image.fromarray(pixels)
    image.putalpha(254)
    with pytest.raises(UsageError, match="alpha is not supported yet"):
        read_image(save(image))


def test_transparent_palette_is_refused():
    with pytest.raises(UsageError, match="alpha"):
        read_image(save(Image.fromarray(COLOUR).quantize(4), transparency=0))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param(save(Image.new("CMYK", (2, 2)), "JPEG"), "CMYK", id="CMYK"),
        pytest.param(save(Image.new("F", (2, 2)), "TIFF"), "floating-point", id="float"),
        pytest.param(save(Image.new("I", (2, 2)), "TIFF"), "8 bits", id="32-bit grey"),
        pytest.param(save(Image.new("LAB", (2, 2)), "TIFF"), "mode LAB", id="LAB"),
        pytest.param(png(2, 2, bits=16, colour=0), "8 bits", id="16-bit grey"),
        pytest.param(png(2, 2, bits=16, colour=2), "8 bits", id="16-bit RGB"),
        pytest.param(png(2, 2, bits=16, colour=4), "8 bits", id="16-bit grey with alpha"),
        pytest.param(b"P6 2 2 65535\n" + bytes(24), "8 bits", id="16-bit PPM"),
    ],
)
def test_refused_modes(source: bytes, reason: str):
    with pytest.raises(UsageError, match=reason):
        read_image(source)


@pytest.mark.parametrize("source", [b"", b"hello\n", save(Image.fromarray(COLOUR))[:60]], ids=["empty", "text", "cut"])
def test_unreadable(source: bytes):
    with pytest.raises(UsageError, match="not an image that Pillow can read"):
        read_image(source)


def test_sizes():
    assert read_image(png(65535, 1)).shape == (1, 65535)
    for width, height in [(65536, 1), (1, 65536)]:
        with pytest.raises(LimitError, match="65,535"):
            read_image(png(width, height))


def test_too_many_pixels(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(LimitError):
        read_image(png(7, 5))


def test_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the image must be turned by 90 degrees
    read = read_image(save(Image.fromarray(COLOUR), exif=exif))
    np.testing.assert_array_equal(read, np.rot90(COLOUR, -1))


@pytest.mark.parametrize("pixels", [COLOUR, GREY], ids=["RGB", "grey"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_writers(suffix: str, pixels: np.ndarray):
    data = write_image(pixels, suffix)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == WRITERS[suffix][0]
    if suffix in (".jpg", ".jpeg"):
        assert read_image(data).shape == pixels.shape
    elif suffix == ".webp" and pixels.ndim == 2:
        np.testing.assert_array_equal(read_image(data), np.stack([pixels] * 3, axis=2))  # WebP has no grey
    else:
        np.testing.assert_array_equal(read_image(data), pixels)


def test_writing_refuses():
    assert write_image(COLOUR, ".PNG") == write_image(COLOUR)
    for suffix in (".xyz", "", "png"):
        with pytest.raises(UsageError, match="suffix"):
            write_image(COLOUR, suffix)
    with pytest.raises(UsageError, match="do not fit"):
        write_image(np.zeros((1, 20000, 3), np.uint8), ".webp")
