"""What a pack is trained with. Every field is a choice that its comment explains."""

import math
from dataclasses import dataclass, replace

from ..format.grid import Scale

LEAST_SIDE = 16
"""Pixels of a side below which a coarse scale does not pay: docs/experiments.md, "Small images"."""


@dataclass(frozen=True)
class Config:
    """Settings of `lrq train`. A lambda is what a bit is worth in squared error, in 8-bit levels of three channels."""

    # A scale whose codebook is shared by its iterations must be the only one: then its codebook is trained end to
    # end as well, and at effort 0 every patch takes all iterations, at any quality (see training/end_to_end.py).
    scales: tuple[Scale, ...]
    # Rank that the codewords are stored with; --rank takes any up to it.
    rank: int = 4
    # Rank that the tables are made at, and that `lrq encode` takes by default.
    default_rank: int = 2
    # Codebooks start scale by scale: lambda, low so that the deep iterations see data; rounds of the alternation, with
    # a greedy search; patches of a scale, at most.
    start_lambda: float = 100.0
    start_rounds: int = 3
    start_patches: int = 300_000
    # Then they are refined, all scales together: rounds, each on views of other images; pixels of a round, at most;
    # rounds that the codewords are averages of; beam width.
    rounds: int = 45
    round_pixels: int = 18_000_000
    memory: float = 20.0
    beam: int = 2
    # lambda at quality 0 and at quality 100; geometric in between.
    lambda_range: tuple[float, float] = (4800.0, 36.0)
    # How many times less errors of all scales but the finest count: finer scales mend them, see encoder/mending.py.
    coarse: float = 1.0
    # Rate bands: lambdas that frequency tables are made for, geometric over lambda_range.
    bands: int = 6
    # Images that the tables are made from, at most; largest side of the parts of them, in pixels.
    table_images: int = 100
    table_side: int = 512
    # Whether a mirrored image is as good an example as the image: not so for writing.
    mirror: bool = True
    # Whether all images show the same things at the same places, as aligned faces do. All have one size then.
    aligned: bool = False
    # Context classes of each group of indices, at most.
    classes: int = 24
    # Transformer: width, blocks, heads, side of its windows in tokens. A token is a patch of the finest scale.
    width: int = 128
    blocks: int = 4
    heads: int = 4
    window: int = 8
    # Whether every other block shifts its windows by half.
    shift: bool = True
    # Hidden channels of the prediction of each scale but the coarsest, coarse to fine. 0 for none.
    prediction: tuple[int, ...] = ()
    # Hidden channels of the smoothing pair, 0 for none.
    smoothing: int = 8
    # Optimiser steps, crops a step, side of a crop in pixels, peak learning rate (one cycle of AdamW).
    steps: int = 2000
    batch: int = 3
    crop: int = 192
    learning_rate: float = 6e-4

    def fitted_to(self, side: int) -> "Config":
        """The settings for images whose sides are at most `side` pixels.

        Coarse scales at which they are smaller than LEAST_SIDE are left out. A window that covers them is the only one.
        """
        left = [scale for scale in self.scales[:-1] if side // scale.scale < LEAST_SIDE]
        config = replace(self, scales=self.scales[len(left) :], prediction=self.prediction[len(left) :])
        patches = -(-side // config.scales[0].span)
        tokens = patches * config.scales[0].span // config.scales[-1].span
        return replace(config, window=tokens, shift=False) if tokens <= config.window else config

    @property
    def shared(self) -> bool:
        """Whether one codebook serves all iterations."""
        return self.scales[0].shared

    def lam(self, share: float) -> float:
        """lambda at a share of the quality range: 0 is quality 0, 1 is quality 100."""
        low, high = self.lambda_range
        return low * (high / low) ** share

    def band(self, share: float) -> int:
        """Rate band at a share of the quality range."""
        return min(int(share * self.bands), self.bands - 1)

    def bands_around(self, share: float) -> tuple[int, int, float]:
        """The two rate bands whose middles are on both sides of a share of the quality range, and where it lies between
        them: 0 at the first middle, 1 at the second. Outside the outermost middles both bands are the same.
        """
        at = min(max(share * self.bands - 0.5, 0), self.bands - 1)
        return math.floor(at), math.ceil(at), at % 1

    def middle(self, band: int) -> float:
        """Share of the quality range at the middle of a rate band."""
        return (band + 0.5) / self.bands
