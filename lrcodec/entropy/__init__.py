"""Index planes <-> bytes: context classes, integer frequency tables and a range coder.

SPEC.md, "Entropy coding", is the normative text. Scale by scale, the depths of all patches come first, in two
checkerboard phases, then their indices, one iteration after the other. An index is two symbols: a shape and its
symmetry. The shapes of a group are coded class by class, so that one call codes all that share a table; their
symmetries follow. Tables depend on context classes, which are computed in integers from depths and indices that are
already coded.
"""

from collections.abc import Sequence
from contextlib import suppress
from itertools import count, pairwise, repeat
from typing import NamedTuple

import numpy as np

from ..errors import FormatError
from ..format.container import Header
from ..packs.pack import Pack
from .cost_tables import SYMMETRY_MODELS, Tables, tables
from .order import Coder, Group, symbols_of, walk
from .range_coder import RangeDecoder, RangeEncoder

UNFIT = ValueError, AssertionError
"""What range coders raise where a payload does not fit."""
FILLED = 16
"""So many absent bytes decide all that they can: the state of the range coder has half as many."""


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
    if group.at[-1] < patches:
        # Of one image the classes alone, as bytes, are sorted several times faster.
        order = classes.argsort(kind="stable")
        ends = np.bincount(classes).cumsum().tolist()
        runs = zip(repeat(0), count(), [0, *ends], ends, strict=False)
        return order, [_Run(*run) for run in runs if run[2] < run[3]]
    keys = group.at // patches * 256 + classes
    order = keys.argsort(kind="stable")
    ordered = keys.take(order)
    starts = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist()]
    images, labels = np.divmod(ordered[starts], 256)
    runs = zip(images.tolist(), labels.tolist(), starts, [*starts[1:], len(order)], strict=True)
    return order, [_Run(*run) for run in runs]


def _images(group: Group, number: int, patches: int) -> list[tuple[int, int]]:
    """Where the symbols of every image of a batch start and end in a group."""
    ends = np.searchsorted(group.at, np.arange(1, number) * patches).tolist() if number > 1 else []
    return list(pairwise([0, *ends, len(group.at)]))


def encode(planes: list[np.ndarray], pack: Pack, header: Header) -> list[bytes]:
    """The payload of the chunk of indices of every image. planes: as `walk` returns them."""
    queues = [RangeEncoder() for _ in planes[0]]
    by_scale = tables(pack, header.band)

    def coder(group: Group) -> np.ndarray:
        table, values = by_scale[group.position], symbols_of(planes, group)
        patches = planes[group.position][0, ..., 0].size
        symbols, symmetries = (
            (values, None) if group.iteration is None else np.divmod(values - 1, table.contexts.symmetries)
        )
        order, runs = _runs(group, table.contexts.classes(group), patches)
        models = table.models(group)
        ordered = symbols.take(order).astype(np.int32)
        for image, label, start, end in runs:
            queues[image].encode(ordered[start:end], models[label])
        if symmetries is not None and table.contexts.symmetries > 1:
            parameters, coded = table.contexts.symmetry_parameters(group, symbols), symmetries.astype(np.int32)
            for queue, (start, end) in zip(queues, _images(group, len(queues), patches), strict=True):
                queue.encode(coded[start:end], SYMMETRY_MODELS, parameters[start:end])
        return values

    walk(
        pack.scales,
        [table.contexts.traits for table in by_scale],
        [plane.shape[1:3] for plane in planes],
        len(queues),
        coder,
    )
    return [_finish(queue) for queue in queues]


def _finish(queue: RangeEncoder) -> bytes:
    """The shortest bytes that decode to what the queue holds: SPEC.md, "Range coder"."""
    words = queue.get_compressed()
    shifts, (lower, width) = queue.pos()
    # As integers over 2^(32 * shifts + 64): what the queue chose, and the lower end of what it chose from.
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


def decode(
    payloads: Sequence[bytes], pack: Pack, header: Header, height: int, scales: int | None = None
) -> list[np.ndarray]:
    """Index planes from the payloads of images, or strips, with the same header and height in pixels.

    scales: how many are decoded, the coarsest first; by default all. Raises FormatError if a payload does not fit.
    """
    by_scale, grids = _layout(pack, header, height, scales)
    coder = _decoder(payloads, by_scale, grids, header.iterations)
    try:
        return walk(pack.scales[:scales], [table.contexts.traits for table in by_scale], grids, len(payloads), coder)
    except UNFIT as error:
        raise FormatError(f"the indices are damaged: {error}") from None


def decode_cut(
    payload: bytes, absent: int, pack: Pack, header: Header, height: int, scales: int | None = None
) -> list[np.ndarray]:
    """`decode` of one strip whose payload lacks its last bytes, so many as `absent`: what the others decide.

    SPEC.md, "Cut payloads": what they do not decide is 0 in the index planes.
    """
    by_scale, grids = _layout(pack, header, height, scales)
    # As a batch of two: what both agree on does not depend on the bytes that are absent.
    payloads = [payload + filling * min(absent, FILLED) for filling in (b"\x00", b"\xff")]
    both = _decoder(payloads, by_scale, grids, header.iterations)
    known: list[tuple[Group, np.ndarray]] = []
    begun: tuple[int, int | None] | None = None

    def coder(group: Group) -> np.ndarray:
        nonlocal begun
        begun = group.unit
        symbols = both(group)
        first, second = np.split(symbols, 2)
        if not np.array_equal(first, second):
            raise FormatError("a symbol depends on absent bytes")
        known.append((group, first))
        return symbols

    with suppress(FormatError, *UNFIT):
        walk(pack.scales[:scales], [table.contexts.traits for table in by_scale], grids, 2, coder)
        begun = None
    planes = [
        np.zeros((1, *grid, len(scale.shapes)), np.int64)
        for grid, scale in zip(grids, pack.scales[:scales], strict=True)
    ]
    for group, symbols in known:
        if group.iteration is not None and group.unit != begun:
            plane = planes[group.position]
            plane.reshape(-1, plane.shape[3])[group.at[: len(symbols)], group.iteration] = symbols
    return planes


def _layout(pack: Pack, header: Header, height: int, scales: int | None) -> tuple[list[Tables], list[tuple[int, int]]]:
    """The tables and the grids of the first scales of an image, or a strip, of this height."""
    return tables(pack, header.band)[:scales], [scale.grid(height, header.width) for scale in pack.scales[:scales]]


def _decoder(
    payloads: Sequence[bytes], by_scale: Sequence[Tables], grids: Sequence[tuple[int, int]], cap: int
) -> Coder:
    """Decodes the groups of images, each from its payload. cap: the largest depth.

    It raises FormatError, or one of `UNFIT`, if a payload does not fit.
    """
    queues = []
    for payload in payloads:
        words = np.frombuffer(payload + bytes(-len(payload) % 4), ">u4").astype(np.uint32)
        queues.append(RangeDecoder(words))

    def coder(group: Group) -> np.ndarray:
        table, symbols = by_scale[group.position], np.empty(len(group.at), np.int64)
        rows, columns = grids[group.position]
        order, runs = _runs(group, table.contexts.classes(group), rows * columns)
        models = table.models(group)
        parts = [queues[image].decode(models[label], end - start) for image, label, start, end in runs]
        symbols[order] = np.concatenate(parts)
        if group.iteration is None:
            if symbols.max() > cap:
                raise FormatError(f"the indices are damaged: {symbols.max()} iterations where {cap} is the cap")
            return symbols
        if table.contexts.symmetries == 1:
            return symbols + 1
        parameters = table.contexts.symmetry_parameters(group, symbols)
        bounds = _images(group, len(queues), rows * columns)
        parts = [
            queue.decode(SYMMETRY_MODELS, parameters[start:end])
            for queue, (start, end) in zip(queues, bounds, strict=True)
        ]
        return symbols * table.contexts.symmetries + np.concatenate(parts) + 1

    return coder


class Classes(NamedTuple):
    """Context classes in one scale of a batch: int16, of every patch's depth, (count, rows, columns), with the phase
    as its lowest bit, and of the shape of every index, (count, rows, columns, iterations), coded or not."""

    depths: np.ndarray
    indices: np.ndarray


def contexts(planes: list[np.ndarray], pack: Pack, header: Header) -> list[Classes]:
    """The context classes of all symbols in `planes`, scale by scale."""
    out = [Classes(np.zeros(plane.shape[:3], np.int16), np.zeros(plane.shape, np.int16)) for plane in planes]
    by_scale = tables(pack, header.band)

    def coder(group: Group) -> np.ndarray:
        classes, labels = by_scale[group.position].contexts.classes(group), out[group.position]
        if group.iteration is None:
            labels.depths.reshape(-1)[group.at] = 2 * classes.astype(np.int16) + group.phase
        else:
            labels.indices.reshape(-1, labels.indices.shape[3])[group.at, group.iteration] = classes
        return symbols_of(planes, group)

    walk(
        pack.scales,
        [table.contexts.traits for table in by_scale],
        [plane.shape[1:3] for plane in planes],
        len(planes[0]),
        coder,
        everywhere=True,
    )
    return out
