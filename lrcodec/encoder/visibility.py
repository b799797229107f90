"""How visible errors are, where the encoder is tuned for the eye: in each patch, and in chroma.

Texture masks errors, and so do the metrics of structural similarity: SSIM divides an error by the local variance. So a
bit should mend more squared error in a busy place than in a smooth one. libaom's tuning for SSIM has the same idea;
docs/experiments.md has the figures.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..format.grid import Scale
from .pyramid import shrink

FLOOR, CEILING = 60.0, 2000.0
"""The bounds of texture: variance of luma, in squared 8-bit levels, that counts the less the closer to the second."""
USUAL = 300.0
"""The texture at which lambda stays as it is. So files of photographs stay about as large."""
POWER = 0.7
"""lambda follows this power of texture."""
CHROMA = 2.0
"""How many times squared errors of chroma count. Else smooth areas get stains of colour, which no metric minds much."""


def weights(planes: torch.Tensor, scales: Sequence[Scale], size: tuple[int, int]) -> list[torch.Tensor]:
    """What lambda is multiplied with in every patch: for each scale float32 (n,), patches of all images, raster order.

    planes: of the padded images, float32 (b, C, h, w), with h and w multiples of all spans. size: (height, width) of an
    image. They depend on the pixels in and around a patch alone: not on where a window of an image is cut.
    """
    block = scales[-1].span
    luma = planes[:, :1] / 3**0.5  # in 8-bit levels
    variance = (shrink(luma.square(), block) - shrink(luma, block).square()).clamp(min=0)
    variance = F.avg_pool2d(variance, 3, 1, 1, count_include_pad=False)  # texture masks what is beside it, too
    texture = (variance + FLOOR) / (1 + variance / CEILING)
    log = POWER * (texture / USUAL).log()
    maps = []
    for scale in scales:
        rows, columns = scale.grid(*size)
        maps.append(shrink(log, scale.span // block)[:, 0, :rows, :columns].flatten().exp())
    return maps
