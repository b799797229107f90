"""Measures rate and distortion of the codec on images, beside the classic codecs of Pillow. report.py prints the rows.

Every rate counts the whole file. Every PSNR is taken after rounding to uint8.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, Protocol, TypeVar

import numpy as np

from ..errors import extra
from ..image_files import read_file
from .classic import CLASSIC, Pixels, classic_decode, classic_encode, split_available
from .metrics import bd_rate, ms_ssim, mse, psnr, psnr_overlap

LRQ = "lrq"
MEAN = "mean"
DECODES = 3

T = TypeVar("T")


class Macs(Protocol):
    """Multiply-accumulates that the decoder executed, per image pixel."""

    @property
    def low_rank(self) -> float: ...
    @property
    def enlargement(self) -> float: ...
    @property
    def smoothing(self) -> float: ...
    @property
    def colour(self) -> float: ...


class Decoder(Protocol):
    """What is measured: it decodes a file to uint8 (H, W) or (H, W, 3), and counts the work that a file costs."""

    def decode(self, data: bytes, /) -> Pixels: ...
    def macs(self, data: bytes, /) -> Macs: ...


METRICS = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}
"""The metrics that BD-rates are taken on: field of `Row`, and name."""


@dataclass(frozen=True)
class Row:
    """One file, or the mean of several: then `image` is `MEAN` and every figure an arithmetic mean over the images.

    image: file name without folders.
    codec: "lrq" or a key of `CLASSIC`.
    setting: the quality, on the codec's own scale (`Classic.scale`).
    rank: columns of U used, 1..4; None for a classic codec.
    bytes, bpp: the whole file, and its bits per pixel.
    ratio: raw 8-bit bytes / file bytes.
    mse: on [0, 1] pixels. psnr: dB, inf for equal pixels. ms_ssim: nan for a small image (metrics.py has the size).
    macs_*: executed multiply-accumulates per pixel; None for a classic codec.
    encode_s, decode_s: seconds; one encode, and the median of three decodes after one that is not counted.
    """

    image: str
    codec: str
    setting: float
    rank: int | None
    bytes: float
    bpp: float
    ratio: float
    mse: float
    psnr: float
    ms_ssim: float
    macs_low_rank: float | None
    macs_enlargement: float | None
    macs_smoothing: float | None
    macs_colour: float | None
    encode_s: float
    decode_s: float


FIGURES = tuple(field.name for field in fields(Row))[4:]


@dataclass(frozen=True)
class BdRate:
    """How many per cent more bits lrq at `rank` needs than the classic codec `anchor` at equal quality.

    metric: a key of `METRICS`. MS-SSIM counts in dB, -10 log10(1 - MS-SSIM), of the mean MS-SSIM.
    percent: between the mean curves; negative if lrq needs fewer bits.
    low, high: in dB, the ends of the range of the metric that both curves cover.
    percent, low and high are None where the curves do not overlap.
    """

    rank: int | None
    anchor: str
    metric: str
    percent: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Result:
    """What `bench` measured, and the classic codecs that it could not measure because this Pillow lacks them."""

    rows: list[Row]
    skipped: tuple[str, ...] = ()


def read_images(paths: Iterable[Path]) -> Iterator[tuple[str, Pixels]]:
    """File name and pixels, one image at a time: uint8 (H, W) for grey, (H, W, 3) for all others, upright.

    Raises as `read_file` does.
    """
    for path in paths:
        yield path.name, read_file(path)


def row_count(
    images: int, ranks: Sequence[int], qualities: Sequence[float], classic: Sequence[str] = tuple(CLASSIC)
) -> int:
    """How many rows `bench` will make of this many images: the length of a progress bar."""
    available, _ = split_available(classic)
    return images * (len(ranks) * len(qualities) + sum(len(CLASSIC[name].qualities) for name in available))


def bench(
    images: Iterable[tuple[str, Pixels]],
    ranks: Sequence[int],
    qualities: Sequence[float],
    encoder: Callable[[Pixels, float, int], bytes],
    decoder: Decoder,
    classic: Sequence[str] = tuple(CLASSIC),
    progress: Callable[[Row], object] = lambda row: None,
    look: Callable[[Row, Pixels, Pixels], object] = lambda row, image, decoded: None,
) -> Result:
    """Measure every image at every rank and quality, and with the classic codecs at their own qualities.

    images: name and uint8 (H, W) or (H, W, 3), as `read_images` yields them.
    encoder: encode(image, quality 0..100, rank) -> file. Load its model beforehand: loading would count as encoding.
    look: called for each file, with its row, the image and what was decoded. progress: called with the row after that.
    Raises UsageError for an unknown classic codec, or if a decoder returns another shape than it was given.
    """
    available, skipped = split_available(classic)
    rows: list[Row] = []

    def add(image: Pixels, row: Row, decoded: Pixels) -> None:
        rows.append(row)
        look(row, image, decoded)
        progress(row)

    for name, image in images:
        for rank in ranks:
            for quality in qualities:
                data, seconds = _timed(encoder, image, quality, rank)
                macs = decoder.macs(data)
                add(image, *_measure(name, image, LRQ, quality, rank, data, seconds, decoder.decode, macs))
        for codec in available:
            for quality in CLASSIC[codec].qualities:
                data, seconds = _timed(classic_encode, image, codec, quality)
                decode = partial(classic_decode, grey=image.ndim == 2)
                add(image, *_measure(name, image, codec, quality, None, data, seconds, decode, None))
    return Result(rows, skipped)


def means(rows: Iterable[Row]) -> list[Row]:
    """One row for each codec, rank and setting, in order of first appearance: the means over its images.

    PSNR is the mean of the images' PSNRs. Images without MS-SSIM are left out of its mean.
    """
    groups: dict[tuple[str, int | None, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.codec, row.rank, row.setting), []).append(row)
    return [
        Row(MEAN, codec, setting, rank, *(_mean([getattr(row, name) for row in group]) for name in FIGURES))
        for (codec, rank, setting), group in groups.items()
    ]


def curves(mean_rows: Iterable[Row]) -> dict[tuple[str, int | None], list[Row]]:
    """The rows of each codec and rank by rising rate: the points of one rate-distortion curve."""
    points: dict[tuple[str, int | None], list[Row]] = {}
    for row in mean_rows:
        points.setdefault((row.codec, row.rank), []).append(row)
    return {key: sorted(group, key=lambda row: row.bpp) for key, group in points.items()}


def bd_rates(mean_rows: Iterable[Row], bpp: tuple[float, float] | None = None) -> list[BdRate]:
    """lrq at each rank against each classic codec, from the rows of `means`, by each metric that these have.

    bpp: takes only the part of lrq's curve between these mean bits per pixel, and of the classic codec's curve the
    part of equal quality. Raises EncoderMissingError without the packages bjontegaard and, with bpp, scipy.
    """
    by_curve = curves(mean_rows)
    result = []
    for (codec, rank), points in by_curve.items():
        for (anchor, _), reference in by_curve.items():
            if codec != LRQ or anchor == LRQ:
                continue
            for metric in METRICS:
                (rate_a, level_a), (rate_b, level_b) = levels(reference, metric), levels(points, metric)
                if all(map(math.isnan, level_b)):
                    continue
                if bpp is not None:
                    rate_b, level_b = cut(rate_b, level_b, *bpp)
                low, high = psnr_overlap(level_a, level_b) or (None, None)
                result.append(BdRate(rank, anchor, metric, bd_rate(rate_a, level_a, rate_b, level_b), low, high))
    return result


def ms_ssim_db(value: float) -> float:
    """MS-SSIM in dB, -10 log10(1 - MS-SSIM), which tells values close to 1 apart; inf for 1, nan for nan.

    >>> round(ms_ssim_db(0.99), 3)
    20.0
    """
    return math.inf if value >= 1 else -10 * math.log10(1 - value)


def cut(bpp: Sequence[float], levels: Sequence[float], low: float, high: float) -> tuple[list[float], list[float]]:
    """The part of a rate-distortion curve between the rates `low` and `high`, by rising rate.

    Its end points are read from the curve, by pchip over log rate, unless the curve itself ends before them. Points
    whose level is not finite are left out. Both lists are empty if nothing of the curve lies between.
    Raises EncoderMissingError if scipy is missing.
    """
    with extra("bench"):
        from scipy.interpolate import PchipInterpolator
    best: dict[float, float] = {}
    for rate, level in zip(bpp, levels, strict=True):
        if math.isfinite(level):
            best[rate] = max(level, best.get(rate, -math.inf))
    rising = sorted(best)
    if not rising or max(low, rising[0]) >= min(high, rising[-1]):
        return [], []
    low, high = max(low, rising[0]), min(high, rising[-1])
    curve = PchipInterpolator(np.log(rising), [best[rate] for rate in rising])
    rates = [low, *(rate for rate in rising if low < rate < high), high]
    return rates, [float(level) for level in curve(np.log(rates))]


def _measure(
    name: str,
    image: Pixels,
    codec: str,
    setting: float,
    rank: int | None,
    data: bytes,
    encode_s: float,
    decode: Callable[[bytes], Pixels],
    macs: Macs | None,
) -> tuple[Row, Pixels]:
    decoded = decode(data)  # also the warm-up of the timed decodes
    height, width = image.shape[:2]
    row = Row(
        image=name,
        codec=codec,
        setting=setting,
        rank=rank,
        bytes=len(data),
        bpp=8 * len(data) / (height * width),
        ratio=image.size / len(data),
        mse=mse(image, decoded),
        psnr=psnr(image, decoded),
        ms_ssim=ms_ssim(image, decoded),
        macs_low_rank=None if macs is None else macs.low_rank,
        macs_enlargement=None if macs is None else macs.enlargement,
        macs_smoothing=None if macs is None else macs.smoothing,
        macs_colour=None if macs is None else macs.colour,
        encode_s=encode_s,
        decode_s=median(_timed(decode, data)[1] for _ in range(DECODES)),
    )
    return row, decoded


def _timed(call: Callable[..., T], *arguments: object) -> tuple[T, float]:
    """What the call returns, and the seconds it took."""
    start = time.perf_counter()
    value = call(*arguments)
    return value, time.perf_counter() - start


def levels(points: Sequence[Row], metric: str) -> tuple[list[float], list[float]]:
    """Bits per pixel of a curve's points, and their quality by a metric in dB."""
    values = [getattr(row, metric) for row in points]
    return [row.bpp for row in points], [ms_ssim_db(v) for v in values] if metric == "ms_ssim" else values


def _mean(values: list[Any]) -> Any:
    defined = [value for value in values if value is not None and not math.isnan(value)]
    return fmean(defined) if defined else values[0]
