"""What a pack is trained with. Every field is a choice that its comment explains."""

from dataclasses import dataclass

from ..grid import Scale


@dataclass(frozen=True)
class Config:
    """Settings of `lrq train`. lambdas are squared errors (8-bit levels, three channels) that one bit is worth."""

    scales: tuple[Scale, ...]
    # Rank that the codewords are stored with; --rank takes any up to it.
    rank: int = 4
    # lambda that the codebooks are fitted at: low, so that the deep iterations see data.
    fit_lambda: float = 100.0
    # Beam width of each round of the alternation that fits a scale.
    fit_beams: tuple[int, ...] = (1, 1, 1, 1, 2, 2)
    # Patches that a scale is fitted on, at most.
    fit_patches: int = 1_000_000
    # lambda at quality 0 and at quality 100; geometric in between.
    lambda_range: tuple[float, float] = (4800.0, 36.0)
    # Rate bands: lambdas that frequency tables are made for, geometric over lambda_range.
    bands: int = 6
    # Images that the tables are made from, at most.
    table_images: int = 100
    # Context classes of each group of indices, at most.
    classes: int = 24
    # Transformer: width, blocks, heads, side of its windows in tokens. A token is a patch of the finest scale.
    width: int = 128
    blocks: int = 4
    heads: int = 4
    window: int = 8
    # Hidden channels of the smoothing pair.
    smoothing: int = 16
    # Optimiser steps, crops a step, side of a crop in pixels, peak learning rate (one cycle of AdamW).
    steps: int = 2000
    batch: int = 3
    crop: int = 192
    learning_rate: float = 6e-4

    def lam(self, share: float) -> float:
        """lambda at a share of the quality range: 0 is quality 0, 1 is quality 100."""
        low, high = self.lambda_range
        return low * (high / low) ** share

    def band(self, share: float) -> int:
        """Rate band at a share of the quality range."""
        return min(int(share * self.bands), self.bands - 1)

    def middle(self, band: int) -> float:
        """Share of the quality range at the middle of a rate band."""
        return (band + 0.5) / self.bands


def _scale(scale: int, patch: int, *codewords: tuple[int, int]) -> Scale:
    return Scale(scale, patch, tuple(k for k, times in codewords for _ in range(times)))


PRESETS = {
    "photo": Config(
        scales=(
            _scale(16, 4, (256, 4)),
            _scale(8, 4, (512, 4)),
            _scale(4, 4, (1024, 5)),
            _scale(2, 8, (2048, 8)),
            _scale(1, 8, (4096, 3), (2048, 5)),
        )
    ),
    # Small enough to train in seconds: for tests and first steps.
    "tiny": Config(
        scales=(_scale(2, 8, (64, 2)), _scale(1, 8, (64, 3))),
        fit_beams=(1, 1),
        fit_patches=20_000,
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
