"""Image files <-> uint8 arrays, through Pillow. Bytes in, bytes out: nothing here opens a file by name."""

import io
import warnings

import numpy as np
from PIL import Image, ImageFile, ImageOps

from .errors import LimitError, LrqError, UsageError

MAX_SIDE = 65535

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
    """The image file of `array`: uint8, (H, W, 3) RGB or (H, W) grey.

    `suffix` picks the format: one of `WRITERS`, in either case; all are lossless but .jpg (quality 95).
    Raises UsageError for another suffix, or for an image that is too large for the format.
    """
    if suffix.lower() not in WRITERS:
        raise UsageError(f"unknown image suffix {suffix!r}: use one of {' '.join(WRITERS)}")
    name, options = WRITERS[suffix.lower()]
    out = io.BytesIO()
    try:
        Image.fromarray(array).save(out, name, **options)
    except (OSError, ValueError) as error:
        height, width = array.shape[:2]
        raise UsageError(f"{width} x {height} pixels do not fit into a {suffix} file") from error
    return out.getvalue()
