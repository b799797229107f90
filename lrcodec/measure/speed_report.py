"""What speed.py measured, made readable: tables and JSON. Returns strings, writes nothing."""

import json
from dataclasses import asdict

from .machine import machine, versions
from .process import REFERENCE, Process
from .report import image_count
from .speed import ROUNDS, Large, Speed, medians
from .tables import Column, Table, table_of

COLUMNS = (
    Column("image", "image"),
    Column("codec", "codec"),
    Column("threads", "threads", "d"),
    Column("quality", "quality", "g"),
    Column("setting", "setting", "g"),
    Column("bytes", "bytes", ".0f"),
    Column("MAC/px", "macs", ".0f"),
    Column("ms", "ms", ".2f"),
    Column("x webp", "to_webp", ".2f"),
    Column("x avif", "to_avif", ".2f"),
    Column("entropy", "entropy_ms", ".2f"),
    Column("low-rank", "low_rank_ms", ".2f"),
    Column("predict", "prediction_ms", ".2f"),
    Column("smooth", "smoothing_ms", ".2f"),
    Column("colour", "colour_ms", ".2f"),
    Column("rest", "rest_ms", ".2f"),
)
NOTES = """\
Warm decodes of whole files to uint8 arrays, in one process. quality: of the lrq file; a classic codec has the setting
whose file comes nearest to that in size. x webp, x avif: a multiple of that codec's time, median over the images.
lrq --shrink 8 draws an eighth of the rows and columns.
Parts, in ms: container and entropy decoding; sums of low-rank codewords; what ONNX Runtime spends on prediction with
chroma, smoothing and colours; all else, mostly the pixels' way into an array. vq-vae: the decoder of the paper's
baseline on as many pixels, in the same ONNX Runtime, with random weights; bytes: its indices, 9 bits each."""


def table(speed: Speed, per_image: bool = False) -> str:
    """The median times of each codec, then those of the large image and of whole processes, as far as measured.

    per_image: every image's times before them. Raises EncoderMissingError if the package tabulate is missing.
    """
    median_times = medians(speed.times)
    parts = [table_of(speed.times, COLUMNS).text()] if per_image else []
    parts += [f"Medians over {image_count(speed.times, median_times)}, {ROUNDS} rounds"]
    parts += [table_of(median_times, COLUMNS[1:]).text(), NOTES]
    parts += _large(speed.large) if speed.large else []
    parts += _process(speed.process) if speed.process else []
    parts += [f"not measured: {codec} (this build of Pillow cannot write it)" for codec in speed.skipped]
    return "\n\n".join(parts)


def _large(large: Large) -> list[str]:
    title = (
        f"A large image of {large.megapixels:.1f} megapixels, {large.bytes:,} bytes, and a small one of "
        f"{large.small_megapixels:.2f}.\nMilliseconds per megapixel, and how many times faster than one thread"
    )
    headings = ["threads", "large", "small", "large / small", "large faster", "small faster"]
    lines = []
    for threads, ms in large.ms.items():
        small = large.small_ms[threads]
        figures = ms, small, ms / small, large.ms[1] / ms, large.small_ms[1] / small
        lines.append([f"{threads}", *(f"{figure:.2f}" for figure in figures)])
    return [title, Table(headings, lines, 0).text()]


def _process(process: Process) -> list[str]:
    title = f"Whole processes, an image of {process.width} x {process.height}, and the steps inside lrq decode"
    times = {"lrq decode": process.decode_ms, f'python -c "{REFERENCE}"': process.reference_ms}
    steps = {f"step: {name}": ms for name, ms in process.steps.items()}
    return [title, Table(["process", "ms"], [[name, f"{ms:.1f}"] for name, ms in (times | steps).items()]).text()]


def to_json(speed: Speed) -> str:
    """An object of versions, machine, rounds, skipped, times, medians, large and process; keys as in speed.py."""
    head = {"versions": versions(), "machine": machine(), "rounds": ROUNDS}
    document = head | asdict(speed) | {"medians": [asdict(time) for time in medians(speed.times)]}
    return json.dumps(document, indent=1, allow_nan=False) + "\n"
