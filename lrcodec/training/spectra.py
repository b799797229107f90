"""What shapes look like, whatever their sign and phase: clusters and contexts are made of their spectra."""

import math

import numpy as np
import torch

from ..encoder.codebook import Codebook
from .halves import halved

RINGS = ((1, 2), (2, 3), (3, 5), (5, math.inf))
"""Bands of a cosine transform: the larger frequency of a coefficient is from the first up to, but without, the second.
Each ring has a band for mostly horizontal change, for mostly vertical change, and for both."""
SLOPE = 1.5
"""Change is mostly in one direction if its frequency there is so many times the other."""


def spectra(book: Codebook) -> torch.Tensor:
    """The amplitudes of shapes in bands, float64 (S, bands * C): of each channel the mean, then rings from coarse to
    fine, each with horizontal, vertical and mixed change.
    """
    p = book.p
    patches = book.shapes.double().reshape(len(book.shapes), p, -1, p).transpose(1, 2)
    # Polyphase order -> order of pixels.
    pixels = torch.arange(p).reshape(p // 2, 2).T.reshape(-1).argsort()
    patches = patches[:, :, pixels][..., pixels]
    at = torch.arange(p, dtype=torch.float64)
    cosines = torch.cos(math.pi / p * (at + 0.5) * at[:, None]) * math.sqrt(2 / p)
    cosines[0] /= math.sqrt(2)
    energy = (cosines @ patches @ cosines.T).square()
    down, across = at[:, None], at[None]
    largest = torch.maximum(down, across)
    kinds = (across > SLOPE * down, down > SLOPE * across)
    bands = [largest == 0]
    for low, high in RINGS:
        ring = (largest >= low) & (largest < high)
        bands += [ring & kinds[0], ring & kinds[1], ring & ~kinds[0] & ~kinds[1]]
    return torch.stack([(energy * band).sum((2, 3)) for band in bands], 2).sqrt().flatten(1)


def balanced_clusters(book: Codebook, clusters: int) -> torch.Tensor:
    """An order of the shapes, int64 (S,), in which each S / clusters in a row have similar spectra.

    clusters: a power of two. Norms tell shapes apart, too.
    """
    return halved(torch.cat([spectra(book), 1.5 * book.energy().double().sqrt()[:, None]], 1), clusters)


def traits_of(books: list[Codebook]) -> dict[str, np.ndarray]:
    """What contexts see of a scale's shapes, by name, uint8 (rows,): SPEC.md, "Tables".

    energy: 1..24, the norm in quarter-octaves, 10 at the root mean square of all. orientation: 0..8, 4 if as much
    changes across as down, more if more changes across. frequency: 1..8, how fine the rings are that the energy is in.
    """
    norms = torch.cat([book.energy() for book in books]).double().sqrt().numpy()
    energy = np.round(4 * np.log2(np.maximum(norms, 1e-6) / np.sqrt(np.mean(norms**2)))) + 10
    bands = torch.cat([spectra(book).square() for book in books]).numpy()
    bands = bands.reshape(len(bands), -1, 1 + 3 * len(RINGS)).sum(1)
    rings = bands[:, 1:].reshape(len(bands), len(RINGS), 3)
    total = np.maximum(bands.sum(1), 1e-6)
    across, down = rings[:, :, 0].sum(1), rings[:, :, 1].sum(1)
    orientation = np.round(4 + 4 * (across - down) / (across + down + 0.1 * total))
    mean_ring = (rings.sum(2) @ np.arange(1, len(RINGS) + 1)) / total
    frequency = 1 + np.round(7 * mean_ring / len(RINGS))
    levels = {"energy": np.clip(energy, 1, 24), "orientation": orientation, "frequency": frequency}
    return {name: values.astype(np.uint8) for name, values in levels.items()}
