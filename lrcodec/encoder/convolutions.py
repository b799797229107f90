"""Two small convolutions, as the decoder has them in prediction and in smoothing: SPEC.md, "Reconstruction"."""

from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import nn

from ..format.fixed import PLANE_BITS, PLANE_LIMIT, WEIGHT_BITS
from ..format.grid import Scale
from ..packs.tablefile import PREDICTION

LEVELS = 64.0
"""Networks see planes divided by this: then they are about as large as their weights expect."""
LIMIT = PLANE_LIMIT / 2**PLANE_BITS
"""The decoder clips planes and hidden values to so many levels, and so must all that is trained for it."""
Integers = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Weights and biases as the decoder has them, int64: w1 (hidden, inputs, 3, 3), b1, w2 (outputs, hidden, 3, 3), b2."""


class Convolutions(nn.Module):
    """A 3x3 convolution, clipping and another 3x3 convolution, which gives zeros until it is trained.

    Planes come and go in levels of the 8-bit range. Unlike the decoder's they are not rounded.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, outputs, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Planes float32 (b, inputs, h, w) -> (b, outputs, h, w)."""
        return self.second(self.first(planes / LEVELS).clamp_(0, LIMIT / LEVELS)).mul_(LEVELS)

    @classmethod
    def of_integers(cls, arrays: Sequence[np.ndarray]) -> "Convolutions":
        """The inverse of `integers`. Arrays are as in tables.npz."""
        first, _, second, _ = arrays
        pair = cls(first.shape[1], len(first), len(second))
        units = 2**WEIGHT_BITS, LEVELS * 2**PLANE_BITS
        for parameter, unit, array in zip(_parameters(pair), 2 * units, arrays, strict=True):
            parameter.data = torch.from_numpy(array / unit).float()
        return pair.requires_grad_(False)

    def integers(self) -> Integers:
        """The weights and biases, rounded to what the decoder has."""
        units = 2**WEIGHT_BITS, LEVELS * 2**PLANE_BITS
        exact = (p.detach().double() * unit for p, unit in zip(_parameters(self), 2 * units, strict=True))
        w1, b1, w2, b2 = (np.rint(values.numpy()).astype(np.int64) for values in exact)
        return w1, b1, w2, b2


Predictors = list[Convolutions | None]
"""For every scale, coarse to fine, what its planes are predicted with beside enlargement. None: nothing."""


def on_device(predictors: Predictors, device: torch.device) -> Predictors:
    """Copies of predictors on a device."""
    return [predictor and deepcopy(predictor).to(device) for predictor in predictors]


def predictors_of(tables: Mapping[str, np.ndarray], scales: Sequence[Scale], channels: int) -> Predictors:
    """The predictors of a pack, for images of so many channels."""
    predictors: Predictors = [None]
    for scale in scales[1:]:
        first, first_bias, second, second_bias = (tables[name] for name in _names(scale))
        count = scale.channels(channels)
        cut = first[:, :count], first_bias, second[: 4 * count], second_bias[: 4 * count]
        predictors.append(Convolutions.of_integers(cut) if len(first) else None)
    return predictors


def tables_of(predictors: Predictors, scales: Sequence[Scale], channels: int) -> dict[str, np.ndarray]:
    """The arrays of tables.npz of predictors for images of so many channels: the inverse of `predictors_of`."""
    arrays: dict[str, np.ndarray] = {}
    for scale, predictor in zip(scales[1:], predictors[1:], strict=True):
        count = scale.channels(channels)
        integers = predictor.integers() if predictor else no_convolutions(count, 4 * count)
        arrays |= dict(zip(_names(scale), integers, strict=True))
    return arrays


def _names(scale: Scale) -> list[str]:
    """Of the arrays of a scale's prediction in tables.npz: weights and biases of both convolutions."""
    return [field.name.format(s=scale.scale) for field in PREDICTION]


def no_convolutions(inputs: int, outputs: int) -> Integers:
    """What has no hidden channels: nothing is added."""
    w1, b1, w2, b2 = (np.zeros(shape, np.int64) for shape in ((0, inputs, 3, 3), 0, (outputs, 0, 3, 3), outputs))
    return w1, b1, w2, b2


def _parameters(pair: Convolutions) -> list[torch.Tensor]:
    return [pair.first.weight, pair.first.bias, pair.second.weight, pair.second.bias]  # type: ignore[list-item]
