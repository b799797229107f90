"""What shapes look like, whatever their sign and phase: clusters and contexts are made of their spectra."""

import math

import numpy as np
import torch

from ..encoder.codebook import Codebook

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

    clusters: a power of two. Each group is cut in half along the principal axis of its spectra and norms.
    """
    points = torch.cat([spectra(book), 1.5 * book.energy.double().sqrt()[:, None]], 1)
    groups = [torch.arange(len(points))]
    while len(groups) < clusters:
        halves = []
        for group in groups:
            x = points[group] - points[group].mean(0)
            axis = torch.linalg.eigh(x.T @ x)[1][:, -1]
            order = group[(x @ axis).argsort(stable=True)]
            halves += [order[: len(order) // 2], order[len(order) // 2 :]]
        groups = halves
    return torch.cat(groups)


def energy_levels(books: list[Codebook]) -> np.ndarray:
    """The energy levels of a scale's shapes, uint8 (rows,), 1..24.

    A level is the norm of a shape in quarter-octaves. The root mean square of the norms has level 10.
    """
    norms = torch.cat([book.energy for book in books]).double().sqrt().numpy()
    levels = np.round(4 * np.log2(np.maximum(norms, 1e-6) / np.sqrt(np.mean(norms**2)))) + 10
    return np.clip(levels, 1, 24).astype(np.uint8)
