"""Image files <-> arrays: which modes are read, which are refused, and what each suffix writes."""

import io
import math
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lrcodec.errors import LimitError, UsageError
from lrcodec.format.metadata import Metadata
from lrcodec.image_io import WITH_QUALITY, WITHOUT_ALPHA, WRITERS, read_image, read_picture, write_image, write_strips

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
    with pytest.raises(UsageError, match="alpha that is not opaque"):
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
    for read in (read_image, read_picture):
        with pytest.raises(UsageError, match=reason):
            read(source)


RGBA = RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)
LA = RGBA[..., :2].copy()
MODES = {"L": GREY, "LA": LA, "RGB": COLOUR, "RGBA": RGBA}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP"])
def test_all_modes_as_they_are(name: str, mode: str):
    options = {"lossless": True, "exact": True} if name == "WEBP" else {}
    pixels = read_picture(save(Image.fromarray(MODES[mode], mode), name, **options)).pixels
    if name == "WEBP" and mode[0] == "L":  # WebP has no grey
        pixels = pixels[..., [0, 3][: len(mode)]].reshape(MODES[mode].shape)
    np.testing.assert_array_equal(pixels, MODES[mode])
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("image", "transparency", "channels"),
    [
        (Image.fromarray(COLOUR).quantize(8), 3, 4),
        (Image.fromarray(COLOUR).quantize(8), bytes(range(0, 240, 30)), 4),
        (Image.fromarray(GREY), int(GREY[2, 3]), 2),
        (Image.fromarray(COLOUR), tuple(map(int, COLOUR[2, 3])), 4),
        (Image.fromarray(GREY > 127), 255, 2),
    ],
    ids=["palette, one", "palette, many", "grey", "RGB", "1-bit"],
)
def test_transparent_colours_become_alpha(image: Image.Image, transparency, channels: int):
    source = save(image, transparency=transparency)
    pixels = read_picture(source).pixels
    assert pixels.shape == (5, 7, channels) and 0 < np.count_nonzero(pixels[..., -1]) < 35
    with Image.open(io.BytesIO(source)) as again:
        np.testing.assert_array_equal(pixels[..., -1], np.array(again.convert("RGBA"))[..., 3])
        np.testing.assert_array_equal(
            pixels[..., :-1].reshape(5, 7, -1)[..., 0], np.array(again.convert("RGB"))[..., 0]
        )


# ---- --to-8bit


DEEP = RNG.integers(0, 65536, (5, 7, 4), dtype=np.uint16)


def deep_png(samples: np.ndarray, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits a sample: (H, W, 1 to 4)."""
    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    parts += [(b"tRNS", extra)] * bool(extra) + [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(t + b)) for t, b in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_keep_their_highest_eight(channels: int):
    samples = DEEP[..., :channels]
    want = (samples >> 8).astype(np.uint8)
    np.testing.assert_array_equal(
        read_picture(deep_png(samples), to_8bit=True).pixels, want[..., 0] if channels == 1 else want
    )


def test_other_files_of_sixteen_bits():
    grey = DEEP[..., 0].copy()
    for source in (save(Image.fromarray(grey), "TIFF"), b"P5 7 5 65535\n" + grey.astype(">u2").tobytes()):
        np.testing.assert_array_equal(read_picture(source, to_8bit=True).pixels, grey >> 8)
    small = DEEP[..., :3] % 1001  # Pillow scales it, and rounds
    pixels = read_picture(b"P6 7 5 1000\n" + small.astype(">u2").tobytes(), to_8bit=True).pixels
    assert np.abs(pixels - small * (255 / 1000)).max() <= 0.5


def test_twelve_bits():
    """A TIFF of one row, two samples a row: 0xABC and 0x123."""
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, 1), (279, 3)]
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in tags)
    data += bytes(4) + b"\xab\xc1\x23"
    with pytest.raises(UsageError, match="more than 8 bits"):
        read_picture(data)
    assert read_picture(data, to_8bit=True).pixels.tolist() == [[0xAB, 0x12]]


def test_cmyk():
    image = Image.fromarray(RGBA, "CMYK")
    picture = read_picture(save(image, "TIFF", icc_profile=b"of inks"), to_8bit=True)
    np.testing.assert_array_equal(picture.pixels, np.array(image.convert("RGB")))
    assert picture.metadata.icc_profile is None


def test_floats_from_0_to_1():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    source = save(Image.fromarray(levels.astype(np.float32) / 255), "TIFF")
    np.testing.assert_array_equal(read_picture(source, to_8bit=True).pixels, levels, strict=True)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param(save(Image.new("F", (2, 2), 1.5), "TIFF"), "floating-point", id="float above 1"),
        pytest.param(save(Image.new("F", (2, 2), math.nan), "TIFF"), "floating-point", id="float that is no number"),
        pytest.param(save(Image.new("I", (2, 2)), "TIFF"), "32 bits", id="32-bit grey"),
        pytest.param(save(Image.new("LAB", (2, 2)), "TIFF"), "mode LAB", id="LAB"),
        pytest.param(deep_png(DEEP[..., :3], bytes(6)), "transparent colour", id="transparent 16-bit RGB"),
        pytest.param(deep_png(DEEP[..., :1], bytes(2)), "transparent colour", id="transparent 16-bit grey"),
    ],
)
def test_what_has_no_8_bit_form(source: bytes, reason: str):
    for to_8bit in (False, True):
        with pytest.raises(UsageError, match=reason):
            read_picture(source, to_8bit)


# ---- metadata


def exif(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F], tags[0x0100] = orientation, "camera", 12345
    tags.get_ifd(0x8769)[0x9003] = "2001:02:03 04:05:06"
    return tags.tobytes()[6:]


METADATA = Metadata(b"profile" * 1000, exif(), b"<x:xmpmeta>\xc3\xa9</x:xmpmeta>")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".tif"])
def test_metadata_is_carried(suffix: str, mode: str):
    """Written by us, read by Pillow and by us; TIFF has EXIF as tags of its own, and is turned by Pillow itself."""
    if suffix in WITHOUT_ALPHA and mode.endswith("A"):
        return
    data = write_image(MODES[mode], suffix, METADATA)
    got = read_picture(data).metadata
    with Image.open(io.BytesIO(data)) as image:
        tags = image.getexif()
        assert (tags[0x010F], tags.get_ifd(0x8769)[0x9003]) == ("camera", "2001:02:03 04:05:06")
        assert suffix == ".tif" or tags[0x0112] == 6
        assert image.size == ((5, 7) if suffix == ".tif" else (7, 5))
    if suffix == ".tif":
        kept = Image.Exif()
        kept.load(got.exif)
        assert dict(kept)[0x010F] == "camera" and not kept.keys() & {0x0100, 0x0111, 0x0112}
        assert kept.get_ifd(0x8769)[0x9003] == "2001:02:03 04:05:06"
        assert got._replace(exif=None) == METADATA._replace(exif=None)
    else:
        assert got == METADATA


def test_no_metadata():
    for suffix in WRITERS:
        assert read_picture(write_image(COLOUR, suffix)).metadata == Metadata()


def test_texts_of_a_png_are_no_metadata():
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for name in ("icc_profile", "exif", "xmp"):
        texts.add_text(name, "text")
    assert read_picture(save(Image.fromarray(COLOUR), pnginfo=texts)).metadata in (Metadata(), Metadata(exif=b"text"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stripping_turns_the_image_upright(orientation: int):
    source = save(Image.fromarray(RGBA), exif=exif(orientation), icc_profile=b"profile")
    carried, stripped = read_picture(source), read_picture(source, strip=True)
    np.testing.assert_array_equal(carried.pixels, RGBA)
    assert carried.metadata == Metadata(b"profile", exif(orientation))
    assert stripped.metadata == Metadata(b"profile")
    turned = RGBA.swapaxes(0, 1) if orientation > 4 else RGBA
    down, across = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}[(orientation - 1) % 4 + 1]
    if orientation in (6, 8):
        down, across = (1, -1) if orientation == 6 else (-1, 1)
    elif orientation in (5, 7):
        down, across = (1, 1) if orientation == 5 else (-1, -1)
    np.testing.assert_array_equal(stripped.pixels, turned[::down, ::across])


def test_metadata_that_does_not_fit():
    for metadata in (Metadata(exif=bytes(70000)), Metadata(xmp=bytes(70000))):
        with pytest.raises(UsageError, match="metadata, do not fit into a .jpg"):
            write_image(COLOUR, ".jpg", metadata)
    with pytest.raises(UsageError, match="metadata, do not fit into a .tif"):
        write_image(COLOUR, ".tif", Metadata(exif=b"not a TIFF structure"))
    assert read_picture(write_image(COLOUR, ".png", METADATA._replace(exif=b"odd"))).metadata.exif == b"odd"


# ---- writing alpha


@pytest.mark.parametrize("pixels", [LA, RGBA], ids=["LA", "RGBA"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_writing_alpha(suffix: str, pixels: np.ndarray):
    if suffix in WITHOUT_ALPHA:
        with pytest.raises(UsageError, match=f"has alpha, and {suffix} files have none: use one of .png .webp .tif"):
            write_strips([pixels], 5, suffix)
        return
    pieces = write_strips(np.split(pixels, [1, 2]), 5, suffix.upper())
    read = read_picture(b"".join(pieces)).pixels
    if suffix == ".webp" and pixels.shape[2] == 2:
        read = read[..., [0, 3]]
    np.testing.assert_array_equal(read, pixels)


FRAMES = [np.full((9, 12, 3), level, np.uint8) for level in (200, 120, 40)]


def frames(name: str, **options) -> bytes:
    images = [Image.fromarray(frame) for frame in FRAMES]
    return save(images[0], name, save_all=True, append_images=images[1:], **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [("GIF", {}), ("PNG", {}), ("PNG", {"default_image": True}), ("WEBP", {"lossless": True}), ("TIFF", {})],
)
def test_several_frames_are_refused_or_one_is_taken(name: str, options: dict):
    source = frames(name, **options)
    for read in (read_picture, read_image):
        with pytest.raises(UsageError, match="^the file has 3 frames, where one is needed .*--frame N"):
            read(source)
    for number, want in enumerate(FRAMES, 1):
        np.testing.assert_array_equal(read_picture(source, frame=number).pixels[..., :3], want)
    with pytest.raises(UsageError, match="no frame 4: the file has 3"):
        read_picture(source, frame=4)


def test_a_frame_of_a_still_image():
    source = save(Image.fromarray(COLOUR))
    np.testing.assert_array_equal(read_picture(source, frame=1).pixels, COLOUR)
    with pytest.raises(UsageError, match="no frame 2: the file has 1"):
        read_picture(source, frame=2)


def test_the_preview_of_a_camera_is_no_second_frame():
    source = frames("MPO")
    assert Image.open(io.BytesIO(source)).n_frames == 3
    assert abs(read_picture(source).pixels.astype(int) - 200).max() < 3
    assert abs(read_picture(source, frame=3).pixels.astype(int) - 40).max() < 3


def test_the_thumbnail_of_a_tiff_file_is_no_second_frame():
    thumbnail = Image.fromarray(FRAMES[1][::3, ::3])
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    source = save(Image.fromarray(FRAMES[0]), "TIFF", save_all=True, append_images=[thumbnail])
    assert Image.open(io.BytesIO(source)).n_frames == 2
    np.testing.assert_array_equal(read_image(source), FRAMES[0])
    np.testing.assert_array_equal(read_picture(source, frame=2).pixels, FRAMES[1][::3, ::3])


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


@pytest.mark.parametrize("suffix", WITH_QUALITY)
def test_quality_of_what_is_written(suffix: str, photo: np.ndarray):
    low, high, default = (write_image(photo, suffix, quality=quality) for quality in (5, 95, None))
    assert len(low) < len(high)
    far, near = (np.abs(read_image(data).astype(int) - photo).mean() for data in (low, high))
    assert far > 2 * near > 0
    assert (read_image(default) == photo).all() if suffix == ".webp" else default == high


@pytest.mark.parametrize("suffix", [suffix for suffix in WRITERS if suffix not in WITH_QUALITY])
def test_quality_that_a_format_has_not(suffix: str):
    with pytest.raises(UsageError, match=f"^{suffix} files are lossless: only .jpg .jpeg .webp take a quality"):
        write_image(COLOUR, suffix, quality=90)


def test_writing_refuses():
    assert write_image(COLOUR, ".PNG") == write_image(COLOUR)
    for suffix in (".xyz", "", "png"):
        with pytest.raises(UsageError, match="suffix"):
            write_image(COLOUR, suffix)
    with pytest.raises(UsageError, match="do not fit"):
        write_image(np.zeros((1, 20000, 3), np.uint8), ".webp")
