"""Index planes <-> bytes: context classes, integer frequency tables and constriction's range coder.

SPEC.md, "Entropy coding", is the normative text. Every index is two symbols: its cluster (0 = stop), whose
table depends on a context class computed in integers from indices that are already coded, and its place
within the cluster. Patches of one iteration and one checkerboard phase form a group that one call codes.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import constriction
import numpy as np

from .container import Header
from .errors import FormatError
from .grid import Scale
from .zoo import Pack

TOTAL = 2**24
COST_STEP = 8
"""Costs in tables.npz are eighths of a bit."""
FEATURES = 4
LEVELS = 8
"""Each of the FEATURES of a context is quantised to this many levels."""
_EIGHTHS = np.array([16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842], np.int64)
"""round(2^24 * 2^(-j / 8)), j = 0..7: written out, because SPEC.md allows no float here."""


class Group(NamedTuple):
    """The patches of one scale, iteration and phase that are still going: what one call codes."""

    position: int
    """Of the scale in the model's list."""
    iteration: int
    phase: int
    at: np.ndarray
    """(n,) places of the patches in their grid, in raster order."""
    features: tuple[np.ndarray, ...]
    """FEATURES arrays (n,), 0..255."""


Coder = Callable[[Group], np.ndarray]
"""Turns a group into its indices (n,)."""


def frequencies(costs: np.ndarray) -> np.ndarray:
    """Costs uint8 (..., symbols), in eighths of a bit -> int64 frequencies, each at least 1, that sum to TOTAL."""
    costs = costs.astype(np.int64)
    weights = np.maximum(_EIGHTHS[costs % COST_STEP] >> (costs // COST_STEP), 1)
    freq = 1 + weights * (TOTAL - weights.shape[-1]) // weights.sum(-1, keepdims=True)
    largest = freq.argmax(-1)[..., None]
    missing = TOTAL - freq.sum(-1, keepdims=True)
    np.put_along_axis(freq, largest, np.take_along_axis(freq, largest, -1) + missing, -1)
    return freq


class Tables:
    """The entropy coder's view of one scale of a pack, in one rate band."""

    def __init__(self, pack: Pack, scale: Scale, band: int):
        s = scale.scale
        edges = pack.tables[f"edges{s}"]
        # levels[iteration, phase, feature, value]: the number of edges below the value, as a digit of the cell.
        levels = (edges[..., None] < np.arange(256)).sum(-2)
        self.levels = levels * LEVELS ** np.arange(FEATURES)[:, None]
        self.classes_of_cells = pack.tables[f"classes{s}"]
        self.costs = [
            (pack.tables[f"clusters{s}_{i}"][band], pack.tables[f"members{s}_{i}"][band])
            for i in range(len(scale.codewords))
        ]
        """For each iteration uint8 costs of clusters (classes, A + 1) and of members (A, B)."""
        self._models: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def classes(self, group: Group) -> np.ndarray:
        """uint8 (n,): context classes of a group."""
        levels = self.levels[group.iteration, group.phase]
        cells = sum(level.take(feature) for level, feature in zip(levels, group.features, strict=True))
        return self.classes_of_cells[group.iteration, group.phase].take(cells)

    def models(self, iteration: int) -> tuple[np.ndarray, np.ndarray]:
        """float32 frequencies - 1 of clusters (classes, A + 1) and of members (A, B), as constriction takes them."""
        if iteration not in self._models:
            clusters, members = ((frequencies(cost) - 1).astype(np.float32) for cost in self.costs[iteration])
            self._models[iteration] = clusters, members
        return self._models[iteration]

    @cached_property
    def bits(self) -> list[np.ndarray]:
        """For each iteration float32 (classes, K + 1): bits that each index costs, stop first."""
        out = []
        for cost in self.costs:
            cluster, member = (-np.log2(frequencies(c) / TOTAL) for c in cost)
            inside = (cluster[:, 1:, None] + member[None]).reshape(len(cluster), -1)
            out.append(np.hstack([cluster[:, :1], inside]).astype(np.float32))
        return out


def tables(pack: Pack, header: Header) -> list[Tables]:
    """The tables of every scale of a pack in the header's rate band, made once."""
    if header.band not in pack.entropy_tables:
        pack.entropy_tables[header.band] = [Tables(pack, scale, header.band) for scale in pack.scales]
    return pack.entropy_tables[header.band]


def walk(
    scales: Sequence[Scale], energies: Sequence[np.ndarray], size: tuple[int, int], iterations: int, coder: Coder
) -> list[np.ndarray]:
    """Visit all groups of a (height, width) image in the order of the file; `coder` turns each into indices.

    energies: for each scale uint8 (rows,), the energy level of every codeword of all iterations.
    Returns the index planes: a list, one a scale, of int64 (rows, columns, iterations).
    """
    planes = []
    parent = np.zeros((1, 1), np.int64)
    for position, (scale, energy_levels) in enumerate(zip(scales, energies, strict=True)):
        starts = np.cumsum((0, *scale.codewords[:-1]))
        rows, columns = scale.grid(*size)
        plane = np.zeros((rows * columns, len(scale.codewords)), np.int64)
        # Energy levels of the latest and of all indices of each patch, flat, with a border of zeros.
        latest, total = np.zeros((2, (rows + 2) * (columns + 2)), np.int64)
        above = np.zeros((rows, columns), np.int64)
        if position:
            repeat = scales[position - 1].span // scale.span
            above = np.minimum(parent.repeat(repeat, 0).repeat(repeat, 1)[:rows, :columns], 255)
        y, x = np.indices((rows, columns)).reshape(2, -1)
        # For each phase the patches that go on: places in the grid, and in the bordered arrays.
        going = [np.flatnonzero((y + x) % 2 == phase) for phase in (0, 1)]
        bordered = [(y[at] + 1) * (columns + 2) + x[at] + 1 for at in going]
        for i in range(min(len(scale.codewords), iterations)):
            for phase in (0, 1):
                at, spot = going[phase], bordered[phase]
                if not len(at):
                    continue
                neighbours = spot - 1, spot + 1, spot - (columns + 2), spot + (columns + 2)
                features = (
                    sum(latest.take(n) for n in neighbours),
                    latest.take(spot),
                    sum(total.take(n) for n in neighbours),
                    above.take(at),
                )
                index = coder(Group(position, i, phase, at, tuple(np.minimum(f, 255) for f in features)))
                plane[at, i] = index
                energy = np.where(index > 0, energy_levels.take(starts[i] + index - 1, mode="clip"), 0)
                latest[spot] = energy
                total[spot] += energy
                goes_on = np.flatnonzero(index)
                going[phase], bordered[phase] = at.take(goes_on), spot.take(goes_on)
        planes.append(plane.reshape(rows, columns, -1))
        parent = total.reshape(rows + 2, columns + 2)[1:-1, 1:-1]
    return planes


def _walk(pack: Pack, header: Header, coder: Coder) -> list[np.ndarray]:
    energies = [pack.tables[f"energy{scale.scale}"] for scale in pack.scales]
    return walk(pack.scales, energies, (header.height, header.width), header.iterations, coder)


def encode(planes: list[np.ndarray], pack: Pack, header: Header) -> bytes:
    """The payload of the chunk of indices. planes: as `walk` returns them."""
    queue = constriction.stream.queue.RangeEncoder()
    family = constriction.stream.model.Categorical(perfect=False)
    by_scale = tables(pack, header)

    def coder(group: Group) -> np.ndarray:
        clusters, members = by_scale[group.position].models(group.iteration)
        index = known(planes, group)
        cluster = -(-index // members.shape[1])
        queue.encode(cluster.astype(np.int32), family, clusters.take(by_scale[group.position].classes(group), 0))
        inside = np.flatnonzero(index)
        if len(inside):
            member = (index[inside] - 1) % members.shape[1]
            queue.encode(member.astype(np.int32), family, members.take(cluster[inside] - 1, 0))
        return index

    _walk(pack, header, coder)
    return queue.get_compressed().astype("<u4").tobytes()


def decode(payload: bytes, pack: Pack, header: Header) -> list[np.ndarray]:
    """Index planes from the payload of the chunk of indices. Raises FormatError if it does not fit the header."""
    if len(payload) % 4:
        raise FormatError("the indices are not whole 32-bit words")
    queue = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))
    family = constriction.stream.model.Categorical(perfect=False)
    by_scale = tables(pack, header)

    def coder(group: Group) -> np.ndarray:
        clusters, members = by_scale[group.position].models(group.iteration)
        classes = by_scale[group.position].classes(group)
        index = queue.decode(family, clusters.take(classes, 0)).astype(np.int64)
        inside = np.flatnonzero(index)
        if len(inside):
            cluster = index[inside] - 1
            member = queue.decode(family, members.take(cluster, 0))
            index[inside] = 1 + cluster * members.shape[1] + member
        return index

    try:
        planes = _walk(pack, header, coder)
    except (ValueError, AssertionError) as error:
        raise FormatError(f"the indices are damaged: {error}") from None
    if not queue.maybe_exhausted():
        raise FormatError("the indices do not end where they should")
    return planes


def contexts(planes: list[np.ndarray], pack: Pack, header: Header) -> list[np.ndarray]:
    """The context class of every index of `planes`: uint8 arrays of the same shapes (0 where none is coded)."""
    out = [np.zeros(plane.shape, np.uint8) for plane in planes]
    by_scale = tables(pack, header)

    def coder(group: Group) -> np.ndarray:
        classes = by_scale[group.position].classes(group)
        out[group.position].reshape(-1, planes[group.position].shape[2])[group.at, group.iteration] = classes
        return known(planes, group)

    _walk(pack, header, coder)
    return out


def known(planes: list[np.ndarray], group: Group) -> np.ndarray:
    """The indices (n,) of a group in planes that are whole already."""
    plane = planes[group.position]
    return plane.reshape(-1, plane.shape[2])[group.at, group.iteration]
