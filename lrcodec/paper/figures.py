"""The figures of the paper, of what the suite measured, and the baseline's loss curves. Returns PNG files."""

import io
from typing import Any, NamedTuple

import numpy as np

from ..errors import extra
from .examples import example
from .suite import Picture, Suite

SHOWN = ("0", "20", "40", "60", "80")
"""Qualities of our packs in figure 3."""


class Panel(NamedTuple):
    """An image with its label."""

    label: str
    pixels: np.ndarray


def figure3(suite: Suite) -> bytes:
    """The paper's visual comparison: for each data set a row of baselines, of the paper's form, and of our packs.

    The images are those of examples.py. bpp: of the whole file, and MSE: both of the image that is shown.
    """
    rows: list[list[Panel]] = []
    for name in suite.images:
        pictures = [p for p in suite.pictures if p.dataset == name]
        for model in ("vq-vae", "paper", "lrq"):
            shown = [_panel(p) for p in pictures if p.model == model and (model != "lrq" or p.setting in SHOWN)]
            original = Panel(f"{name}\noriginal\n", example(name))
            rows.append([original, *shown])
    columns = max(map(len, rows), default=1)
    figure = _figure(1.35 * columns, 1.85 * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, row in zip(grid, rows, strict=True):
        for axes, panel in zip(line, row, strict=False):
            axes.imshow(panel.pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_title(panel.label, fontsize=7)
    return _png(figure)


def _panel(picture: Picture) -> Panel:
    figures = f"{picture.bpp:.2f} bpp, MSE {picture.mse:.1e}\n{picture.macs:,.0f} MAC/px"
    return Panel(f"{picture.model} {picture.setting}\n{figures}", picture.pixels)


def figure4(suite: Suite) -> bytes:
    """The paper's figure 4: MACs over bits, both per pixel, a panel for each data set; the colour is MSE."""
    with extra("bench"):
        from matplotlib import colors
        from matplotlib.ticker import FuncFormatter
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    # Between the powers of ten there is room for 0.2, 0.3 and 0.5 only.
    some = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else "")
    names = list(suite.images)
    figure = _figure(5 * len(names) + 1, 4.4)
    for at, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), at + 1, xscale="log", yscale="log", title=name)
        axes.set(xlabel="bits per pixel, whole file", ylabel="decoder MACs per pixel" if not at else "")
        panel = [p for p in suite.points if p.dataset == name and p.macs is not None]
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
        axes.legend(loc="best")
        bar = figure.colorbar(dots, label="MSE" if at + 1 == len(names) else "")
        for axis in (axes.xaxis, axes.yaxis, bar.ax.yaxis):
            axis.set_major_formatter(plain)
            axis.set_minor_formatter(some)
            axis.set_tick_params(which="both", labelsize="x-small")
    return _png(figure)


def curves(suite: Suite) -> bytes:
    """The baselines' errors on test images after every epoch, a panel for each data set."""
    figure = _figure(4.5 * len(suite.curves) + 1, 4)
    for at, (name, settings) in enumerate(suite.curves.items()):
        axes = figure.add_subplot(1, len(suite.curves), at + 1, yscale="log", title=name, xlabel="epoch")
        axes.set(ylabel="MSE on test images" if not at else "")
        for setting, rows in settings.items():
            axes.plot([row["epoch"] for row in rows], [row["mse"] for row in rows], label=f"vq-vae {setting}")
        axes.grid(which="both", alpha=0.3)
        if settings:
            axes.legend()
    return _png(figure)


def _figure(width: float, height: float) -> Any:
    """A figure of matplotlib, in inches. Raises EncoderMissingError if that is missing."""
    # Without pyplot: no display, no state left behind in the caller's process.
    with extra("bench"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()
