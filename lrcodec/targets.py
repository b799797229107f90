"""Looks for the quality that meets a target, by bisection. Encodes and measures through functions, knows no model."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import NamedTuple

from .errors import UsageError

QUALITIES = range(101)
MAX_ENCODES = len(QUALITIES).bit_length()
"""Bisection tells so many qualities, and that none will do, apart in at most so many steps: 7."""


class Coded(NamedTuple):
    """A file, the quality 0..100 that it was encoded with, and its PSNR in dB."""

    quality: int
    data: bytes
    psnr: float


def for_size(encode: Callable[[int], bytes], psnr: Callable[[bytes], float], size: int) -> Coded:
    """The file of the highest quality that takes at most `size` bytes, after at most `MAX_ENCODES` encodes.

    encode: the file of a quality. psnr: of a file, in dB. Where size does not grow with quality, a higher one may have
    fitted as well, but what is returned is never larger than `size`. Raises UsageError if quality 0 is.
    """
    files: dict[int, bytes] = {}

    def size_of(quality: int) -> int:
        files[quality] = encode(quality)
        return len(files[quality])

    fitting = bisect_right(QUALITIES, size, key=size_of)
    if not fitting:
        least = len(files[0])
        raise UsageError(f"no file of {size:,} bytes: quality 0 takes {least:,}, which is {least - size:,} too many")
    data = files[fitting - 1]
    return Coded(fitting - 1, data, psnr(data))


def for_psnr(encode: Callable[[int], bytes], psnr: Callable[[bytes], float], level: float) -> Coded:
    """The file of the lowest quality that reaches `level` dB, after at most `MAX_ENCODES` encodes.

    encode: the file of a quality. psnr: of a file, in dB. Where PSNR does not grow with quality, a lower one may have
    been enough as well, but what is returned is never below `level`. Raises UsageError if quality 100 is.
    """
    tried: dict[int, Coded] = {}

    def psnr_of(quality: int) -> float:
        data = encode(quality)
        tried[quality] = Coded(quality, data, psnr(data))
        return tried[quality].psnr

    quality = bisect_left(QUALITIES, level, key=psnr_of)
    if quality not in tried:
        raise UsageError(f"no file of {level:g} dB PSNR: quality 100 reaches {tried[100].psnr:.2f} dB")
    return tried[quality]
