"""Symmetries: one stored shape stands for up to 16 codewords. SPEC.md, "Symmetries", is the normative text.

A symmetry is a number. Bit 0 changes the sign, bit 1 mirrors left and right, bit 2 mirrors top and bottom, and bit 3
transposes, before the patch is mirrored. In polyphase order (SPEC.md, "Low-rank sums") mirroring reverses the order of
rows or columns, and transposing exchanges them, just as it does for pixels.
"""

import numpy as np

NONE, SIGN, MIRRORED, TRANSPOSED = 1, 2, 8, 16
"""How many symmetries a scale has: none but the shape itself; both signs; these mirrored; these transposed too."""
SYMMETRIES = (NONE, SIGN, MIRRORED, TRANSPOSED)


def change(patches: np.ndarray, symmetry: int) -> np.ndarray:
    """Patches (n, p, F, p) in polyphase order, rows before channels and columns, as a symmetry changes them."""
    sign, mirror, flip, transpose = (symmetry >> bit & 1 for bit in range(4))
    patches = patches.swapaxes(1, 3) if transpose else patches
    patches = patches[:, ::-1] if flip else patches
    patches = patches[..., ::-1] if mirror else patches
    return -patches if sign else patches
