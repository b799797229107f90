"""What bench.py measured, as one page that needs nothing else: curves, tables, and pictures to compare by eye.

No script, no network: the pictures are data: URIs, radio buttons and style sheets switch them.
"""

import base64
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from string import Template
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import extra
from .bench import METRICS, OWN, BdRate, Result, Row, bd_rates, means
from .classic import Pixels
from .report import COLUMNS, NOTES, cell, curve_name, draw, machine, versions

MAX_IMAGES = 48
"""Of more images only the first are shown."""
MAX_SIDE, MIN_SIDE = 384, 96
PICTURE_PIXELS = 2**24
"""Of all pictures together: the more there are, the smaller their sides. A photograph takes 0.2 bytes for each."""
WEBP_QUALITY = 85
LEVELS = 3
"""Rates to choose from: those of so many of lrq's qualities, from lowest to highest."""

Curve = tuple[str, int | None]
"""Codec and rank, as in `Row`."""


class Choice(NamedTuple):
    """A file of an image, as it is shown: its figures, and the middle of what was decoded."""

    row: Row
    picture: Pixels


@dataclass
class Shown:
    """One image: its whole size in pixels, its middle, and for each curve and level the file of the closest rate."""

    name: str
    width: int
    height: int
    original: Pixels
    choices: dict[Curve, dict[int, Choice]] = field(default_factory=dict)


class Gallery:
    """Keeps the pictures that the page shows while bench measures: `add` is its `look`. Memory is bounded.

    images, curves: how many of each will come. qualities: of lrq, 0..100; the files of the first rank at some of them
    are what the other files' rates have to be close to.
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
        """Take in one file. Those of an image come one after the other, lrq's first rank first."""
        if image is not self._last:
            self._last, self._reference = image, {}
            if len(self.images) == MAX_IMAGES:
                self.left_out += 1
            else:
                self.images.append(Shown(row.image, image.shape[1], image.shape[0], self._middle(image)))
        if self.left_out:
            return
        if row.codec == OWN and row.setting in self.qualities:
            self._reference.setdefault(self.qualities.index(row.setting), row.bytes)
        choices = self.images[-1].choices.setdefault((row.codec, row.rank), {})
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

    Raises UsageError if a package that draws the curves or computes BD-rates is missing.
    """
    mean_rows = means(result.rows)
    count = len(result.rows) // max(len(mean_rows), 1)
    pictures = _Pictures(gallery)
    rates = bd_rates(mean_rows, bpp)
    return _PAGE.substitute(
        title=f"{OWN} bench: {count} image{'' if count == 1 else 's'}",
        rules=pictures.rules(),
        summary=_summary(result),
        curves="".join(_curves(result, metric) for metric in METRICS if _known(mean_rows, metric)),
        bd_rates=_bd_rates(rates, bpp),
        means=_table(mean_rows, COLUMNS[1:], "Means over the images"),
        notes="<br>".join(map(escape, NOTES.splitlines())),
        rows=_table(result.rows, COLUMNS, "Every image") if per_image else "",
        gallery=pictures.html(mean_rows),
        versions=escape(", ".join(f"{name} {text}" for name, text in versions().items())),
        machine=escape(", ".join(f"{name} {text}" for name, text in machine().items() if text)),
    )


def _summary(result: Result) -> str:
    names = list(dict.fromkeys(row.image for row in result.rows))
    images = f"{len(names)} image{'' if len(names) == 1 else 's'}: " + ", ".join(names[:MAX_IMAGES])
    text = escape(images + (", ..." if len(names) > MAX_IMAGES else "") + ".")
    if result.skipped:
        text += (
            " Not measured, because this build of Pillow cannot write it: " + escape(", ".join(result.skipped)) + "."
        )
    return text


def _known(rows: Iterable[Row], metric: str) -> bool:
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
    label = f"Mean {METRICS[metric]} in dB over mean bits per pixel, a curve for each codec"
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _bd_rates(rates: Sequence[BdRate], bpp: tuple[float, float] | None) -> str:
    if not rates:
        return ""
    pairs: dict[tuple[int | None, str], dict[str, BdRate]] = {}
    for bd in rates:
        pairs.setdefault((bd.rank, bd.anchor), {})[bd.metric] = bd
    metrics = [metric for metric in METRICS if any(metric in found for found in pairs.values())]
    head = ["codec", "against"]
    for metric in metrics:
        head += [METRICS[metric], "from dB", "to dB"]
    lines = []
    for (rank, anchor), found in pairs.items():
        cells = [curve_name(OWN, rank), anchor]
        for metric in metrics:
            own = found.get(metric)
            known = own is not None and own.percent is not None
            cells += [f"{own.percent:+.1f} %", f"{own.low:.1f}", f"{own.high:.1f}"] if own and known else ["-"] * 3
        lines.append(cells)
    where = "" if bpp is None else f" where {OWN} takes {bpp[0]:g} to {bpp[1]:g} bpp"
    text = f"BD-rates from the means{where}. Negative: {OWN} needs fewer bits. MS-SSIM in dB is -10 log10(1 - MS-SSIM)."
    return "<h2>BD-rates</h2>" + _grid(head, lines, 2, text)


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, str, str]], title: str) -> str:
    lines = [[cell(getattr(row, name), form) for _, name, form in columns] for row in rows]
    texts = sum(not form for _, _, form in columns)
    return f"<h2>{escape(title)}</h2>" + _grid([heading for heading, _, _ in columns], lines, texts, title)


def _grid(head: Sequence[str], lines: Iterable[Sequence[str]], texts: int, caption: str) -> str:
    """A table whose first `texts` columns are words. It scrolls sideways by itself where the window is narrow."""

    def row(cells: Sequence[str], tag: str) -> str:
        parts = [f"<{tag}{' class=word' if i < texts else ''}>{escape(c)}</{tag}>" for i, c in enumerate(cells)]
        return "<tr>" + "".join(parts) + "</tr>\n"

    body = "".join(row(line, "td") for line in lines)
    name = escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table><caption>{name}</caption>\n'
        f"<thead>{row(head, 'th')}</thead>\n<tbody>{body}</tbody></table></div>\n"
    )


class _Pictures:
    """The gallery as HTML. Every curve has a number, and so has every level: the classes c0.. and r0.. of a figure."""

    def __init__(self, gallery: Gallery):
        self.gallery = gallery
        curves = dict.fromkeys(curve for shown in gallery.images for curve in shown.choices)
        self.numbers = {curve: number for number, curve in enumerate(curves)}

    def rules(self) -> str:
        """The style sheet's rules that show what is chosen."""
        pairs = [(c, r) for c in self.numbers.values() for r in range(len(self.gallery.qualities))]
        chosen = ",\n".join(f"body:has(#c{c}:checked):has(#r{r}:checked) .c{c}.r{r}" for c, r in pairs)
        return f"{chosen} {{ display: block }}" if chosen else ""

    def html(self, mean_rows: Sequence[Row]) -> str:
        if not self.gallery.images:
            return ""
        side = self.gallery.side
        text = f"""Larger images are cut to their middle of at most {side} x {side} pixels, not shrunk: that would hide
what codecs do. The pictures here are WebP of quality {WEBP_QUALITY} or, if small, lossless; all figures are of the real
files. The rate is that of {OWN}'s file; of the other codecs the file of the closest size is shown, which may be far off
where a codec has none as small."""
        left_out = self.gallery.left_out
        more = f" {left_out} more image{' is' if left_out == 1 else 's are'} not shown." if left_out else ""
        names = {f"c{number}": curve_name(*curve) for curve, number in self.numbers.items()}
        rates = {f"r{i}": self._rate(quality, mean_rows) for i, quality in enumerate(self.gallery.qualities)}
        controls = _choice("Codec", "codec", names, "c0") + _choice("Rate", "rate", rates, f"r{(len(rates) - 1) // 2}")
        images = "".join(map(self._image, self.gallery.images))
        return f'<h2>Pictures</h2><p>{escape(text)}{more}</p>\n<form class="controls">{controls}</form>\n{images}'

    def _rate(self, quality: float, mean_rows: Sequence[Row]) -> str:
        bpp = next((row.bpp for row in mean_rows if (row.codec, row.setting) == (OWN, quality)), math.nan)
        return f"{bpp:.3f} bpp ({OWN} -q {quality:g})"

    def _image(self, shown: Shown) -> str:
        figures = [_figure(shown.original, f"{shown.name}, original", "original", "")]
        for curve, choices in shown.choices.items():
            levels: dict[float, list[int]] = {}
            for level, choice in choices.items():  # one file may be the closest to several rates
                levels.setdefault(choice.row.setting, []).append(level)
            for own in levels.values():
                row, picture = choices[own[0]]
                size = f"{row.bytes:,.0f} bytes, {row.bpp:.3f} bpp"
                text = f"{curve_name(*curve)}, quality {row.setting:g}: {size}, {row.psnr:.2f} dB"
                classes = " ".join([f"c{self.numbers[curve]}", *(f"r{level}" for level in own)])
                figures.append(_figure(picture, f"{shown.name}, {text}", text, classes))
        height, width = shown.original.shape[:2]
        part = "" if (width, height) == (shown.width, shown.height) else f", the middle {width} x {height}"
        title = f"{escape(shown.name)} <small>{shown.width} x {shown.height} pixels{part}</small>"
        return f'<section><h3>{title}</h3><div class="pair">{"".join(figures)}</div></section>\n'


def _choice(legend: str, name: str, labels: dict[str, str], checked: str) -> str:
    inputs = "".join(
        f'<label><input type="radio" name="{name}" id="{key}"{" checked" if key == checked else ""}> '
        f"{escape(label)}</label>\n"
        for key, label in labels.items()
    )
    return f"<fieldset><legend>{legend}</legend>\n{inputs}</fieldset>\n"


def _figure(picture: Pixels, alt: str, caption: str, classes: str) -> str:
    height, width = picture.shape[:2]
    times = max(1, MAX_SIDE // 2 // max(height, width))  # small pictures are enlarged, pixel by pixel
    uri = f"data:image/webp;base64,{base64.b64encode(_webp(picture)).decode()}"
    image = f'<img src="{uri}" alt="{escape(alt)}" width="{width * times}" height="{height * times}">'
    start = f'<figure class="{classes}">' if classes else "<figure>"
    return f"{start}{image}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _webp(picture: Pixels) -> bytes:
    out = io.BytesIO()
    small = picture.shape[0] * picture.shape[1] <= MIN_SIDE**2
    Image.fromarray(picture).save(out, "WEBP", quality=WEBP_QUALITY, lossless=small)
    return out.getvalue()


_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root { color-scheme: light }
body { margin: 0 auto; padding: 0 1rem 3rem; max-width: 76rem; color: #1a1a1a; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem } h2 { font-size: 1.25rem; margin-top: 2.5rem } h3 { font-size: 1rem; margin-bottom: .4rem }
small, .notes, figcaption { color: #555; font-size: .85rem; font-weight: normal }
.curves { display: flex; flex-wrap: wrap; gap: 1rem }
.curves svg { flex: 1 1 20rem; min-width: 0; max-width: 36rem; height: auto }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; white-space: nowrap }
caption { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
th { border-bottom-color: #1a1a1a } .word { text-align: left } tbody tr:hover { background: #f3f3f3 }
.controls { position: sticky; top: 0; z-index: 1; padding: .5rem 0; background: #fff; border-bottom: 1px solid #ddd }
fieldset { display: flex; flex-wrap: wrap; gap: 0 1rem; margin: 0; padding: 0; border: 0; font-size: .9rem }
legend { float: left; width: 4rem; font-weight: 600 }
.pair { display: flex; flex-wrap: wrap; gap: .5rem 1rem }
figure { margin: 0; min-width: min(16rem, 100%); max-width: 100% } figure[class] { display: none }
img { display: block; max-width: 100%; height: auto; image-rendering: pixelated; background: #eee }
figcaption { width: 0; min-width: 100% } figure[class] figcaption { min-height: 4.5em }
@media (max-width: 40rem) { legend { float: none } }
:focus-visible { outline: 2px solid #0b57d0; outline-offset: 2px }
$rules
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p>$summary</p>
<h2>Rate and distortion</h2>
<div class="curves">
$curves</div>
$bd_rates$gallery$means<p class="notes">$notes</p>
$rows</main>
<footer class="notes"><p>$versions<br>$machine</p></footer>
</body>
</html>
""")
