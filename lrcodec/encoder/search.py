"""Rate-distortion search: which codewords a patch takes, minimising J = D + lambda * R."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

CHUNK_SCORES = 2**22
"""Scores that are computed at a time: as many as fit into a processor's cache."""
BRANCHES = 3
"""Codewords that a path of several goes on with, at most: with more, J stays the same."""


class Bits(NamedTuple):
    """What one scale costs, in bits: depths float32 (classes, D + 1), indices for each iteration float32 (classes, K).

    Between two classes, the costs of all codewords of a cluster differ by the same number of bits, as in tables.npz.
    """

    depths: torch.Tensor
    indices: list[torch.Tensor]


class Labels(NamedTuple):
    """The class of every patch's depth, int64 (n,), and of its indices, (n, D). All classes are 0 without them."""

    depths: torch.Tensor
    indices: torch.Tensor


def beam_search(
    targets: torch.Tensor,
    books: list[torch.Tensor],
    bits: Bits,
    lam: float,
    beam: int,
    labels: Labels | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose an index path for every patch.

    targets: float32 (n, d). books: for each iteration float32 (K, d). lam: squared error that a bit is worth. beam:
    paths that are kept at each step. labels: which of the classes of `bits` each patch has; None if there is only one.
    Returns indices int64 (n, iterations), 0 from where the patch stops, and J float32 (n,).
    """
    chunk = max(64, min(4096, CHUNK_SCORES // (beam * max(map(len, books)))))
    parts = []
    for start in range(0, len(targets), chunk):
        rows = slice(start, start + chunk)
        part = None if labels is None else Labels(labels.depths[rows], labels.indices[rows])
        parts.append(_search(targets[rows], books, bits, lam, beam, part))
    indices, cost = zip(*parts, strict=True)
    return torch.cat(indices), torch.cat(cost)


def _search(
    x: torch.Tensor, books: list[torch.Tensor], bits: Bits, lam: float, beam: int, labels: Labels | None
) -> tuple[torch.Tensor, torch.Tensor]:
    n, d = x.shape
    depth_costs = lam * (bits.depths.expand(n, -1) if labels is None else bits.depths[labels.depths])
    # The least that going on from each depth will cost: a path pays for its depth once it ends.
    going_on = depth_costs.flip(1).cummin(1)[0].flip(1)
    best = x.new_full((n,), math.inf)
    chosen = x.new_zeros((n, len(books)), dtype=torch.int64)
    # The paths still growing: ids (m,) of their patches, then b paths each.
    ids = torch.arange(n, device=x.device)
    residual, rate, path = x[:, None], x.new_zeros(n, 1), chosen[:, None].clone()
    for i, book in enumerate(books):
        energy = residual.square().sum(2)
        _keep_best(best, chosen, ids, rate + energy + depth_costs[ids, i, None], path)
        classes = labels.indices[ids, i] if labels else ids.new_zeros(len(ids))
        own, paths = bits.indices[i], residual.shape[1]
        # What all classes have in common is added to each score, the rest, which is that of a cluster, to each block.
        common, count = own.mean(0), clusters(len(book))
        scores = torch.addmm(book.square().sum(1) + lam * common, residual.reshape(-1, d), -2 * book.T)
        blocks = lam * (own - common).unflatten(1, (count, -1)).mean(2)
        most = beam if paths == 1 else min(beam, BRANCHES)
        scores, codeword = _least(scores, blocks[classes].repeat_interleave(paths, 0), most)
        scores = scores.reshape(len(ids), paths, -1) + (rate + energy)[:, :, None]
        top, flat = scores.flatten(1).topk(min(beam, scores[0].numel()), largest=False)
        parent, k = flat // scores.shape[2], codeword.reshape(len(ids), -1).gather(1, flat)
        # A path that does not already beat stopping earlier is given up.
        keep = top[:, 0] + going_on[ids, i + 1] < best[ids]
        ids, parent, k, classes = ids[keep], parent[keep], k[keep], classes[keep]
        if not len(ids):
            return chosen, best
        residual = residual[keep].gather(1, parent[:, :, None].expand(-1, -1, d)) - book[k]
        path = path[keep].gather(1, parent[:, :, None].expand(-1, -1, len(books)))
        path[:, :, i] = k + 1
        rate = rate[keep].gather(1, parent) + lam * own[classes[:, None], k]
    _keep_best(best, chosen, ids, rate + residual.square().sum(2) + depth_costs[ids, len(books), None], path)
    return chosen, best


def clusters(codewords: int) -> int:
    """How many clusters K codewords are sorted into: the largest power of two that is at most the square root of K."""
    return 2 ** int(math.log2(codewords) / 2)


def _least(scores: torch.Tensor, blocks: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` least of the K sums in each row, or all, and their places.

    scores: (rows, K). blocks: (rows, B), each added to K / B scores in a row. Only the `count` blocks with the least
    minima are looked into, which is several times faster than topk over all.
    """
    size = scores.shape[1] // blocks.shape[1]
    scores = scores.unflatten(1, (-1, size))
    best = (scores.amin(2) + blocks).topk(min(count, blocks.shape[1]), largest=False)[1]
    some = scores.gather(1, best[:, :, None].expand(-1, -1, size)) + blocks.gather(1, best)[:, :, None]
    values, flat = some.flatten(1).topk(min(count, some[0].numel()), largest=False)
    return values, best.gather(1, flat // size) * size + flat % size


def _keep_best(
    best: torch.Tensor, chosen: torch.Tensor, ids: torch.Tensor, cost: torch.Tensor, path: torch.Tensor
) -> None:
    """Take the cheapest path of each patch that is still growing as if it ended here, if it beats the patch's best."""
    low, which = cost.min(1)
    better = low < best[ids]
    at = ids[better]
    best[at] = low[better]
    chosen[at] = path[better, which[better]]


def reconstruct(indices: torch.Tensor, books: list[torch.Tensor]) -> torch.Tensor:
    """Sum of the chosen codewords: (n, iterations) -> float32 (n, d)."""
    out = books[0].new_zeros(len(indices), books[0].shape[1])
    for i, book in enumerate(books):
        active = indices[:, i].nonzero()[:, 0]
        # Not book[...]: its gradient would be summed by several threads in any order.
        out[active] += F.embedding(indices[active, i] - 1, book)
    return out
