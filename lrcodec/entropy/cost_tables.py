"""Integer frequency tables and the context classes that choose among them."""

from functools import cached_property

import constriction
import numpy as np

from ..format.grid import Scale
from ..packs.pack import Pack
from .order import Group

TOTAL = 2**24
COST_STEP = 8
"""Costs in tables.npz are eighths of a bit."""
_EIGHTHS = np.array([16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842], np.int64)
"""round(2^24 * 2^(-j / 8)), j = 0..7: written out, because SPEC.md allows no float here."""
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


class Tables:
    """The entropy coder's view of one scale of a pack, in one rate band."""

    def __init__(self, pack: Pack, scale: Scale, band: int):
        s = scale.scale
        self.depth_levels = [_levels(edges) for edges in pack.tables[f"depth_edges{s}"]]
        self.depth_classes = pack.tables[f"depth_classes{s}"]
        self.depth_costs = pack.tables[f"depths{s}"][band]
        """uint8 (phases, classes, D + 1)."""
        self.levels = _levels(pack.tables[f"edges{s}"])
        self.index_classes = pack.tables[f"classes{s}"]
        self.costs = [
            (pack.tables[f"clusters{s}_{i}"][band], pack.tables[f"members{s}_{i}"][band])
            for i in range(len(scale.codewords))
        ]
        """For each iteration uint8 costs of clusters (classes, A) and of members (A, B)."""
        self._models: dict[tuple[int | None, int, int], constriction.stream.model.Categorical] = {}

    def classes(self, group: Group) -> np.ndarray:
        """uint8 (n,): context classes of a group."""
        if group.iteration is None:
            levels, classes = self.depth_levels[group.phase], self.depth_classes[group.phase]
        else:
            levels, classes = self.levels, self.index_classes[group.iteration]
        cells = levels[0].take(group.features[0])
        for level, feature in zip(levels[1:], group.features[1:], strict=True):
            cells += level.take(feature)
        return classes.take(cells)

    def frequencies(self, iteration: int | None, phase: int, label: int) -> np.ndarray:
        """int64 frequencies of the depths 0..D or, of an iteration, of the indices 1..K in a context class."""
        if iteration is None:
            return frequencies(self.depth_costs[phase, label])
        clusters, members = self.costs[iteration]
        return frequencies((clusters[label, :, None].astype(np.int64) + members).reshape(-1))

    def model(self, group: Group, label: int) -> constriction.stream.model.Categorical:
        """The model that constriction codes a group's symbols of a context class with, built once."""
        key = group.iteration, group.phase, label
        if key not in self._models:
            freq = (self.frequencies(*key) - 1).astype(np.float64)
            self._models[key] = constriction.stream.model.Categorical(freq, perfect=False)
        return self._models[key]

    @cached_property
    def bits(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Bits of a symbol, float32: depths (phases, classes, D + 1), and of each iteration indices (classes, K)."""
        depths = -np.log2(frequencies(self.depth_costs) / TOTAL)
        indices = []
        for clusters, members in self.costs:
            costs = (clusters[:, :, None].astype(np.int64) + members).reshape(len(clusters), -1)
            indices.append(-np.log2(frequencies(costs) / TOTAL).astype(np.float32))
        return depths.astype(np.float32), indices


def _levels(edges: np.ndarray) -> np.ndarray:
    """edges (features, 7) -> (features, 256): the number of edges below each value, as a digit of the cell."""
    return (edges[..., None] < np.arange(256)).sum(-2) * LEVELS ** np.arange(len(edges))[:, None]


def tables(pack: Pack, band: int) -> list[Tables]:
    """The tables of every scale of a pack in a rate band, built once."""
    if band not in pack.entropy_tables:
        pack.entropy_tables[band] = [Tables(pack, scale, band) for scale in pack.scales]
    return pack.entropy_tables[band]
