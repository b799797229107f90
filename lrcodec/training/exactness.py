"""Proves that float32 keeps the decoder exact, whatever indices a file holds: SPEC.md, "Exactness"."""

import numpy as np

from ..encoder.convolutions import Integers
from ..errors import LrqError
from ..format.fixed import ENLARGE_BITS, ENLARGE_TAPS, EXACT, FACTOR_BITS, PLANE_BITS, PLANE_LIMIT, WEIGHT_BITS
from ..format.grid import Scale
from .export import Predictions


def check_exact(
    scales: tuple[Scale, ...],
    channels: int,
    factors: dict[str, np.ndarray],
    predictions: Predictions,
    smoothing: Integers | None,
) -> None:
    """Raise LrqError unless every sum of numerators stays below 2^24 for whatever indices a file holds.

    Those of chroma and pixels do for any model. factors: u{s} int8 (rows, R, p) and v{s} int16 (rows, R, C * p) of each
    scale, by name. predictions, smoothing: as in `build_graph`, for all channels; smoothing is None while it is not
    known yet.
    """
    sums = {}
    for scale, prediction in zip(scales, predictions, strict=True):
        u, v = (np.abs(factors[f"{name}{scale.scale}"].astype(np.float64)) for name in "uv")
        product = np.einsum("krp,krq->kpq", u, v).max(axis=(1, 2))
        gain = np.abs(ENLARGE_TAPS).sum(1).max() / 2**ENLARGE_BITS
        enlarged = ((PLANE_LIMIT * gain + 1) * gain + 1) * 2.0 ** (FACTOR_BITS - PLANE_BITS)
        largest = [product[start : start + n].max() for start, n in zip(scale.starts, scale.shapes, strict=True)]
        change = 0.0
        if prediction is not None and len(prediction[0]):
            w1, b1, w2, b2 = prediction
            sums[f"the weights of the first convolution of scale {scale.scale}"] = _largest_sum(w1, b1, 1)
            change = _largest_sum(w2, b2, 0)
        terms = "the prediction and the codewords" if change else "the codewords"
        sums[f"{terms} of scale {scale.scale}"] = sum(largest) + enlarged + change
    if smoothing is not None:
        w1, b1, w2, b2 = smoothing
        sums["the weights of the first convolution of smoothing"] = _largest_sum(w1, b1, 1)
        sums["the weights of the second convolution of smoothing"] = _largest_sum(w2, b2, PLANE_LIMIT + 1)
    name, largest_sum = max(sums.items(), key=lambda item: item[1])
    if largest_sum >= EXACT:
        way = "another --preset or other images" if "codewords" in name else "another --seed or fewer --steps"
        raise LrqError(
            f"{name} are not exact in the decoder's arithmetic: their sums could reach {largest_sum:,.0f}, "
            f"{largest_sum / EXACT:.2f} times the limit of {EXACT:,}; train with {way}, and another --work"
        )


def _largest_sum(weights: np.ndarray, biases: np.ndarray, others: int) -> float:
    """The largest that sums of a convolution could be, over 2^WEIGHT_BITS, with `others`, in the unit of planes."""
    weights, biases = np.abs(weights.astype(np.float64)), np.abs(biases.astype(np.float64))
    sums = weights.sum(axis=(1, 2, 3)) * PLANE_LIMIT + (biases + others) * 2**WEIGHT_BITS
    return sums.max(initial=0)
