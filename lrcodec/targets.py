"""Searches for the quality that meets a target, by false position. It encodes through functions: it knows no model."""

import math
from collections.abc import Callable
from typing import NamedTuple

from .errors import UsageError

MAX_ENCODES = 8
"""Five are enough as a rule: over the quality, decibels and the logarithm of the size are nearly straight lines."""
NEAR_SIZE = 0.01
"""A file is near enough to a target once it leaves less than this share of the size unused, ..."""
NEAR_LEVEL = 0.05
"""... or has at most so many dB too many."""


class Coded(NamedTuple):
    """A file, the quality 0..100 that it was encoded with, in hundredths, and what a metric says of it, in dB."""

    quality: float
    data: bytes
    level: float


class Metric(NamedTuple):
    """What qualities are measured by. of: dB of a file. text: a number of dB in words."""

    of: Callable[[bytes], float]
    text: Callable[[float], str]


def for_size(encode: Callable[[float], bytes], metric: Metric, size: int) -> Coded:
    """A file of at most `size` bytes, as a rule by less than `NEAR_SIZE`, after at most `MAX_ENCODES` encodes.

    encode: the file of a quality. metric: what is told of the file. It is the best that was found: a higher quality may
    fit too where size grows in steps, or does not grow. Raises UsageError if quality 0 takes more bytes.
    """
    files: dict[float, bytes] = {}

    def measure(quality: float) -> float:
        files[quality] = encode(quality)
        return math.log(len(files[quality]))

    _search(measure, math.log(size * (1 - NEAR_SIZE)), math.log(size))
    best = max((quality for quality, data in files.items() if len(data) <= size), default=None)
    if best is None:
        least = len(files[0])
        raise UsageError(f"no file of {size:,} bytes: quality 0 takes {least:,}, which is {least - size:,} too many")
    return Coded(best, files[best], metric.of(files[best]))


def for_level(encode: Callable[[float], bytes], metric: Metric, level: float) -> Coded:
    """A file of at least `level` dB, as a rule by less than `NEAR_LEVEL`, after at most `MAX_ENCODES` encodes.

    encode: the file of a quality. It is that of the lowest quality that was found to be enough: a lower one may be too
    where the level grows in steps, or does not grow. Raises UsageError if quality 100 has less.
    """
    tried: dict[float, Coded] = {}

    def measure(quality: float) -> float:
        data = encode(quality)
        tried[quality] = Coded(quality, data, metric.of(data))
        return tried[quality].level

    _search(measure, level, level + NEAR_LEVEL)
    enough = [coded for coded in tried.values() if coded.level >= level]
    if not enough:
        raise UsageError(f"no file of {metric.text(level)}: quality 100 reaches {metric.text(tried[100].level)}")
    return min(enough)


def _search(measure: Callable[[float], float], low: float, high: float) -> None:
    """Measure qualities until one yields low..high, or `MAX_ENCODES` were measured.

    It also ends if quality 0 yields more than that, or quality 100 less.

    measure: something that should grow with the quality; 0 is measured first, then 100 if 0 has too little.
    """
    aim = (low + high) / 2
    below, above, last = 0.0, 100.0, 0.0
    if (under := measure(below)) >= low or (over := measure(above)) <= high:
        return
    under, over = under - aim, over - aim
    for _ in range(MAX_ENCODES - 2):
        quality = round(below + (above - below) * under / (under - over), 2)
        if not below < quality < above:
            quality = round((below + above) / 2, 2)
        if not below < quality < above or low <= (value := measure(quality)) <= high:
            return
        # The Illinois rule: an end that stays while the other moves twice counts half, or it might stay for good.
        excess = value - aim
        if excess < 0:
            below, under = quality, excess
            over /= 2 if last < 0 else 1
        else:
            above, over = quality, excess
            under /= 2 if last > 0 else 1
        last = excess
