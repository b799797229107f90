"""The order of symbols in a file, and the features of their neighbours that contexts are made of: integers alone."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..format.grid import Scale

DEPTH_FEATURES, INDEX_FEATURES = 3, 4


class Group(NamedTuple):
    """Symbols that are coded together, of all images of a batch: the depths of a phase or the indices of an iteration.

    position: of the scale in the model's list. iteration: None for depths. phase: of the checkerboard, 0 for indices.
    at: int64 (n,), places of the patches in the grids of all images, one after the other, each in raster order.
    features: arrays (n,) of 0..255, DEPTH_FEATURES or INDEX_FEATURES of them.
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
    parent = np.zeros((count, 1, 1), np.int64)
    for position, (scale, energy_levels, (rows, columns)) in enumerate(zip(scales, energies, grids, strict=True)):
        if position == 0:
            # Nothing is above the coarsest scale: the place in the image says something, where images are aligned.
            above, around = (np.tile(np.minimum(n, 255).reshape(-1), count) for n in np.indices((rows, columns)))
        else:
            times = scales[position - 1].span // scale.span
            above, around = (_repeat(feature, times, rows, columns) for feature in (parent, _neighbours(parent)))
        depth = np.zeros((count, rows, columns), np.int64)
        colour = np.tile((np.arange(rows)[:, None] + np.arange(columns)) % 2, (count, 1, 1)).reshape(-1)
        for phase in (0, 1):
            at = np.flatnonzero(colour == phase)
            if len(at):
                beside = np.minimum(_neighbours(depth).take(at), 255)
                group = Group(position, None, phase, at, (beside, above.take(at), around.take(at)))
                depth.put(at, coder(group))
        beside = np.minimum(_neighbours(depth), 255).reshape(-1)
        left, previous = depth.reshape(-1), around
        plane = np.zeros((depth.size, len(scale.codewords)), np.int64)
        total = np.zeros(depth.size, np.int64)
        at = np.arange(depth.size)
        for i in range(len(scale.codewords)):
            if not everywhere:
                going = np.flatnonzero(left > 0)
                at, left, beside, above, previous = (a.take(going) for a in (at, left, beside, above, previous))
            if not len(at):
                break
            index = coder(Group(position, i, 0, at, (np.maximum(left, 1), beside, above, previous)))
            plane[at, i] = index
            energy = energy_levels.take(scale.starts[i] + np.maximum(index, 1) - 1).astype(np.int64)
            previous = np.where(index > 0, energy, previous)
            total[at] += np.where(index > 0, energy, 0)
            left = left - 1
        planes.append(plane.reshape(count, rows, columns, -1))
        parent = total.reshape(count, rows, columns)
    return planes


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
    return np.minimum(values, 255).repeat(times, 1).repeat(times, 2)[:, :rows, :columns].reshape(-1)


def known(planes: list[np.ndarray], group: Group) -> np.ndarray:
    """The symbols (n,) of a group in planes that are whole already."""
    plane = planes[group.position]
    flat = plane.reshape(-1, plane.shape[3])
    if group.iteration is None:
        return np.count_nonzero(flat[group.at], axis=1)
    return flat[group.at, group.iteration]
