"""Image size <-> patch grids, in integers. SPEC.md, "Grids", is the normative text."""

from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Scale:
    """One scale of a model.

    scale: side of a pixel of this scale in image pixels (1 = full resolution), a power of two.
    patch: side of a patch in pixels of this scale, even.
    codewords: K of each iteration, without the stop index 0.
    shared: whether all iterations pick from one codebook; then all K are equal.
    """

    scale: int
    patch: int
    codewords: tuple[int, ...]
    shared: bool = False

    @property
    def span(self) -> int:
        """Side of a patch in image pixels."""
        return self.scale * self.patch

    @property
    def starts(self) -> tuple[int, ...]:
        """For each iteration the row of its first codeword in the scale's tables."""
        own = (0,) * len(self.codewords) if self.shared else accumulate((0, *self.codewords[:-1]))
        return tuple(own)

    @property
    def rows(self) -> int:
        """Codewords in the scale's tables."""
        return self.starts[-1] + self.codewords[-1]

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
    if any(s.patch % 2 or not s.codewords for s in scales):
        raise ValueError("patch sides must be even, and every scale needs an iteration")
    if any(s.shared and len(set(s.codewords)) > 1 for s in scales):
        raise ValueError("iterations that share a codebook have the same number of codewords")
