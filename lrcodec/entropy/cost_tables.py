"""Integer frequency tables and the context classes that choose among them."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from ..format.grid import Scale
from ..packs.pack import Pack
from .features import Traits
from .order import Group
from .range_coder import Categorical

TOTAL = 2**24
COST_STEP = 8
"""Costs in tables.npz are eighths of a bit."""
_EIGHTHS = np.array([16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842], np.int64)
"""round(2^24 * 2^(-j / 8)), j = 0..7: written out, because SPEC.md allows no float here."""
SYMMETRY_MODELS = Categorical(perfect=False)
"""The family of models of symmetries: each shape has its own."""
SYMBOL_BYTES = 4
"""What a symbol takes in a model of constriction."""
LEVELS = 8
"""Each feature of a context is quantised to this many levels."""


def frequencies(costs: np.ndarray) -> np.ndarray:
    """Costs (..., symbols), in eighths of a bit -> int64 frequencies, each at least 1, that sum to TOTAL."""
    costs = costs.astype(np.int64)
    weights = np.maximum(_EIGHTHS[costs % COST_STEP] >> np.minimum(costs // COST_STEP, 63), 1)
    freq = 1 + weights * (TOTAL - weights.shape[-1]) // weights.sum(-1, keepdims=True)
    largest = freq.argmax(-1)[..., None]
    missing = TOTAL - freq.sum(-1, keepdims=True)
    np.put_along_axis(freq, largest, np.take_along_axis(freq, largest, -1) + missing, -1)
    return freq


class Bits(NamedTuple):
    """What the symbols of a scale cost in bits, float32.

    depths: (phases, classes, D + 1). shapes: of each iteration (classes, shapes). symmetries: (rows, symmetries).
    """

    depths: np.ndarray
    shapes: list[np.ndarray]
    symmetries: np.ndarray


class Models(dict[int, Categorical]):
    """Models by context class, each built when it is first asked for, from its frequencies.

    size: bytes, at first. grow: told how many more each takes.
    """

    size = 0

    def __init__(self, frequencies: Callable[[int], np.ndarray], grow: Callable[[int], None]):
        self._frequencies, self._grow = frequencies, grow

    def __missing__(self, label: int) -> Categorical:
        freq = self._frequencies(label)
        self[label] = Categorical(_parameters(freq), perfect=False)
        self._grow(SYMBOL_BYTES * len(freq))
        return self[label]


class Contexts:
    """The entropy coder's view of one scale of a pack, as far as it is the same in all rate bands."""

    def __init__(self, pack: Pack, scale: Scale):
        s = scale.scale
        self.symmetries, self._starts = scale.symmetries, scale.starts
        self.traits = Traits.of(scale, pack.tables)
        self.depth_levels = [_levels(edges) for edges in pack.tables[f"depth_edges{s}"]]
        self.depth_classes = pack.tables[f"depth_classes{s}"]
        self.index_levels = [_levels(edges) for edges in pack.tables[f"edges{s}"]]
        self.index_classes = pack.tables[f"classes{s}"]
        self.symmetry_costs = pack.tables[f"symmetries{s}"]
        """uint8 (rows, symmetries)."""

    def classes(self, group: Group) -> np.ndarray:
        """uint8 (n,): context classes of a group."""
        of_depths = group.iteration is None
        levels = (self.depth_levels if of_depths else self.index_levels)[group.row]
        cells = levels[0].take(group.features[0])
        for level, feature in zip(levels[1:], group.features[1:], strict=True):
            cells += level.take(feature)
        return (self.depth_classes if of_depths else self.index_classes)[group.row].take(cells)

    def symmetry_parameters(self, group: Group, shapes: np.ndarray) -> np.ndarray:
        """float64 (n, symmetries): of `SYMMETRY_MODELS`, for the shapes (n,) of a group of indices."""
        return self._symmetry_parameters.take(shapes + self._starts[group.iteration or 0], 0)

    @cached_property
    def _symmetry_parameters(self) -> np.ndarray:
        return _parameters(frequencies(self.symmetry_costs))


class Tables:
    """The entropy coder's view of one scale of a pack, in one rate band."""

    def __init__(self, pack: Pack, scale: Scale, band: int, contexts: Contexts):
        s = scale.scale
        self.contexts, self._kept, self._key = contexts, pack.kept, (pack.fingerprint, "models", s, band)
        self.depth_costs = pack.tables[f"depths{s}"][band]
        """uint8 (phases, classes, D + 1)."""
        self.costs = [
            (pack.tables[f"clusters{s}_{i}"][band], pack.tables[f"members{s}_{i}"][band])
            for i in range(len(scale.shapes))
        ]
        """For each iteration uint8 costs of clusters (classes, A) and of members (A, B)."""

    def frequencies(self, iteration: int | None, phase: int, label: int) -> np.ndarray:
        """int64 frequencies of the depths 0..D or, of an iteration, of its shapes in a context class."""
        if iteration is None:
            return frequencies(self.depth_costs[phase, label])
        clusters, members = self.costs[iteration]
        return frequencies((clusters[label, :, None].astype(np.int64) + members).reshape(-1))

    def models(self, group: Group) -> "Models":
        """What the range coder codes a group's depths or shapes with, by context class."""
        # Both phases of the first iteration share its costs.
        of = group.iteration, group.phase if group.iteration is None else 0
        key = *self._key, *of
        return self._kept.get(key, lambda: Models(partial(self.frequencies, *of), partial(self._kept.grow, key)))

    @cached_property
    def bits(self) -> Bits:
        """What every symbol costs. If a shape has one symmetry alone, that takes no bits."""
        shapes = []
        for clusters, members in self.costs:
            costs = (clusters[:, :, None].astype(np.int64) + members).reshape(len(clusters), -1)
            shapes.append(_bits(costs))
        return Bits(_bits(self.depth_costs), shapes, _bits(self.contexts.symmetry_costs))


def _bits(costs: np.ndarray) -> np.ndarray:
    """Costs (..., symbols) -> bits, float32."""
    return -np.log2(frequencies(costs) / TOTAL).astype(np.float32)


def _parameters(freq: np.ndarray) -> np.ndarray:
    """Frequencies (..., symbols) as the range coder takes them: it adds one to each."""
    return (freq - 1).astype(np.float64)


def _levels(edges: np.ndarray) -> np.ndarray:
    """edges (features, 7) -> (features, 256): the number of edges below each value, as a digit of the cell."""
    return (edges[..., None] < np.arange(256)).sum(-2) * LEVELS ** np.arange(len(edges))[:, None]


def tables(pack: Pack, band: int) -> list[Tables]:
    """The tables of every scale of a pack in a rate band, built once."""
    if not pack.entropy_contexts:
        pack.entropy_contexts = [Contexts(pack, scale) for scale in pack.scales]
    if band not in pack.entropy_tables:
        pack.entropy_tables[band] = [
            Tables(pack, scale, band, contexts)
            for scale, contexts in zip(pack.scales, pack.entropy_contexts, strict=True)
        ]
    return pack.entropy_tables[band]
