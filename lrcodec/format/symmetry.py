"""Symmetries: one stored shape stands for up to 16 codewords. SPEC.md, "Symmetries", is the normative text.

A symmetry is a number. Bit 0 changes the sign, bit 1 mirrors left and right, bit 2 mirrors top and bottom, and bit 3
transposes, before the patch is mirrored. A codeword is a product of two thin matrices, and so is all that symmetries
make of it: the left one has its rows, the right one its columns, and transposing exchanges them.
"""

import numpy as np

NONE, SIGN, MIRRORED, TRANSPOSED = 1, 2, 8, 16
"""How many symmetries a scale has: none but the shape itself; both signs; these mirrored; these transposed too."""
SYMMETRIES = (NONE, SIGN, MIRRORED, TRANSPOSED)
_NUMBERS = np.arange(TRANSPOSED)
SIGNS = np.float32(1) - 2 * (_NUMBERS & 1).astype(np.float32)
"""For each symmetry the sign that its codeword has."""
LEFT, RIGHT = _NUMBERS >> 2, (_NUMBERS >> 1 & 1) + 2 * (_NUMBERS >> 3)
"""For each symmetry which of the matrices of `factors` are its left and its right one."""


def factors(u: np.ndarray, v: np.ndarray, symmetries: int) -> tuple[np.ndarray, np.ndarray]:
    """All matrices that the symmetries of shapes need, but for the sign.

    u: (shapes, R, p), v: (shapes, R, F * p), in polyphase order, where mirroring reverses the order too; F is 1 if the
    symmetries are `TRANSPOSED`. Returns left (n, shapes, R, p) and right (n, shapes, R, F * p), of these or, for
    `TRANSPOSED`, of a dtype that holds both; n is 1, 2 or 4.
    """
    if symmetries < MIRRORED:
        return u[None], v[None]
    left, right = (np.stack([matrix, _mirrored(matrix, u.shape[2])]) for matrix in (u, v))
    if symmetries < TRANSPOSED:
        return left, right
    return np.concatenate([left, right]), np.concatenate([right, left])


def _mirrored(matrix: np.ndarray, p: int) -> np.ndarray:
    return matrix.reshape(-1, p)[:, ::-1].reshape(matrix.shape)
