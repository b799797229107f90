"""The order of symbols in a file: groups of depths and of indices, each with the features of its contexts."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..format.grid import Scale
from .features import Surroundings, Traits, row_of


class Group(NamedTuple):
    """Symbols that are coded together, of all images of a batch: the depths of a phase or the indices of an iteration.

    position: of the scale in the model's list. iteration: None for depths.
    phase: of the checkerboard, for depths and for indices of iteration 0; later ones have all patches, and phase 0.
    at: int64 (n,), places of the patches in the grids of all images, one after the other, each in raster order.
    features: arrays (n,) of 0..MAX_FEATURE.
    """

    position: int
    iteration: int | None
    phase: int
    at: np.ndarray
    features: tuple[np.ndarray, ...]

    @property
    def row(self) -> int:
        """Its row in the tables of contexts."""
        return row_of(self.iteration or 0, self.phase)

    @property
    def unit(self) -> tuple[int, int | None]:
        """Its scale and iteration: groups of one unit are drawn together or not at all."""
        return self.position, self.iteration


Coder = Callable[[Group], np.ndarray]
"""Turns a group into its depths, or its indices from 1, (n,)."""


def walk(
    scales: Sequence[Scale],
    traits: Sequence[Traits],
    grids: Sequence[tuple[int, int]],
    count: int,
    coder: Coder,
    everywhere: bool = False,
) -> list[np.ndarray]:
    """Visit all groups of `count` images in the order of a file.

    traits: of the codewords of every scale. grids: rows and columns of every scale.
    coder: turns a group into depths or indices. everywhere: visit every patch at every iteration, to learn what context
    it would have there; the coder then returns 0 where there is no index.
    Returns the index planes: a list, one a scale, of int64 (count, rows, columns, iterations).
    """
    planes = []
    coarser = None
    for position, (scale, of_scale, grid) in enumerate(zip(scales, traits, grids, strict=True)):
        surroundings = Surroundings(scale, of_scale, (count, *grid), coarser)
        phases = _phases(count, *grid)
        _visit_depths(position, surroundings, phases, coder)
        _visit_indices(position, surroundings, phases, coder, everywhere)
        planes.append(np.moveaxis(surroundings.indices, 0, 3))
        coarser = surroundings
    return planes


@lru_cache(16)
def _phases(count: int, rows: int, columns: int) -> list[np.ndarray]:
    """The places of the two colours of the checkerboards of `count` grids."""
    checkerboard = np.tile(np.indices((rows, columns)).sum(0) % 2, (count, 1, 1))
    return [np.flatnonzero(checkerboard == phase) for phase in (0, 1)]


def _visit_depths(position: int, surroundings: Surroundings, phases: list[np.ndarray], coder: Coder) -> None:
    """Visit the two groups of depths of a scale. phases: the places of each."""
    for phase, at in enumerate(phases):
        if len(at):
            features = surroundings.depth_features(phase, at)
            surroundings.depths.put(at, coder(Group(position, None, phase, at, features)))


def _visit_indices(
    position: int, surroundings: Surroundings, phases: list[np.ndarray], coder: Coder, everywhere: bool
) -> None:
    """Visit the groups of indices of a scale: iteration by iteration, the patches that are deep enough."""
    at = np.arange(surroundings.depths.size)
    for i in range(len(surroundings.scale.shapes)):
        for phase, places in enumerate([at] if i else phases):
            if not everywhere:
                places = places[surroundings.depths.take(places) > i]
            if len(places):
                indices = coder(Group(position, i, phase, places, surroundings.index_features(i, phase, places)))
                if everywhere:
                    surroundings.put_indices(i, places[indices > 0], indices[indices > 0])
                else:
                    surroundings.put_indices(i, places, indices)
            if i:
                at = places  # of which the next iterations have some


def symbols_of(planes: list[np.ndarray], group: Group) -> np.ndarray:
    """The symbols (n,) of a group, from complete index planes."""
    plane = planes[group.position]
    flat = plane.reshape(-1, plane.shape[3])
    if group.iteration is None:
        return np.count_nonzero(flat[group.at], axis=1)
    return flat[group.at, group.iteration]
