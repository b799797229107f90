"""Pixels <-> planes <-> patches, in float32 torch: the encoder's view of SPEC.md, "Reconstruction".

Planes are (C, h, w) in the orthonormal luma/chroma space, in levels of the 8-bit range around mid-grey. A
patch is the matrix that one codeword draws, (p, C * p), flattened: its rows are ordered by phase and place
in y, its columns by channel, phase and place in x, as in the tables of a pack.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..format.fixed import CHROMA_TAPS, COLOUR_BITS, ENLARGE_BITS, ENLARGE_TAPS, colour_matrix
from ..format.grid import Scale
from .convolutions import Convolutions


def to_planes(images: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """Images uint8 (..., h, w, C), 3 channels or 1 -> planes float32 (..., C, h, w)."""
    pixels = torch.tensor(images, device=device).movedim(-1, -3).float().sub_(128)
    channels = pixels.shape[-3]
    matrix = _colour(channels).to(device) * (3 if channels == 1 else 1)
    return torch.einsum("ij,...ihw->...jhw", matrix, pixels)


def to_pixels(planes: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_planes` but for its offset: (b, C, h, w) -> pixels - 128, float32 (b, C, h, w)."""
    return torch.einsum("ij,bjhw->bihw", _colour(planes.shape[1]).to(planes.device), planes)


def _colour(channels: int) -> torch.Tensor:
    return torch.from_numpy(colour_matrix(channels) / 2**COLOUR_BITS).float()


def shrink(planes: torch.Tensor, scale: int) -> torch.Tensor:
    """Block means: (..., C, h, w) -> (..., C, h / scale, w / scale)."""
    return planes if scale == 1 else F.avg_pool2d(planes, scale)


def block_means(planes: torch.Tensor, scales: Sequence[Scale]) -> list[torch.Tensor]:
    """Planes (b, C, h, w) as each scale sees them: its channels, shrunk, (b, its channels, h / s, w / s)."""
    return [shrink(planes[:, : s.channels(planes.shape[1])], s.scale) for s in scales]


def enlarge(planes: torch.Tensor) -> torch.Tensor:
    """Enlarge twofold as the decoder does, but without rounding: (..., h, w) -> (..., 2h, 2w)."""
    taps = torch.tensor(ENLARGE_TAPS / 2**ENLARGE_BITS, dtype=torch.float32, device=planes.device)
    h, w = planes.shape[-2:]
    x = F.pad(planes.reshape(-1, 1, h, w), (2, 2, 2, 2), mode="replicate")
    x = F.conv2d(x, taps.reshape(2, 1, 1, 5)).permute(0, 2, 3, 1).reshape(-1, 1, h + 4, 2 * w)
    x = F.conv2d(x, taps.reshape(2, 1, 5, 1)).permute(0, 2, 1, 3)
    return x.reshape(*planes.shape[:-2], 2 * h, 2 * w)


def interpolate(chroma: torch.Tensor) -> torch.Tensor:
    """Bring chroma to full resolution as the decoder does, but without rounding: (b, c, h, w) -> (b, c, 2h, 2w)."""
    b, c, h, w = chroma.shape
    x = F.pad(chroma.reshape(b * c, 1, h, w), (1, 1, 1, 1), mode="replicate")
    taps = torch.tensor(CHROMA_TAPS / 4, dtype=torch.float32, device=chroma.device)
    phases = F.conv2d(x, torch.einsum("ia,jb->ijab", taps, taps).reshape(4, 1, 3, 3))
    return F.pixel_shuffle(phases, 2).reshape(b, c, 2 * h, 2 * w)


def guess_from(
    decoded: torch.Tensor | None, target: torch.Tensor, predictor: Convolutions | None = None
) -> torch.Tensor:
    """What a scale starts from: the coarser one, decoded (b, C', h, w), enlarged, and cut to `target` (b, C, h, w).

    predictor: what is added to the enlarged planes, in four phases. Zeros if there is no coarser scale.
    """
    if decoded is None:
        return torch.zeros_like(target)
    c, h, w = target.shape[1:]
    guess = enlarge(decoded[:, :c])
    if predictor is not None:
        guess += F.pixel_shuffle(predictor(decoded[:, :c]), 2)
    return guess[..., :h, :w]


def to_patches(planes: torch.Tensor, p: int) -> torch.Tensor:
    """Cut planes into patches of side p, in raster order: (..., C, h, w) -> (..., h / p * w / p, p * C * p)."""
    *batch, c, h, w = planes.shape
    x = planes.reshape(-1, c, h // p, p // 2, 2, w // p, p // 2, 2)
    return x.permute(0, 2, 5, 4, 3, 1, 7, 6).reshape(*batch, -1, p * c * p)


def from_patches(patches: torch.Tensor, p: int, channels: int, h: int, w: int) -> torch.Tensor:
    """The inverse of `to_patches`: (..., n, p * C * p) -> (..., C, h, w)."""
    x = patches.reshape(-1, h // p, w // p, 2, p // 2, channels, 2, p // 2)
    return x.permute(0, 5, 1, 4, 3, 2, 7, 6).reshape(*patches.shape[:-2], channels, h, w)


def pad(planes: torch.Tensor, multiple: int) -> torch.Tensor:
    """Repeat the last row and column of (b, C, h, w) until both sides are multiples of `multiple`."""
    h, w = planes.shape[-2:]
    return F.pad(planes, (0, -w % multiple, 0, -h % multiple), mode="replicate")


def crop_to_grid(planes: torch.Tensor, scale: Scale, grid: tuple[int, int]) -> torch.Tensor:
    """The part of a scale's planes (..., h, w) that `grid`, rows and columns of patches, covers."""
    return planes[..., : grid[0] * scale.patch, : grid[1] * scale.patch]
