"""Symmetries: one stored shape stands for up to 16 codewords. SPEC.md, "Symmetries", is the normative text.

A symmetry is a number. Bit 0 changes the sign, bit 1 mirrors left and right, bit 2 mirrors top and bottom, and bit 3
transposes, before the patch is mirrored. In polyphase order (SPEC.md, "Low-rank sums") mirroring reverses the order of
rows or columns, and transposing exchanges them, just as it does for pixels.
"""

import numpy as np

NONE, SIGN, MIRRORED, TRANSPOSED = 1, 2, 8, 16
"""How many symmetries a scale has: none but the shape itself; both signs; these mirrored; these transposed too."""
SYMMETRIES = (NONE, SIGN, MIRRORED, TRANSPOSED)


def expand(u: np.ndarray, v: np.ndarray, symmetries: int) -> tuple[np.ndarray, np.ndarray]:
    """The factors of all codewords, from those of the shapes.

    u: integers (shapes, R, p). v: integers (shapes, R, F * p); with TRANSPOSED F is 1. symmetries: one of SYMMETRIES.
    Returns int16 (shapes * symmetries, R, p) and (shapes * symmetries, R, F * p): shape by shape, in the order of the
    symmetries' numbers.
    """
    p = u.shape[2]
    by_channel = v.reshape(*v.shape[:2], -1, p)
    lefts, rights = [], []
    for number in range(symmetries):
        sign, mirror, flip, transpose = (number >> bit & 1 for bit in range(4))
        left, right = (v, u[:, :, None]) if transpose else (u, by_channel)
        left = left[..., ::-1] if flip else left
        right = right[..., ::-1] if mirror else right
        lefts.append(-left.astype(np.int16) if sign else left.astype(np.int16))
        rights.append(right.reshape(v.shape).astype(np.int16))
    shape_by_shape = (np.stack(parts, 1).reshape(-1, *parts[0].shape[1:]) for parts in (lefts, rights))
    u_all, v_all = shape_by_shape
    return u_all, v_all


def change(patches: np.ndarray, symmetry: int) -> np.ndarray:
    """Patches (n, p, F, p) in polyphase order, rows before channels and columns, as a symmetry changes them."""
    sign, mirror, flip, transpose = (symmetry >> bit & 1 for bit in range(4))
    patches = patches.swapaxes(1, 3) if transpose else patches
    patches = patches[:, ::-1] if flip else patches
    patches = patches[..., ::-1] if mirror else patches
    return -patches if sign else patches
