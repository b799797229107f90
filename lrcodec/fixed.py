"""The decoder's number formats: powers of two that SPEC.md, "Number formats", fixes for all models."""

PLANE_BITS = 3
"""Planes hold levels of the 8-bit range times 2^PLANE_BITS."""
PLANE_LIMIT = 2047
"""Planes are clipped to [-PLANE_LIMIT, PLANE_LIMIT]: 256 levels around mid-grey."""
FACTOR_BITS = 12
"""A product of U (int8) and V (int16) holds levels times 2^FACTOR_BITS."""
ENLARGE_BITS = 7
"""Enlargement taps are integers over 2^ENLARGE_BITS."""
WEIGHT_BITS = 9
"""Smoothing weights are integers over 2^WEIGHT_BITS."""
COLOUR_BITS = 10
"""The colour matrix holds integers over 2^COLOUR_BITS."""
EXACT = 2**24
"""Sums of integers below this are exact in float32, in any order."""
