"""Rate-distortion curves, and how far two of them are apart."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..errors import UsageError, extra
from .bench import LRQ, Curve, Row
from .metrics import ms_ssim_db

UNTUNED = "psnr"
"""The tuning that leaves lambda alone."""
METRICS = {"psnr": "PSNR", "ms_ssim": "MS-SSIM", "ssimulacra2": "SSIMULACRA2"}
"""The metrics that BD-rates are taken on: field of `Row`, and name. The first two count in dB, see `levels`."""


@dataclass(frozen=True)
class BdRate:
    """How many per cent more bits lrq, at `rank` and tuned for `tune`, needs than `anchor` at equal quality.

    anchor: a classic codec, or the curve of lrq of the same rank that is tuned for PSNR.
    metric: a key of `METRICS`. MS-SSIM counts in dB, -10 log10(1 - MS-SSIM), of the mean MS-SSIM.
    percent: between the mean curves; negative if lrq needs fewer bits.
    low, high: the ends of the range of the metric that both curves cover, in dB, or of SSIMULACRA2 itself.
    percent, low and high are None where the curves do not overlap.
    """

    rank: int | None
    tune: str | None
    anchor: str
    metric: str
    percent: float | None
    low: float | None
    high: float | None


def curves(mean_rows: Iterable[Row]) -> dict[Curve, list[Row]]:
    """The points of each rate-distortion curve, by rising rate."""
    points: dict[Curve, list[Row]] = {}
    for row in mean_rows:
        points.setdefault(row.curve, []).append(row)
    return {key: sorted(group, key=lambda row: row.bpp) for key, group in points.items()}


def bd_rates(mean_rows: Iterable[Row], bpp: tuple[float, float] | None = None) -> list[BdRate]:
    """lrq's curves against each classic codec, from the rows of `means`, by each metric that these have.

    One that is tuned for PSNR is also an anchor of the one of its rank that is not.

    bpp: takes only the part of lrq's curve between these mean bits per pixel, and of the anchor's curve the
    part of equal quality. Raises EncoderMissingError without the packages bjontegaard and, with bpp, scipy.
    """
    by_curve = curves(mean_rows)
    result: list[BdRate] = []
    for curve, anchor in product(by_curve, by_curve):
        untuned = curve._replace(tune=UNTUNED)
        if curve.codec == LRQ and (anchor.codec != LRQ or anchor == untuned != curve):
            reference, points = by_curve[anchor], by_curve[curve]
            result += filter(None, (_bd_rate_of(curve, anchor, m, reference, points, bpp) for m in METRICS))
    return result


def _bd_rate_of(
    curve: Curve,
    anchor: Curve,
    metric: str,
    reference: Sequence[Row],
    points: Sequence[Row],
    bpp: tuple[float, float] | None,
) -> BdRate | None:
    """That of the points of a curve against those of its anchor; None if the points lack the metric."""
    (rate_a, level_a), (rate_b, level_b) = levels(reference, metric), levels(points, metric)
    if all(map(math.isnan, level_b)):
        return None
    if bpp is not None:
        rate_b, level_b = cut(rate_b, level_b, *bpp)
    low, high = overlap(level_a, level_b) or (None, None)
    return BdRate(curve.rank, curve.tune, str(anchor), metric, bd_rate(rate_a, level_a, rate_b, level_b), low, high)


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


def levels(points: Sequence[Row], metric: str) -> tuple[list[float], list[float]]:
    """Bits per pixel of a curve's points, and their quality by a metric: in dB, or SSIMULACRA2 as it is."""
    values = [getattr(row, metric) for row in points]
    return [row.bpp for row in points], [ms_ssim_db(v) for v in values] if metric == "ms_ssim" else values


def bd_rate(
    bpp_a: Sequence[float], psnr_a: Sequence[float], bpp_b: Sequence[float], psnr_b: Sequence[float]
) -> float | None:
    """Bjontegaard's delta rate: how many per cent more bits curve b needs than curve a (the anchor) at equal PSNR.

    Negative: b is smaller. bpp in any unit of rate, above 0; PSNR in dB; points in any order, and as many as there
    are. Integrates log rate, interpolated by pchip, over the PSNR range that both curves cover (package
    `bjontegaard`). Points of infinite PSNR are left out, and of points of equal PSNR the cheapest stays.
    None where the curves do not overlap, or one has fewer than two points left.
    Raises UsageError if a curve's lists differ in length or a rate is not above 0, EncoderMissingError if the
    package is missing.
    """
    with extra("bench"):
        import bjontegaard
    rate_a, dist_a = _curve(bpp_a, psnr_a)
    rate_b, dist_b = _curve(bpp_b, psnr_b)
    if overlap(psnr_a, psnr_b) is None:
        return None
    # pchip, as it cannot overshoot between points; a partial overlap is what the docstring promises to handle.
    return float(
        bjontegaard.bd_rate(
            rate_a, dist_a, rate_b, dist_b, method="pchip", require_matching_points=False, min_overlap=0
        )
    )


def overlap(psnr_a: Sequence[float], psnr_b: Sequence[float]) -> tuple[float, float] | None:
    """Lowest and highest PSNR in dB that both curves cover, over which `bd_rate` integrates; None if there is none."""
    a, b = [x for x in psnr_a if math.isfinite(x)], [x for x in psnr_b if math.isfinite(x)]
    if not a or not b:
        return None
    low, high = max(min(a), min(b)), min(max(a), max(b))
    return (low, high) if low < high else None


def _curve(bpp: Sequence[float], psnrs: Sequence[float]) -> tuple[list[float], list[float]]:
    """Rates and PSNRs by strictly rising PSNR, all finite."""
    if len(bpp) != len(psnrs) or not all(rate > 0 for rate in bpp):
        raise UsageError("a rate-distortion curve needs one rate above 0 for each PSNR")
    cheapest: dict[float, float] = {}
    for rate, level in zip(bpp, psnrs, strict=True):
        if math.isfinite(level):
            cheapest[level] = min(rate, cheapest.get(level, math.inf))
    levels = sorted(cheapest)
    return [cheapest[level] for level in levels], levels
