"""Points of the suite compared: sizes at equal quality, and multiply-accumulates at equal size or quality."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .cost import Cost
from .suite import Point, Suite


def size_at(points: Sequence[Point], field: str, value: float, size: str = "bytes") -> float | None:
    """Size at which a curve reaches a value of mse or psnr, log-linear between its points; None if it does not.

    field: "mse" or "psnr", as in `Point`. size: "bytes", "bpp" or "raw_bpp".

    >>> a, b = (Point("d", "m", "", s, 0, 0, None, None, e, None, None, None) for s, e in ((100, 4e-3), (200, 1e-3)))
    >>> round(size_at([a, b], "mse", 2e-3))
    141
    """
    curve = sorted((getattr(p, size), getattr(p, field)) for p in points if getattr(p, field) is not None)
    for (low, a), (high, b) in zip(curve, curve[1:], strict=False):
        if a != b and min(a, b) <= value <= max(a, b):
            a, b, at = (math.log(x) if field == "mse" else x for x in (a, b, value))
            return low * (high / low) ** ((at - a) / (b - a))
    return None


def best(points: Sequence[Point], field: str, size: str = "bytes") -> list[Point]:
    """The points that a mixture of others does not beat: the lower hull of size over quality, as `size_at` reads them.

    field, size: as there. From the smallest size to the best quality.
    """

    def place(point: Point) -> tuple[float, float]:
        quality = getattr(point, field)
        return -math.log(quality) if field == "mse" else quality, math.log(getattr(point, size))

    known = [p for p in points if None not in (getattr(p, field), getattr(p, size))]
    hull: list[Point] = []
    for point in sorted(known, key=lambda p: (getattr(p, size), p.mse)):
        x, y = place(point)
        if hull and x <= place(hull[-1])[0]:
            continue  # larger, and no better
        while len(hull) > 1:
            (x0, y0), (x1, y1) = map(place, hull[-2:])
            if (y1 - y0) * (x - x0) < (y - y0) * (x1 - x0):
                break
            hull.pop()
        hull.append(point)
    return hull


def cheapest_not_worse(points: Sequence[Point], reference: Point, models: Sequence[str]) -> Point | None:
    """The point of these models with the fewest MACs among those that are no larger and no worse.

    That is: with no more bytes and no more MSE than `reference`, on its data set. None if there is no such point.
    """
    same = [p for p in points if p.dataset == reference.dataset and p.model in models]
    good = [p for p in same if p.bytes <= reference.bytes and p.mse <= reference.mse]
    return min(good, key=lambda p: p.macs or math.inf, default=None)


class Pair(NamedTuple):
    """A point of the paper's form, and that of the baseline whose MSE is nearest, by ratio."""

    point: Point
    baseline: Point

    @property
    def times_macs(self) -> float:
        """How many times fewer MACs the point takes."""
        return (self.baseline.macs or math.nan) / (self.point.macs or math.nan)

    @property
    def times_raw_bpp(self) -> float:
        """How many times the baseline's bits it takes, as the paper counts them."""
        return (self.point.raw_bpp or math.nan) / (self.baseline.raw_bpp or math.nan)


def nearest(points: Sequence[Point]) -> Iterator[Pair]:
    """For every point of the paper's form on a data set, the baseline at the most comparable quality."""
    baselines = [p for p in points if p.model == "vq-vae"]
    for point in points:
        if point.model == "paper" and baselines:
            yield Pair(point, min(baselines, key=lambda p: abs(math.log(p.mse / point.mse))))


def cost_of(suite: Suite, point: Point) -> Cost | None:
    """What the decoder of a point costs, if that was measured."""
    place = point.dataset, point.model, point.setting
    return next((c for c in suite.costs if (c.dataset, c.model, c.setting) == place), None)
