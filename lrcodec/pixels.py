"""Image files <-> uint8 arrays, whole through Pillow or strip by strip. Nothing here opens a file by name.

An image in strips is an iterable of uint8 arrays, its rows from top to bottom: (rows, W, 3) RGB or (rows, W) grey.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageFile, ImageOps

from .errors import LimitError, LrqError, UsageError

MAX_SIDE = 65535
AVERAGE = 3
"""PNG's filter type: bytes are differences to the mean of the bytes to their left and above."""

# Suffix of the output file -> Pillow's format name and the options it is saved with.
WRITERS: dict[str, tuple[str, dict]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True}),
    ".jpg": ("JPEG", {"quality": 95}),
    ".jpeg": ("JPEG", {"quality": 95}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".ppm": ("PPM", {}),
}

# Pillow mode -> why it is refused. Anything that is neither here nor in CONVERTED has no 8-bit RGB or grey form.
REFUSED = {
    "CMYK": "CMYK images are not supported: convert to RGB first",
    "F": "floating-point images are not supported: convert to 8 bits first",
    "I": "images of more than 8 bits a sample are not supported: convert to 8 bits first",
}
CONVERTED = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB", "RGBX": "RGB"}


def read_image(source: bytes) -> np.ndarray:
    """The pixels of an image file: uint8, (H, W, 3) RGB or (H, W) grey, 1 to 65,535 pixels a side.

    The first frame of an animation, turned upright as its EXIF orientation says. Palette images become RGB,
    1-bit images grey; an alpha channel is dropped if it is opaque everywhere.

    Raises UsageError if Pillow cannot read it, if it is partly transparent, or if its samples are not 8-bit RGB or
    grey (16 bits, floating point, CMYK and the like); LimitError if a side is longer than 65,535.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's notes on odd or large files are not for the user of lrq
            return _read(source)
    except Image.DecompressionBombError as error:
        raise LimitError("the image has more pixels than Pillow agrees to read") from error
    except (LrqError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files, and document none
        raise UsageError("not an image that Pillow can read") from error


def _read(source: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(source)) as image:
        if max(image.size) > MAX_SIDE:
            raise LimitError(f"the image is {image.width} x {image.height}: a side is at most {MAX_SIDE:,} pixels")
        mode = "I" if _is_deep(image) else image.mode
        if mode not in CONVERTED:
            raise UsageError(REFUSED.get(mode, f"images of Pillow's mode {mode} are not supported: convert to RGB"))
        if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise UsageError("alpha is not supported yet")
        return np.array(ImageOps.exif_transpose(image).convert(CONVERTED[mode]))


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether samples have more than 8 bits, which Pillow cuts without a word when there are several channels."""
    if image.mode.startswith("I"):
        return True
    for codec, _, _, arguments in image.tile:
        if ";16" in str(arguments) or codec.startswith("ppm") and isinstance(arguments, tuple) and arguments[-1] > 255:
            return True
    return False


def write_image(array: np.ndarray, suffix: str = ".png") -> bytes:
    """The image file of `array`: uint8, (H, W, 3) RGB or (H, W) grey. See `write_strips`."""
    return b"".join(write_strips([array], len(array), suffix))


def write_strips(strips: Iterable[np.ndarray], height: int, suffix: str = ".png") -> Iterator[bytes]:
    """The pieces of an image file, from an image in strips with `height` rows in all.

    `suffix` picks the format: one of `WRITERS`, in either case; all are lossless but .jpg (quality 95). For .png and
    .ppm only a strip at a time is held, for the others the whole image.
    Raises UsageError for another suffix; the iterator also for an image that is too large for the format.
    """
    if suffix.lower() not in WRITERS:
        raise UsageError(f"unknown image suffix {suffix!r}: use one of {' '.join(WRITERS)}")
    stream = {".png": _png, ".ppm": _ppm}.get(suffix.lower())
    return stream(strips, height) if stream else _whole(strips, suffix)


def _whole(strips: Iterable[np.ndarray], suffix: str) -> Iterator[bytes]:
    array = np.concatenate(list(strips))
    name, options = WRITERS[suffix.lower()]
    out = io.BytesIO()
    try:
        Image.fromarray(array).save(out, name, **options)
    except (OSError, ValueError) as error:
        height, width = array.shape[:2]
        raise UsageError(f"{width} x {height} pixels do not fit into a {suffix} file") from error
    yield out.getvalue()


def _ppm(strips: Iterable[np.ndarray], height: int) -> Iterator[bytes]:
    """Netpbm's raw formats, PPM for RGB and PGM for grey."""
    for number, strip in enumerate(strips):
        if number == 0:
            yield b"P%d %d %d 255\n" % (5 if strip.ndim == 2 else 6, strip.shape[1], height)
        yield strip.tobytes()


def _png(strips: Iterable[np.ndarray], height: int) -> Iterator[bytes]:
    """Portable Network Graphics, W3C Recommendation, third edition: 5 Datastream structure, 9 Filtering, 11.2.1 IHDR.

    All rows have one filter type, Average: decoded images are within 3 % of Pillow's files, which has one for each row.
    """
    compressor = zlib.compressobj()
    last: np.ndarray | None = None
    for strip in strips:
        rows, channels = strip.reshape(len(strip), -1), 1 if strip.ndim == 2 else 3
        if last is None:
            yield b"\x89PNG\r\n\x1a\n"
            colour = {1: 0, 3: 2}[channels]
            yield _chunk(b"IHDR", struct.pack(">IIBBBBB", strip.shape[1], height, 8, colour, 0, 0, 0))
            last = np.zeros_like(rows[0])
        padded = np.pad(np.concatenate([last[None], rows]), ((0, 0), (channels, 0)))
        left, above = padded[1:, :-channels], padded[:-1, channels:]
        filtered = np.full((len(rows), 1 + rows.shape[1]), AVERAGE, np.uint8)
        filtered[:, 1:] = rows - ((left & above) + ((left ^ above) >> 1))  # the mean, rounded down, in 8 bits
        last = rows[-1]
        yield _chunk(b"IDAT", compressor.compress(filtered.data))
    yield _chunk(b"IDAT", compressor.flush())
    yield _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
