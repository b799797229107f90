"""The decoder's numbers, which SPEC.md fixes for all models: powers of two, taps and the colour matrix."""

import numpy as np

PLANE_BITS = 3
"""Planes hold levels of the 8-bit range times 2^PLANE_BITS."""
PLANE_LIMIT = 2047
"""Planes are clipped to [-PLANE_LIMIT, PLANE_LIMIT]: 256 levels around mid-grey."""
FACTOR_BITS = 12
"""A product of U (int8) and V (int16) holds levels times 2^FACTOR_BITS."""
ENLARGE_BITS = 7
"""Enlargement taps are integers over 2^ENLARGE_BITS."""
WEIGHT_BITS = 9
"""The weights of convolutions are integers over 2^WEIGHT_BITS."""
COLOUR_BITS = 10
"""The colour matrix holds integers over 2^COLOUR_BITS."""
EXACT = 2**24
"""Sums of integers below this are exact in float32, in any order."""
ENLARGE_TAPS = np.array([[-3, 29, 111, -9, 0], [0, -9, 111, 29, -3]])
"""Bicubic (Keys 1981, a = -1/2) at the positions -1/4 and +1/4 of a pixel, times 2^ENLARGE_BITS."""
CHROMA_TAPS = np.array([[1, 3, 0], [0, 3, 1]])
"""Linear interpolation at the same positions, times 4."""


def colour_matrix(channels: int) -> np.ndarray:
    """int64 (C, C): plane channels (luma, R-B, R+B-2G; orthonormal) to RGB, times 2^COLOUR_BITS; grey from luma."""
    luma, red_blue, green = 3**-0.5, 2**-0.5, 6**-0.5
    exact = [[luma, red_blue, green], [luma, 0, -2 * green], [luma, -red_blue, green]]
    return np.rint(np.array(exact)[:channels, :channels] * 2**COLOUR_BITS).astype(np.int64)
