"""The codecs of Pillow that lrq is measured beside."""

import importlib
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UsageError

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Classic:
    """A codec of Pillow.

    format, options: as `Image.save` takes them. qualities: what `bench` measures, on the codec's own scale.
    scale: all qualities that the codec has, by rising size of the file.
    Qualities of JPEG 2000 are compression ratios, raw 8-bit bytes / file bytes: so its files are smallest at equal
    mean PSNR.
    """

    format: str
    qualities: tuple[int, ...]
    options: dict[str, Any]
    scale: Sequence[int] = range(101)


CLASSIC = {
    "jpeg": Classic(
        "JPEG", (5, 10, 15, 20, 30, 40, 50, 60, 70, 80), {"subsampling": "4:2:0", "optimize": True}, range(1, 96)
    ),
    "webp": Classic("WEBP", (0, 5, 10, 20, 30, 40, 50, 60, 70, 80), {"method": 6}),
    "avif": Classic("AVIF", (10, 20, 30, 40, 50, 60, 70), {"subsampling": "4:4:4", "speed": 6}),
    "jxl": Classic("JXL", (10, 20, 30, 40, 50, 60, 70, 80), {"effort": 7}, range(100)),
    # Pillow leaves the colour transform out unless asked, which costs about 3 dB. The code stream needs no boxes.
    "jpeg2000": Classic(
        "JPEG2000",
        (240, 160, 120, 80, 48, 36, 24, 16, 8, 4, 2),
        {"irreversible": True, "quality_mode": "rates", "mct": 1, "no_jp2": True},
        range(500, 0, -1),
    ),
}


def split_available(classic: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that this build of Pillow can write, and those that it cannot. Raises UsageError for an unknown one."""
    if unknown := [name for name in classic if name not in CLASSIC]:
        raise UsageError(f"unknown classic codec {unknown[0]}: choose from {', '.join(CLASSIC)}")
    Image.init()
    with suppress(ImportError):
        importlib.import_module("pillow_jxl")  # registers JPEG XL with Pillow
    available = tuple(name for name in classic if CLASSIC[name].format in Image.SAVE)
    return available, tuple(name for name in classic if name not in available)


def classic_encode(image: Pixels, codec: str, quality: int) -> bytes:
    """A whole file of the classic codec (a key of `CLASSIC`) from uint8 (H, W) or (H, W, 3)."""
    out = io.BytesIO()
    setting = {"quality_layers": [quality]} if codec == "jpeg2000" else {"quality": quality}
    Image.fromarray(image).save(out, CLASSIC[codec].format, **setting, **CLASSIC[codec].options)
    return out.getvalue()


def classic_decode(data: bytes, grey: bool) -> Pixels:
    """uint8 (H, W) or (H, W, 3) from a classic codec's file. WebP and AVIF hand a grey image back as RGB."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("L" if grey else "RGB"))
