"""Makes the picture of README.md: `python docs/make_pictures.py` writes docs/compare.png.

Photographs of scikit-image, whole files of equal size by lrq, WebP and JPEG, of which a part is shown, enlarged.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from lrcodec import Decoder, Encoder, targets
from lrcodec.measure.classic import CLASSIC, classic_decode, classic_encode
from lrcodec.measure.metrics import psnr

RATE = 0.2
"""Bits per pixel."""
PARTS = ((data.astronaut, (150, 60)), (data.chelsea, (130, 70)))
"""Photograph, and the left and upper end of its part."""
SIDE, ZOOM, LINE = 110, 3, 26


def by_lrq(image: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Pixels and bytes of the best file of at most this size."""
    decoder = Decoder()

    def encode(quality: float) -> bytes:
        return encoder.encode(image, quality)

    metric = targets.Metric(lambda data: psnr(image, decoder.decode(data)), str)
    found = targets.for_size(encode, metric, size).data
    return decoder.decode(found), len(found)


def by_classic(codec: str) -> Callable[[np.ndarray, int], tuple[np.ndarray, int]]:
    """Pixels and bytes of the file that is nearest to this size."""

    def run(image: np.ndarray, size: int) -> tuple[np.ndarray, int]:
        files = [classic_encode(image, codec, quality) for quality in CLASSIC[codec].scale]
        found = min(files, key=lambda file: abs(len(file) - size))
        return classic_decode(found, image.ndim == 2), len(found)

    return run


def panel(pixels: np.ndarray, corner: tuple[int, int], text: str) -> Image.Image:
    """The part of an image, enlarged, under a line of text."""
    x, y = corner
    part = Image.fromarray(pixels[y : y + SIDE, x : x + SIDE]).resize((SIDE * ZOOM,) * 2, Image.Resampling.LANCZOS)
    out = Image.new("RGB", (SIDE * ZOOM, SIDE * ZOOM + LINE), "white")
    out.paste(part, (0, LINE))
    ImageDraw.Draw(out).text((4, 5), text, "black", ImageFont.load_default(15))
    return out


def main() -> None:
    """Write the picture, a row for each photograph."""
    rows = []
    for photograph, corner in PARTS:
        image = photograph()
        size = round(RATE * image.shape[0] * image.shape[1] / 8)
        panels = [panel(image, corner, f"original, {image.nbytes:,} bytes")]
        for name, make in (("lrq", by_lrq), ("WebP", by_classic("webp")), ("JPEG", by_classic("jpeg"))):
            pixels, count = make(image, size)
            panels.append(panel(pixels, corner, f"{name}, {count:,} bytes"))
        rows.append(np.concatenate([np.asarray(one) for one in panels], axis=1))
    Image.fromarray(np.concatenate(rows)).save(Path(__file__).parent / "compare.png", optimize=True)


encoder = Encoder()
if __name__ == "__main__":
    main()
