"""What bench.py measured, made readable: a text table, JSON, a plot. Returns strings and bytes, writes nothing."""

import io
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import extra
from ..runtime import cores
from .bench import METRICS, OWN, BdRate, Result, Row, bd_rates, curves, levels, means
from .speed import REFERENCE, ROUNDS, Large, Process, Speed, Time, medians

# Heading, field of Row (of Time), format of a number.
COLUMNS = (
    ("image", "image", ""),
    ("codec", "codec", ""),
    ("rank", "rank", "d"),
    ("quality", "setting", "g"),
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
TIME_COLUMNS = (
    ("image", "image", ""),
    ("codec", "codec", ""),
    ("threads", "threads", "d"),
    ("quality", "quality", "g"),
    ("setting", "setting", "g"),
    ("bytes", "bytes", ".0f"),
    ("ms", "ms", ".2f"),
    ("MP/s", "speed", ".1f"),
    ("x webp", "to_webp", ".2f"),
    ("x avif", "to_avif", ".2f"),
    ("entropy ms", "entropy_ms", ".2f"),
    ("graph ms", "graph_ms", ".2f"),
    ("array ms", "array_ms", ".2f"),
)
NOTES = """\
quality: on the codec's own scale; of jpeg2000 the compression ratio that is asked for.
bytes and bpp: whole files. ratio: raw 8-bit bytes / file bytes. MSE: pixels on [0, 1]. MS-SSIM: mean over the channels.
low-rank, enlarge, smooth, colour: multiply-accumulates that the decoder executed per pixel.
"""
TIME_NOTES = """\
Warm decodes of whole files to uint8 arrays, in one process. quality: of the lrq file; a classic codec has the setting
that comes nearest to its size. x webp, x avif: times that codec's milliseconds (median of the images' ratios).
entropy: container and entropy decoding. graph: ONNX Runtime. array: all else, mostly the pixels' way into an array.
"""
PACKAGES = (
    "lrcodec numpy pillow onnxruntime constriction torch pillow-jxl-plugin scikit-image scipy bjontegaard".split()
)


def table(result: Result, per_image: bool = False, bpp: tuple[float, float] | None = None) -> str:
    """The means of each codec, rank and quality, then the BD-rates; with `per_image` every image's rows before them.

    bpp: the range of lrq's mean bits per pixel that the BD-rates are taken over, as in `bench.bd_rates`.
    Raises EncoderMissingError if the package bjontegaard is missing.
    """
    mean_rows = means(result.rows)
    count = len(result.rows) // max(len(mean_rows), 1)  # every image has a row in every mean
    parts = [_grid(result.rows, COLUMNS)] if per_image else []
    parts += [f"Means over {count} image{'' if count == 1 else 's'}\n", _grid(mean_rows, COLUMNS[1:]), NOTES]
    rates: dict[str, list[str]] = {}
    for bd in bd_rates(mean_rows, bpp):
        rates.setdefault(f"{OWN} rank {bd.rank} against {bd.anchor}", []).append(_bd_rate(bd))
    if rates:
        between = "" if bpp is None else f", where {OWN} takes {bpp[0]:g} to {bpp[1]:g} bpp"
        lines = [
            f"BD-rate from the means{between} (negative: {OWN} needs fewer bits)",
            "on PSNR, and on MS-SSIM in dB: -10 log10(1 - MS-SSIM)",
            *(f"{pair}: {', '.join(values)}" for pair, values in rates.items()),
        ]
        parts.append("\n".join(lines) + "\n")
    parts += _skipped(result.skipped)
    return "\n".join(parts)


def speed_table(speed: Speed, per_image: bool = False) -> str:
    """The median times of each codec, then those of the large image and of whole processes, as far as measured.

    per_image: every image's times before them.
    """
    count = len({time.image for time in speed.times})
    parts = [_grid(speed.times, TIME_COLUMNS)] if per_image else []
    parts += [f"Medians over {count} image{'' if count == 1 else 's'}, {ROUNDS} rounds\n"]
    parts += [_grid(medians(speed.times), TIME_COLUMNS[1:]), TIME_NOTES]
    parts += [_large(speed.large)] if speed.large else []
    parts += [_process(speed.process)] if speed.process else []
    return "\n".join(parts + _skipped(speed.skipped))


def _large(large: Large) -> str:
    lines = [f"A large image of {large.megapixels:.1f} megapixels, {large.bytes:,.0f} bytes, and a small one of "]
    lines[0] += f"{large.small_megapixels:.2f}: milliseconds per megapixel"
    for threads, per_pixel in large.ms.items():
        small = large.small_ms[threads]
        word = f"{threads} thread{'' if threads == 1 else 's'}"
        lines.append(f"{word}: large {per_pixel:.2f}, small {small:.2f}, ratio {per_pixel / small:.2f}")
    for what, times in (("large", large.ms), ("small", large.small_ms)):
        speed_ups = [f"{times[1] / ms:.2f} with {threads}" for threads, ms in times.items() if threads > 1]
        lines.append(f"speed-up of the {what} one by threads: {', '.join(speed_ups)}")
    return "\n".join(lines) + "\n"


def _process(process: Process) -> str:
    lines = [f"Whole processes, an image of {process.width} x {process.height}, milliseconds"]
    reference = f'python -c "{REFERENCE}"'
    lines += [f"{'lrq decode':<37} {process.decode_ms:7.1f}", f"{reference:<37} {process.reference_ms:7.1f}"]
    lines += ["inside lrq decode, step by step:"]
    return "\n".join(lines + [f"  {name:<35} {ms:7.1f}" for name, ms in process.steps.items()]) + "\n"


def to_json(result: Result, bpp: tuple[float, float] | None = None) -> str:
    """An object of versions, machine, skipped, rows, means, bd_bpp and bd_rates; keys as the fields of Row and BdRate.

    bpp: as in `table`; it stands in bd_bpp. What is undefined or infinite is null, since JSON has no word for it.
    Holds no host name and no path. Raises EncoderMissingError if the package bjontegaard is missing.
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


def speed_json(speed: Speed) -> str:
    """An object of versions, machine, rounds, skipped, times, medians, large and process; keys as in speed.py."""
    head = {"versions": versions(), "machine": machine(), "rounds": ROUNDS}
    document = head | asdict(speed) | {"medians": [asdict(time) for time in medians(speed.times)]}
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def plot(result: Result) -> bytes:
    """A PNG of mean PSNR over mean bpp (logarithmic), one curve for each codec and rank.

    Raises EncoderMissingError if the package matplotlib is missing.
    """
    out = io.BytesIO()
    draw(result, "psnr", (8, 6)).savefig(out, format="png", dpi=120)
    return out.getvalue()


def draw(result: Result, metric: str, inches: tuple[float, float]) -> Any:
    """The curves of `plot`, by a key of `METRICS` and in dB, as a matplotlib Figure of this width and height."""
    # Without pyplot: no display, no state left behind in the caller's process.
    with extra("bench"):
        from matplotlib import ticker
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    name = {"psnr": "PSNR in dB, RGB (mean)", "ms_ssim": "MS-SSIM in dB (of the mean)"}[metric]
    axes = figure.add_subplot(xscale="log", xlabel="bits per pixel, whole file (mean)", ylabel=name)
    for (codec, rank), points in curves(means(result.rows)).items():
        own = codec == OWN
        rates, decibels = levels(points, metric)
        axes.plot(
            rates,
            [value if math.isfinite(value) else math.nan for value in decibels],
            "o-" if own else "s--",
            linewidth=2 if own else 1,
            markersize=5 if own else 3,
            label=curve_name(codec, rank),
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


def curve_name(codec: str, rank: int | None) -> str:
    """What a curve is called.

    >>> curve_name("lrq", 2), curve_name("jpeg", None)
    ('lrq rank 2', 'jpeg')
    """
    return codec if rank is None else f"{codec} rank {rank}"


def _bd_rate(bd: BdRate) -> str:
    name = METRICS[bd.metric]
    if bd.percent is None:
        return f"no common {name} range"
    return f"{bd.percent:+.1f} % on {name} ({bd.low:.1f} to {bd.high:.1f} dB)"


def _skipped(names: Sequence[str]) -> list[str]:
    return [f"not measured: {name} (this build of Pillow cannot write it)\n" for name in names]


def machine() -> dict[str, Any]:
    """What it was measured on, without names of hosts or paths."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": platform.processor(),
        "cpus": cores(),
    }


def _grid(rows: Sequence[Row | Time], columns: Sequence[tuple[str, str, str]]) -> str:
    """Rows under their headings, every column as wide as its widest cell: names to the left, numbers to the right."""
    lines = [[heading for heading, _, _ in columns]]
    lines += [[cell(getattr(row, name), form) for _, name, form in columns] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    sides = ["rjust" if form else "ljust" for _, _, form in columns]
    aligned = ([getattr(c, side)(w) for c, side, w in zip(line, sides, widths, strict=True)] for line in lines)
    return "".join("  ".join(line).rstrip() + "\n" for line in aligned)


def cell(value: Any, form: str) -> str:
    """A figure in the format of its column; a dash for what is not known."""
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
