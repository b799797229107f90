"""What bench.py measured, made readable: a text table, JSON, a plot. Returns strings and bytes, writes nothing."""

import io
import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .bench import OWN, Result, Row, bd_rates, curves, means
from .metrics import extra

# Heading, field of Row, format of a number.
COLUMNS = (
    ("image", "image", ""),
    ("codec", "codec", ""),
    ("rank", "rank", "d"),
    ("quality", "setting", "d"),
    ("bytes", "bytes", ".0f"),
    ("bpp", "bpp", ".4f"),
    ("ratio", "ratio", ".1f"),
    ("MSE", "mse", ".2e"),
    ("PSNR dB", "psnr", ".2f"),
    ("MS-SSIM", "ms_ssim", ".4f"),
    ("low-rank", "macs_low_rank", ".1f"),
    ("enlarge", "macs_enlargement", ".1f"),
    ("smooth", "macs_smoothing", ".1f"),
    ("colour", "macs_colour", ".1f"),
    ("encode s", "encode_s", ".3f"),
    ("decode s", "decode_s", ".4f"),
)
NOTES = """\
bytes and bpp: whole files. ratio: raw 8-bit bytes / file bytes. MSE: pixels on [0, 1]. MS-SSIM: mean over the channels.
low-rank, enlarge, smooth, colour: multiply-accumulates that the decoder executed per pixel.
"""
PACKAGES = (
    "lrcodec numpy pillow onnxruntime constriction torch pillow-jxl-plugin scikit-image scipy bjontegaard".split()
)


def table(result: Result, per_image: bool = False) -> str:
    """The means of each codec, rank and quality, then the BD-rates; with `per_image` every image's rows before them.

    Raises UsageError if the package bjontegaard is missing.
    """
    mean_rows = means(result.rows)
    count = len(result.rows) // max(len(mean_rows), 1)  # every image has a row in every mean
    parts = [_grid(result.rows, COLUMNS)] if per_image else []
    parts += [f"Means over {count} image{'' if count == 1 else 's'}\n", _grid(mean_rows, COLUMNS[1:]), NOTES]
    rates = [
        f"{OWN} rank {bd.rank} against {bd.anchor}: "
        + ("no common PSNR range" if bd.percent is None else f"{bd.percent:+.1f} % ({bd.low:.1f} to {bd.high:.1f} dB)")
        for bd in bd_rates(mean_rows)
    ]
    if rates:
        lines = ["BD-rate on PSNR, from the means (negative: lrq needs fewer bits)", *rates]
        parts.append("\n".join(lines) + "\n")
    parts += [f"not measured: {name} (this build of Pillow cannot write it)\n" for name in result.skipped]
    return "\n".join(parts)


def to_json(result: Result) -> str:
    """An object of versions, machine, skipped, rows, means and bd_rates; keys as the fields of Row and BdRate.

    What is undefined or infinite is null, since JSON has no word for it. Holds no host name and no path.
    Raises UsageError if the package bjontegaard is missing.
    """
    mean_rows = means(result.rows)
    document = {
        "versions": versions(),
        "machine": {
            "system": platform.system(),
            "machine": platform.machine(),
            "processor": platform.processor(),
            "cpus": os.cpu_count(),
        },
        "skipped": list(result.skipped),
        "rows": [_finite(asdict(row)) for row in result.rows],
        "means": [_finite(asdict(row)) for row in mean_rows],
        "bd_rates": [_finite(asdict(bd)) for bd in bd_rates(mean_rows)],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def plot(result: Result) -> bytes:
    """A PNG of mean PSNR over mean bpp (logarithmic), one curve for each codec and rank.

    Raises UsageError if the package matplotlib is missing.
    """
    agg, figures = extra("matplotlib.backends.backend_agg"), extra("matplotlib.figure")
    # Without pyplot: no display, no state left behind in the caller's process.
    figure = figures.Figure(figsize=(8, 6), layout="constrained")
    agg.FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", xlabel="bits per pixel, whole file (mean)", ylabel="PSNR in dB, RGB (mean)")
    for (codec, rank), points in curves(means(result.rows)).items():
        own = codec == OWN
        axes.plot(
            [row.bpp for row in points],
            [row.psnr if math.isfinite(row.psnr) else math.nan for row in points],
            "o-" if own else "s--",
            linewidth=2 if own else 1,
            markersize=5 if own else 3,
            label=f"{codec} rank {rank}" if own else codec,
        )
    plain = extra("matplotlib.ticker").FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(plain)
    axes.tick_params(axis="x", which="minor", labelsize="x-small")
    axes.grid(which="both", alpha=0.3)
    if result.rows:
        axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _grid(rows: Sequence[Row], columns: Sequence[tuple[str, str, str]]) -> str:
    """Rows under their headings, every column as wide as its widest cell: names to the left, numbers to the right."""
    lines = [[heading for heading, _, _ in columns]]
    lines += [[_cell(getattr(row, name), form) for _, name, form in columns] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    sides = ["rjust" if form else "ljust" for _, _, form in columns]
    aligned = ([getattr(c, side)(w) for c, side, w in zip(line, sides, widths, strict=True)] for line in lines)
    return "".join("  ".join(line).rstrip() + "\n" for line in aligned)


def _cell(value: Any, form: str) -> str:
    return "-" if value is None or value != value else format(value, form)


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}


def versions() -> dict[str, str]:
    """Of Python and of the `PACKAGES` that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
