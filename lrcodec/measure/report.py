"""What bench.py measured, made readable: tables, JSON, curves. Returns strings and bytes, writes nothing."""

import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ..errors import extra
from .bench import LRQ, Curve, Result, means
from .curves import METRICS, BdRate, bd_rates, curves, levels
from .machine import machine, versions
from .tables import Column, Table, table_of

COLUMNS = (
    Column("image", "image"),
    Column("codec", "codec"),
    Column("tune", "tune"),
    Column("rank", "rank", "d"),
    Column("quality", "setting", "g"),
    Column("bytes", "bytes", ".0f"),
    Column("bpp", "bpp", ".4f"),
    Column("ratio", "ratio", ".1f"),
    Column("MSE", "mse", ".2e"),
    Column("PSNR dB", "psnr", ".2f"),
    Column("MS-SSIM", "ms_ssim", ".4f"),
    Column("SSIMULACRA2", "ssimulacra2", ".2f"),
    Column("low-rank", "macs_low_rank", ".1f"),
    Column("predict", "macs_prediction", ".1f"),
    Column("smooth", "macs_smoothing", ".1f"),
    Column("colour", "macs_colour", ".1f"),
    Column("encode s", "encode_s", ".3f"),
    Column("decode s", "decode_s", ".4f"),
)
NOTES = """\
quality: on the codec's own scale; for jpeg2000 the compression ratio that is asked for.
bytes, bpp: of whole files. ratio: raw 8-bit bytes / file bytes. MSE: pixels on [0, 1]. MS-SSIM: mean over the channels.
tune: what lrq's encoder aims at, the eye (lambda follows how visible errors are) or PSNR.
low-rank, predict, smooth, colour: multiply-accumulates of decoding per pixel, of every codeword that is drawn.
predict: enlargement, of scales and of chroma, and the convolutions beside it."""


def table(result: Result, per_image: bool = False, bpp: tuple[float, float] | None = None) -> str:
    """The means of each curve and quality, then the BD-rates.

    per_image: every image's rows come before them. bpp: the range of lrq's mean bits per pixel that the BD-rates are
    taken over, as in `bench.bd_rates`.
    Raises EncoderMissingError if the package bjontegaard or tabulate is missing.
    """
    mean_rows = means(result.rows)
    rates = bd_rates(mean_rows, bpp)
    parts = [table_of(result.rows, COLUMNS).text()] if per_image else []
    parts += [f"Means over {image_count(result.rows, mean_rows)}", table_of(mean_rows, COLUMNS[1:]).text(), NOTES]
    parts += [bd_note(bpp), bd_table(rates).text()] if rates else []
    parts += [f"not measured: {codec} (this build of Pillow cannot write it)" for codec in result.skipped]
    return "\n\n".join(parts)


def image_count(rows: Sequence[object], means: Sequence[object]) -> str:
    """How many images were measured, as "1 image": each has a row in every mean, and two may share a name."""
    count = len(rows) // max(len(means), 1)
    return f"{count} image{'' if count == 1 else 's'}"


def bd_table(rates: Iterable[BdRate]) -> Table:
    """A line for each curve of lrq and each classic codec: by each metric the BD-rate, and the range that it covers."""
    pairs: dict[tuple[Curve, str], dict[str, BdRate]] = {}
    for bd in rates:
        pairs.setdefault((Curve(LRQ, bd.rank, bd.tune), bd.anchor), {})[bd.metric] = bd
    metrics = [metric for metric in METRICS if any(metric in found for found in pairs.values())]
    headings = ["codec", "against", *(text for metric in metrics for text in (METRICS[metric], "from", "to"))]
    lines = []
    for (curve, anchor), found in pairs.items():
        cells = [str(curve), anchor]
        for metric in metrics:
            bd = found[metric]
            overlap = bd.percent is not None
            cells += [f"{bd.percent:+.1f} %", f"{bd.low:.1f}", f"{bd.high:.1f}"] if overlap else ["-"] * 3
        lines.append(cells)
    return Table(headings, lines, 2)


def bd_note(bpp: tuple[float, float] | None) -> str:
    """What the figures of `bd_table` are. bpp: as in `table`."""
    where = "" if bpp is None else f", where {LRQ} takes {bpp[0]:g} to {bpp[1]:g} bpp"
    return (
        f"BD-rates from the means{where}. Negative: {LRQ} needs fewer bits.\n"
        "From, to: PSNR in dB, MS-SSIM in dB, which is -10 log10(1 - MS-SSIM), and SSIMULACRA2.\n"
        "A dash: no quality that both curves reach."
    )


def to_json(result: Result, bpp: tuple[float, float] | None = None) -> str:
    """An object of versions, machine, skipped, rows, means, bd_bpp and bd_rates; keys as the fields of Row and BdRate.

    bpp: as in `table`; it becomes bd_bpp. What is undefined or infinite is null, since JSON has no word for it.
    The object holds no host name and no path. Raises EncoderMissingError if the package bjontegaard is missing.
    """
    mean_rows = means(result.rows)
    document = {
        "versions": versions(),
        "machine": machine(),
        "skipped": list(result.skipped),
        "rows": [_finite(asdict(row)) for row in result.rows],
        "means": [_finite(asdict(row)) for row in mean_rows],
        "bd_bpp": bpp,
        "bd_rates": [_finite(asdict(bd)) for bd in bd_rates(mean_rows, bpp)],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def plot(result: Result) -> bytes:
    """A PNG of mean PSNR over mean bpp (logarithmic), one for each of `curves`.

    Raises EncoderMissingError if the package matplotlib is missing.
    """
    out = io.BytesIO()
    draw(result, "psnr", (8, 6)).savefig(out, format="png", dpi=120)
    return out.getvalue()


def draw(result: Result, metric: str, inches: tuple[float, float]) -> Any:
    """The curves of `plot`, by a key of `METRICS`, as a matplotlib Figure of this width and height."""
    # Without pyplot: no display, no state left behind in the caller's process.
    with extra("bench"):
        from matplotlib import ticker
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    name = {"psnr": "PSNR in dB, RGB (mean)", "ms_ssim": "MS-SSIM in dB (of the mean)"}.get(metric, METRICS[metric])
    axes = figure.add_subplot(xscale="log", xlabel="bits per pixel, whole file (mean)", ylabel=name)
    for curve, points in curves(means(result.rows)).items():
        ours = curve.codec == LRQ
        rates, values = levels(points, metric)
        axes.plot(
            rates,
            [value if math.isfinite(value) else math.nan for value in values],
            "o-" if ours else "s--",
            linewidth=2 if ours else 1,
            markersize=5 if ours else 3,
            label=str(curve),
        )
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    # Between the powers of ten there is room for 0.2, 0.3 and 0.5 only.
    axes.xaxis.set_minor_formatter(
        ticker.FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else "")
    )
    axes.tick_params(axis="x", which="minor", labelsize="x-small")
    axes.grid(which="both", alpha=0.3)
    if result.rows:
        axes.legend()
    return figure


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
