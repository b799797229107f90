"""Latents -> index planes: the closed loop over scales, each coding what the coarser ones, enlarged, got wrong."""

from dataclasses import dataclass

import numpy as np
import torch

from ..fixed import FACTOR_BITS
from ..grid import Scale
from .pyramid import crop_to_grid, enlarge, from_patches, to_patches
from .search import beam_search, plain_costs, reconstruct


@dataclass
class Quantizer:
    """Codebooks of every scale: books[scale's position][iteration] is float32 (K, p * C * p)."""

    scales: tuple[Scale, ...]
    books: list[list[torch.Tensor]]
    channels: int

    @classmethod
    def of_factors(
        cls,
        scales: tuple[Scale, ...],
        factors: dict[str, np.ndarray],
        iterations: int = 32,
        device: torch.device | str = "cpu",
    ) -> "Quantizer":
        """The codebooks that the decoder draws with, from its inputs u{s} and v{s} (see `Pack.factors`)."""
        books = []
        for scale in scales:
            u, v = (torch.from_numpy(factors[f"{f}{scale.scale}"]).to(device).float() for f in "uv")
            drawn = torch.einsum("krp,krq->kpq", u, v).flatten(1) / 2**FACTOR_BITS
            books.append(list(drawn.split(scale.codewords))[:iterations])
        return cls(scales, books, v.shape[2] // scale.patch)

    def __call__(
        self,
        latents: list[torch.Tensor],
        size: tuple[int, int],
        lam: float,
        bits: list[list[torch.Tensor]],
        beam: int,
        classes: list[np.ndarray] | None = None,
    ) -> list[np.ndarray]:
        """Choose the indices of one image.

        latents: for each scale (C, h / s, w / s) of the padded image; size: (height, width) of the image.
        bits: for each scale and iteration float32 (classes, K + 1), or (1, K + 1) where `classes` is None.
        classes: for each scale (rows, columns, iterations), the context class of every index.
        Returns index planes int64 (rows, columns, iterations).
        """
        planes = []
        decoded: torch.Tensor | None = None
        for j, (scale, books, latent) in enumerate(zip(self.scales, self.books, latents, strict=True)):
            grid = scale.grid(*size)
            target = crop_to_grid(latent, scale, grid)
            guess = torch.zeros_like(target) if decoded is None else crop_to_grid(enlarge(decoded), scale, grid)
            patches = to_patches(target - guess, scale.patch)
            if classes is None:
                costs = plain_costs([b[0] for b in bits[j]], len(patches))
            else:
                known = torch.from_numpy(classes[j].astype(np.int64)).to(target.device).flatten(0, 1)
                costs = [(b, known[:, i]) for i, b in enumerate(bits[j])]
            indices, _ = beam_search(patches, books, costs[: len(books)], lam / scale.scale**2, beam)
            drawn = from_patches(reconstruct(indices, books), scale.patch, self.channels, *target.shape[1:])
            decoded = guess + drawn
            plane = np.zeros((*grid, len(scale.codewords)), np.int64)
            plane[:, :, : len(books)] = indices.cpu().numpy().reshape(*grid, -1)
            planes.append(plane)
        return planes
