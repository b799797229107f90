"""What the suite measured, made readable: tables, JSON, the figures of the paper. Returns strings and bytes."""

import io
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, fields

from ..errors import extra
from ..measure.tables import Column, Table, cell, table_of
from .suite import SHOWN, Point, Suite


def bytes_at(points: Sequence[Point], field: str, value: float) -> float | None:
    """Bytes at which a curve reaches a value of mse or psnr, log-linear between its points; None if it does not.

    field: "mse" or "psnr", as in `Point`.

    >>> a, b = (Point("d", "m", "", s, 0, 0, None, None, e, None, None, None) for s, e in ((100, 4e-3), (200, 1e-3)))
    >>> round(bytes_at([a, b], "mse", 2e-3))
    141
    """
    curve = sorted((p.bytes, getattr(p, field)) for p in points if getattr(p, field) is not None)
    for (low, a), (high, b) in zip(curve, curve[1:], strict=False):
        if a != b and min(a, b) <= value <= max(a, b):
            if field == "mse":
                a, b, at = math.log(a), math.log(b), math.log(value)
            else:
                at = value
            return low * (high / low) ** ((at - a) / (b - a))
    return None


def cheapest_not_worse(points: Sequence[Point], reference: Point) -> Point | None:
    """The point with the fewest MACs among those of the paper's models and ours that are no larger and no worse.

    That is: with no more bytes and no more MSE than `reference`, on its data set. None if there is no such point.
    """
    same = [p for p in points if p.dataset == reference.dataset and p.model in ("paper", "lrq")]
    good = [p for p in same if p.bytes <= reference.bytes and p.mse <= reference.mse]
    return min(good, key=lambda p: p.macs or math.inf, default=None)


COLUMNS = (
    Column("model", "model"),
    Column("setting", "setting"),
    Column("bytes", "bytes", ".1f"),
    Column("bpp", "bpp", ".3f"),
    Column("ratio", "ratio", ".1f"),
    Column("raw bpp", "raw_bpp", ".3f"),
    Column("raw ratio", "raw_ratio", ".1f"),
    Column("MSE", "mse", ".2e"),
    Column("PSNR dB", "psnr", ".2f"),
    Column("MAC/px", "macs", ",.0f"),
    Column("usage", "usage", ".1%"),
)
TARGETS = {
    "celeba64": (("mse", 3.6e-3), ("psnr", 27.0), ("psnr", 30.0)),
    "cifar10": (("mse", 3.6e-3), ("psnr", 27.0)),
    "mnist": (("mse", 3.6e-3), ("mse", 1e-3), ("mse", 6e-4)),
}
"""Where each data set's curves are compared: a field of `Point`, and its value."""


def table(points: Sequence[Point]) -> str:
    """Markdown: a table for each data set, then the sizes at equal quality, then MACs beside the baseline's.

    Raises EncoderMissingError if the package tabulate is missing.
    """
    parts = []
    for name in dict.fromkeys(p.dataset for p in points):
        group = [p for p in points if p.dataset == name]
        parts += [f"### {name}", table_of(group, COLUMNS).markdown(), _equal_quality(group).markdown(), _macs(group)]
    return "\n\n".join(filter(None, parts))


def _equal_quality(points: Sequence[Point]) -> Table:
    """Bytes at equal quality, every curve read between its points."""
    targets = TARGETS[points[0].dataset]
    curves: dict[str, list[Point]] = {}
    for point in points:
        if point.model not in ("paper", "vq-vae"):
            curves.setdefault(point.model + point.setting.partition(",")[2], []).append(point)
    headings = [f"MSE {value:.1e}" if field == "mse" else f"{value:g} dB" for field, value in targets]
    lines = [
        [model, *(cell(bytes_at(curve, field, value), ".0f") for field, value in targets)]
        for model, curve in curves.items()
    ]
    return Table(["bytes at", *headings], lines)


def _macs(points: Sequence[Point]) -> str:
    """For each baseline: what is no larger and no worse, and how many times fewer MACs that needs."""
    lines = []
    for reference in (p for p in points if p.model == "vq-vae"):
        found = cheapest_not_worse(points, reference)
        line = f"- {_brief(reference)}: "
        if found is None or not found.macs or not reference.macs:
            lines.append(line + "nothing here is as small and as good")
        else:
            lines.append(line + f"{_brief(found)}, **{reference.macs / found.macs:.0f} times fewer**")
    return "\n".join(lines)


def _brief(point: Point) -> str:
    return f"{point.model} {point.setting}: {point.bytes:.0f} bytes, MSE {point.mse:.2e}, {point.macs:,.0f} MAC/px"


def to_json(suite: Suite, versions: dict[str, str]) -> str:
    """Everything measured, one point a line."""
    head = {"versions": versions, "machine": platform.machine(), "images": suite.images}
    rows = ",\n".join("  " + json.dumps(asdict(point)) for point in suite.points)
    return json.dumps(head, indent=1)[:-2] + ',\n "points": [\n' + rows + "\n ]\n}\n"


def from_json(text: str) -> list[Point]:
    """The points of `to_json`."""
    names = [field.name for field in fields(Point)]
    return [Point(**{name: row[name] for name in names}) for row in json.loads(text)["points"]]


def plot(points: Sequence[Point]) -> bytes:
    """A PNG of the paper's figure 4: MACs over bits, both per pixel, a panel for each data set; the colour is MSE."""
    with extra("bench"):
        from matplotlib import colors
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    names = list(dict.fromkeys(p.dataset for p in points))
    figure = Figure(figsize=(5 * len(names) + 1, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    for at, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), at + 1, xscale="log", yscale="log", title=name)
        axes.set(xlabel="bits per pixel, whole file", ylabel="decoder MACs per pixel" if not at else "")
        panel = [p for p in points if p.dataset == name and p.macs is not None]
        norm = colors.LogNorm(min(p.mse for p in panel), max(p.mse for p in panel))
        for model, marker in (("vq-vae", "s"), ("paper", "o"), ("lrq", "^")):
            group = [p for p in panel if p.model == model]
            dots = axes.scatter(
                [p.bpp for p in group],
                [p.macs or 0.0 for p in group],
                c=[p.mse for p in group],
                norm=norm,
                marker=marker,
                label=model,
                edgecolors="black",
                linewidths=0.4,
            )
        axes.grid(alpha=0.3)
        axes.legend(loc="center right")
        bar = figure.colorbar(dots, label="MSE" if at + 1 == len(names) else "")
        for axis in (axes.xaxis, axes.yaxis, bar.ax.yaxis):
            axis.set_major_formatter(plain)
            axis.set_minor_formatter(plain)
            axis.set_tick_params(which="both", labelsize="x-small")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()


def pictures(suite: Suite) -> bytes:
    """A PNG of the paper's figure 3: test images side by side, as every model decodes them.

    It holds images of the data sets: mind their licences.
    """
    with extra("bench"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    columns = max(sum(_is_shown(p) for p in suite.points if p.dataset == name) for name in suite.originals) + 1
    figure = Figure(figsize=(1.3 * columns, 1.55 * len(suite.originals) * SHOWN / 2), layout="constrained")
    FigureCanvasAgg(figure)
    rows = SHOWN // 2
    grid = figure.subplots(rows * len(suite.originals), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for at, (name, originals) in enumerate(suite.originals.items()):
        shown = [(f"{name}\noriginal", originals)]
        for point, decoded in zip(suite.points, suite.pictures, strict=True):
            if point.dataset == name and _is_shown(point):
                macs = "" if point.macs is None else f"\n{point.macs:,.0f} MAC/px"
                label = f"{point.model} {point.setting}\n{point.bpp:.2f} bpp, {point.mse:.1e}{macs}"
                shown.append((label, decoded))
        for column, (label, images) in enumerate(shown):
            for row in range(min(rows, len(images))):
                axes = grid[at * rows + row][column]
                axes.imshow(images[row], cmap="gray", vmin=0, vmax=255)
                if not row:
                    axes.set_title(label, fontsize=5)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    return out.getvalue()


def _is_shown(point: Point) -> bool:
    return point.model in ("paper", "vq-vae") or point.model == "lrq" and point.setting in ("0", "30", "60")
