"""`lrq paper`: the paper's experiments, beside its baseline, our packs and classic codecs.

Every point is a model at one setting, measured on all test images of a data set. Models of the paper's form and
baselines are trained on the training images where the work folder does not hold them yet.
"""

import io
import json
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from ..decoder import Decoder
from ..errors import extra
from ..format import container
from ..format.container import Header
from ..measure import bench
from ..measure.metrics import mse, psnr
from ..packs import zoo
from . import datasets

BASE = {"patch": 8, "iterations": 4, "codewords": 512, "rank": 2, "smoothing": 16}
KNOBS = {
    "rank": (1, 2, 4),
    "iterations": (1, 2, 4),
    "patch": (4, 8, 16),
    "smoothing": (0, 4, 16),
    "codewords": (128, 512, 2048),
}
"""The paper's model: every knob is turned alone, from `BASE`."""
BASELINES = ((4, 512), (4, 64))
"""Stride and codewords of the baseline, in two rates."""
BASELINE_STEPS = 2.5
"""The baseline, which starts from nothing, gets this many times the optimiser steps of the paper's model."""
PACKS = {"celeba64": "faces64", "cifar10": "cifar10", "mnist": "mnist"}
QUALITIES = tuple(range(0, 101, 10))
EFFORT = 1
SHOWN = 6
"""Images of each data set in the pictures."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Point:
    """One model at one setting: means over the test images of a data set.

    model: paper, vq-vae, lrq, or a classic codec. setting: what was turned, or the quality.
    bytes, bpp, ratio: whole files; ratio is raw 8-bit bytes / bytes. The baseline has no file format: its bytes are
    the ideal code length of its indices in our container.
    raw_bpp, raw_ratio: indices x log2 K alone, as the paper counts; None where there is no such count.
    mse: on [0, 1] pixels. psnr: dB, the mean over the images; None if one of them is exact.
    macs: multiply-accumulates of the decoder per pixel; None for a classic codec.
    usage: share of the codewords of a shared codebook that the test images use.
    """

    dataset: str
    model: str
    setting: str
    bytes: float
    bpp: float
    ratio: float
    raw_bpp: float | None
    raw_ratio: float | None
    mse: float
    psnr: float | None
    macs: float | None
    usage: float | None


@dataclass(frozen=True)
class Suite:
    """All points, and of each some decoded images for the pictures: uint8, in the order of the points.

    images: of each data set how many were trained on, and tested.
    """

    points: list[Point]
    pictures: list[np.ndarray]
    originals: dict[str, np.ndarray]
    images: dict[str, tuple[int, int]]


def knob_settings(dataset: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Names and settings of the paper's model to measure: the base, then every knob's other values."""
    largest = 14 if dataset == "mnist" else 16
    yield "base", BASE
    for knob, values in KNOBS.items():
        for value in values:
            value = min(value, largest) if knob == "patch" else value
            if value != BASE[knob]:
                yield f"{knob} {value}", BASE | {knob: value}


def run(data: Path, work: Path, names: Sequence[str], limit: int | None, seed: int, progress: Progress) -> Suite:
    """Train what is missing in `work`, and measure everything on the data sets `names` in the folder `data`.

    limit: images of each split, at most (None: all). Raises UsageError where images are missing.
    """
    sets = {name: [datasets.load(data, name, split)[:limit] for split in ("train", "test")] for name in names}
    suite = Suite([], [], {}, {name: (len(training), len(test)) for name, (training, test) in sets.items()})
    work.mkdir(parents=True, exist_ok=True)
    for name, (training, test) in sets.items():
        suite.originals[name] = test[:SHOWN]
        for point, decoded in _measure_set(name, training, test, work, seed, progress):
            suite.points.append(point)
            suite.pictures.append(decoded[:SHOWN])
            progress(f"{name} {point.model} {point.setting}: {point.bytes:.0f} bytes, MSE {point.mse:.2e}")
    return suite


def _measure_set(
    name: str, training: np.ndarray, test: np.ndarray, work: Path, seed: int, progress: Progress
) -> Iterator[tuple[Point, np.ndarray]]:
    from ..encoder import Encoder
    from ..training.presets import paper
    from ..training.train import train
    from .baseline import train_and_measure

    side = test.shape[1]
    for setting, knobs in knob_settings(name):
        pack = work / f"{name}-{setting.replace(' ', '-')}"
        if not (pack / "tables.npz").exists():
            config = paper(side, **knobs, mirror=name != "mnist")
            checkpoints = pack.with_suffix(".work")
            train(training, pack, config=config, work=checkpoints, seed=seed, progress=_line(pack.name, progress))
        # The paper's form: the nearest codeword in every iteration, no search.
        files = Encoder(pack).encode_batch(list(test), rank=knobs["rank"], effort=0)
        yield _point(name, "paper", setting, test, pack, files)
    for stride, codewords in BASELINES:
        setting = f"stride {stride}, K {codewords}"
        checkpoint = work / f"{name}-vqvae-{stride}-{codewords}.safetensors"
        measured = train_and_measure(
            training,
            test,
            stride=stride,
            codewords=codewords,
            steps=int(BASELINE_STEPS * paper(side).steps),
            batch=paper(side).batch,
            seed=seed,
            checkpoint=checkpoint,
            progress=_line(checkpoint.stem, progress),
        )
        count = measured.indices[0].size * math.log2(codewords) / 8
        usage = len(np.unique(measured.indices)) / codewords
        whole = _in_container(measured.bits)
        yield _summary(name, "vq-vae", setting, test, measured.decoded, whole, count, measured.macs, usage)
    pack = zoo.find(PACKS[name]).path
    encoder = Encoder(pack)
    for quality in QUALITIES:
        files = encoder.encode_batch(list(test), quality, effort=EFFORT)
        yield _point(name, "lrq", f"{quality}", test, pack, files)
        yield _point(name, "lrq", f"{quality}, no smoothing", test, pack, [_without_smoothing(data) for data in files])
    available, skipped = bench.split_available(tuple(bench.CLASSIC))
    for codec in skipped:
        progress(f"not measured: {codec} (this build of Pillow cannot write it)")
    for codec in available:
        for quality in bench.CLASSIC[codec].qualities:
            files = [bench.classic_encode(image, codec, quality) for image in test]
            decoded = np.stack([bench.classic_decode(data, test.ndim == 3) for data in files])
            size = float(np.mean([len(data) for data in files]))
            yield _summary(name, codec, f"{quality}", test, decoded, size, None, None, None)


def _in_container(bits: float) -> int:
    """Bytes of a file whose indices take so many bits."""
    header = Header(
        width=64, height=64, colour=container.RGB, smoothing=0, rank=1, iterations=1, band=0, model=bytes(8)
    )
    return len(container.pack(header, [container.Chunk(container.INDICES, bytes(math.ceil(bits / 8)))]))


def _line(name: str, progress: Progress) -> Callable[[float, str], None]:
    return lambda share, line: progress(f"{name} {share:.0%} {line}")


def _without_smoothing(data: bytes) -> bytes:
    """The same indices in a file that asks for no smoothing: as if it had been encoded so."""
    header, chunks = container.unpack(data)
    return container.pack(replace(header, smoothing=0), chunks)


def _point(
    name: str, model: str, setting: str, test: np.ndarray, pack: Path, files: list[bytes]
) -> tuple[Point, np.ndarray]:
    """A point of one of our packs, by its real files."""
    decoder = Decoder([pack])
    decoded, macs, used = np.empty_like(test), 0.0, set()
    for header, numbers, planes in decoder.batches(files):
        graph = decoder.graph(header)
        decoded[numbers] = graph.run(planes, header.rank, header.height, header.width)
        macs += len(numbers) / len(test) * graph.macs(planes, header.rank, header.height, header.width).total
        used |= set(np.unique(planes[0]).tolist()) - {0}
    scale = decoder.pack(header).scales[0]
    usage, count = None, None
    if scale.shared:
        usage, count = len(used) / scale.rows, planes[0][0].size * math.log2(scale.rows) / 8
    size = float(np.mean([len(data) for data in files]))
    return _summary(name, model, setting, test, decoded, size, count, macs, usage)


def _summary(
    name: str,
    model: str,
    setting: str,
    test: np.ndarray,
    decoded: np.ndarray,
    size: float,
    raw_size: float | None,
    macs: float | None,
    usage: float | None,
) -> tuple[Point, np.ndarray]:
    pixels, raw = test.shape[1] * test.shape[2], test[0].size
    psnrs = [psnr(a, b) for a, b in zip(test, decoded, strict=True)]
    point = Point(
        dataset=name,
        model=model,
        setting=setting,
        bytes=size,
        bpp=8 * size / pixels,
        ratio=raw / size,
        raw_bpp=None if raw_size is None else 8 * raw_size / pixels,
        raw_ratio=None if raw_size is None else raw / raw_size,
        mse=mse(test, decoded),
        psnr=float(np.mean(psnrs)) if math.isfinite(max(psnrs)) else None,
        macs=macs,
        usage=usage,
    )
    return point, decoded


def bytes_at(points: Sequence[Point], field: str, value: float) -> float | None:
    """Bytes at which a curve reaches `value` of mse or psnr: log-linear between neighbours; None if it does not.

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
    """Of the paper's and our points with no more bytes and no more MSE than `reference`, the one with least MACs."""
    same = [p for p in points if p.dataset == reference.dataset and p.model in ("paper", "lrq")]
    good = [p for p in same if p.bytes <= reference.bytes and p.mse <= reference.mse]
    return min(good, key=lambda p: p.macs or math.inf, default=None)


COLUMNS = (
    ("model", "model", ""),
    ("setting", "setting", ""),
    ("bytes", "bytes", ".1f"),
    ("bpp", "bpp", ".3f"),
    ("ratio", "ratio", ".1f"),
    ("raw bpp", "raw_bpp", ".3f"),
    ("raw ratio", "raw_ratio", ".1f"),
    ("MSE", "mse", ".2e"),
    ("PSNR dB", "psnr", ".2f"),
    ("MAC/px", "macs", ",.0f"),
    ("usage", "usage", ".1%"),
)


def table(points: Sequence[Point]) -> str:
    """Markdown: a table for each data set, then the sizes at equal quality, then MACs beside the baseline's."""
    parts = []
    for name in dict.fromkeys(p.dataset for p in points):
        own = [p for p in points if p.dataset == name]
        parts += [f"### {name}\n", _markdown(own), _equal_quality(own), _macs(own)]
    return "\n".join(parts)


def _markdown(points: Sequence[Point]) -> str:
    lines = ["| " + " | ".join(heading for heading, _, _ in COLUMNS) + " |"]
    lines.append("|" + "|".join(" --- " if not form else " ---: " for _, _, form in COLUMNS) + "|")
    for point in points:
        cells = ((getattr(point, name), form) for _, name, form in COLUMNS)
        lines.append("| " + " | ".join("-" if value is None else format(value, form) for value, form in cells) + " |")
    return "\n".join(lines) + "\n"


TARGETS = {
    "celeba64": (("mse", 3.6e-3), ("psnr", 27.0), ("psnr", 30.0)),
    "cifar10": (("mse", 3.6e-3), ("psnr", 27.0)),
    "mnist": (("mse", 3.6e-3), ("mse", 1e-3), ("mse", 6e-4)),
}


def _equal_quality(points: Sequence[Point]) -> str:
    """Bytes at equal quality, every curve read between its points."""
    targets = TARGETS[points[0].dataset]
    curves: dict[str, list[Point]] = {}
    for point in points:
        if point.model not in ("paper", "vq-vae"):
            curves.setdefault(point.model + point.setting.partition(",")[2], []).append(point)
    heads = [f"MSE {value:.1e}" if field == "mse" else f"{value:g} dB" for field, value in targets]
    lines = ["| bytes at | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(targets)]
    for model, curve in curves.items():
        sizes = [bytes_at(curve, field, value) for field, value in targets]
        lines.append(f"| {model} | " + " | ".join("-" if size is None else f"{size:.0f}" for size in sizes) + " |")
    return "\n".join(lines) + "\n"


def _macs(points: Sequence[Point]) -> str:
    """For each baseline, what is no larger and no worse than it, and how many times fewer MACs it needs."""
    lines = []
    for reference in (p for p in points if p.model == "vq-vae"):
        found = cheapest_not_worse(points, reference)
        line = f"- {_brief(reference)}: "
        if found is None or not found.macs or not reference.macs:
            lines.append(line + "nothing here is as small and as good")
        else:
            lines.append(line + f"{_brief(found)}, **{reference.macs / found.macs:.0f} times fewer**")
    return "\n".join(lines) + "\n"


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
    """A PNG: the paper's figure 4, bits per pixel against MACs per pixel, colour = MSE, a panel a data set."""
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
        own = [p for p in points if p.dataset == name and p.macs is not None]
        norm = colors.LogNorm(min(p.mse for p in own), max(p.mse for p in own))
        for model, marker in (("vq-vae", "s"), ("paper", "o"), ("lrq", "^")):
            some = [p for p in own if p.model == model]
            dots = axes.scatter(
                [p.bpp for p in some],
                [p.macs or 0.0 for p in some],
                c=[p.mse for p in some],
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
    """A PNG: the paper's figure 3, test images side by side as every model draws them.

    Holds images of the data sets: mind their licences.
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
