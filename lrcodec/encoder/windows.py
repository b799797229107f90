"""Large images are searched some strips at a time, with a margin above and below: memory is bounded."""

from collections.abc import Sequence
from typing import NamedTuple

from ..format import grid
from ..format.grid import Scale

PIXELS = 3 * 2**20
"""Of larger images so many pixels are worked on at a time."""
MARGIN = 64
"""Rows of pixels above and below them that the search sees as well."""
WITH_MARGINS = 2**22
"""With these rows there are so many pixels at most, unless a single strip takes more."""


class Window(NamedTuple):
    """What is searched at once: rows of pixels [first, last), for the strips that lie in it."""

    first: int
    last: int
    strips: list[tuple[int, int]]


def windows_of(scales: Sequence[Scale], height: int, width: int) -> list[Window]:
    """The windows of an image from top to bottom. strips: as `grid.strips` gives them, each in one window."""
    bounds, span = grid.strips(scales, height, width), scales[0].span
    margin = -(-MARGIN // span) * span
    pixels = min(PIXELS, WITH_MARGINS - 2 * margin * width)  # fewer of very wide images
    together = max(1, pixels // (bounds[0][1] * width))
    windows = []
    for at in range(0, len(bounds), together):
        strips = bounds[at : at + together]
        windows.append(Window(max(0, strips[0][0] - margin), min(height, strips[-1][1] + margin), strips))
    return windows
