"""Settings that packs are trained with: presets for kinds of images, and the form of the paper."""

from dataclasses import replace

from ..encoder.config import Config
from ..format.grid import Scale
from ..format.symmetry import MIRRORED, NONE, TRANSPOSED


def _scale(scale: int, patch: int, *shapes: tuple[int, int], luma_only: bool = False, symmetries: int = NONE) -> Scale:
    per_iteration = tuple(count for count, times in shapes for _ in range(times))
    return Scale(scale, patch, per_iteration, luma_only=luma_only, symmetries=symmetries)


_SMALL = Config(
    scales=(
        _scale(4, 4, (128, 4), symmetries=MIRRORED),
        _scale(2, 8, (256, 6), symmetries=MIRRORED),
        _scale(1, 8, (256, 8), symmetries=MIRRORED),
    ),
    default_rank=4,
    start_rounds=1,
    start_patches=60_000,
    rounds=8,
    round_pixels=8_000_000,
    memory=4.0,
    lambda_range=(7000.0, 60.0),
    table_images=1500,
    width=96,
    blocks=3,
    prediction=(4, 2),
    smoothing=0,
    steps=100,
    batch=32,
)

_SMALL_BEST = replace(
    _SMALL,
    scales=(
        _scale(4, 4, (256, 4), symmetries=MIRRORED),
        _scale(2, 8, (1024, 8), symmetries=MIRRORED),
        _scale(1, 8, (1024, 10), symmetries=MIRRORED),
    ),
    rounds=45,
    round_pixels=10_000_000,
    memory=18.0,
    table_images=8000,
    steps=300,
    width=128,
    blocks=4,
)

PRESETS = {
    "photo": Config(
        scales=(
            _scale(16, 4, (128, 4), symmetries=MIRRORED),
            _scale(8, 4, (256, 4), symmetries=MIRRORED),
            _scale(4, 4, (512, 5), symmetries=MIRRORED),
            _scale(2, 8, (1024, 3), (512, 9), symmetries=MIRRORED),
            _scale(1, 8, (1024, 12), luma_only=True, symmetries=TRANSPOSED),
        ),
        default_rank=4,
        start_rounds=1,
        start_patches=100_000,
        rounds=510,
        round_pixels=6_000_000,
        memory=50.0,
        table_images=200,
        table_side=384,
        coarse=1.1,
        prediction=(8, 8, 8, 8),
        smoothing=0,
        steps=600,
    ),
    # Thousands of small images, up to 128 pixels.
    "small": _SMALL,
    # The same with more of everything, for smaller files.
    "small-best": _SMALL_BEST,
    # Images that show the same things at the same places, such as aligned faces.
    "aligned": replace(
        _SMALL_BEST,
        scales=(_scale(4, 8, (1024, 8)), _scale(2, 8, (1024, 8)), _scale(1, 8, (2048, 12), symmetries=MIRRORED)),
        rounds=160,
        memory=50.0,
        aligned=True,
        classes=64,
    ),
    # Writing and drawings, one to an image and all of one size: high contrast, and not to be mirrored.
    "line-art": replace(
        _SMALL_BEST,
        scales=(_scale(1, 8, (2048, 12)),),
        start_lambda=100.0,
        lambda_range=(40000.0, 10.0),
        mirror=False,
        aligned=True,
        classes=64,
        prediction=(),
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
        prediction=(4,),
        smoothing=4,
        steps=20,
        batch=2,
        crop=64,
    ),
}


BATCH = 128
"""Images a step of the paper's trainings."""


def paper(
    side: int,
    images: int,
    epochs: int = 50,
    patch: int = 8,
    iterations: int = 4,
    codewords: int = 512,
    rank: int = 2,
    smoothing: int = 16,
    mirror: bool = True,
) -> Config:
    """The model of the paper for images of one size: one scale, one codebook shared by all iterations.

    side: of an image in pixels. images: how many there are to train on. epochs: how often each is seen. smoothing:
    hidden channels of the pair, 0 for none. mirror: whether to train on mirrored images too. The others are the paper's
    knobs. Loss, optimiser, batch and the epochs of the default are the paper's.
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
        steps=-(-epochs * images // BATCH),
        batch=BATCH,
        crop=side,
        learning_rate=3e-4,
    )
