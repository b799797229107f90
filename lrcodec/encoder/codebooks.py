"""Fits the codebooks of one scale: residual vector quantization with a stop index, low-rank codewords.

Alternates a beam search that minimises D + lambda * R, a joint update of the centroids, and new rates
(entropy-constrained vector quantization, Chou, Lookabaugh and Gray 1989, in residual form).
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from ..fixed import FACTOR_BITS
from .search import Bits, beam_search, reconstruct

Progress = Callable[[float, str], None]
"""Told the share that is done, in [0, 1], and a line that says what."""


def bits_of(indices: torch.Tensor, codewords: tuple[int, ...], prior: float = 0.3) -> Bits:
    """Ideal code lengths of depths and indices (n, D), without contexts."""

    def lengths(symbols: torch.Tensor, count: int) -> torch.Tensor:
        counts = torch.bincount(symbols, minlength=count).float() + prior
        return -torch.log2(counts / counts.sum())[None]

    depths = lengths((indices > 0).sum(1), len(codewords) + 1)
    return Bits(depths, [lengths(column[column > 0] - 1, k) for column, k in zip(indices.T, codewords, strict=True)])


def _chained(parts: list[Bits]) -> Bits:
    """The bits of several iterations from those of each alone, where the deeper ones see what the others left."""
    going = torch.stack([part.depths[0, 1] for part in parts]).cumsum(0)
    stopping = torch.stack([part.depths[0, 0] for part in parts])
    depths = torch.cat([stopping + torch.cat([going.new_zeros(1), going[:-1]]), going[-1:]])
    return Bits(depths[None], [part.indices[0] for part in parts])


def shrink_to_rank(books: torch.Tensor, p: int, rank: int, counts: torch.Tensor, variance: float) -> torch.Tensor:
    """Cut centroids (K, p * q) to `rank`, and their singular values to what their counts support.

    The optimal shrinkage of Gavish and Donoho (2017) for the Frobenius norm: a centroid of n patches carries
    noise of variance / n in every entry. The first singular value keeps at least half its size.
    """
    a = books.reshape(len(books), p, -1)
    squared, u = torch.linalg.eigh(a @ a.mT)
    squared, u = squared[:, -rank:], u[:, :, -rank:]
    singular = squared.clamp(min=1e-9).sqrt()
    beta = p / a.shape[2]
    noise = (variance * a.shape[2] / counts.clamp(min=1)).sqrt().clamp(min=1e-3)[:, None]
    y = (singular / noise).clamp(min=1e-3)
    shrunk = ((y.square() - beta - 1).square() - 4 * beta).clamp(min=0).sqrt() / y * noise
    gain = torch.where(y > 1 + math.sqrt(beta), shrunk / singular, 0.0)
    gain[:, -1].clamp_(min=0.5)
    return ((u * gain[:, None]) @ (u.mT @ a)).reshape(books.shape)


def update(
    patches: torch.Tensor, indices: torch.Tensor, books: list[torch.Tensor], p: int, rank: int, sweeps: int = 2
) -> torch.Tensor:
    """Move every codeword to the mean of what it should draw, the others fixed, in turn. Returns the residual."""
    residual = patches - reconstruct(indices, books)
    for _ in range(sweeps):
        for i, book in enumerate(books):
            active = indices[:, i].nonzero()[:, 0]
            k = indices[active, i] - 1
            error = residual[active]
            counts = torch.bincount(k, minlength=len(book)).float()
            mean = torch.zeros_like(book).index_add_(0, k, error) / counts.clamp(min=1)[:, None]
            variance = error.square().mean().item() if len(active) else 0.0
            books[i] = shrink_to_rank(book + mean, p, rank, counts, variance)
            residual[active] = error - (books[i] - book)[k]
    return residual


def fit(
    patches: torch.Tensor,
    codewords: tuple[int, ...],
    lam: float,
    p: int,
    rank: int,
    beams: tuple[int, ...],
    seed: int,
    progress: Progress,
    start_patches: int = 150_000,
) -> tuple[list[torch.Tensor], Bits]:
    """Codebooks (list of float32 (K, d)) and their bits for patches (n, d).

    beams: beam width of each round of the alternation. The start is greedy: one iteration after the other.
    """
    random = torch.Generator().manual_seed(seed)
    sample = patches[torch.randperm(len(patches), generator=random)[:start_patches]]
    books: list[torch.Tensor] = []
    parts: list[Bits] = []
    for k in codewords:
        book, part = _start(sample, k, lam, p, rank, random)
        books.append(book)
        parts.append(part)
        indices, _ = beam_search(sample, [book], part, lam, 1)
        going = indices[:, 0] > 0
        sample = (sample - reconstruct(indices, [book]))[going] if going.sum() > k // 4 else sample
    bits = _chained(parts)
    for t, beam in enumerate(beams):
        indices, cost = beam_search(patches, books, bits, lam, beam)
        residual = update(patches, indices, books, p, rank)
        bits = bits_of(indices, codewords)
        if t < len(beams) - 2:
            _revive(books, bits, indices, residual, p, rank, random)
        progress(
            (t + 1) / len(beams), f"round {t + 1}/{len(beams)}: J {cost.mean():.1f}, MSE {residual.square().mean():.2f}"
        )
    return books, bits


def _start(
    sample: torch.Tensor, k: int, lam: float, p: int, rank: int, random: torch.Generator
) -> tuple[torch.Tensor, Bits]:
    """One codebook for residuals, by four rounds from randomly picked ones."""
    ones = torch.ones(k)
    energy = sample.square().sum(1)
    pick = torch.multinomial(energy.sqrt() + 1e-6, k, replacement=len(sample) < k, generator=random)
    books = [shrink_to_rank(0.9 * sample[pick], p, rank, ones, 0.0)]
    bits = Bits(torch.ones(1, 2), [torch.full((1, k), math.log2(k))])
    for t in range(4):
        indices, _ = beam_search(sample, books, bits, lam, 1)
        residual = update(sample, indices, books, p, rank, sweeps=1)
        bits = bits_of(indices, (k,))
        if t < 3:
            _revive(books, bits, indices, residual, p, rank, random)
    return books[0], bits


def _revive(
    books: list[torch.Tensor],
    bits: Bits,
    indices: torch.Tensor,
    residual: torch.Tensor,
    p: int,
    rank: int,
    random: torch.Generator,
) -> None:
    """Replace codewords that hardly any patch takes by what badly drawn patches would have needed."""
    for i, book in enumerate(books):
        dead = (torch.bincount(indices[:, i], minlength=len(book) + 1)[1:] < 3).nonzero()[:, 0]
        active = indices[:, i].nonzero()[:, 0][: 2**24 - 1]  # as many as multinomial takes
        if len(dead) and len(active) > 10:
            error = residual[active].square().sum(1)
            pick = active[torch.multinomial(error + 1e-6, len(dead), replacement=True, generator=random)]
            needed = residual[pick] + book[indices[pick, i] - 1]
            book[dead] = shrink_to_rank(needed, p, rank, torch.ones(len(dead)), 0.0)
            bits.indices[i][0, dead] = bits.indices[i].median()


def balanced_clusters(book: torch.Tensor, clusters: int) -> torch.Tensor:
    """An order of the codewords (K,) in which each K / clusters in a row are alike, in energy above all.

    Recursive bisection along the principal axis of the codewords and their norms.
    """
    points = torch.cat([book, 1.5 * book.norm(dim=1, keepdim=True)], 1).double()
    groups = [torch.arange(len(book))]
    while len(groups) < clusters:
        halves = []
        for group in groups:
            x = points[group] - points[group].mean(0)
            axis = torch.linalg.eigh(x.T @ x)[1][:, -1]
            order = group[(x @ axis).argsort(stable=True)]
            halves += [order[: len(order) // 2], order[len(order) // 2 :]]
        groups = halves
    return torch.cat(groups)


def factorise(book: torch.Tensor, p: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Codewords (K, p * q) -> integer factors u int8 (K, rank, p) and v int16 (K, rank, q) over 2^FACTOR_BITS.

    In singular-value order; each row of V makes up for the rounding of the columns of U before it.
    """
    left = book.reshape(len(book), p, -1).double()
    directions = torch.linalg.svd(left, full_matrices=False)[0][:, :, :rank]
    us, vs = [], []
    for r in range(rank):
        u = directions[:, :, r]
        u = (u * 127 / u.abs().amax(1, keepdim=True)).round()
        v = (torch.einsum("kp,kpq->kq", u, left) / u.square().sum(1, keepdim=True) * 2**FACTOR_BITS).round()
        left = left - u[:, :, None] * v[:, None] / 2**FACTOR_BITS
        us.append(u)
        vs.append(v.clamp(-32767, 32767))
    return torch.stack(us, 1).numpy().astype(np.int8), torch.stack(vs, 1).numpy().astype(np.int16)
