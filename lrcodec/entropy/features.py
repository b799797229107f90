"""The features that context classes are made of, in integers. SPEC.md, "Context classes", is the normative text."""

from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ..format.grid import Scale

DEPTH_FEATURES, INDEX_FEATURES = 3, 4
"""How many features a context of depths has, and how many one of indices picks."""
MAX_FEATURE = 255
NO_ORIENTATION = 4
"""More change neither down nor across: halfway between 0 and 8."""


class Traits(NamedTuple):
    """What contexts see of the codewords of a scale, and what they look at.

    energy, orientation, frequency: uint8. For each iteration, that of no index, and then those of the indices 1 to K.
    starts: int64 (D,), the place of no index of each iteration.
    picked: for each group of indices, see `row_of`, the numbers of its features, (D + 1, INDEX_FEATURES).
    """

    energy: np.ndarray
    orientation: np.ndarray
    frequency: np.ndarray
    starts: np.ndarray
    picked: np.ndarray

    @classmethod
    def of(cls, scale: Scale, arrays: Mapping[str, np.ndarray]) -> "Traits":
        """From the arrays of tables.npz: energy{s}, orientation{s}, frequency{s} and features{s}."""
        s, count = scale.scale, scale.symmetries
        # Symmetries from 8 on transpose: what changed down changes across.
        orientation = arrays[f"orientation{s}"][:, None].repeat(count, 1)
        orientation[:, 8:] = 2 * NO_ORIENTATION - orientation[:, 8:]

        def by_index(codewords: np.ndarray, without: int) -> np.ndarray:
            parts = []
            for start, k in zip(scale.starts, scale.codewords, strict=True):
                parts += [np.array([without]), codewords[start * count :][:k]]
            return np.concatenate(parts).astype(np.uint8)

        return cls(
            by_index(arrays[f"energy{s}"].repeat(count), 0),
            by_index(orientation.reshape(-1), NO_ORIENTATION),
            by_index(arrays[f"frequency{s}"].repeat(count), 0),
            np.array([*accumulate((k + 1 for k in scale.codewords[:-1]), initial=0)]),
            arrays[f"features{s}"],
        )


class Surroundings:
    """What is decoded already of a scale, of all images of a batch, and the features that this gives.

    shape: count of the images, rows and columns of their grids. coarser: the scale above, decoded; None if this is the
    coarsest.
    depths: int64 (count, rows, columns), zeros at first. indices: of each iteration, int64 (iterations, count, rows,
    columns), too.
    Features are arrays (n,) of 0..MAX_FEATURE, of the patches at the places `at`, int64 (n,), in the flat grids.
    """

    def __init__(self, scale: Scale, traits: Traits, shape: tuple[int, int, int], coarser: "Surroundings | None"):
        self.scale, self.traits, self.coarser = scale, traits, coarser
        self.depths = np.zeros(shape, np.int64)
        self.indices = np.zeros((len(scale.shapes), *shape), np.int64)
        self._latest = np.zeros(self.depths.size, np.int64)
        self._beside_first: dict[str, np.ndarray] = {}

    def put_indices(self, iteration: int, at: np.ndarray, indices: np.ndarray) -> None:
        """Add the indices (n,) of an iteration."""
        self.indices[iteration].put(at, indices)
        self._latest.put(at, indices + self.traits.starts[iteration])
        if iteration == 0:
            self._beside_first.clear()

    def depth_features(self, phase: int, at: np.ndarray) -> tuple[np.ndarray, ...]:
        """Of depths. In phase 0 the neighbours have none yet."""
        beside = neighbours(self.depths) if phase else self.depths
        return tuple(grid.take(at) for grid in (beside, self.parent_total, self.parent_totals_beside))

    def index_features(self, iteration: int, phase: int, at: np.ndarray) -> tuple[np.ndarray, ...]:
        """Of indices: those that the group picks."""
        return tuple(FEATURES[number](self, iteration, at) for number in self.traits.picked[row_of(iteration, phase)])

    def depth_left(self, iteration: int, at: np.ndarray) -> np.ndarray:
        """The depth less the iteration, at least 1."""
        return np.maximum(self.depths.take(at) - iteration, 1)

    def latest(self, trait: np.ndarray, at: np.ndarray) -> np.ndarray:
        """A trait of the patch's last index: in a file, that of the iteration before."""
        return trait.take(self._latest.take(at))

    @cached_property
    def depths_beside(self) -> np.ndarray:
        """The sum of the neighbours' depths, once all are known: flat, as all that follow."""
        return neighbours(self.depths).reshape(-1)

    @cached_property
    def totals(self) -> np.ndarray:
        """The total of energy of every patch, once all indices are known: int64 (count, rows, columns)."""
        starts = self.traits.starts[:, None, None, None]
        return self.traits.energy.take(self.indices + starts).sum(0, dtype=np.int64)

    @cached_property
    def parent_total(self) -> np.ndarray:
        """The total of the parent. The coarsest scale has the row instead: the place says something too."""
        return self.rows if self.coarser is None else self._of_parents(self.coarser.totals)

    @cached_property
    def parent_totals_beside(self) -> np.ndarray:
        """The sum of the totals of the parent's neighbours; in the coarsest scale, the column."""
        return self.columns if self.coarser is None else self._of_parents(neighbours(self.coarser.totals))

    @cached_property
    def parent_orientation(self) -> np.ndarray:
        """The orientation of the parent's first index."""
        if self.coarser is None:
            return np.full(self.depths.size, NO_ORIENTATION)
        return self._of_parents(self.coarser.traits.orientation.take(self.coarser.indices[0]))

    @cached_property
    def parent_frequency(self) -> np.ndarray:
        """The frequency of the parent's first index."""
        if self.coarser is None:
            return np.zeros(self.depths.size, np.int64)
        return self._of_parents(self.coarser.traits.frequency.take(self.coarser.indices[0]))

    @property
    def orientations_beside(self) -> np.ndarray:
        """16 + the sum of the orientations of the neighbours' first indices, as far as they are known, each less 4."""
        if "orientation" not in self._beside_first:
            orientation = self.traits.orientation.take(self.indices[0]).astype(np.int64)
            beside = neighbours(orientation - NO_ORIENTATION) + 4 * NO_ORIENTATION
            self._beside_first["orientation"] = beside.reshape(-1)
        return self._beside_first["orientation"]

    @property
    def frequencies_beside(self) -> np.ndarray:
        """The sum of the frequencies of the neighbours' first indices, as far as they are known."""
        if "frequency" not in self._beside_first:
            frequency = self.traits.frequency.take(self.indices[0]).astype(np.int64)
            self._beside_first["frequency"] = neighbours(frequency).reshape(-1)
        return self._beside_first["frequency"]

    @cached_property
    def rows(self) -> np.ndarray:
        """The row of every patch."""
        return self._places(0)

    @cached_property
    def columns(self) -> np.ndarray:
        """The column of every patch."""
        return self._places(1)

    def _places(self, axis: int) -> np.ndarray:
        places = np.minimum(np.indices(self.depths.shape[1:])[axis], MAX_FEATURE)
        return np.tile(places.reshape(-1), len(self.depths))

    def _of_parents(self, values: np.ndarray) -> np.ndarray:
        """Each value of grids of the coarser scale for all the patches under it, at most MAX_FEATURE, flat."""
        assert self.coarser is not None
        times = self.coarser.scale.span // self.scale.span
        _, rows, columns = self.depths.shape
        return np.minimum(values, MAX_FEATURE).repeat(times, 1).repeat(times, 2)[:, :rows, :columns].reshape(-1)


FEATURES: tuple[Callable[[Surroundings, int, np.ndarray], np.ndarray], ...] = (
    lambda near, i, at: near.depth_left(i, at),
    lambda near, i, at: near.depths_beside.take(at),
    lambda near, i, at: near.parent_total.take(at),
    lambda near, i, at: near.parent_totals_beside.take(at),
    lambda near, i, at: near.latest(near.traits.energy, at),
    lambda near, i, at: near.latest(near.traits.orientation, at),
    lambda near, i, at: near.latest(near.traits.frequency, at),
    lambda near, i, at: near.orientations_beside.take(at),
    lambda near, i, at: near.frequencies_beside.take(at),
    lambda near, i, at: near.parent_orientation.take(at),
    lambda near, i, at: near.parent_frequency.take(at),
    lambda near, i, at: near.rows.take(at),
    lambda near, i, at: near.columns.take(at),
)
"""The features of indices in the order of their numbers: each of an iteration and the places of patches."""


def row_of(iteration: int, phase: int) -> int:
    """The row of a group in the tables of contexts: the phases of iteration 0, then each later iteration."""
    return iteration + 1 if iteration else phase


def neighbours(values: np.ndarray) -> np.ndarray:
    """Sums over the four neighbours in grids (count, rows, columns), nothing outside them."""
    out = np.empty_like(values)
    out[:, :1] = 0
    out[:, 1:] = values[:, :-1]
    out[:, :-1] += values[:, 1:]
    out[:, :, 1:] += values[:, :, :-1]
    out[:, :, :-1] += values[:, :, 1:]
    return out
