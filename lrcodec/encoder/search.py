"""Rate-distortion search: which codewords a patch takes, minimising J = D + lambda * R."""

import math

import torch
import torch.nn.functional as F

Costs = list[tuple[torch.Tensor, torch.Tensor]]
"""For each iteration: bits (classes, K + 1) of every index, stop first, and the class (n,) of every patch."""


def beam_search(
    targets: torch.Tensor, books: list[torch.Tensor], costs: Costs, lam: float, beam: int, chunk: int = 4096
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose an index path for every patch.

    targets: float32 (n, d); books: for each iteration float32 (K, d); lam: squared error that a bit is worth.
    Returns indices int64 (n, iterations), 0 from where the patch stops, and J float32 (n,).
    """
    parts = []
    for start in range(0, len(targets), chunk):
        rows = slice(start, start + chunk)
        parts.append(_search(targets[rows], books, [(bits, classes[rows]) for bits, classes in costs], lam, beam))
    indices, cost = zip(*parts, strict=True)
    return torch.cat(indices), torch.cat(cost)


def _search(
    x: torch.Tensor, books: list[torch.Tensor], costs: Costs, lam: float, beam: int
) -> tuple[torch.Tensor, torch.Tensor]:
    n, d = x.shape
    best = x.new_full((n,), math.inf)
    chosen = x.new_zeros((n, len(books)), dtype=torch.int64)
    # The paths still growing: ids (m,) of their patches, then b paths each.
    ids = torch.arange(n, device=x.device)
    residual, rate, path = x[:, None], x.new_zeros(n, 1), chosen[:, None].clone()
    for i, book in enumerate(books):
        bits, classes = costs[i]
        energy = residual.square().sum(2)
        stop_bits = bits[classes[ids], 0]
        _keep_best(best, chosen, ids, rate + energy + lam * stop_bits[:, None], path)
        scores = (residual.reshape(-1, d) @ (-2 * book).T).reshape(len(ids), -1, len(book))
        scores += rate[:, :, None] + energy[:, :, None]
        constant = book.square().sum(1) + lam * bits[:, 1:]
        scores += constant[classes[ids]][:, None] if len(bits) > 1 else constant
        scores = scores.reshape(len(ids), -1)
        top, flat = scores.topk(min(beam, scores.shape[1]), largest=False)
        # A path that does not already beat stopping earlier is given up.
        keep = top[:, 0] < best[ids]
        ids, flat = ids[keep], flat[keep]
        if not len(ids):
            return chosen, best
        parent, k = flat // len(book), flat % len(book)
        residual = residual[keep].gather(1, parent[:, :, None].expand(-1, -1, d)) - book[k]
        path = path[keep].gather(1, parent[:, :, None].expand(-1, -1, len(books)))
        path[:, :, i] = k + 1
        rate = rate[keep].gather(1, parent) + lam * bits[classes[ids][:, None], k + 1]
    _keep_best(best, chosen, ids, rate + residual.square().sum(2), path)
    return chosen, best


def _keep_best(
    best: torch.Tensor, chosen: torch.Tensor, ids: torch.Tensor, cost: torch.Tensor, path: torch.Tensor
) -> None:
    """Where a path that ends here is cheaper than the patch's best so far, take it."""
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


def plain_costs(bits: list[torch.Tensor], n: int) -> Costs:
    """Costs without contexts: the same bits (K + 1,) for all n patches."""
    classes = torch.zeros(n, dtype=torch.int64, device=bits[0].device)
    return [(b[None], classes) for b in bits]
