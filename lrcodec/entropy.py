"""Index planes <-> bytes: context classes, integer frequency tables and constriction's range coder.

SPEC.md, "Entropy coding", is the normative text. Every index is two symbols: its cluster (0 = stop), whose
table depends on a context class computed in integers from indices that are already coded, and its place
within the cluster. Patches of one iteration and one checkerboard phase form a group that one call codes.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
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
    """The patches of one scale, iteration and phase that are still going, in all images of a batch."""

    position: int
    """Of the scale in the model's list."""
    iteration: int
    phase: int
    at: np.ndarray
    """(n,) places of the patches in the grids of all images, one after the other, each in raster order."""
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
    scales: Sequence[Scale],
    energies: Sequence[np.ndarray],
    size: tuple[int, int],
    iterations: int,
    count: int,
    coder: Coder,
) -> list[np.ndarray]:
    """Visit all groups of `count` images of one size (height, width) in the order of a file.

    energies: for each scale uint8 (rows,), the energy level of every codeword. coder: turns a group into indices.
    Returns the index planes: a list, one a scale, of int64 (count, rows, columns, iterations).
    """
    planes = []
    parent = np.zeros((count, 1, 1), np.int64)
    for position, (scale, energy_levels) in enumerate(zip(scales, energies, strict=True)):
        rows, columns = scale.grid(*size)
        plane = np.zeros((count * rows * columns, len(scale.codewords)), np.int64)
        # Energy levels of the latest and of all indices of each patch, flat, each image with a border of zeros.
        latest, total = np.zeros((2, count * (rows + 2) * (columns + 2)), np.int64)
        above = np.zeros((count, rows, columns), np.int64)
        if position:
            repeat = scales[position - 1].span // scale.span
            above = np.minimum(parent.repeat(repeat, 1).repeat(repeat, 2)[:, :rows, :columns], 255)
        image, y, x = np.indices((count, rows, columns)).reshape(3, -1)
        # For each phase the patches that go on: places in the grid, and in the bordered arrays.
        going = [np.flatnonzero((y + x) % 2 == phase) for phase in (0, 1)]
        bordered = [(image[at] * (rows + 2) + y[at] + 1) * (columns + 2) + x[at] + 1 for at in going]
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
                energy = np.where(index > 0, energy_levels.take(scale.starts[i] + index - 1, mode="clip"), 0)
                latest[spot] = energy
                total[spot] += energy
                goes_on = np.flatnonzero(index)
                going[phase], bordered[phase] = at.take(goes_on), spot.take(goes_on)
        planes.append(plane.reshape(count, rows, columns, -1))
        parent = total.reshape(count, rows + 2, columns + 2)[:, 1:-1, 1:-1]
    return planes


def _walk(pack: Pack, header: Header, count: int, coder: Coder) -> list[np.ndarray]:
    energies = [pack.tables[f"energy{scale.scale}"] for scale in pack.scales]
    return walk(pack.scales, energies, (header.height, header.width), header.iterations, count, coder)


def _by_image(at: np.ndarray, group: Group, pack: Pack, header: Header, count: int) -> list[tuple[int, slice]]:
    """Numbers of the images that have patches among `at`, in ascending order, and where these are in it."""
    rows, columns = pack.scales[group.position].grid(header.height, header.width)
    ends = np.searchsorted(at, np.arange(1, count + 1) * (rows * columns)).tolist()
    return [(i, slice(start, end)) for i, (start, end) in enumerate(pairwise([0, *ends])) if start < end]


def encode(planes: list[np.ndarray], pack: Pack, header: Header) -> list[bytes]:
    """The payload of the chunk of indices of every image. planes: as `walk` returns them."""
    queues = [constriction.stream.queue.RangeEncoder() for _ in planes[0]]
    family = constriction.stream.model.Categorical(perfect=False)
    by_scale = tables(pack, header)

    def coder(group: Group) -> np.ndarray:
        clusters, members = by_scale[group.position].models(group.iteration)
        index = known(planes, group)
        inside = np.flatnonzero(index)
        cluster = (-(-index // members.shape[1])).astype(np.int32)
        member = ((index[inside] - 1) % members.shape[1]).astype(np.int32)
        of_clusters = clusters.take(by_scale[group.position].classes(group), 0)
        of_members = members.take(cluster[inside] - 1, 0)
        for i, part in _by_image(group.at, group, pack, header, len(queues)):
            queues[i].encode(cluster[part], family, of_clusters[part])
        for i, part in _by_image(group.at[inside], group, pack, header, len(queues)):
            queues[i].encode(member[part], family, of_members[part])
        return index

    _walk(pack, header, len(queues), coder)
    return [_finish(queue) for queue in queues]


def _finish(queue: constriction.stream.queue.RangeEncoder) -> bytes:
    """The shortest bytes that decode to what the queue holds: SPEC.md, "Range coder"."""
    words = queue.get_compressed()
    shifts, (lower, width) = queue.pos()
    # As integers over 2^(32 * shifts + 64): what constriction chose, and the lower end of what it chose from.
    bits = 32 * (shifts + 2)
    chosen = int.from_bytes(words.astype(">u4").tobytes(), "big") << bits - 32 * len(words)
    lower = chosen - (chosen - lower) % 2**64
    # The interval is less than 2^64 wide, so it holds one multiple of 2^64 at most: that one ends in zero bytes.
    for kept in range(9):
        unit = 1 << 64 - 8 * kept
        shortest = -(-lower // unit) * unit
        if shortest < lower + width:
            return shortest.to_bytes(bits // 8, "big").rstrip(b"\0")
    raise AssertionError("an interval always holds its own lower end")


def decode(payloads: Sequence[bytes], pack: Pack, header: Header) -> list[np.ndarray]:
    """Index planes from the payloads of images with the same header. Raises FormatError if one does not fit it."""
    queues = []
    for payload in payloads:
        words = np.frombuffer(payload + bytes(-len(payload) % 4), ">u4").astype(np.uint32)
        queues.append(constriction.stream.queue.RangeDecoder(words))
    family = constriction.stream.model.Categorical(perfect=False)
    by_scale = tables(pack, header)

    def coder(group: Group) -> np.ndarray:
        clusters, members = by_scale[group.position].models(group.iteration)
        of_clusters = clusters.take(by_scale[group.position].classes(group), 0)
        index = np.empty(len(group.at), np.int64)
        for i, part in _by_image(group.at, group, pack, header, len(queues)):
            index[part] = queues[i].decode(family, of_clusters[part])
        inside = np.flatnonzero(index)
        cluster = index[inside] - 1
        of_members = members.take(cluster, 0)
        member = np.empty(len(inside), np.int64)
        for i, part in _by_image(group.at[inside], group, pack, header, len(queues)):
            member[part] = queues[i].decode(family, of_members[part])
        index[inside] = 1 + cluster * members.shape[1] + member
        return index

    try:
        return _walk(pack, header, len(queues), coder)
    except (ValueError, AssertionError) as error:
        raise FormatError(f"the indices are damaged: {error}") from None


def contexts(planes: list[np.ndarray], pack: Pack, header: Header) -> list[np.ndarray]:
    """The context class of every index of `planes`: uint8 arrays of the same shapes (0 where none is coded)."""
    out = [np.zeros(plane.shape, np.uint8) for plane in planes]
    by_scale = tables(pack, header)

    def coder(group: Group) -> np.ndarray:
        classes = by_scale[group.position].classes(group)
        out[group.position].reshape(-1, planes[group.position].shape[3])[group.at, group.iteration] = classes
        return known(planes, group)

    _walk(pack, header, len(planes[0]), coder)
    return out


def known(planes: list[np.ndarray], group: Group) -> np.ndarray:
    """The indices (n,) of a group in planes that are whole already."""
    plane = planes[group.position]
    return plane.reshape(-1, plane.shape[3])[group.at, group.iteration]
