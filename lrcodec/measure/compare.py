"""Files beside a reference image: how far they are apart, in figures and as one picture."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..errors import EncoderMissingError, UsageError
from ..format.container import has_signature
from ..image_io import read_picture
from .metrics import colours, ms_ssim, psnr, ssimulacra2
from .tables import cell

ROWS = 64
"""Rows of the picture that are made at a time."""


@dataclass(frozen=True)
class Comparison:
    """A file against the reference.

    bytes, bpp: the whole file, and its bits per pixel. psnr: dB, inf for equal pixels. ms_ssim: in [0, 1].
    ssimulacra2: at most 100, nan without the package of this name. Both are nan for a small image (metrics.py has the
    sizes).
    """

    file: str
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float
    ssimulacra2: float


def read(data: bytes, decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
    """The colours of a file, without alpha: uint8 (H, W) grey or (H, W, 3) RGB.

    decode: used if it is a .lrq file. Raises what that does; for other files UsageError or LimitError.
    """
    return colours(decode(data) if has_signature(data) else read_picture(data, to_8bit=True).pixels)


def compare(file: str, size: int, image: np.ndarray, reference: np.ndarray) -> Comparison:
    """How far `image`, from a file of `size` bytes, is from `reference`: both as `read` gives them.

    Raises UsageError if they differ in size, or if one is grey and the other RGB.
    """
    if image.shape != reference.shape:
        raise UsageError(f"{_describe(image)} cannot be compared with {_describe(reference)}")
    height, width = image.shape[:2]
    bpp = 8 * size / (height * width)
    try:
        score = ssimulacra2(reference, image)
    except EncoderMissingError:  # the other figures need no extra
        score = math.nan
    return Comparison(file, size, bpp, psnr(reference, image), ms_ssim(reference, image), score)


def _describe(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]} pixels {'grey' if image.ndim == 2 else 'RGB'}"


def table(rows: Sequence[Comparison]) -> str:
    """The figures as text: a heading, then a line for each file, with `-` for nan.

    File names stand last, where their length moves no column.
    """
    line = "{:>13}  {:>8}  {:>7}  {:>7}  {:>11}  {}"
    lines = [line.format("bytes", "bpp", "PSNR dB", "MS-SSIM", "SSIMULACRA2", "file")]
    for row in rows:
        figures = (cell(row.bytes, ",d"), cell(row.bpp, ".3f"), cell(row.psnr, ".2f"), cell(row.ms_ssim, ".4f"))
        lines.append(line.format(*figures, cell(row.ssimulacra2, ".2f"), row.file))
    return "\n".join(lines)


def to_json(reference: str, rows: Sequence[Comparison]) -> str:
    """An object of reference and files; keys as the fields of Comparison. What is undefined or infinite is null."""
    files = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in map(asdict, rows)
    ]
    return json.dumps({"reference": reference, "files": files}, indent=2, allow_nan=False)


def picture(reference: np.ndarray, images: Sequence[np.ndarray], amplify: int) -> Iterator[np.ndarray]:
    """The strips of one picture: reference, image and difference side by side, and so for each image below the last.

    All are uint8 and of one shape, (H, W) or (H, W, 3); the picture has 3 W columns, and H rows for each image.
    The difference is absolute, sample by sample, times `amplify` and at most 255: black where the two are equal.
    """
    for image in images:
        for top in range(0, len(image), ROWS):
            left, right = reference[top : top + ROWS], image[top : top + ROWS]
            apart = np.abs(np.subtract(left, right, dtype=np.int32)) * amplify
            yield np.concatenate([left, right, np.minimum(apart, 255).astype(np.uint8)], axis=1)
