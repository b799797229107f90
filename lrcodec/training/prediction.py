"""Stage 2 of a training: what each scale adds to the coarser one, enlarged, before it codes the rest.

The convolutions of a scale see what the coarser scales, with their own convolutions, decode to. They minimise what
coding the rest will cost.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ..encoder.config import Config
from ..encoder.convolutions import Convolutions, Predictors, predictors_of, tables_of
from ..encoder.pyramid import block_means, from_patches, guess_from, to_patches
from ..encoder.search import beam_search, reconstruct
from .codebooks import ScaleCodebooks
from .descent import Descent
from .images import Crops
from .progress import Progress
from .work import Tensors, WorkFolder

CROP_PIXELS = 24_000_000
"""Pixels of the crops, at most."""
STEPS, RATE, BATCH = 2, 3e-3, 4
"""Steps of a scale, and crops of a step, as multiples of those of the networks' training; the peak learning rate."""
KNEE = 10.0
"""The energy of a patch, in lambdas, from which its cost grows like the logarithm: below, it is hardly coded."""


@dataclass(frozen=True)
class Prediction:
    """The convolutions of every scale, for images of so many channels, as the decoder has them."""

    predictors: Predictors
    config: Config
    channels: int

    def to_tensors(self) -> Tensors:
        """The arrays of tables.npz by name."""
        arrays = tables_of(self.predictors, self.config.scales, self.channels)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: Tensors, config: Config, channels: int) -> "Prediction":
        """The inverse of `to_tensors`."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        return cls(predictors_of(arrays, config.scales, channels), config, channels)


def fit_prediction(
    config: Config,
    images: list[np.ndarray],
    start: list[ScaleCodebooks],
    work: WorkFolder,
    seed: int,
    progress: Progress,
) -> Predictors:
    """Fit the convolutions of all scales, coarse to fine. start: the codebooks of every scale, from stage 1."""
    channels = images[0].shape[2]
    if not any(config.prediction):
        return [None] * len(config.scales)

    def make() -> Prediction:
        with torch.random.fork_rng():  # the networks of later stages start alike, whether this one is loaded or run
            return Prediction(_fit(config, images, start, seed, progress), config, channels)

    load = partial(Prediction.from_tensors, config=config, channels=channels)
    return work.keep("prediction", make, load).predictors


def _fit(
    config: Config, images: list[np.ndarray], start: list[ScaleCodebooks], seed: int, progress: Progress
) -> Predictors:
    """`fit_prediction`, on crops that each have a quality of their own."""
    random = np.random.default_rng(seed)
    crops = Crops(images, config, config.scales[0].span)
    batches = list(_batches(crops, random))
    qualities = torch.from_numpy(random.random(len(batches) * config.batch)).float()
    low, high = config.lambda_range
    lams = low * (high / low) ** qualities
    predictors: Predictors = []
    decoded: torch.Tensor | None = None
    for position, scale in enumerate(config.scales):
        targets = torch.cat([block_means(planes, [scale])[0] for planes in batches])
        scale_lams = lams / scale.scale**2
        predictor, hidden = None, (0, *config.prediction)[position]
        if decoded is not None and hidden:
            predictor = Convolutions(targets.shape[1], hidden, 4 * targets.shape[1])
            gain = _fit_scale(predictor, decoded, targets, scale.patch, scale_lams, config, random)
            predictor = Convolutions.of_integers(predictor.integers())
            progress((position + 1) / len(config.scales), f"prediction of scale {scale.scale}: cost {gain:.4f}")
        predictors.append(predictor)
        with torch.no_grad():
            guess = guess_from(decoded, targets, predictor)
            patches = to_patches(targets - guess, scale.patch)
            flat, each = patches.flatten(0, 1), scale_lams.repeat_interleave(patches.shape[1])
            indices, _ = beam_search(flat, start[position].books, start[position].bits, each, 1)
            drawn = reconstruct(indices, start[position].books).reshape(patches.shape)
            decoded = guess + from_patches(drawn, scale.patch, *targets.shape[1:])
    return predictors


def _batches(crops: Crops, random: np.random.Generator) -> Iterator[torch.Tensor]:
    """Planes (batch, C, side, side) of random crops, CROP_PIXELS in all."""
    pixels = 0
    while pixels < CROP_PIXELS:
        planes = crops.batch(random)
        pixels += planes[:, 0].numel()
        yield planes


def _fit_scale(
    predictor: Convolutions,
    decoded: torch.Tensor,
    targets: torch.Tensor,
    patch: int,
    lams: torch.Tensor,
    config: Config,
    random: np.random.Generator,
) -> float:
    """Fit the convolutions of a scale in place.

    decoded: the coarser scale, float32 (n, C', h / 2, w / 2). targets: what this scale should be, (n, C, h, w). lams:
    at this scale, of every image, (n,). Returns the cost of the last steps over that without prediction.
    """
    steps = STEPS * config.steps
    descent = Descent(list(predictor.parameters()), RATE, steps)
    gains = []
    while descent.done < steps:
        chosen = torch.from_numpy(random.integers(0, len(targets), BATCH * config.batch))
        seen = decoded[chosen], targets[chosen], patch, lams[chosen]
        with torch.no_grad():
            without = _cost(None, *seen)
        gain = (_cost(predictor, *seen) / (without + 1e-6)).mean()
        descent.step(gain)
        gains.append(gain.item())
    return float(np.mean(gains[-100:]))


def _cost(
    predictor: Convolutions | None, decoded: torch.Tensor, targets: torch.Tensor, patch: int, lams: torch.Tensor
) -> torch.Tensor:
    """About what coding the rest of every image will cost, float32 (n,). The others: as for `_fit_scale`."""
    rest = to_patches(targets - guess_from(decoded, targets, predictor), patch)
    knee = KNEE * lams[:, None]
    return (knee * torch.log1p(rest.square().sum(2) / knee)).mean(1)
