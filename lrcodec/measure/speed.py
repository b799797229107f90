"""Decoding times: warm, beside the classic codecs; of a large image; of whole processes. speed_report.py prints them.

What is compared runs in turns (timing.py). The figures are medians over the rounds.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from ..decoder import Decoder
from .bench import LRQ
from .classic import CLASSIC, Pixels, classic_decode, classic_encode, split_available
from .process import Process, measure_process
from .timing import Call, Parts, rounds

MEDIAN = "median"
PLAIN = "lrq no smoothing"
REDUCED, SHRINK = "lrq --shrink 8", 8
BASELINE = "vq-vae"
"""The decoder of the paper's baseline, on an image of the same size."""
ROUNDS = 15
SMALL = 64
"""Side of the image that a whole process decodes."""
Encode = Callable[[Pixels, float, bool], bytes]
"""encode(image, quality 0..100, smoothing) -> file"""
Decoders = Mapping[int, Decoder]
"""Decoders by the number of their threads. One of them has one thread."""


class Rival(Protocol):
    """A decoder of one image, for its time alone. bytes: of what it decodes. macs: per pixel."""

    bytes: float
    macs: float

    def decode(self) -> object: ...


Baseline = Callable[[tuple[int, int], int, int], Rival]
"""baseline((height, width), channels, threads)"""


@dataclass(frozen=True)
class Time:
    """Warm decodes of a file to a uint8 array; with `image` = `MEDIAN` every figure is a median over several images.

    image: file name without folders.
    codec: "lrq", `PLAIN`, `REDUCED`, `BASELINE` or a key of `CLASSIC`. threads: how many it may have.
    quality: of the lrq file. setting: on the codec's own scale, where its file comes nearest to the lrq file in size.
    bytes: of the file. macs: multiply-accumulates per pixel; None for classic codecs.
    ms: milliseconds. speed: megapixels (10^6) a second.
    to_webp, to_avif: ms as a multiple of that codec's for the same image and quality; None where it was not measured.
    entropy_ms .. rest_ms: the parts of ms: container and entropy decoding; sums of codewords; what ONNX Runtime spends
    on prediction with the interpolation of chroma, on smoothing, and on colours; and all else, mostly the pixels' way
    into an array. Each is a median by itself, so they add up to ms roughly. None for other codecs, and where threads
    work on several strips side by side.
    """

    image: str
    codec: str
    threads: int
    quality: float
    setting: float
    bytes: float
    macs: float | None
    ms: float
    speed: float
    to_webp: float | None
    to_avif: float | None
    entropy_ms: float | None = None
    low_rank_ms: float | None = None
    prediction_ms: float | None = None
    smoothing_ms: float | None = None
    colour_ms: float | None = None
    rest_ms: float | None = None


FIGURES = tuple(field.name for field in fields(Time))[4:]


@dataclass(frozen=True)
class Large:
    """Decodes of a small image, and of a large one that is made of its mirror images; both with smoothing.

    megapixels, small_megapixels: sizes of the images, in 10^6 pixels. bytes: of the large file.
    ms, small_ms: milliseconds a megapixel, by the number of threads.
    """

    megapixels: float
    small_megapixels: float
    bytes: int
    ms: dict[int, float]
    small_ms: dict[int, float]


@dataclass(frozen=True)
class Speed:
    """What `run` measured, and the classic codecs that it could not measure because this Pillow lacks them."""

    times: list[Time]
    skipped: tuple[str, ...] = ()
    large: Large | None = None
    process: Process | None = None


def run(
    images: Iterable[tuple[str, Pixels]],
    qualities: Sequence[float],
    encode: Encode,
    decoders: Decoders,
    classic: Sequence[str] = tuple(CLASSIC),
    models: Sequence[Path] = (),
    megapixels: float | None = None,
    baseline: Baseline | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Speed:
    """Time every image at every quality; then, at the first quality, the first image enlarged, and whole processes.

    images: name and uint8 (H, W) or (H, W, 3). models: folders of packs that `lrq decode` must be told of.
    megapixels: size of the enlarged image; None for none. baseline: that of the paper, to be timed too.
    progress: called after each image and quality.
    Raises UsageError for an unknown classic codec, LrqError if a process fails.
    """
    available, skipped = split_available(classic)
    times: list[Time] = []
    first: Pixels | None = None
    for name, image in images:
        first = image if first is None else first
        for quality in qualities:
            times += measure(name, image, quality, encode, decoders, available, baseline)
            progress()
    if first is None:
        return Speed(times, skipped)
    large = None if megapixels is None else measure_large(first, megapixels, qualities[0], encode, decoders)
    top, left = (max(0, side - SMALL) // 2 for side in first.shape[:2])
    small = np.ascontiguousarray(first[top : top + SMALL, left : left + SMALL])
    return Speed(times, skipped, large, measure_process(encode(small, qualities[0], True), models))


def measure(
    name: str,
    image: Pixels,
    quality: float,
    encode: Encode,
    decoders: Decoders,
    classic: Sequence[str],
    baseline: Baseline | None = None,
) -> list[Time]:
    """The times of an image with smoothing, reduced, and without, of classic codecs on one thread, at equal file sizes,
    and of the baseline."""
    files = {LRQ: (quality, encode(image, quality, True)), PLAIN: (quality, encode(image, quality, False))}
    files[REDUCED] = files[LRQ]
    for codec in classic:
        files[codec] = nearest(partial(classic_encode, image, codec), CLASSIC[codec].scale, len(files[LRQ][1]))
    calls: dict[Call, Callable[[], object]] = {}
    parts: dict[Call, Parts] = {}
    rivals: dict[Call, Rival] = {}
    for threads, decoder in decoders.items():
        for codec in (LRQ, PLAIN):
            call, data = Call(codec, threads), files[codec][1]
            calls[call] = partial(decoder.decode, data)
            if threads == 1 or len(decoder._read(data)[1]) == 1:
                parts[call] = Parts(decoder, data)
                for part in ("entropy", "low_rank", "graph"):
                    calls[call._replace(part=part)] = getattr(parts[call], part)
        calls[Call(REDUCED, threads)] = partial(decoder.decode, files[REDUCED][1], SHRINK)
        if baseline is not None:
            call = Call(BASELINE, threads)
            rivals[call] = baseline(image.shape[:2], 1 if image.ndim == 2 else 3, threads)
            calls[call] = rivals[call].decode
    calls |= {Call(codec, 1): partial(classic_decode, files[codec][1], image.ndim == 2) for codec in classic}
    seconds = rounds(calls, ROUNDS)
    ms = {call: 1000 * median(values) for call, values in seconds.items()}
    result = []
    for call in (call for call in calls if not call.part):
        setting, size, macs = _decoded(call, files, rivals, decoders)
        ratios = [ms[call] / ms[Call(to, 1)] if to in classic else None for to in ("webp", "avif")]
        speed = image.shape[0] * image.shape[1] / ms[call] / 1000
        figures = _figures(seconds, call, parts[call]) if call in parts else []
        result.append(
            Time(name, call.what, call.threads, quality, setting, size, macs, ms[call], speed, *ratios, *figures)
        )
    return result


def _decoded(
    call: Call, files: Mapping[str, tuple[float, bytes]], rivals: Mapping[Call, Rival], decoders: Decoders
) -> tuple[float, float, float | None]:
    """Setting, bytes and multiply-accumulates per pixel of what a call decodes."""
    if call in rivals:
        return 0, rivals[call].bytes, rivals[call].macs
    setting, data = files[call.what]
    own = call.what in (LRQ, PLAIN)
    return setting, len(data), decoders[call.threads].macs(data).total if own else None


def _figures(seconds: Mapping[Call, Sequence[float]], call: Call, parts: Parts) -> list[float]:
    """The parts of a decode in milliseconds, and the rest."""
    entropy, low_rank = (seconds[call._replace(part=part)] for part in ("entropy", "low_rank"))
    graph = parts.of_graph(ROUNDS)
    # Round by round: on a busy machine the difference of medians would be mostly chance.
    others = [whole - sum(some) for whole, *some in zip(seconds[call], entropy, low_rank, strict=True)]
    figures = [median(entropy), median(low_rank), *graph.values(), median(others) - sum(graph.values())]
    return [1000 * figure for figure in figures]


def medians(times: Iterable[Time]) -> list[Time]:
    """For each quality, codec and number of threads, in order of first appearance, the medians over its images."""
    groups: dict[tuple[float, str, int], list[Time]] = {}
    for one in times:
        groups.setdefault((one.quality, one.codec, one.threads), []).append(one)
    return [
        Time(MEDIAN, codec, threads, quality, *(_median([getattr(one, name) for one in group]) for name in FIGURES))
        for (quality, codec, threads), group in groups.items()
    ]


def measure_large(image: Pixels, megapixels: float, quality: float, encode: Encode, decoders: Decoders) -> Large:
    """The times of `image` and of its enlargement to about this many megapixels (10^6)."""
    images = {"large": mirrored(image, megapixels), "small": image}
    files = {what: encode(pixels, quality, True) for what, pixels in images.items()}
    area = {what: pixels.shape[0] * pixels.shape[1] / 1e6 for what, pixels in images.items()}
    calls = {Call(what, n): partial(decoder.decode, files[what]) for n, decoder in decoders.items() for what in files}
    seconds = rounds(calls, ROUNDS)
    ms = ({n: 1000 * median(seconds[Call(what, n)]) / area[what] for n in decoders} for what in files)
    return Large(area["large"], area["small"], len(files["large"]), *ms)


def nearest(encode: Callable[[int], bytes], scale: Sequence[int], size: int) -> tuple[int, bytes]:
    """The setting whose file comes nearest to `size` bytes, and that file.

    scale: the settings, whose files grow from first to last. About log2(len(scale)) of them are tried.

    >>> nearest(bytes, range(0, 100, 10), 42)[0]
    40
    """
    files: dict[int, bytes] = {}

    def file(number: int) -> bytes:
        if number not in files:
            files[number] = encode(scale[number])
        return files[number]

    above = min(bisect_left(range(len(scale)), size, key=lambda number: len(file(number))), len(scale) - 1)
    best = min((max(above - 1, 0), above), key=lambda number: abs(len(file(number)) - size))
    return scale[best], file(best)


def mirrored(image: Pixels, megapixels: float) -> Pixels:
    """Mirror images of `image` side by side: about this many megapixels (10^6), with the same ratio of the sides."""
    factor = math.sqrt(megapixels * 1e6 / (image.shape[0] * image.shape[1]))
    places = [np.arange(max(1, round(side * factor))) % (2 * side) for side in image.shape[:2]]
    y, x = (np.minimum(at, 2 * side - 1 - at) for at, side in zip(places, image.shape[:2], strict=True))
    return image[y[:, None], x]


def _median(values: list[Any]) -> Any:
    defined = [value for value in values if value is not None]
    return median(defined) if defined else None
