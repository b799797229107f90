"""Image size <-> patch grids and strips, in integers. SPEC.md, "Grids" and "Strips", are the normative text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from .symmetry import SYMMETRIES

STRIP_PIXELS = 2**20
"""A strip has as many whole rows of coarsest patches as fit into this many pixels, at least one."""
PREDICTION_REACH = 2
"""A pixel depends on pixels of the next coarser scale up to so far from its place: two 3 x 3 convolutions reach as far
as the taps of enlargement."""
SMOOTHING_REACH = 6
"""A decoded pixel depends on pixels of the finest scale up to so far from its 2 x 2 block, chroma included."""


@dataclass(frozen=True)
class Scale:
    """One scale of a model.

    scale: side of a pixel of this scale in image pixels (1 = full resolution), a power of two.
    patch: side of a patch in pixels of this scale, even.
    shapes: how many shapes are stored for each iteration.
    symmetries: how many codewords each shape stands for, see `symmetry`.
    shared: whether all iterations pick from one codebook; then all K are equal.
    luma_only: whether the scale has no chroma. Only the finest may, of several: chroma then ends at half resolution.
    """

    scale: int
    patch: int
    shapes: tuple[int, ...]
    shared: bool = False
    luma_only: bool = False
    symmetries: int = 1

    @property
    def codewords(self) -> tuple[int, ...]:
        """K of each iteration: its indices are 1 to K. Index k has the shape (k - 1) // symmetries."""
        return tuple(count * self.symmetries for count in self.shapes)

    def channels(self, of_image: int) -> int:
        """How many planes of an image of 1 (grey) or 3 channels the scale codes."""
        return 1 if self.luma_only else of_image

    def smoothed(self, of_image: int) -> int:
        """How many planes at half resolution are smoothed if this is the finest scale.

        They are the four phases of every plane that it codes, and the chroma that it does not.
        """
        return 3 * self.channels(of_image) + of_image

    @property
    def span(self) -> int:
        """Side of a patch in image pixels."""
        return self.scale * self.patch

    @property
    def starts(self) -> tuple[int, ...]:
        """For each iteration the row of its first shape in the scale's tables."""
        starts = (0,) * len(self.shapes) if self.shared else accumulate((0, *self.shapes[:-1]))
        return tuple(starts)

    @property
    def rows(self) -> int:
        """Shapes in the scale's tables."""
        return self.starts[-1] + self.shapes[-1]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches that cover a height x width image."""
        return -(-height // self.span), -(-width // self.span)


def check_scales(scales: tuple[Scale, ...]) -> None:
    """Raise ValueError unless the scales halve from coarse to fine, end at 1, and their spans nest."""
    if not scales or scales[-1].scale != 1:
        raise ValueError("the finest scale must be 1")
    for coarse, fine in zip(scales, scales[1:], strict=False):
        if coarse.scale != 2 * fine.scale or coarse.span % fine.span:
            raise ValueError("scales must halve, and the span of each must be a multiple of the next")
    if any(s.patch < 2 or s.patch % 2 or not s.shapes for s in scales):
        raise ValueError("patch sides must be even, and every scale needs an iteration")
    if any(s.luma_only for s in scales[:-1]) or (len(scales) == 1 and scales[0].luma_only):
        raise ValueError("only the finest of several scales may be without chroma")
    if any(s.shared and len(set(s.shapes)) > 1 for s in scales):
        raise ValueError("iterations that share a codebook have the same number of shapes")
    if any(s.symmetries not in SYMMETRIES for s in scales):
        raise ValueError("a scale has 1, 2, 8 or 16 symmetries")


def strips(scales: Sequence[Scale], height: int, width: int) -> list[tuple[int, int]]:
    """First row of pixels and the one after the last of every strip, from top to bottom."""
    span = scales[0].span
    rows = max(1, STRIP_PIXELS // (span * span * -(-width // span)))
    return [(top, min(top + rows * span, height)) for top in range(0, height, rows * span)]


def drawn(scales: Sequence[Scale], shrink: int) -> Sequence[Scale]:
    """The scales, coarse to fine, that the pixels of an image at 1/shrink of its size depend on."""
    last = min(shrink, scales[0].scale)
    return [scale for scale in scales if scale.scale >= last]


def window(scales: Sequence[Scale], height: int, top: int, bottom: int, shrink: int = 1) -> list[tuple[int, int]]:
    """First row of patches and the one after the last, at every scale, that rows [top, bottom) of pixels depend on.

    scales: those that are `drawn`. shrink: the rows are those of the image at 1/shrink of its size.
    """
    ranges = []
    if shrink == 1:
        low, high = top - SMOOTHING_REACH, bottom + SMOOTHING_REACH
    else:
        low, high = (row * shrink // scales[-1].scale for row in (top, bottom))
    for scale in reversed(scales):
        first = max(0, low // scale.patch)
        last = min(scale.grid(height, 1)[0], -(-high // scale.patch))
        ranges.append((first, last))
        low, high = first * scale.patch // 2 - PREDICTION_REACH, last * scale.patch // 2 + PREDICTION_REACH
    return ranges[::-1]
