"""Image files <-> uint8 arrays, whole through Pillow or strip by strip. Nothing here opens a file by name.

Arrays are (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA. An image in strips is an iterable
of such arrays, its rows from top to bottom.
"""

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

from .errors import LimitError, LrqError, UsageError
from .format.container import MAX_SIDE
from .format.metadata import EXIF_PREFIX, NO_METADATA, Metadata
from .strips import channels_of, png, ppm

WRITERS: dict[str, tuple[str, dict]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".jpg": ("JPEG", {"quality": 95}),
    ".jpeg": ("JPEG", {"quality": 95}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".ppm": ("PPM", {}),
}
"""Suffix of the output file -> Pillow's name of the format, and the options that it is saved with."""
WITH_QUALITY = (".jpg", ".jpeg", ".webp")
WITHOUT_ALPHA = (".jpg", ".jpeg", ".bmp", ".ppm")

GREY_MODES = ("1", "L", "LA")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX")
"""Pillow's modes that have an 8-bit form as they are."""
TIFF_TAGS = {270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853}
"""Tags of a TIFF file that describe the picture as EXIF does, not how its pixels are stored."""
XMP_TAG = 700
COPIED_PIXELS = 2**20
"""So many pixels of an image that was read are copied at a time."""
SUBFILE_TAG, REDUCED = 254, 1
"""The TIFF tag that says what a page is, and its bit for a smaller version of another page."""
ONE_PICTURE = ("MPO", "PSD")
"""Pillow's formats whose first frame is the picture: the others are previews and views of it, or its layers."""


class Picture(NamedTuple):
    """The pixels of an image file, and what it carries beside them."""

    pixels: np.ndarray
    metadata: Metadata


def read_picture(source: bytes, to_8bit: bool = False, strip: bool = False, frame: int | None = None) -> Picture:
    """The picture of an image file: 1 to 65,535 pixels a side.

    Palette images become RGB, or RGBA if they have transparency; 1-bit images become grey. The EXIF orientation is
    carried, not applied. EXIF is that of the file without JPEG's prefix; of a TIFF file, which has none as such, it is
    made of the tags that describe the picture.

    to_8bit: also read 12 and 16 bits a sample, of which the highest 8 are kept (Pillow itself rounds those of colour
    Netpbm files), floating-point grey from 0 to 1, and CMYK, which Pillow converts: its ICC profile no longer fits.
    strip: leave out EXIF and XMP; the image is turned upright as the EXIF orientation says, because the tag is lost.
    frame: which frame of an animation or page of a document, counted from 1; earlier frames may show through it.

    Raises UsageError if Pillow cannot read it, if its samples have no 8-bit form, if there are several frames and none
    is chosen, or if there is none of that number; LimitError if a side is longer than 65,535.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's notes on odd or large files are not for the user of lrq
            return _read(source, to_8bit, strip, frame)
    except Image.DecompressionBombError as error:
        raise LimitError("the image has more pixels than Pillow agrees to read") from error
    except (LrqError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files, and document none
        raise UsageError("not an image that Pillow can read") from error


def read_image(source: bytes) -> np.ndarray:
    """The pixels of an opaque image file, turned upright: (H, W, 3) or (H, W). For training and measuring.

    Raises as `read_picture` does, and UsageError if a pixel is transparent; an alpha channel that is opaque everywhere
    is dropped.
    """
    pixels = read_picture(source, strip=True).pixels
    if pixels.shape[2:] not in ((2,), (4,)):
        return pixels
    if pixels[..., -1].min() < 255:
        raise UsageError("the image has alpha that is not opaque everywhere, which cannot be used here")
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3])


def _read(source: bytes, to_8bit: bool, strip: bool, frame: int | None) -> Picture:
    with Image.open(io.BytesIO(source)) as image:
        _seek(image, frame)
        if max(image.size) > MAX_SIDE:
            raise LimitError(f"the image is {image.width} x {image.height}: a side is at most {MAX_SIDE:,} pixels")
        bits, grey = _sample_bits(image), _is_grey(image)
        _check_samples(image, bits, to_8bit)
        image.load()  # also what comes behind the pixels
        metadata = _metadata(image)
        upright: Image.Image = image
        if strip:
            upright, metadata = ImageOps.exif_transpose(image), Metadata(metadata.icc_profile)
        if upright.mode == "F":
            return Picture(_from_floats(np.asarray(upright)), metadata)
        if upright.mode.startswith("I"):
            return Picture((np.asarray(upright) >> bits - 8).astype(np.uint8), metadata)
        mode = ("L" if grey else "RGB") + "A" * upright.has_transparency_data
        return Picture(_samples(upright, mode), metadata)


def _samples(image: Image.Image, mode: str) -> np.ndarray:
    """The samples of an image in a mode of 8 bits, some rows at a time: Pillow makes several copies on the way."""
    channels = len(mode)
    out = np.empty((image.height, image.width, channels)[: 2 + (channels > 1)], np.uint8)
    step = max(1, COPIED_PIXELS // image.width)
    for top in range(0, image.height, step):
        rows = image.crop((0, top, image.width, min(top + step, image.height)))
        out[top : top + step] = np.asarray(rows.convert(mode))
    return out


def _seek(image: ImageFile.ImageFile, frame: int | None) -> None:
    """Go to a frame, counted from 1; None: to the only one. Raises UsageError."""
    count = getattr(image, "n_frames", 1)
    if frame is None:
        if count > 1 and image.format not in ONE_PICTURE and not _has_smaller_versions(image, count):
            raise UsageError(f"the file has {count} frames, where one is needed (lrq encode --frame N takes it)")
    elif frame > count:
        raise UsageError(f"there is no frame {frame}: the file has {count}")
    elif frame > 1:
        image.seek(frame - 1)


def _has_smaller_versions(image: ImageFile.ImageFile, count: int) -> bool:
    """Whether all pages of a TIFF file after the first are smaller versions of it, such as thumbnails."""
    if image.format != "TIFF":
        return False
    smaller = []
    for number in range(1, count):
        image.seek(number)
        smaller.append(image.tag_v2.get(SUBFILE_TAG, 0) & REDUCED)  # type: ignore[attr-defined]
    image.seek(0)
    return all(smaller)


def _from_floats(samples: np.ndarray) -> np.ndarray:
    """uint8 of samples from 0 to 1, rounded. Raises UsageError if one lies outside, or is no number."""
    if not ((samples >= 0) & (samples <= 1)).all():
        raise UsageError("the image has floating-point samples outside 0 to 1: convert it to 8 bits first")
    return np.rint(samples * 255.0).astype(np.uint8)


def _check_samples(image: ImageFile.ImageFile, bits: int, to_8bit: bool) -> None:
    """Raise UsageError for samples that have no 8-bit form, or whose conversion was not asked for."""
    way = "convert it first (lrq encode --to-8bit does)"
    if image.mode == "F" and not to_8bit:
        raise UsageError(f"the image has floating-point samples: {way}, from 0 to 1")
    if bits > 16 and image.mode != "F":
        raise UsageError("the image has samples of 32 bits, whose range is not known: convert it to 8 bits first")
    if bits > 8 and "transparency" in image.info:
        raise UsageError("the image has a transparent colour of more than 8 bits: convert it to 8 bits first")
    if bits > 8 and not to_8bit:
        raise UsageError(f"the image has more than 8 bits a sample: {way}")
    if image.mode == "CMYK" and not to_8bit:
        raise UsageError(f"the image is CMYK: {way}")
    if bits == 8 and image.mode not in (*GREY_MODES, *COLOUR_MODES, "CMYK"):
        raise UsageError(f"images of Pillow's mode {image.mode} are not supported: convert to RGB first")


def _is_grey(image: ImageFile.ImageFile) -> bool:
    # Pillow has no LA of 16 bits, and gives RGBA.
    return image.mode in GREY_MODES or any("LA;16" in str(tile[3]) for tile in image.tile)


def _sample_bits(image: ImageFile.ImageFile) -> int:
    """Bits a sample in the file: 8 for 8 or fewer, else 12, 16 or 32. Of several channels Pillow cuts 16 to 8."""
    for codec, _, _, arguments in image.tile:
        if ";12" in str(arguments):
            return 12
        if ";16" in str(arguments) or codec.startswith("ppm") and isinstance(arguments, tuple) and arguments[-1] > 255:
            return 16
    return 16 if image.mode.startswith("I;16") else 32 if image.mode in ("I", "F") else 8


def _metadata(image: ImageFile.ImageFile) -> Metadata:
    profile, exif, xmp = (image.info.get(name) for name in ("icc_profile", "exif", "xmp"))
    if image.format == "TIFF":
        tags = _descriptive(image.getexif())
        exif = tags.tobytes() if len(tags) else None
    if image.mode == "CMYK":
        profile = None
    # A PNG may give its texts any of these names.
    profile, exif, xmp = (value if isinstance(value, bytes) and value else None for value in (profile, exif, xmp))
    return Metadata(profile, exif and exif.removeprefix(EXIF_PREFIX), xmp)


def _descriptive(exif: Image.Exif) -> Image.Exif:
    """EXIF without the tags that say how pixels are stored."""
    for tag in exif.keys() - TIFF_TAGS:
        del exif[tag]
    return exif


def write_image(
    array: np.ndarray, suffix: str = ".png", metadata: Metadata = NO_METADATA, quality: int | None = None
) -> bytes:
    """The image file of one array. See `write_strips`."""
    return b"".join(write_strips([array], len(array), suffix, metadata, quality))


def upright_thumbnail(pixels: np.ndarray, box: tuple[float, float], size: tuple[int, int], metadata: Metadata) -> bytes:
    """A PNG of the image in the columns and rows `box` of the pixels, from the top left, scaled to `size`.

    It is turned as the EXIF orientation says, if Pillow can read one, and keeps the ICC profile alone.
    """
    image = Image.fromarray(pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC, (0, 0, *box))
    image.info["exif"] = metadata.exif
    with warnings.catch_warnings(), suppress(Exception):  # which kinds EXIF without sense raises is not documented
        warnings.simplefilter("ignore")
        image = ImageOps.exif_transpose(image)
    return write_image(np.asarray(image), metadata=Metadata(metadata.icc_profile))


def write_strips(
    strips: Iterable[np.ndarray],
    height: int,
    suffix: str = ".png",
    metadata: Metadata = NO_METADATA,
    quality: int | None = None,
) -> Iterator[bytes]:
    """The pieces of an image file, from an image in strips with `height` rows in all.

    `suffix` picks the format: one of `WRITERS`, in either case; all are lossless but .jpg (quality 95). For .png and
    .ppm only a strip at a time is held, for the others the whole image. .png, .webp and .jpg carry the metadata as it
    is, .tif what EXIF says of the picture, .bmp and .ppm nothing.
    quality: that of .jpg, 0 to 100, or of .webp, which it makes lossy.
    Raises UsageError for another suffix, or for alpha or a quality that the format cannot have; the iterator also for
    an image or metadata too large for the format.
    """
    suffix = suffix.lower()
    if suffix not in WRITERS:
        raise UsageError(f"unknown image suffix {suffix!r}: use one of {' '.join(WRITERS)}")
    check_quality(suffix, quality)
    strips = iter(strips)
    first = next(strips)
    if channels_of(first) in (2, 4) and suffix in WITHOUT_ALPHA:
        others = " ".join(other for other in WRITERS if other not in WITHOUT_ALPHA)
        raise UsageError(f"the image has alpha, and {suffix} files have none: use one of {others}")
    strips = chain([first], strips)
    if suffix == ".ppm":
        return ppm(strips, height)
    return png(strips, height, metadata) if suffix == ".png" else _pillow_file(strips, suffix, metadata, quality)


def check_quality(suffix: str, quality: int | None) -> None:
    """Raise UsageError for a quality of a format that has none."""
    if quality is not None and suffix.lower() not in WITH_QUALITY:
        raise UsageError(f"{suffix} files are lossless: only {' '.join(WITH_QUALITY)} take a quality")


def _pillow_file(strips: Iterable[np.ndarray], suffix: str, metadata: Metadata, quality: int | None) -> Iterator[bytes]:
    array = np.concatenate(list(strips))
    name, options = WRITERS[suffix]
    if quality is not None:
        options = {"quality": quality}
    out = io.BytesIO()
    try:
        Image.fromarray(array).save(out, name, **options, **_save_options(metadata, name))
    except MemoryError:
        raise
    except Exception as error:  # of EXIF that makes no sense Pillow raises many kinds, and documents none
        height, width = array.shape[:2]
        raise UsageError(f"{width} x {height} pixels, or their metadata, do not fit into a {suffix} file") from error
    yield out.getvalue()


def _save_options(metadata: Metadata, name: str) -> dict[str, Any]:
    """What Pillow's `save` takes to put metadata into a file of the format `name`."""
    options = {key: value for key, value in metadata._asdict().items() if value}
    if "exif" in options:
        options["exif"] = EXIF_PREFIX + options["exif"]
    if name == "TIFF":
        exif = Image.Exif()
        exif.load(options.pop("exif", b""))
        options["tiffinfo"] = _descriptive(exif)
        if xmp := options.pop("xmp", None):
            options["tiffinfo"][XMP_TAG] = xmp
    return options
