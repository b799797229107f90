"""Where shapes are taken. Of images that show the same things at the same places, such as aligned faces, that tells
more about a shape than what it looks like: clusters are made of it.
"""

import numpy as np
import torch

from ..encoder.codebook import Codebook
from ..encoder.config import Config
from ..encoder.convolutions import Predictors
from ..encoder.mending import importance
from ..encoder.pyramid import block_means, to_planes
from ..encoder.quantizer import closed_loop, plain_search
from ..encoder.search import Bits
from .halves import halved
from .images import random_quality, sample, stacks

PRIOR = 10.0
"""Uses, at all places as of all shapes, that are added to those of each shape."""


def clusters_by_place(uses: torch.Tensor, clusters: int) -> torch.Tensor:
    """An order of shapes, int64 (S,), in which each S / clusters in a row are taken at similar places.

    uses: of each shape and place, float64 (S, places). clusters: a power of two. Distances are those of Hellinger.
    """
    all_shapes = uses.sum(0) / uses.sum().clamp(min=1)
    shares = (uses + PRIOR * all_shapes) / (uses.sum(1, keepdim=True) + PRIOR)
    return halved(shares.sqrt(), clusters)


def uses_at_places(
    config: Config,
    images: list[np.ndarray],
    books: list[list[Codebook]],
    bits: list[list[Bits]],
    predictors: Predictors,
    seed: int,
) -> list[list[torch.Tensor]]:
    """How often each shape is taken at each place: for each scale and iteration float64 (S, places).

    images: uint8 (h, w, C), of one size; at most `config.table_images` of them are coded. books, predictors: of every
    scale. bits: bits[band][position]. These are on one device, what is returned is on the CPU.
    """
    size, device = images[0].shape, books[0][0].shapes.device
    random = np.random.default_rng(seed)
    grids = [scale.grid(*size[:2]) for scale in config.scales]
    uses = [
        [torch.zeros(count * rows * columns, dtype=torch.float64, device=device) for count in scale.shapes]
        for scale, (rows, columns) in zip(config.scales, grids, strict=True)
    ]
    for number, stack in enumerate(stacks(sample(images, config.table_images))):
        planes, band = to_planes(stack, device), number % config.bands
        quality = random_quality(config, band, random)
        minded = importance(config, quality, planes.shape[1], device=device)
        search = plain_search(config.scales, books, bits[band], config.lam(quality), 1, minded)
        steps = closed_loop(block_means(planes, config.scales), config.scales, books, predictors, search)
        for scale, grid, of_scale, step in zip(config.scales, grids, uses, steps, strict=True):
            places = grid[0] * grid[1]
            place = torch.arange(len(step.indices), device=device) % places
            for i, of_iteration in enumerate(of_scale):
                taken = step.indices[:, i] > 0
                shape = (step.indices[taken, i] - 1) // scale.symmetries
                of_iteration += torch.bincount(shape * places + place[taken], minlength=len(of_iteration))
    return [
        [of_iteration.reshape(count, -1).cpu() for count, of_iteration in zip(scale.shapes, of_scale, strict=True)]
        for scale, of_scale in zip(config.scales, uses, strict=True)
    ]
