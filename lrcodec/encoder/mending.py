"""How much the errors of every scale count while it is searched.

Errors of all scales but the finest are not final: finer scales mend part of them. So they count less, where they would
take more bits than they are worth. Chroma is final sooner, at half resolution, if the finest scale has luma alone.
docs/experiments.md has the figures.
"""

import torch

from .config import Config

MENDED_FROM, MENDED_MORE = 0.5, 4.0
"""From this share of the quality range on the finest scale mends more of the luma of the scale before it: errors count
so many times less, by a share that is 1 higher."""


def importance(
    config: Config, quality: float, channels: int, chroma: float = 1.0, device: torch.device | str = "cpu"
) -> list[torch.Tensor]:
    """What the squared errors of a patch are multiplied with: for each scale float32 (d,).

    quality: share of its range, 0..1. channels: of images, 1 or 3. chroma: how many times errors of chroma count.
    """
    weights = []
    for position, scale in enumerate(config.scales):
        last = position + 1 == len(config.scales)
        luma = colour = 1 if last else 1 / config.coarse
        if not last and config.scales[position + 1].luma_only:
            colour, luma = 1, luma / MENDED_MORE ** max(0.0, quality - MENDED_FROM)
        weight = torch.full((scale.patch, scale.channels(channels), scale.patch), float(luma), device=device)
        weight[:, 1:] = colour * chroma
        weights.append(weight.flatten())
    return weights
