"""What a pack is trained with. Every field is a choice that its comment explains."""

import math
from dataclasses import dataclass, replace

from ..grid import Scale


@dataclass(frozen=True)
class Config:
    """Settings of `lrq train`. lambdas are squared errors (8-bit levels, three channels) that one bit is worth."""

    # A scale whose codebook is shared by its iterations must be the only one: then its codebook is trained end to
    # end as well, and at effort 0 every patch takes all iterations, at any quality (see end_to_end.py).
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
    # lambda of all scales but the finest, as a multiple, while encoding: finer scales mend what they leave.
    coarse: float = 1.0
    # Rate bands: lambdas that frequency tables are made for, geometric over lambda_range.
    bands: int = 6
    # Images that the tables are made from, at most.
    table_images: int = 100
    # Whether a mirrored image is as good an example as the image: not so for writing.
    mirror: bool = True
    # Context classes of each group of indices, at most.
    classes: int = 24
    # Transformer: width, blocks, heads, side of its windows in tokens. A token is a patch of the finest scale.
    width: int = 128
    blocks: int = 4
    heads: int = 4
    window: int = 8
    # Whether every other block shifts its windows by half.
    shift: bool = True
    # Hidden channels of the smoothing pair, 0 for none.
    smoothing: int = 8
    # Optimiser steps, crops a step, side of a crop in pixels, peak learning rate (one cycle of AdamW).
    steps: int = 2000
    batch: int = 3
    crop: int = 192
    learning_rate: float = 6e-4

    def fitted_to(self, side: int) -> "Config":
        """The settings for images of at most this side: one window of the transformer, if it covers them all."""
        patches = -(-side // self.scales[0].span)
        tokens = patches * self.scales[0].span // self.scales[-1].span
        return replace(self, window=tokens, shift=False) if tokens <= self.window else self

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
        """The rate bands whose middles are next to a share of the quality range, the same one twice beyond the outer
        ones, and how far it is from the first of the middles to the second: 0..1.
        """
        at = min(max(share * self.bands - 0.5, 0), self.bands - 1)
        return math.floor(at), math.ceil(at), at % 1

    def middle(self, band: int) -> float:
        """Share of the quality range at the middle of a rate band."""
        return (band + 0.5) / self.bands


def _scale(scale: int, patch: int, *codewords: tuple[int, int], luma_only: bool = False) -> Scale:
    return Scale(scale, patch, tuple(k for k, times in codewords for _ in range(times)), luma_only=luma_only)


_SMALL = Config(
    scales=(_scale(4, 4, (512, 4)), _scale(2, 8, (512, 5)), _scale(1, 8, (1024, 6))),
    start_lambda=600.0,
    rounds=8,
    round_pixels=8_000_000,
    memory=4.0,
    lambda_range=(7000.0, 60.0),
    table_images=1500,
    width=96,
    blocks=3,
    smoothing=4,
    steps=200,
    batch=32,
)

_SMALL_BEST = replace(
    _SMALL,
    scales=(_scale(4, 4, (2048, 4)), _scale(2, 8, (2048, 5)), _scale(1, 8, (2048, 6))),
    default_rank=4,
    rounds=60,
    round_pixels=16_000_000,
    memory=24.0,
    table_images=8000,
    steps=1200,
    width=128,
    blocks=4,
)

PRESETS = {
    "photo": Config(
        scales=(
            _scale(16, 4, (256, 4)),
            _scale(8, 4, (512, 4)),
            _scale(4, 4, (1024, 5)),
            _scale(2, 8, (4096, 3), (2048, 5)),
            _scale(1, 8, (4096, 8), luma_only=True),
        ),
        default_rank=3,
        rounds=140,
        memory=30.0,
        table_images=250,
        coarse=1.25,
    ),
    # Thousands of images of one size, icons to 128 pixels, possibly aligned, such as faces.
    "small": _SMALL,
    # The same with more of everything, for smaller files.
    "small-best": _SMALL_BEST,
    # Writing and drawings: high contrast, little on the coarse scales, and not to be mirrored.
    "line-art": replace(
        _SMALL_BEST,
        scales=(_scale(4, 4, (256, 2)), _scale(2, 8, (2048, 4)), _scale(1, 4, (1024, 6))),
        start_lambda=100.0,
        lambda_range=(40000.0, 10.0),
        mirror=False,
        steps=400,
    ),
    # Small enough to train in seconds: for tests and first steps.
    "tiny": Config(
        scales=(_scale(2, 8, (64, 2)), _scale(1, 8, (64, 3))),
        start_rounds=1,
        start_patches=20_000,
        rounds=3,
        memory=2.0,
        bands=2,
        classes=4,
        width=32,
        blocks=1,
        heads=2,
        window=4,
        smoothing=4,
        steps=20,
        batch=2,
        crop=64,
    ),
}


def paper(
    side: int,
    patch: int = 8,
    iterations: int = 4,
    codewords: int = 512,
    rank: int = 2,
    smoothing: int = 16,
    mirror: bool = True,
) -> Config:
    """The model of the paper for images of one size: one scale, one codebook shared by all iterations.

    side: of an image in pixels. smoothing: hidden channels of the pair, 0 for none. mirror: whether to train on
    mirrored images too. The others are the paper's knobs. Loss and optimiser are the paper's; the steps are far
    fewer, for two CPU cores.
    """
    return Config(
        scales=(Scale(1, patch, (codewords,) * iterations, shared=True),),
        rank=rank,
        default_rank=rank,
        start_rounds=1,
        start_patches=100_000,
        rounds=0,
        lambda_range=(400.0, 400.0),
        bands=1,
        table_images=2000,
        mirror=mirror,
        width=96,
        blocks=3,
        window=-(-side // patch),
        smoothing=smoothing,
        steps=400 if side >= 64 else 200,
        batch=64 if side >= 64 else 128,
        crop=side,
        learning_rate=3e-4,
    )
