"""Fits the codebooks of one scale: residual vector quantization with a stop index, low-rank codewords.

Each round has three steps: a beam search that minimises D + lambda * R, a joint update of the codewords, and new
rates. This is entropy-constrained vector quantization (Chou, Lookabaugh and Gray 1989) in residual form.

A codebook is float32 (K, d): K codewords, each a matrix of p rows, flattened. Patches are float32 (n, d). Their indices
are int64 (n, D) for D iterations, 0 from where a patch stops.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..encoder.search import Bits, beam_search, reconstruct
from ..format.fixed import FACTOR_BITS
from ..format.grid import Scale
from .progress import Progress
from .work import Tensors


def bits_of(indices: torch.Tensor, codewords: tuple[int, ...]) -> Bits:
    """Ideal code lengths of indices (n, D) and of the depths that they reach, without contexts."""
    return lengths(count(indices, codewords))


def count(indices: torch.Tensor, codewords: tuple[int, ...]) -> list[torch.Tensor]:
    """How often indices (n, D) reach each depth, float32 (D + 1,); then for each iteration how often they take each
    codeword, float32 (K,).
    """
    depths = torch.bincount((indices > 0).sum(1), minlength=len(codewords) + 1)
    taken = (torch.bincount(column, minlength=k + 1)[1:] for column, k in zip(indices.T, codewords, strict=True))
    return [counts.float() for counts in (depths, *taken)]


def lengths(counts: list[torch.Tensor], prior: float = 0.3) -> Bits:
    """Ideal code lengths, without contexts, from counts as `count` gives them. `prior` is added to each count."""
    depths, *taken = (-torch.log2((c + prior) / (c + prior).sum())[None] for c in counts)
    return Bits(depths, taken)


def _chained(parts: list[Bits]) -> Bits:
    """The bits of several iterations from those of each alone. An iteration alone has two depths: stop or go on."""
    going = torch.stack([part.depths[0, 1] for part in parts]).cumsum(0)
    stopping = torch.stack([part.depths[0, 0] for part in parts])
    depths = torch.cat([stopping + torch.cat([going.new_zeros(1), going[:-1]]), going[-1:]])
    return Bits(depths[None], [part.indices[0] for part in parts])


def shrink_to_rank(books: torch.Tensor, p: int, rank: int, counts: torch.Tensor, variance: float) -> torch.Tensor:
    """Cut codewords (K, p * q) to `rank`, and shrink their singular values to what the patches support.

    counts: float32 (K,), patches that each codeword is the mean of. variance: of a patch about its codeword, in each
    entry. The shrinkage is the optimal one of Gavish and Donoho (2017) for the Frobenius norm: the mean of n patches
    carries noise of variance / n in every entry. The first singular value keeps at least half its size.
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


class Averages:
    """What the codewords of one scale should have drawn, on average over batches of patches.

    books: of each iteration, as they are at the start. p, rank: rows and rank of a codeword.
    memory: a batch weighs 1 - 1 / memory of what the one after it does. With 1 each batch stands alone.
    weights, means: for each iteration float32 (K,) and (K, d). A weight is a number of patches.
    """

    def __init__(self, books: list[torch.Tensor], p: int, rank: int, memory: float = 1.0):
        self.p, self.rank, self.keep = p, rank, 1 - 1 / memory
        self.weights = [book.new_zeros(len(book)) for book in books]
        self.means = [book.clone() for book in books]

    def update(
        self, patches: torch.Tensor, indices: torch.Tensor, books: list[torch.Tensor], sweeps: int = 2
    ) -> torch.Tensor:
        """Move every codeword of `books` to the mean of what it should draw, in turn, while the others stay.

        indices: of the patches. sweeps: how often all have their turn. Returns what is left of the patches, (n, d).
        """
        residual = patches - reconstruct(indices, books)
        before = [self.keep * weight for weight in self.weights]
        old_means = list(self.means)
        for _ in range(sweeps):
            for i, book in enumerate(books):
                active = indices[:, i].nonzero()[:, 0]
                k = indices[active, i] - 1
                error = residual[active]
                counts = torch.bincount(k, minlength=len(book)).float()
                wanted = (counts[:, None] * book).index_add_(0, k, error)
                weight = before[i] + counts
                mean = (before[i][:, None] * old_means[i] + wanted) / weight.clamp(min=1e-6)[:, None]
                self.means[i] = torch.where(weight[:, None] > 0, mean, book)
                self.weights[i] = weight
                variance = error.square().mean().item() if len(active) else 0.0
                books[i] = shrink_to_rank(self.means[i], self.p, self.rank, weight, variance)
                residual[active] = error - (books[i] - book)[k]
        return residual

    def revive(
        self,
        indices: torch.Tensor,
        books: list[torch.Tensor],
        residual: torch.Tensor,
        random: torch.Generator,
        least: float,
    ) -> list[torch.Tensor]:
        """Replace codewords of less weight than `least` by what badly drawn patches would have needed.

        indices, residual: of the batch that was the last to `update`. Returns for each iteration the places of the
        codewords that were replaced, int64.
        """
        replaced = []
        for i, book in enumerate(books):
            dead = (self.weights[i] < least).nonzero()[:, 0]
            active = indices[:, i].nonzero()[:, 0][: 2**24 - 1]  # as many as multinomial takes
            if len(active) <= 10:
                dead = dead[:0]
            if len(dead):
                error = residual[active].square().sum(1)
                pick = active[torch.multinomial(error + 1e-6, len(dead), replacement=True, generator=random)]
                needed = residual[pick] + book[indices[pick, i] - 1]
                self.weights[i][dead], self.means[i][dead] = 1.0, needed
                book[dead] = shrink_to_rank(needed, self.p, self.rank, torch.ones(len(dead)), 0.0)
            replaced.append(dead)
        return replaced


@dataclass(frozen=True)
class ScaleCodebooks:
    """The codebooks of one scale.

    books: for each iteration float32 (K, d). bits: what they cost, without contexts. weights, means: of the `Averages`
    that they come from.
    """

    books: list[torch.Tensor]
    bits: Bits
    weights: list[torch.Tensor]
    means: list[torch.Tensor]

    def to_tensors(self) -> Tensors:
        """All of it by name, without sharing memory."""
        tensors = {"depths": self.bits.depths}
        lists = {"book": self.books, "bits": self.bits.indices, "weight": self.weights, "mean": self.means}
        for name, parts in lists.items():
            tensors |= {f"{name}{i}": part.clone() for i, part in enumerate(parts)}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Tensors, iterations: int) -> "ScaleCodebooks":
        """The inverse of `to_tensors`."""
        books, bits, weights, means = (
            [tensors[f"{name}{i}"] for i in range(iterations)] for name in ("book", "bits", "weight", "mean")
        )
        return cls(books, Bits(tensors["depths"], bits), weights, means)


def fit(
    patches: torch.Tensor,
    codewords: tuple[int, ...],
    lam: float,
    p: int,
    rank: int,
    rounds: int,
    seed: int,
    progress: Progress,
    start_patches: int = 150_000,
) -> ScaleCodebooks:
    """Fit codebooks to patches (n, d).

    codewords: K of each iteration. lam: squared error that a bit is worth. p, rank: rows and rank of a codeword.
    The start is greedy, one iteration after the other, on at most `start_patches`. The rounds after it are over all
    iterations and all patches.
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
    averages = Averages(books, p, rank)
    for t in range(rounds):
        indices, cost = beam_search(patches, books, bits, lam, 1)
        residual = averages.update(patches, indices, books)
        bits = bits_of(indices, codewords)
        if t < rounds - 1:
            _revive(averages, indices, books, residual, bits, random)
        progress((t + 1) / rounds, f"round {t + 1}/{rounds}: J {cost.mean():.1f}, MSE {residual.square().mean():.2f}")
    return ScaleCodebooks(books, bits, averages.weights, averages.means)


def _start(
    sample: torch.Tensor, k: int, lam: float, p: int, rank: int, random: torch.Generator
) -> tuple[torch.Tensor, Bits]:
    """One codebook of k codewords and what it costs: four rounds, from randomly picked patches of a sample (n, d)."""
    energy = sample.square().sum(1)
    pick = torch.multinomial(energy.sqrt() + 1e-6, k, replacement=len(sample) < k, generator=random)
    books = [shrink_to_rank(0.9 * sample[pick], p, rank, torch.ones(k), 0.0)]
    bits = Bits(torch.ones(1, 2), [torch.full((1, k), math.log2(k))])
    averages = Averages(books, p, rank)
    for t in range(4):
        indices, _ = beam_search(sample, books, bits, lam, 1)
        residual = averages.update(sample, indices, books, sweeps=1)
        bits = bits_of(indices, (k,))
        if t < 3:
            _revive(averages, indices, books, residual, bits, random)
    return books[0], bits


def _revive(
    averages: Averages,
    indices: torch.Tensor,
    books: list[torch.Tensor],
    residual: torch.Tensor,
    bits: Bits,
    random: torch.Generator,
) -> None:
    """Replace codewords that hardly any patch takes. Their bits become the median of all."""
    for lengths, replaced in zip(bits.indices, averages.revive(indices, books, residual, random, 3.0), strict=True):
        lengths[0, replaced] = lengths.median()


def balanced_clusters(book: torch.Tensor, clusters: int) -> torch.Tensor:
    """An order of the codewords, int64 (K,), in which each K / clusters in a row are alike, above all in energy.

    clusters: a power of two. Each group is cut in half along the principal axis of its codewords and their norms.
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
    """Integer factors of codewords (K, p * q): u int8 (K, rank, p), and v int16 (K, rank, q) over 2^FACTOR_BITS.

    They are in the order of their singular values. Each row of V makes up for the rounding of those before it.
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


def factors_of(scales: tuple[Scale, ...], books: list[list[torch.Tensor]], rank: int) -> dict[str, np.ndarray]:
    """The factors u{s} and v{s} of all iterations of every scale, as in tables.npz, from books[position][iteration]."""
    factors = {}
    for scale, of_scale in zip(scales, books, strict=True):
        pairs = [factorise(book, scale.patch, rank) for book in (of_scale[:1] if scale.shared else of_scale)]
        for name, parts in zip("uv", zip(*pairs, strict=True), strict=True):
            factors[f"{name}{scale.scale}"] = np.concatenate(parts)
    return factors
