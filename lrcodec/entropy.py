"""Index planes <-> bytes: context classes, integer frequency tables and constriction's range coder.

SPEC.md, "Entropy coding", is the normative text. Scale by scale, the depths of all patches come first, in two
checkerboard phases, then their indices, one iteration after the other. The symbols of a group are coded class by
class, so that one call codes all that share a table. Tables depend on context classes, which are computed in
integers from depths and indices that are already coded.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import constriction
import numpy as np

from .errors import FormatError
from .format.container import Header
from .format.grid import Scale
from .packs.zoo import Pack

TOTAL = 2**24
COST_STEP = 8
"""Costs in tables.npz are eighths of a bit."""
LEVELS = 8
"""Each feature of a context is quantised to this many levels."""
DEPTH_FEATURES, INDEX_FEATURES = 3, 4
_EIGHTHS = np.array([16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842], np.int64)
"""round(2^24 * 2^(-j / 8)), j = 0..7: written out, because SPEC.md allows no float here."""


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
        """What constriction codes a group's symbols of a context class with, made once."""
        key = group.iteration, group.phase, label
        if key not in self._models:
            freq = (self.frequencies(*key) - 1).astype(np.float64)
            self._models[key] = constriction.stream.model.Categorical(freq, perfect=False)
        return self._models[key]

    @cached_property
    def bits(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """What everything costs, float32: depths (phases, classes, D + 1), and for each iteration (classes, K)."""
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
    """The tables of every scale of a pack in a rate band, made once."""
    if band not in pack.entropy_tables:
        pack.entropy_tables[band] = [Tables(pack, scale, band) for scale in pack.scales]
    return pack.entropy_tables[band]


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


def _walk(
    pack: Pack, grids: Sequence[tuple[int, int]], count: int, coder: Coder, everywhere: bool = False
) -> list[np.ndarray]:
    energies = [pack.tables[f"energy{scale.scale}"] for scale in pack.scales]
    return walk(pack.scales, energies, grids, count, coder, everywhere)


class _Run(NamedTuple):
    """Symbols of one image and one context class: where they start and end in the order of the file."""

    image: int
    label: int
    start: int
    end: int


def _runs(group: Group, classes: np.ndarray, patches: int) -> tuple[np.ndarray, list[_Run]]:
    """The order (n,) of a group's symbols in the file, and its runs: by image, by class, then as in the group.

    patches: in the grid of an image.
    """
    # Of one image the classes alone, as bytes, are sorted several times faster.
    keys = classes if group.at[-1] < patches else group.at // patches * 256 + classes
    order = np.argsort(keys, kind="stable")
    ordered = keys.take(order)
    starts = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist()]
    labels = ordered[starts].tolist()
    ends = [*starts[1:], len(order)]
    return order, [
        _Run(key // 256, key % 256, start, end) for key, start, end in zip(labels, starts, ends, strict=True)
    ]


def encode(planes: list[np.ndarray], pack: Pack, header: Header) -> list[bytes]:
    """The payload of the chunk of indices of every image. planes: as `walk` returns them."""
    queues = [constriction.stream.queue.RangeEncoder() for _ in planes[0]]
    by_scale = tables(pack, header.band)

    def coder(group: Group) -> np.ndarray:
        own, symbols = by_scale[group.position], known(planes, group)
        # Symbols count from 0: depths do, indices start at 1.
        order, runs = _runs(group, own.classes(group), planes[group.position][0, ..., 0].size)
        ordered = (symbols.take(order) - (group.iteration is not None)).astype(np.int32)
        for image, label, start, end in runs:
            queues[image].encode(ordered[start:end], own.model(group, label))
        return symbols

    _walk(pack, [plane.shape[1:3] for plane in planes], len(queues), coder)
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


def decode(payloads: Sequence[bytes], pack: Pack, header: Header, height: int) -> list[np.ndarray]:
    """Index planes from the payloads of images, or strips, with the same header and height in pixels.

    Raises FormatError if a payload does not fit.
    """
    queues = []
    for payload in payloads:
        words = np.frombuffer(payload + bytes(-len(payload) % 4), ">u4").astype(np.uint32)
        queues.append(constriction.stream.queue.RangeDecoder(words))
    by_scale = tables(pack, header.band)
    grids = [scale.grid(height, header.width) for scale in pack.scales]

    def coder(group: Group) -> np.ndarray:
        own, symbols = by_scale[group.position], np.empty(len(group.at), np.int64)
        rows, columns = grids[group.position]
        order, runs = _runs(group, own.classes(group), rows * columns)
        parts = [queues[image].decode(own.model(group, label), end - start) for image, label, start, end in runs]
        symbols[order] = np.concatenate(parts)
        if group.iteration is not None:
            return symbols + 1
        if symbols.max() > header.iterations:
            raise FormatError(
                f"the indices are damaged: {symbols.max()} iterations where {header.iterations} is the cap"
            )
        return symbols

    try:
        return _walk(pack, grids, len(queues), coder)
    except (ValueError, AssertionError) as error:
        raise FormatError(f"the indices are damaged: {error}") from None


class Classes(NamedTuple):
    """Context classes in one scale of a batch: int16, of every patch's depth, (count, rows, columns), with the phase
    as its lowest bit, and of every index, (count, rows, columns, iterations), coded or not."""

    depths: np.ndarray
    indices: np.ndarray


def contexts(planes: list[np.ndarray], pack: Pack, header: Header) -> list[Classes]:
    """The context classes that `planes` make, in every scale."""
    out = [Classes(np.zeros(plane.shape[:3], np.int16), np.zeros(plane.shape, np.int16)) for plane in planes]
    by_scale = tables(pack, header.band)

    def coder(group: Group) -> np.ndarray:
        classes, own = by_scale[group.position].classes(group), out[group.position]
        if group.iteration is None:
            own.depths.reshape(-1)[group.at] = 2 * classes.astype(np.int16) + group.phase
        else:
            own.indices.reshape(-1, own.indices.shape[3])[group.at, group.iteration] = classes
        return known(planes, group)

    _walk(pack, [plane.shape[1:3] for plane in planes], len(planes[0]), coder, everywhere=True)
    return out


def known(planes: list[np.ndarray], group: Group) -> np.ndarray:
    """The symbols (n,) of a group in planes that are whole already."""
    plane = planes[group.position]
    flat = plane.reshape(-1, plane.shape[3])
    if group.iteration is None:
        return np.count_nonzero(flat[group.at], axis=1)
    return flat[group.at, group.iteration]
