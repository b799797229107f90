"""Images that anyone may be shown, as like those of the paper's data sets as can be."""

import numpy as np
from PIL import Image

from ..errors import extra

Box = tuple[int, int, int, int]

FACE: Box = (132, 21, 320, 209)
"""Of scikit-image's astronaut: the eyes lie where the mean face of CelebA has its own."""
CAT: Box = (70, 0, 370, 300)
"""Of scikit-image's cat."""
STROKE = 1.3
"""Half the width of the digit's strokes, in pixels."""


def example(dataset: str) -> np.ndarray:
    """An image of the size of a data set: uint8 (h, w, 3), or (h, w) for mnist.

    Raises EncoderMissingError if scikit-image is needed and missing.
    """
    if dataset == "mnist":
        return _digit()
    with extra("bench"):
        from skimage import data
    if dataset == "celeba64":
        return _shrunk(data.astronaut(), FACE, 64)
    return _shrunk(data.chelsea(), CAT, 32)


def _shrunk(photograph: np.ndarray, box: Box, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(photograph).resize((side, side), Image.Resampling.LANCZOS, box))


def _digit() -> np.ndarray:
    """A two, white on black: an arc, a slope and a foot, 20 pixels high."""
    angles = np.radians(np.linspace(-170, 30, 100))
    arc = np.stack([13.5 + 5.2 * np.cos(angles), 10.5 + 5.2 * np.sin(angles)], 1)
    corners = np.array([arc[-1], (8.6, 22.2), (19.6, 22.2)])
    shares = np.linspace(0, 1, 100)[:, None]
    lines = [(1 - shares) * start + shares * end for start, end in zip(corners, corners[1:], strict=False)]
    points = np.concatenate([arc, *lines])
    y, x = np.mgrid[:28, :28]
    distance = np.hypot(x[..., None] - points[:, 0], y[..., None] - points[:, 1]).min(2)
    return np.round(255 * (STROKE + 0.5 - distance).clip(0, 1)).astype(np.uint8)
