"""What bench.py measured, as one page that needs nothing else: curves, tables, and pictures to compare by eye.

The page has no script and needs no network. Its pictures are data: URIs; radio buttons and style sheets switch them.
"""

import base64
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..errors import extra
from .bench import LRQ, Curve, Result, Row, means
from .classic import Pixels
from .curves import METRICS, bd_rates
from .machine import machine, versions
from .report import COLUMNS, NOTES, bd_note, bd_table, draw, image_count
from .tables import table_of

MAX_IMAGES = 48
"""The page shows this many images at most, the first ones."""
MAX_SIDE, MIN_SIDE = 384, 96
"""Pixels: a picture's sides are at most the first, and never limited below the second."""
PICTURE_PIXELS = 2**24
"""All pictures together have about this many pixels at most. A photograph takes 0.2 bytes a pixel."""
WEBP_QUALITY = 85
LEVELS = 3
"""The page offers the rates of this many of lrq's qualities, from the lowest to the highest."""


class Choice(NamedTuple):
    """A file of an image, as it is shown: its figures, and the middle of what was decoded."""

    row: Row
    picture: Pixels


@dataclass
class Shown:
    """An image: width and height in pixels, its middle, and for each curve and level the file of the closest rate."""

    name: str
    width: int
    height: int
    original: Pixels
    choices: dict[Curve, dict[int, Choice]] = field(default_factory=dict)


class Gallery:
    """Keeps the pictures for the page while bench measures: `add` is the `look` of `bench`. Memory is bounded.

    images, curves: how many of each will come. qualities: of lrq, 0..100. The page offers `LEVELS`
    of these: the file of lrq's first curve sets the size, and of every other curve the file of the closest size is
    kept.
    """

    def __init__(self, images: int, curves: int, qualities: Sequence[float]):
        ordered = sorted(set(qualities))
        last = len(ordered) - 1
        self.qualities = sorted({ordered[round(last * i / (LEVELS - 1))] for i in range(LEVELS)})
        count = min(images, MAX_IMAGES) * (1 + curves * len(self.qualities))
        self.side = int(min(MAX_SIDE, max(MIN_SIDE, math.sqrt(PICTURE_PIXELS / max(count, 1)))))
        self.images: list[Shown] = []
        self.left_out = 0
        self._last: Pixels | None = None
        self._reference: dict[int, float] = {}

    def add(self, row: Row, image: Pixels, decoded: Pixels) -> None:
        """Take in one file. The files of an image must come one after the other, those of lrq's first curve first."""
        if image is not self._last:
            self._last, self._reference = image, {}
            if len(self.images) == MAX_IMAGES:
                self.left_out += 1
            else:
                self.images.append(Shown(row.image, image.shape[1], image.shape[0], self._middle(image)))
        if self.left_out:
            return
        if row.codec == LRQ and row.setting in self.qualities:
            self._reference.setdefault(self.qualities.index(row.setting), row.bytes)
        choices = self.images[-1].choices.setdefault(row.curve, {})
        for level, size in self._reference.items():
            if level not in choices or _apart(row.bytes, size) < _apart(choices[level].row.bytes, size):
                choices[level] = Choice(row, self._middle(decoded))

    def _middle(self, image: Pixels) -> Pixels:
        """The middle of an image, at most `side` pixels wide and high, copied."""
        height, width = image.shape[:2]
        high, wide = min(height, self.side), min(width, self.side)
        top, left = (height - high) // 2, (width - wide) // 2
        return np.array(image[top : top + high, left : left + wide])


def _apart(size: float, other: float) -> float:
    return abs(math.log(size / other))


def page(result: Result, gallery: Gallery, per_image: bool = False, bpp: tuple[float, float] | None = None) -> str:
    """The page, of some MB at most. per_image and bpp: as in `report.table`.

    Raises EncoderMissingError if jinja2 is missing, or a package that draws the curves or computes BD-rates.
    """
    with extra("bench"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    mean_rows = means(result.rows)
    count = image_count(result.rows, mean_rows)
    names = list(dict.fromkeys(row.image for row in result.rows))
    environment = Environment(
        loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.jinja").render(
        lrq=LRQ,
        title=f"{LRQ} bench: {count}",
        images=f"{count}: {', '.join(names[:MAX_IMAGES])}{', ...' * (len(names) > MAX_IMAGES)}",
        skipped=result.skipped,
        curves=[_curves(result, metric) for metric in METRICS if _is_known(mean_rows, metric)],
        bd_rates=bd_table(bd_rates(mean_rows, bpp)),
        bd_note=bd_note(bpp),
        means=table_of(mean_rows, COLUMNS[1:]),
        notes=NOTES,
        rows=table_of(result.rows, COLUMNS) if per_image else None,
        gallery=_shown(gallery, mean_rows),
        versions=[f"{name} {text}" for name, text in versions().items()],
        machine=[f"{name} {text}" for name, text in machine().items() if text],
    )


def _is_known(rows: Iterable[Row], metric: str) -> bool:
    return any(math.isfinite(getattr(row, metric)) for row in rows)


def _curves(result: Result, metric: str) -> str:
    """The curves as inline SVG."""
    out = io.StringIO()
    # Text stays text; and no ids that two drawings on one page would both have.
    with extra("bench"):
        from matplotlib import rc_context
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": metric, "font.size": 9.0}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        draw(result, metric, (5.2, 4)).savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()
    svg = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<svg") :])
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    label = f"Mean {METRICS[metric]} over mean bits per pixel, a curve for each codec"
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _shown(gallery: Gallery, mean_rows: Sequence[Row]) -> dict[str, Any]:
    """The gallery as the template takes it: curve and rate number i have the classes c{i} and r{i}."""
    curves = list(dict.fromkeys(curve for shown in gallery.images for curve in shown.choices))
    return {
        "side": gallery.side,
        "webp_quality": WEBP_QUALITY,
        "left_out": gallery.left_out,
        "curves": list(map(str, curves)),
        "rates": [_rate(quality, mean_rows) for quality in gallery.qualities],
        "images": [
            {"name": shown.name, "size": _size(shown), "pictures": list(_pictures(shown, curves))}
            for shown in gallery.images
        ],
    }


def _rate(quality: float, mean_rows: Sequence[Row]) -> str:
    bpp = next((row.bpp for row in mean_rows if (row.codec, row.setting) == (LRQ, quality)), math.nan)
    return f"{bpp:.3f} bpp ({LRQ} -q {quality:g})"


def _size(shown: Shown) -> str:
    height, width = shown.original.shape[:2]
    cut = (width, height) != (shown.width, shown.height)
    return f"{shown.width} x {shown.height} pixels" + f", the middle {width} x {height}" * cut


def _pictures(shown: Shown, curves: Sequence[Curve]) -> Iterator[dict[str, Any]]:
    """The original, then each file that is the closest to one of the rates, or to several."""
    yield _picture(shown.original, "original", "")
    for curve, choices in shown.choices.items():
        levels: dict[float, list[int]] = {}
        for level, choice in choices.items():
            levels.setdefault(choice.row.setting, []).append(level)
        for same_file in levels.values():
            row, pixels = choices[same_file[0]]
            size = f"{row.bytes:,.0f} bytes, {row.bpp:.3f} bpp"
            caption = f"{curve}, quality {row.setting:g}: {size}, {row.psnr:.2f} dB"
            classes = [f"c{curves.index(curve)}", *(f"r{level}" for level in same_file)]
            yield _picture(pixels, caption, " ".join(classes))


def _picture(pixels: Pixels, caption: str, classes: str) -> dict[str, Any]:
    """Its source is WebP as a data: URI. Small pictures are enlarged, pixel by pixel."""
    height, width = pixels.shape[:2]
    times = max(1, MAX_SIDE // 2 // max(height, width))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", quality=WEBP_QUALITY, lossless=height * width <= MIN_SIDE**2)
    source = f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
    return {
        "source": source,
        "width": width * times,
        "height": height * times,
        "caption": caption,
        "classes": classes,
    }
