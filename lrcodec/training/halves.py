"""Balanced groups of points."""

import torch


def halved(points: torch.Tensor, count: int) -> torch.Tensor:
    """An order of points, int64 (n,), in which each n / count in a row are similar. points: float64 (n, d).

    count: of groups, a power of two. Each group is cut in half along its principal axis.
    """
    groups = [torch.arange(len(points))]
    while len(groups) < count:
        halves = []
        for group in groups:
            x = points[group] - points[group].mean(0)
            axis = torch.linalg.eigh(x.T @ x)[1][:, -1]
            order = group[(x @ axis).argsort(stable=True)]
            halves += [order[: len(order) // 2], order[len(order) // 2 :]]
        groups = halves
    return torch.cat(groups)
