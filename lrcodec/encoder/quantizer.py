"""Latents -> index planes: the closed loop over scales, each coding what was predicted wrong from the coarser one."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from ..format.fixed import FACTOR_BITS
from ..format.grid import Scale
from .codebook import Codebook
from .convolutions import Predictors
from .lookahead import ScaleSearch, choose
from .pyramid import crop_to_grid, from_patches, guess_from, to_patches
from .search import Bits, Labels, beam_search, reconstruct

Search = Callable[[int, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""See `closed_loop`."""


class Step(NamedTuple):
    """What `closed_loop` gives for one scale.

    patches: what is to be drawn, float32 (n, d). indices: int64 (n, iterations). drawn: by them, float32 (n, d).
    cost: J, float32 (n,). decoded: planes, float32 (b, its channels, h, w).
    """

    patches: torch.Tensor
    indices: torch.Tensor
    drawn: torch.Tensor
    cost: torch.Tensor
    decoded: torch.Tensor


def closed_loop(
    targets: Sequence[torch.Tensor],
    scales: Sequence[Scale],
    books: Sequence[list[Codebook]],
    predictors: Predictors,
    search: Search,
) -> Iterator[Step]:
    """Code the planes of every scale, coarse to fine.

    targets: of each scale, float32 (b, its channels, h, w). books: books[position][iteration].
    predictors: of each scale.
    search: takes the position of a scale, its patches of all images, float32 (n, d), and what they are added to, planes
    float32 (b, its channels, h, w). Returns indices int64 (n, iterations) and J float32 (n,).
    """
    decoded: torch.Tensor | None = None
    for position, (scale, target) in enumerate(zip(scales, targets, strict=True)):
        guess = guess_from(decoded, target, predictors[position])
        patches = to_patches(target - guess, scale.patch)
        flat = patches.flatten(0, 1)
        indices, cost = search(position, flat, guess)
        drawn = reconstruct(indices, books[position])
        decoded = guess + from_patches(drawn.reshape(patches.shape), scale.patch, *target.shape[1:])
        yield Step(flat, indices, drawn, cost, decoded)


def plain_search(
    scales: Sequence[Scale],
    books: Sequence[list[Codebook]],
    bits: list[Bits],
    lam: float,
    beam: int,
    importance: Sequence[torch.Tensor | None],
) -> Search:
    """The search of `closed_loop` with bits that know no contexts, as training has it.

    lam: squared error of the image that a bit is worth. bits, importance: of each scale, see `beam_search`.
    """

    def search(position: int, flat: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale_lam = lam / scales[position].scale ** 2
        with torch.no_grad():
            return beam_search(flat, books[position], bits[position], scale_lam, beam, None, importance[position])

    return search


def bits_spent(cost: torch.Tensor, rest: torch.Tensor, lam: float, importance: torch.Tensor) -> torch.Tensor:
    """The bits of every patch of a scale, float32 (n,), from J, float32 (n,), and what is left of it, float32 (n, d).

    lam: at the scale. importance: of its errors, that it was searched with.
    """
    return (cost - rest.square() @ importance) / lam


@dataclass(frozen=True)
class Quantizer:
    """Chooses codewords. books: books[position][iteration]. predictors: of each scale."""

    scales: tuple[Scale, ...]
    books: list[list[Codebook]]
    predictors: Predictors

    @classmethod
    def of_factors(
        cls,
        scales: tuple[Scale, ...],
        factors: dict[str, np.ndarray],
        predictors: Predictors,
        rank: int,
        channels: int = 3,
        device: torch.device | str = "cpu",
    ) -> "Quantizer":
        """With the codewords that the decoder draws.

        factors: the arrays u{s} and v{s} of tables.npz, among others. rank: that is drawn with. channels: of images.
        """
        books = []
        for scale in scales:
            columns = {"u": scale.patch, "v": scale.patch * scale.channels(channels)}
            u, v = (
                torch.from_numpy(factors[f"{name}{scale.scale}"][:, :rank, :end].astype(np.float32)).to(device)
                for name, end in columns.items()
            )
            drawn = torch.einsum("krp,krq->kpq", u, v).flatten(1) / 2**FACTOR_BITS
            parts = (drawn[at : at + count] for at, count in zip(scale.starts, scale.shapes, strict=True))
            books.append([Codebook(part, scale.patch, scale.symmetries) for part in parts])
        return cls(scales, books, predictors)

    @property
    def size(self) -> int:
        """The bytes that the codebooks take."""
        return sum(book.size for books in self.books for book in books)

    def capped(self, iterations: int) -> "Quantizer":
        """The same, with so many iterations of each scale at most."""
        return replace(self, books=[books[:iterations] for books in self.books])

    def __call__(
        self,
        latents: list[torch.Tensor],
        size: tuple[int, int],
        lam: float,
        bits: list[Bits],
        beam: int,
        importance: list[torch.Tensor],
        labels: list[Labels] | None = None,
        weights: list[torch.Tensor] | None = None,
        tried: int = 1,
    ) -> list[np.ndarray]:
        """Choose the indices of images of one size.

        latents: for each scale (b, its channels, h / s, w / s) of the padded images. size: (height, width) of an image.
        lam: squared error that a bit is worth. bits: of each scale, with one class alone if `labels` is None. beam:
        width. importance: of the errors of each scale, see mending.py. labels: of each scale, for the patches of all
        images, in raster order. weights: of each scale, what lambda is multiplied with in these patches, float32 (n,);
        None for 1. tried: codings of each patch that are tried on the next finer scale, see `lookahead`.
        Returns index planes int64 (b, rows, columns, iterations).
        """
        targets = [
            crop_to_grid(latent, scale, scale.grid(*size)) for scale, latent in zip(self.scales, latents, strict=True)
        ]

        def scale_search(position: int) -> ScaleSearch:
            scale, target, predictor = self.scales[position], targets[position], self.predictors[position]
            lams = target.new_full((len(target) * math.prod(scale.grid(*size)),), lam / scale.scale**2)
            return ScaleSearch(
                scale,
                target,
                predictor,
                importance[position],
                self.books[position],
                bits[position],
                lams if weights is None else lams * weights[position],
                None if labels is None else labels[position],
            )

        searches = [scale_search(position) for position in range(len(self.scales))]

        def search(position: int, patches: torch.Tensor, guess: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            here, *finer = searches[position : position + 2]
            paths, costs = here.paths(patches, beam, tried if finer else 1)
            indices = paths[:, 0]
            if finer and tried > 1:
                indices = choose(paths, costs, patches, guess, here, *finer)
            return indices, costs[:, 0]

        planes = []
        steps = closed_loop(targets, self.scales, self.books, self.predictors, search)
        for scale, step in zip(self.scales, steps, strict=True):
            grid = scale.grid(*size)
            plane = np.zeros((len(latents[0]), *grid, len(scale.codewords)), np.int64)
            chosen = step.indices.cpu().numpy()
            plane[..., : chosen.shape[1]] = chosen.reshape(*plane.shape[:3], -1)
            planes.append(plane)
        return planes


def pack_bits(bits: list[Bits], scales: Sequence[Scale]) -> dict[str, torch.Tensor]:
    """Bits without contexts, but for symmetries, by name: plain_depths{s} (D + 1,) and plain{s}_{i} (S,)."""
    named = {}
    for of_scale, scale in zip(bits, scales, strict=True):
        named[f"plain_depths{scale.scale}"] = of_scale.depths[0]
        named |= {f"plain{scale.scale}_{i}": b[0] for i, b in enumerate(of_scale.shapes)}
    return named


def unpack_bits(
    named: dict[str, torch.Tensor], symmetries: list[list[torch.Tensor]], scales: Sequence[Scale], band: int
) -> list[Bits]:
    """The inverse of `pack_bits`, from tensors whose first axis is the rate band.

    symmetries: what they cost at each scale and iteration, float32 (S, G).
    """
    return [
        Bits(
            named[f"plain_depths{s.scale}"][band][None],
            [named[f"plain{s.scale}_{i}"][band][None] for i in range(len(s.shapes))],
            of_scale,
        )
        for s, of_scale in zip(scales, symmetries, strict=True)
    ]
