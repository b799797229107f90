"""Images at a part of their size. SPEC.md, "Reduced pixels", is the normative text."""

import numpy as np

from .fixed import COLOUR_BITS, PLANE_BITS, colour_matrix

SHRINKS = (1, 2, 4, 8, 16)
"""An image is drawn at one of these parts of its size."""


def means(values: np.ndarray, n: int, height: int, width: int) -> np.ndarray:
    """Means of n x n integers each, halves upwards; edges are repeated or cut off to give that size.

    values: (..., rows, columns). Returns int64 (..., height, width).
    """
    values = values[..., : height * n, : width * n]
    if n == 1:
        return values.astype(np.int64)
    rows, columns = values.shape[-2:]
    beyond = [(0, 0)] * (values.ndim - 2) + [(0, height * n - rows), (0, width * n - columns)]
    blocks = np.pad(values, beyond, mode="edge").reshape(*values.shape[:-2], height, n, width, n)
    return (blocks.sum((-3, -1), dtype=np.int64) + n * n // 2) // (n * n)


def colours(planes: np.ndarray) -> np.ndarray:
    """Pixels uint8 (rows, columns[, 3]) of planes (1 or 3, rows, columns)."""
    shift = COLOUR_BITS + PLANE_BITS
    levels = np.tensordot(colour_matrix(len(planes)), planes, 1) + (257 << shift - 1)
    pixels = np.clip(levels >> shift, 0, 255).astype(np.uint8)
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
