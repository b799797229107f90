"""Rate-distortion search: which codewords a patch takes, minimising J = D + lambda * R."""

import math
from typing import NamedTuple

import torch

from .codebook import Codebook

CHUNK_SCORES, CHUNK_PATCHES = 2**22, 4096
"""Scores and patches that are computed at a time, at most: as many as fit into a processor's cache."""
GPU_CHUNKS = 64
"""So many of these chunks are one on a GPU, which has no use for small ones."""
BRANCHES = 3
"""Shapes that a path of several goes on with, at most: with more, J stays the same."""


class Bits(NamedTuple):
    """What one scale costs, in bits.

    depths: float32 (classes, D + 1). shapes: for each iteration float32 (classes, S). symmetries: for each iteration
    float32 (S, G). Between two classes, the costs of all shapes of a cluster differ by the same number of bits, as in
    tables.npz.
    """

    depths: torch.Tensor
    shapes: list[torch.Tensor]
    symmetries: list[torch.Tensor]

    def to(self, device: torch.device) -> "Bits":
        """The same, on a device."""
        return Bits(
            self.depths.to(device), [b.to(device) for b in self.shapes], [b.to(device) for b in self.symmetries]
        )


class Labels(NamedTuple):
    """The class of every patch's depth, int64 (n,), and of its shapes, (n, D). All classes are 0 without them."""

    depths: torch.Tensor
    shapes: torch.Tensor


def beam_search(
    targets: torch.Tensor,
    books: list[Codebook],
    bits: Bits,
    lam: float | torch.Tensor,
    beam: int,
    labels: Labels | None = None,
    importance: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the indices of every patch.

    targets: float32 (n, d). books: of each iteration. lam: squared error that a bit is worth, of all patches or
    float32 (n,). beam: paths of each patch. labels: the classes, where `bits` has more than one. importance: what
    squared errors are multiplied with, float32 (d,), the same in all places of a channel; None for 1.
    Returns indices int64 (n, iterations), 0 from where the patch stops, and J float32 (n,).
    """
    paths, costs = best_paths(targets, books, bits, lam, beam, 1, labels, importance)
    return paths[:, 0], costs[:, 0]


def best_paths(
    targets: torch.Tensor,
    books: list[Codebook],
    bits: Bits,
    lam: float | torch.Tensor,
    beam: int,
    count: int,
    labels: Labels | None = None,
    importance: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`beam_search` with several results for every patch, the best first: as many as `count`.

    Returns indices int64 (n, count, iterations), and J float32 (n, count), infinite where there are no more.
    """
    lams = torch.as_tensor(lam, dtype=torch.float32, device=targets.device).expand(len(targets))
    chunk = max(64, min(CHUNK_PATCHES, CHUNK_SCORES // (beam * max(len(book) // book.signs for book in books))))
    if targets.is_cuda:
        chunk *= GPU_CHUNKS
    if importance is not None and importance.eq(1).all():
        importance = None
    energies = [book.energy(importance) for book in books]
    parts = []
    for start in range(0, len(targets), chunk):
        rows = slice(start, start + chunk)
        part = None if labels is None else Labels(labels.depths[rows], labels.shapes[rows])
        parts.append(_search(targets[rows], books, energies, bits, lams[rows], beam, count, part, importance))
    indices, cost = zip(*parts, strict=True)
    return torch.cat(indices), torch.cat(cost)


def _search(
    x: torch.Tensor,
    books: list[Codebook],
    energies: list[torch.Tensor],
    bits: Bits,
    lams: torch.Tensor,
    beam: int,
    count: int,
    labels: Labels | None,
    importance: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`best_paths` of patches (n, d), all at once. energies: of the shapes of each book. lams: float32 (n,)."""
    weigh = (lambda values: values) if importance is None else (lambda values: values * importance)
    n, d = x.shape
    depth_costs = lams[:, None] * (bits.depths if labels is None else bits.depths[labels.depths])
    # The least that going on from each depth will cost: a path pays for its depth once it ends.
    going_on = depth_costs.flip(1).cummin(1)[0].flip(1)
    best = x.new_full((n, count), math.inf)
    chosen = x.new_zeros((n, count, len(books)), dtype=torch.int64)
    # The paths still growing: ids (m,) of their patches, then b paths each.
    ids = torch.arange(n, device=x.device)
    residual, cost, path = x[:, None], x.new_zeros(n, 1), chosen[:, :1].clone()
    for i, book in enumerate(books):
        error = weigh(residual.square()).sum(2)
        _keep_best(best, chosen, ids, cost + error + depth_costs[ids, i, None], path)
        classes = labels.shapes[ids, i] if labels else ids.new_zeros(len(ids))
        gains = book.largest(weigh(residual).reshape(-1, d))
        scores, shape = _best_shapes(gains, energies[i], bits, i, lams[ids], classes, beam)
        scores = scores.reshape(len(ids), residual.shape[1], -1) + (cost + error)[:, :, None]
        top, flat = scores.flatten(1).topk(min(beam, scores[0].numel()), largest=False)
        parent, shape = flat // scores.shape[2], shape.reshape(len(ids), -1).gather(1, flat)
        # A path that does not already beat stopping earlier is given up.
        keep = (top[:, 0] + going_on[ids, i + 1] < best[ids, 0]).nonzero()[:, 0]
        if not len(keep):
            return chosen, best
        ids, parent, shape, classes = ids[keep], parent[keep], shape[keep], classes[keep]
        residual = residual[keep].gather(1, parent[:, :, None].expand(-1, -1, d))
        products = book.products(weigh(residual).flatten(0, 1), shape.flatten()).unflatten(0, shape.shape)
        symmetry = (2 * products - lams[ids, None, None] * bits.symmetries[i][shape]).argmax(2)
        index = shape * book.symmetries + symmetry + 1
        residual = residual - book.draw(index.flatten()).unflatten(0, index.shape)
        path = path[keep].gather(1, parent[:, :, None].expand(-1, -1, len(books)))
        path[:, :, i] = index
        spent = bits.shapes[i][classes[:, None], shape] + bits.symmetries[i][shape, symmetry]
        cost = cost[keep].gather(1, parent) + lams[ids, None] * spent
    ended = cost + weigh(residual.square()).sum(2) + depth_costs[ids, len(books), None]
    _keep_best(best, chosen, ids, ended, path)
    return chosen, best


def _best_shapes(
    gains: torch.Tensor,
    energy: torch.Tensor,
    bits: Bits,
    i: int,
    lams: torch.Tensor,
    classes: torch.Tensor,
    beam: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The shapes that lower J most, as if each had its cheapest symmetry: change of J, and number, (m * b, up to beam).

    gains: the largest scalar product of each path and shape, float32 (m * b, S), which is overwritten. energy: of
    the shapes, float32 (S,). lams, classes: (m,), of the patches.
    """
    costs, paths = bits.shapes[i], len(gains) // len(lams)
    # What all classes have in common is added to each score, the rest, which is that of a cluster, to each block.
    common = costs.mean(0)
    blocks = lams[:, None] * (costs - common).unflatten(1, (clusters(len(common)), -1)).mean(2)[classes]
    lams = lams.repeat_interleave(paths)[:, None]
    scores = gains.mul_(-2).add_(energy).addcmul_(lams, common + bits.symmetries[i].amin(1))
    return _least(scores, blocks.repeat_interleave(paths, 0), beam if paths == 1 else min(beam, BRANCHES))


def clusters(shapes: int) -> int:
    """How many clusters S shapes are sorted into: the largest power of two that is at most the square root of S."""
    return 2 ** int(math.log2(shapes) / 2)


def _least(scores: torch.Tensor, blocks: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` least of the K sums in each row, or all, and their places.

    scores: (rows, K). blocks: (rows, B), each added to K / B scores in a row. Only the `count` blocks with the least
    minima are looked into, which is several times faster than topk over all.
    """
    size = scores.shape[1] // blocks.shape[1]
    scores = scores.unflatten(1, (-1, size))
    best = (scores.amin(2) + blocks).topk(min(count, blocks.shape[1]), largest=False)[1]
    sums = scores.gather(1, best[:, :, None].expand(-1, -1, size)) + blocks.gather(1, best)[:, :, None]
    values, flat = sums.flatten(1).topk(min(count, sums[0].numel()), largest=False)
    return values, best.gather(1, flat // size) * size + flat % size


def _keep_best(
    best: torch.Tensor, chosen: torch.Tensor, ids: torch.Tensor, cost: torch.Tensor, path: torch.Tensor
) -> None:
    """Take the paths of each patch that is still growing as if they ended here, if they beat the patch's best."""
    count = best.shape[1]
    low, which = cost.topk(min(count, cost.shape[1]), largest=False)
    better = low[:, 0] < best[ids, -1]
    at, low, which = ids[better], low[better], which[better]
    costs, paths = low, path[better].gather(1, which[:, :, None].expand(-1, -1, path.shape[2]))
    if count > 1:
        costs, paths = torch.cat([best[at], costs], 1), torch.cat([chosen[at], paths], 1)
        costs, which = costs.topk(count, largest=False)
        paths = paths.gather(1, which[:, :, None].expand(-1, -1, path.shape[2]))
    best[at], chosen[at] = costs, paths


def reconstruct(indices: torch.Tensor, books: list[Codebook]) -> torch.Tensor:
    """What the chosen codewords draw: int64 (n, iterations) -> float32 (n, d)."""
    drawn = books[0].shapes.new_zeros(len(indices), books[0].shapes.shape[1])
    for i, book in enumerate(books):
        active = indices[:, i].nonzero()[:, 0]
        drawn[active] += book.draw(indices[active, i])
    return drawn
