"""`lrq paper`: the paper's experiments, beside its baseline, our packs and classic codecs.

Every point is a model at one setting, measured on all test images of a data set. Models of the paper's form and
baselines are trained on the training images where the work folder does not hold them yet.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..decoder import Decoder
from ..format import container
from ..format.container import Header
from ..measure import classic
from ..measure.metrics import mse, psnr
from ..packs import store
from . import datasets

BASE = {"patch": 8, "iterations": 4, "codewords": 512, "rank": 2, "smoothing": 16}
KNOBS = {
    "rank": (1, 2, 4),
    "iterations": (1, 2, 4),
    "patch": (4, 8, 16),
    "smoothing": (0, 4, 16),
    "codewords": (128, 512, 2048),
}
"""Values of the settings of the paper's model. Each setting is varied alone, the others stay as in `BASE`."""
BASELINES = ((4, 512), (4, 64))
"""Stride and codewords of the baseline, in two rates."""
BASELINE_STEPS = 2.5
"""The baseline starts from nothing, so it gets this many times the optimiser steps of the paper's model."""
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
    """All points, with images for the pictures.

    pictures: for each point, in the same order, the first `SHOWN` decoded images, uint8 (n, H, W[, 3]).
    originals: the same images of each data set before encoding. images: how many of each were trained on, and tested.
    """

    points: list[Point]
    pictures: list[np.ndarray]
    originals: dict[str, np.ndarray]
    images: dict[str, tuple[int, int]]


def knob_settings(dataset: str) -> Iterator[tuple[str, dict[str, int]]]:
    """The paper's models to measure, name and settings of each: the base, then every knob's other values."""
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
    from ..training.run import train
    from .baseline import train_and_measure

    side = test.shape[1]
    for setting, knobs in knob_settings(name):
        pack = work / f"{name}-{setting.replace(' ', '-')}"
        if not (pack / "tables.npz").exists():
            config = paper(side, **knobs, mirror=name != "mnist")
            checkpoints = pack.with_suffix(".work")
            train(training, pack, config=config, work=checkpoints, seed=seed, progress=_line(pack.name, progress))
        # The paper's form: the nearest codeword in every iteration, no search.
        files = Encoder(pack).encode_batch(list(test), rank=knobs["rank"], effort=0, tune="psnr")
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
        file_size = _in_container(measured.bits)
        yield _summary(name, "vq-vae", setting, test, measured.decoded, file_size, count, measured.macs, usage)
    pack = store.find(PACKS[name]).path
    encoder = Encoder(pack)
    for quality in QUALITIES:
        files = encoder.encode_batch(list(test), quality, effort=EFFORT, tune="psnr")
        yield _point(name, "lrq", f"{quality}", test, pack, files)
        yield _point(name, "lrq", f"{quality}, no smoothing", test, pack, [_without_smoothing(data) for data in files])
    available, skipped = classic.split_available(tuple(classic.CLASSIC))
    for codec in skipped:
        progress(f"not measured: {codec} (this build of Pillow cannot write it)")
    for codec in available:
        for quality in classic.CLASSIC[codec].qualities:
            files = [classic.classic_encode(image, codec, quality) for image in test]
            decoded = np.stack([classic.classic_decode(data, test.ndim == 3) for data in files])
            size = float(np.mean([len(data) for data in files]))
            yield _summary(name, codec, f"{quality}", test, decoded, size, None, None, None)


def _in_container(bits: float) -> int:
    """Bytes of a file whose indices take so many bits."""
    header = Header(
        width=64, height=64, colour=container.RGB, smoothing=0, rank=1, iterations=1, band=0, model=bytes(4)
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
