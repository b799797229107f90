"""Images at a part of their size. SPEC.md, "Reduced pixels", is the normative text."""

import numpy as np

from .fixed import COLOUR_BITS, PLANE_BITS, colour_matrix

SHRINKS = (1, 2, 4, 8, 16)
"""An image is drawn at one of these parts of its size."""


def means(values: np.ndarray, n: int, height: int, width: int) -> np.ndarray:
    """Means of n x n integers each, halves upwards; edges are repeated or cut off to give that size.

    values: (..., rows, columns), of any integer dtype. Returns (..., height, width), of that dtype.
    """
    values = values[..., : height * n, : width * n]
    if n == 1:
        return values
    rows, columns = values.shape[-2:]
    beyond = [(0, 0)] * (values.ndim - 2) + [(0, height * n - rows), (0, width * n - columns)]
    blocks = np.pad(values, beyond, mode="edge").reshape(*values.shape[:-2], height, n, width, n)
    return ((blocks.sum((-3, -1), dtype=np.int64) + n * n // 2) // (n * n)).astype(values.dtype)


def colours(planes: np.ndarray) -> np.ndarray:
    """Pixels uint8 (rows, columns[, 3]) of planes int16 (1 or 3, rows, columns).

    In float32, which is exact: SPEC.md, "Exactness".
    """
    count, rows, columns = planes.shape
    matrix = colour_matrix(count).astype(np.float32) * np.float32(2.0 ** -(COLOUR_BITS + PLANE_BITS))
    levels = planes.reshape(count, -1).astype(np.float32).T @ matrix.T + np.float32(128.5)
    return np.clip(levels, 0, 255).astype(np.uint8).reshape((rows, columns) if count == 1 else (rows, columns, count))
