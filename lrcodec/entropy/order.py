"""The order of symbols in a file, and the features of their neighbours that contexts are made of: integers alone."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..format.grid import Scale

DEPTH_FEATURES, INDEX_FEATURES = 3, 4
MAX_FEATURE = 255


class Group(NamedTuple):
    """Symbols that are coded together, of all images of a batch: the depths of a phase or the indices of an iteration.

    position: of the scale in the model's list. iteration: None for depths. phase: of the checkerboard, 0 for indices.
    at: int64 (n,), places of the patches in the grids of all images, one after the other, each in raster order.
    features: arrays (n,) of 0..MAX_FEATURE, DEPTH_FEATURES or INDEX_FEATURES of them.
    """

    position: int
    iteration: int | None
    phase: int
    at: np.ndarray
    features: tuple[np.ndarray, ...]


Coder = Callable[[Group], np.ndarray]
"""Turns a group into its depths, or its indices from 1, (n,)."""


def walk(
    scales: Sequence[Scale],
    energies: Sequence[np.ndarray],
    grids: Sequence[tuple[int, int]],
    count: int,
    coder: Coder,
    everywhere: bool = False,
) -> list[np.ndarray]:
    """Visit all groups of `count` images in the order of a file.

    grids: rows and columns of every scale. energies: for each scale uint8 (rows,), the energy level of every codeword.
    coder: turns a group into depths or indices. everywhere: visit every patch at every iteration, to learn what context
    it would have there; the coder then returns 0 where there is no index.
    Returns the index planes: a list, one a scale, of int64 (count, rows, columns, iterations).
    """
    planes = []
    totals = np.zeros((count, 1, 1), np.int64)
    for position, (scale, levels, grid) in enumerate(zip(scales, energies, grids, strict=True)):
        if position == 0:
            # Nothing is above the coarsest scale: the place in the image says something, where images are aligned.
            above = [np.tile(np.minimum(place, MAX_FEATURE).reshape(-1), count) for place in np.indices(grid)]
        else:
            times = scales[position - 1].span // scale.span
            above = [_repeat(values, times, *grid) for values in (totals, _neighbours(totals))]
        depths = _visit_depths(position, np.zeros((count, *grid), np.int64), above, coder)
        plane, totals = _visit_indices(position, scale, levels, depths, above, coder, everywhere)
        planes.append(plane)
    return planes


def _visit_depths(position: int, depths: np.ndarray, above: list[np.ndarray], coder: Coder) -> np.ndarray:
    """Visit the two groups of depths of a scale, and put what the coder returns into `depths`: zeros, of its grids.

    above: features (n,) of the patches: the total of the parent, and the sum over the neighbours of the parent.
    """
    phases = np.tile(np.indices(depths.shape[1:]).sum(0) % 2, (len(depths), 1, 1)).reshape(-1)
    for phase in (0, 1):
        at = np.flatnonzero(phases == phase)
        if len(at):
            beside = np.minimum(_neighbours(depths).take(at), MAX_FEATURE)
            features = (beside, *(feature.take(at) for feature in above))
            depths.put(at, coder(Group(position, None, phase, at, features)))
    return depths


def _visit_indices(
    position: int,
    scale: Scale,
    energy_levels: np.ndarray,
    depths: np.ndarray,
    above: list[np.ndarray],
    coder: Coder,
    everywhere: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Visit the groups of indices of a scale: iteration by iteration, the patches that are deep enough.

    Returns the index plane (count, rows, columns, iterations), and the totals of energy (count, rows, columns).
    """
    plane = np.zeros((depths.size, len(scale.codewords)), np.int64)
    totals = np.zeros(depths.size, np.int64)
    at, remaining = np.arange(depths.size), depths.reshape(-1)
    beside = np.minimum(_neighbours(depths), MAX_FEATURE).reshape(-1)
    parent, previous = above
    for i in range(len(scale.codewords)):
        if not everywhere:
            active = np.flatnonzero(remaining > 0)
            at, remaining, beside, parent, previous = (
                values.take(active) for values in (at, remaining, beside, parent, previous)
            )
        if not len(at):
            break
        index = coder(Group(position, i, 0, at, (np.maximum(remaining, 1), beside, parent, previous)))
        plane[at, i] = index
        energy = energy_levels.take(scale.starts[i] + np.maximum(index, 1) - 1).astype(np.int64)
        previous = np.where(index > 0, energy, previous)
        totals[at] += np.where(index > 0, energy, 0)
        remaining = remaining - 1
    return plane.reshape(*depths.shape, -1), totals.reshape(depths.shape)


def _neighbours(values: np.ndarray) -> np.ndarray:
    """Sums over the four neighbours in grids (count, rows, columns), nothing outside them."""
    out = np.zeros_like(values)
    out[:, 1:] += values[:, :-1]
    out[:, :-1] += values[:, 1:]
    out[:, :, 1:] += values[:, :, :-1]
    out[:, :, :-1] += values[:, :, 1:]
    return out


def _repeat(values: np.ndarray, times: int, rows: int, columns: int) -> np.ndarray:
    """Each value of grids (count, ., .) for all the patches under it, at most 255, flat."""
    return np.minimum(values, MAX_FEATURE).repeat(times, 1).repeat(times, 2)[:, :rows, :columns].reshape(-1)


def symbols_of(planes: list[np.ndarray], group: Group) -> np.ndarray:
    """The symbols (n,) of a group, from complete index planes."""
    plane = planes[group.position]
    flat = plane.reshape(-1, plane.shape[3])
    if group.iteration is None:
        return np.count_nonzero(flat[group.at], axis=1)
    return flat[group.at, group.iteration]
