"""Stage 4 of a training: transformer and smoothing, and a shared codebook, end to end through quantization."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..encoder.codebook import Codebook
from ..encoder.config import Config
from ..encoder.convolutions import Integers
from ..encoder.pyramid import to_pixels
from ..encoder.search import clusters
from . import ranks
from .descent import Descent
from .exactness import check_exact
from .images import Crops
from .networks import Networks
from .objective import Objective
from .progress import Progress
from .refine import Codebooks
from .spectra import balanced_clusters
from .work import WorkFolder

HELD = 6
"""Images that progress is measured on: of the training images, so only a sign of life."""
HELD_QUALITIES = (0.2, 0.5, 0.8)
"""Shares of the quality range that it is measured at."""
KEEP_STEPS = 250
"""Steps between two checkpoints, at most."""
REFIT_PIXELS = 25_000_000
"""Pixels of the crops that the smoothing is trained on at the end, at most."""
REFIT_STEPS, REFIT_RATE = 3, 3e-3
"""Steps of that for each step before it, and the peak learning rate: the smoothing alone can be trained faster."""


@dataclass(frozen=True)
class Model:
    """What is trained, in its final form: networks and codebooks.

    smoothing_weights: those of the smoothing as the decoder has them, int64 w1, b1, w2 and b2, see
    `export.build_graph`.
    """

    networks: Networks
    codebooks: Codebooks
    smoothing_weights: Integers


def fit_networks(
    config: Config, images: list[np.ndarray], codebooks: Codebooks, work: WorkFolder, seed: int, progress: Progress
) -> Model:
    """Train the networks, and a shared codebook. `codebooks` are left as they are.

    Raises LrqError if a weight is no number any more, or if the decoder could not be exact.
    """
    channels = images[0].shape[2]
    networks = Networks.untrained(config, channels, codebooks)

    def make() -> Networks:
        crops = Crops(images, config, networks.transformer.multiple)
        _optimise(networks, codebooks, crops, work.path / "optimiser.pt", seed, progress)
        if ranks.first() and not networks.codebook:
            _settle(networks, Objective(networks, codebooks), crops, seed, progress)
        return networks

    work.keep("networks", make, networks.load, together=True)
    if networks.codebook:
        codebooks = _with_shared(codebooks, networks.codebook().detach())
    return finished(networks, codebooks)


def finished(networks: Networks, codebooks: Codebooks) -> Model:
    """The model that networks and codebooks make. Raises LrqError if the decoder could not be exact."""
    config, channels = codebooks.config, networks.transformer.channels
    weights = networks.smoothing.integers()
    check_exact(config.scales, channels, codebooks.factors, codebooks.integer_predictors, weights)
    return Model(networks, codebooks, weights)


def _with_shared(codebooks: Codebooks, shapes: torch.Tensor) -> Codebooks:
    """Codebooks with one book of shapes, float32 (S, d), for all iterations, in the order of their clusters."""
    (scale,) = codebooks.config.scales
    book = Codebook(shapes, scale.patch, scale.symmetries)
    ordered = Codebook(shapes[balanced_clusters(book, clusters(len(shapes)))], scale.patch, scale.symmetries)
    return replace(codebooks, books=[[ordered] * len(scale.shapes)])


class _Cost(nn.Module):
    """J of every image as one module over all networks, so that processes can train it together."""

    def __init__(self, objective: Objective):
        super().__init__()
        self.modules_of = nn.ModuleDict(objective.networks.modules)
        self.objective = objective

    def forward(self, planes: torch.Tensor, quality: float) -> torch.Tensor:
        """float32 (b,), differentiable. planes, quality: as for the objective."""
        return self.objective(planes, quality, latents=True)[0]


def _optimise(
    networks: Networks, codebooks: Codebooks, crops: Crops, checkpoint: Path, seed: int, progress: Progress
) -> None:
    """Train the networks in place. Goes on from `checkpoint` if it exists, and keeps it up to date.

    Several processes look at their shares of every batch: the steps are those of one process, but for rounding.
    """
    config, device = codebooks.config, ranks.device()
    networks.to(device)
    objective = Objective(networks, codebooks, device)
    cost_of = ranks.averaged(_Cost(objective))
    descent = Descent(networks.parameters, config.learning_rate, config.steps)
    if checkpoint.exists():
        _restore(checkpoint, networks, objective, descent)
    held = crops.corners(HELD).to(device)
    while descent.done < config.steps:
        random = np.random.default_rng((seed, descent.done))
        quality = random.random()
        cost = cost_of(ranks.share(crops.batch(random, device)), quality)
        # All images count alike, whatever their J; with a shared codebook those that are hard to draw count more.
        typical = ranks.total(cost.detach().sum()) / config.batch if networks.codebook else cost.detach()
        # Gradients are means over processes, whose shares may differ by an image.
        descent.step((cost / typical).sum() * ranks.count() / config.batch, limit=1.0)
        if ranks.first() and descent.done % max(1, min(KEEP_STEPS, config.steps)) == 0:
            networks.check_finite()
            line = f"J with latents / without {_gains(objective, held)}"
            progress(descent.done / config.steps, f"step {descent.done}/{config.steps}: {line}")
            _store(checkpoint, networks, objective, descent)
    networks.to(torch.device("cpu"))


@torch.no_grad()
def _gains(objective: Objective, planes: torch.Tensor) -> list[float]:
    """Real J of planes (b, C, h, w) with latents over that without, at each of the qualities that are looked at."""
    with_latents, without = (
        [objective(planes, quality, latents=latents)[1] for quality in HELD_QUALITIES] for latents in (True, False)
    )
    return [round((a / b).item(), 4) for a, b in zip(with_latents, without, strict=True)]


def _store(checkpoint: Path, networks: Networks, objective: Objective, descent: Descent) -> None:
    """Write a checkpoint, whole or not at all."""
    modules = {name: module.state_dict() for name, module in networks.modules.items()}
    state = {"modules": modules, "descent": descent.state(), "slopes": objective.slopes}
    torch.save(state, checkpoint.with_suffix(".tmp"))
    checkpoint.with_suffix(".tmp").replace(checkpoint)


def _restore(checkpoint: Path, networks: Networks, objective: Objective, descent: Descent) -> None:
    """Read what `_store` wrote."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    for name, module in networks.modules.items():
        module.load_state_dict(state["modules"][name])
    descent.load(state["descent"])
    objective.slopes = state["slopes"]


def _settle(networks: Networks, objective: Objective, crops: Crops, seed: int, progress: Progress) -> None:
    """Keep as much of the transformer's change as pays, and fit the smoothing to what is then decoded."""
    config = objective.config
    random = np.random.default_rng((seed, config.steps))
    strength = objective.best_strength(crops.spread(max(24, 8 * config.batch), random))
    for parameter in networks.transformer.head.parameters():
        parameter.data *= strength
    progress(1.0, f"latents moved by {strength} of what training proposed")
    if networks.smoothing.hidden:
        _refit(networks, objective, crops, seed)
        networks.check_finite()


def _refit(networks: Networks, objective: Objective, crops: Crops, seed: int) -> None:
    """Train the smoothing alone, on what latents of their final strength decode to: minimises the mean log error."""
    config, smoothing = objective.config, networks.smoothing
    random = np.random.default_rng((seed, config.steps + 1))
    decoded: list[tuple[torch.Tensor, ...]] = []
    pixels = 0
    while pixels < REFIT_PIXELS and len(decoded) < config.steps:
        planes = crops.batch(random)
        pixels += planes[:, 0].numel()
        decoded.append((*objective.decoded(planes, random.random()), to_pixels(planes)))
    finest, coarser, wanted = (torch.cat(parts) for parts in zip(*decoded, strict=True))
    descent = Descent(list(smoothing.parameters()), REFIT_RATE, REFIT_STEPS * config.steps)
    while descent.done < REFIT_STEPS * config.steps:
        chosen = torch.from_numpy(random.integers(0, len(finest), config.batch))
        error = (smoothing(finest[chosen], coarser[chosen]) - wanted[chosen]).square().mean((1, 2, 3))
        descent.step((error / error.detach()).mean())
