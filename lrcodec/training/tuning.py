"""Stage 5 of a training: all that the decoder draws with, tuned together on the error of its pixels.

Until then each codeword is the mean of what it should have drawn of its own scale. But what is seen is the finest
scale, smoothed. So the search encodes crops, and codewords, prediction and smoothing follow the gradient of the squared
error of the decoded pixels, with the indices as they were chosen. The next crops are encoded with what came of it.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import nn

from ..encoder.codebook import Codebook
from ..encoder.config import Config
from ..encoder.convolutions import Convolutions, Predictors
from ..encoder.mending import importance
from ..encoder.pyramid import to_pixels
from ..encoder.quantizer import bits_spent, closed_loop, plain_search
from .descent import Descent
from .end_to_end import Model, finished
from .images import Crops
from .networks import Factors
from .progress import Progress
from .work import Tensors, WorkFolder

STEPS = 0.8
"""Steps for each step of the networks' training."""
BATCHES = 2
"""Batches of a step: a codeword is taken by few patches of each."""
RATE = 1.2e-3
"""The peak learning rate."""


@dataclass(frozen=True)
class Tuned:
    """What the tuning returns: the weights of a `_Drawing` by name."""

    weights: Tensors

    def to_tensors(self) -> Tensors:
        """All of it by name."""
        return self.weights


class _Drawing(nn.Module):
    """All that the decoder draws with, as trainable copies."""

    def __init__(self, model: Model):
        super().__init__()
        config, codebooks = model.codebooks.config, model.codebooks
        self.config = config
        self.books = nn.ModuleList(
            nn.ModuleList(Factors(book.shapes, scale.patch, min(config.rank, scale.patch)) for book in books)
            for scale, books in zip(config.scales, codebooks.books, strict=True)
        )
        self.predictors = nn.ModuleList(
            nn.Identity() if predictor is None else deepcopy(predictor) for predictor in codebooks.predictors
        )
        self.smoothing = deepcopy(model.networks.smoothing)
        self.requires_grad_(True)

    def codebooks(self, rank: int) -> list[list[Codebook]]:
        """The codebooks of every scale, drawn with a rank."""
        return [
            [Codebook(factors(rank), scale.patch, scale.symmetries) for factors in books]
            for scale, books in zip(self.config.scales, cast(list[list[Factors]], self.books), strict=True)
        ]

    @property
    def of_scales(self) -> Predictors:
        """The predictors of every scale."""
        return [module if isinstance(module, Convolutions) else None for module in self.predictors]


def tune_decoder(
    config: Config, images: list[np.ndarray], model: Model, work: WorkFolder, seed: int, progress: Progress
) -> Model:
    """Tune codewords, prediction and smoothing. A model with a shared codebook comes back as it is.

    Raises LrqError if a weight is no number any more, or if the decoder could not be exact.
    """
    if config.shared:
        return model
    drawing = _Drawing(model)
    make = partial(_tune, config, images, model, drawing, seed, progress)
    drawing.load_state_dict(work.keep("tuned", make, Tuned).weights)
    drawing.eval().requires_grad_(False)
    predictors: Predictors = [p and Convolutions.of_integers(p.integers()) for p in drawing.of_scales]
    codebooks = replace(model.codebooks, books=drawing.codebooks(config.rank), predictors=predictors)
    networks = replace(model.networks, smoothing=drawing.smoothing)
    networks.check_finite()
    return finished(networks, codebooks)


def _tune(
    config: Config, images: list[np.ndarray], model: Model, drawing: _Drawing, seed: int, progress: Progress
) -> Tuned:
    """Tune `drawing` in place."""
    steps = max(1, round(STEPS * config.steps))
    crops = Crops(images, config, model.networks.transformer.multiple)
    descent = Descent(list(drawing.parameters()), RATE, steps)
    random = np.random.default_rng((seed, config.steps + 2))
    gains: list[float] = []
    while descent.done < steps:
        planes = torch.cat([crops.batch(random) for _ in range(BATCHES)])
        error, cost = _error(drawing, model, planes, random.random())
        descent.step((error / cost).mean())
        gains.append((error / cost).mean().item())
        if descent.done % 50 == 0:
            line = f"error / J {np.mean(gains[-50:]):.4f}"
            progress(descent.done / steps, f"decoder, step {descent.done}/{steps}: {line}")
    return Tuned({name: value.clone() for name, value in drawing.state_dict().items()})


def _error(drawing: _Drawing, model: Model, planes: torch.Tensor, quality: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error of the decoded pixels of planes (b, C, h, w), differentiable, and J, both float32 (b,)."""
    config, codebooks = drawing.config, model.codebooks
    lam, bits = config.lam(quality), codebooks.bits[config.band(quality)]
    with torch.no_grad():
        latents = model.networks.transformer(planes, lam)
        searched = drawing.codebooks(config.default_rank)

    minded = importance(config, quality, planes.shape[1])
    search = plain_search(config.scales, searched, bits, lam, 1, minded)
    rate = planes.new_zeros(len(planes))
    books = drawing.codebooks(config.default_rank)
    steps = list(closed_loop(latents, config.scales, books, drawing.of_scales, search))
    for position, step in enumerate(steps):
        with torch.no_grad():
            scale_lam = lam / config.scales[position].scale ** 2
            spent = bits_spent(step.cost, step.patches - step.drawn, scale_lam, minded[position])
            rate += spent.reshape(len(planes), -1).sum(1)
    pixels = drawing.smoothing(steps[-1].decoded, steps[-2:][0].decoded)
    error = (pixels - to_pixels(planes)).square().sum((1, 2, 3)) * (3 / planes.shape[1])
    return error, (error + lam * rate).detach()
