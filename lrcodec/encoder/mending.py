"""How much the errors of every scale count while it is searched.

Errors of all scales but the finest are not final: finer scales mend part of them. So they count less, where they would
take more bits than they are worth. Chroma is final sooner, at half resolution, if the finest scale has luma alone.
docs/experiments.md has the figures.
"""

import torch

from .config import Config

MENDED_FROM, MENDED_MORE = 0.5, 4.0
"""Above the first, a share of the quality range, the finest scale draws more and more of the luma that the scale before
it left. So errors of luma count less there: by the second, to the power of what the share is above the first."""


def importance(
    config: Config, quality: float, channels: int, chroma: float = 1.0, device: torch.device | str = "cpu"
) -> list[torch.Tensor]:
    """What the squared errors of a patch are multiplied with: for each scale float32 (d,).

    quality: share of its range, 0..1. channels: of images, 1 or 3. chroma: how many times errors of chroma count.
    """
    weights = []
    for position, scale in enumerate(config.scales):
        last = position + 1 == len(config.scales)
        luma = colour = 1.0 if last else 1 / config.coarse
        if not last and config.scales[position + 1].luma_only:
            luma, colour = luma / MENDED_MORE ** max(0.0, quality - MENDED_FROM), 1.0
        weight = torch.full((scale.patch, scale.channels(channels), scale.patch), luma, device=device)
        weight[:, 1:] = colour * chroma
        weights.append(weight.flatten())
    return weights
