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
            books.append([drawn[at : at + k] for at, k in zip(scale.starts, scale.codewords, strict=True)][:iterations])
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
        """Choose the indices of images of one size.

        latents: for each scale (b, C, h / s, w / s) of the padded images; size: (height, width) of an image.
        bits: for each scale and iteration float32 (classes, K + 1), or (1, K + 1) where `classes` is None.
        classes: for each scale (b, rows, columns, iterations), the context class of every index.
        Returns index planes int64 (b, rows, columns, iterations).
        """
        planes = []
        decoded: torch.Tensor | None = None
        for j, (scale, books, latent) in enumerate(zip(self.scales, self.books, latents, strict=True)):
            grid = scale.grid(*size)
            target = crop_to_grid(latent, scale, grid)
            guess = torch.zeros_like(target) if decoded is None else crop_to_grid(enlarge(decoded), scale, grid)
            patches = to_patches(target - guess, scale.patch)
            flat = patches.flatten(0, 1)
            if classes is None:
                costs = plain_costs([b[0] for b in bits[j]], len(flat))
            else:
                known = torch.from_numpy(classes[j].astype(np.int64)).to(target.device).flatten(0, 2)
                costs = [(b, known[:, i]) for i, b in enumerate(bits[j])]
            indices, _ = beam_search(flat, books, costs[: len(books)], lam / scale.scale**2, beam)
            drawn = reconstruct(indices, books).reshape(patches.shape)
            decoded = guess + from_patches(drawn, scale.patch, *target.shape[1:])
            plane = np.zeros((len(target), *grid, len(scale.codewords)), np.int64)
            plane[..., : len(books)] = indices.cpu().numpy().reshape(len(target), *grid, -1)
            planes.append(plane)
        return planes
