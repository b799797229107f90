"""Fits the codebooks of one scale: residual vector quantization with a stop index, low-rank codewords.

Each round has three steps: a beam search that minimises D + lambda * R, a joint update of the codewords, and new
rates. This is entropy-constrained vector quantization (Chou, Lookabaugh and Gray 1989) in residual form.

A codebook has S shapes, float32 (S, d), each a matrix of p rows, flattened. Patches are float32 (n, d). Their indices
are int64 (n, D) for D iterations, 0 from where a patch stops.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..encoder.codebook import Codebook
from ..encoder.search import Bits, beam_search, reconstruct
from ..format.fixed import FACTOR_BITS
from ..format.grid import Scale
from .context_tables import SYMMETRY_PRIOR
from .progress import Progress
from .work import Tensors


def bits_of(indices: torch.Tensor, scale: Scale) -> Bits:
    """Ideal code lengths of indices (n, D) and of the depths that they reach, without contexts."""
    return lengths(count(indices, scale))


def count(indices: torch.Tensor, scale: Scale) -> list[torch.Tensor]:
    """How often indices (n, D) reach each depth, float32 (D + 1,); then for each iteration how often they take each
    shape with each symmetry, float32 (S, G).
    """
    depths = torch.bincount((indices > 0).sum(1), minlength=len(scale.codewords) + 1)
    taken = (
        torch.bincount(column, minlength=k + 1)[1:].reshape(-1, scale.symmetries)
        for column, k in zip(indices.T, scale.codewords, strict=True)
    )
    return [counts.float() for counts in (depths, *taken)]


def lengths(counts: list[torch.Tensor], prior: float = 0.3) -> Bits:
    """Ideal code lengths, without contexts, from counts as `count` gives them. `prior` is added to each count."""
    depths, *taken = counts

    def of_rows(uses: torch.Tensor) -> torch.Tensor:
        return -torch.log2(uses / uses.sum(-1, keepdim=True))

    shapes = [of_rows(c.sum(1) + prior)[None] for c in taken]
    return Bits(of_rows(depths + prior)[None], shapes, [of_rows(c + SYMMETRY_PRIOR / c.shape[1]) for c in taken])


def _chained(parts: list[Bits]) -> Bits:
    """The bits of several iterations from those of each alone. An iteration alone has two depths: stop or go on."""
    going = torch.stack([part.depths[0, 1] for part in parts]).cumsum(0)
    stopping = torch.stack([part.depths[0, 0] for part in parts])
    depths = torch.cat([stopping + torch.cat([going.new_zeros(1), going[:-1]]), going[-1:]])
    return Bits(depths[None], [part.shapes[0] for part in parts], [part.symmetries[0] for part in parts])


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
    weights, means: for each iteration float32 (S,) and (S, d). A weight is a number of patches.
    """

    def __init__(self, books: list[Codebook], p: int, rank: int, memory: float = 1.0):
        self.p, self.rank, self.keep = p, rank, 1 - 1 / memory
        self.weights = [book.shapes.new_zeros(len(book.shapes)) for book in books]
        self.means = [book.shapes.clone() for book in books]

    def update(
        self, patches: torch.Tensor, indices: torch.Tensor, books: list[Codebook], sweeps: int = 2
    ) -> torch.Tensor:
        """Move every shape of `books` to the mean of what it should draw, in turn, while the others stay.

        indices: of the patches. sweeps: how often all have their turn. Returns what is left of the patches, (n, d).
        """
        residual = patches - reconstruct(indices, books)
        before = [self.keep * weight for weight in self.weights]
        old_means = list(self.means)
        for _ in range(sweeps):
            for i, book in enumerate(books):
                active = indices[:, i].nonzero()[:, 0]
                index = indices[active, i]
                shape = (index - 1) // book.symmetries
                error = residual[active]
                counts = torch.bincount(shape, minlength=len(book.shapes)).float()
                wanted = (counts[:, None] * book.shapes).index_add_(0, shape, book.aligned(error, index))
                weight = before[i] + counts
                mean = (before[i][:, None] * old_means[i] + wanted) / weight.clamp(min=1e-6)[:, None]
                self.means[i] = torch.where(weight[:, None] > 0, mean, book.shapes)
                self.weights[i] = weight
                variance = error.square().mean().item() if len(active) else 0.0
                shapes = shrink_to_rank(self.means[i], self.p, self.rank, weight, variance)
                books[i] = Codebook(shapes, self.p, book.symmetries)
                residual[active] = error - books[i].draw(index) + book.draw(index)
        return residual

    def revive(
        self,
        indices: torch.Tensor,
        books: list[Codebook],
        residual: torch.Tensor,
        random: torch.Generator,
        least: float,
    ) -> list[torch.Tensor]:
        """Replace shapes of less weight than `least` by what badly drawn patches would have needed.

        indices, residual: of the batch that was the last to `update`. random: on the device of all these. Returns for
        each iteration the numbers of the shapes that were replaced, int64.
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
                needed = residual[pick] + book.draw(indices[pick, i])
                self.weights[i][dead], self.means[i][dead] = 1.0, needed
                shapes = book.shapes.clone()
                shapes[dead] = shrink_to_rank(needed, self.p, self.rank, needed.new_ones(len(dead)), 0.0)
                books[i] = Codebook(shapes, self.p, book.symmetries)
            replaced.append(dead)
        return replaced


@dataclass(frozen=True)
class ScaleCodebooks:
    """The codebooks of one scale.

    books: of each iteration. bits: what they cost, without contexts. weights, means: of the `Averages` that they come
    from.
    """

    books: list[Codebook]
    bits: Bits
    weights: list[torch.Tensor]
    means: list[torch.Tensor]

    def to(self, device: torch.device) -> "ScaleCodebooks":
        """The same, on a device."""
        return ScaleCodebooks(
            [book.to(device) for book in self.books],
            self.bits.to(device),
            [weight.to(device) for weight in self.weights],
            [mean.to(device) for mean in self.means],
        )

    def to_tensors(self) -> Tensors:
        """All of it by name, without sharing memory."""
        tensors = {"depths": self.bits.depths}
        lists = {"shapes": [book.shapes for book in self.books], "bits": self.bits.shapes}
        lists |= {"symmetries": self.bits.symmetries, "weight": self.weights, "mean": self.means}
        for name, parts in lists.items():
            tensors |= {f"{name}{i}": part.clone() for i, part in enumerate(parts)}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Tensors, scale: Scale) -> "ScaleCodebooks":
        """The inverse of `to_tensors`."""
        names = ("shapes", "bits", "symmetries", "weight", "mean")
        shapes, bits, symmetries, weights, means = (
            [tensors[f"{name}{i}"] for i in range(len(scale.shapes))] for name in names
        )
        books = [Codebook(part, scale.patch, scale.symmetries) for part in shapes]
        return cls(books, Bits(tensors["depths"], bits, symmetries), weights, means)


def fit(
    patches: torch.Tensor,
    scale: Scale,
    lam: float,
    rank: int,
    rounds: int,
    seed: int,
    progress: Progress,
    start_patches: int = 150_000,
) -> ScaleCodebooks:
    """Fit the codebooks of a scale to patches (n, d).

    lam: squared error that a bit is worth. rank: of a codeword.
    The start is greedy, one iteration after the other, on at most `start_patches`. The rounds after it are over all
    iterations and all patches.
    """
    random = torch.Generator().manual_seed(seed)
    sample = patches[torch.randperm(len(patches), generator=random)[:start_patches]]
    books: list[Codebook] = []
    parts: list[Bits] = []
    for count in scale.shapes:
        book, part = _start(sample, replace(scale, shapes=(count,)), lam, rank, random)
        books.append(book)
        parts.append(part)
        indices, _ = beam_search(sample, [book], part, lam, 1)
        going = indices[:, 0] > 0
        sample = (sample - reconstruct(indices, [book]))[going] if going.sum() > count // 4 else sample
    bits = _chained(parts)
    averages = Averages(books, scale.patch, rank)
    for t in range(rounds):
        indices, cost = beam_search(patches, books, bits, lam, 1)
        residual = averages.update(patches, indices, books)
        bits = bits_of(indices, scale)
        if t < rounds - 1:
            _revive(averages, indices, books, residual, bits, random)
        progress((t + 1) / rounds, f"round {t + 1}/{rounds}: J {cost.mean():.1f}, MSE {residual.square().mean():.2f}")
    return ScaleCodebooks(books, bits, averages.weights, averages.means)


def _start(sample: torch.Tensor, scale: Scale, lam: float, rank: int, random: torch.Generator) -> tuple[Codebook, Bits]:
    """The codebook of a scale of one iteration, and its bits: four rounds, from random patches of a sample (n, d)."""
    (count,), p = scale.shapes, scale.patch
    energy = sample.square().sum(1)
    pick = torch.multinomial(energy.sqrt() + 1e-6, count, replacement=len(sample) < count, generator=random)
    shapes = shrink_to_rank(0.9 * sample[pick], p, rank, torch.ones(count), 0.0)
    books = [Codebook(shapes, p, scale.symmetries)]
    bits = lengths([torch.ones(2), torch.ones(count, scale.symmetries)])
    averages = Averages(books, p, rank)
    for t in range(4):
        indices, _ = beam_search(sample, books, bits, lam, 1)
        residual = averages.update(sample, indices, books, sweeps=1)
        bits = bits_of(indices, scale)
        if t < 3:
            _revive(averages, indices, books, residual, bits, random)
    return books[0], bits


def _revive(
    averages: Averages,
    indices: torch.Tensor,
    books: list[Codebook],
    residual: torch.Tensor,
    bits: Bits,
    random: torch.Generator,
) -> None:
    """Replace shapes that hardly any patch takes. Their bits become the median of all."""
    for of_shapes, replaced in zip(bits.shapes, averages.revive(indices, books, residual, random, 3.0), strict=True):
        of_shapes[0, replaced] = of_shapes.median()


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


def factors_of(scales: tuple[Scale, ...], books: list[list[Codebook]], rank: int) -> dict[str, np.ndarray]:
    """The factors u{s} and v{s} of all iterations of every scale, as in tables.npz, from books[position][iteration]."""
    factors = {}
    for scale, of_scale in zip(scales, books, strict=True):
        pairs = [factorise(book.shapes, scale.patch, rank) for book in (of_scale[:1] if scale.shared else of_scale)]
        for name, parts in zip("uv", zip(*pairs, strict=True), strict=True):
            factors[f"{name}{scale.scale}"] = np.concatenate(parts)
    return factors
