"""How far a training is."""

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Told the share that is done, in [0, 1], and a line that says what."""


def part_of(progress: Progress, start: float, end: float) -> Progress:
    """The progress of a part of the work, which is from `start` to `end` of the whole."""
    return lambda share, line: progress(start + share * (end - start), line)
