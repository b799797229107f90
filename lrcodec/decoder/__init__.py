"""Index planes -> pixels: look-ups, thin matrix products and small convolutions, in ONNX Runtime on the CPU.

The sums (low_rank.py) and the graph (built by training/export.py) do what SPEC.md, "Reconstruction", defines, on
float32 tensors that hold integers over a power of two, small enough that every addition is exact. So the pixels are the
same on every machine, and whether an image is drawn whole or strip by strip.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import NamedTuple

import numpy as np

from .. import entropy
from ..errors import UsageError
from ..format import container, grid
from ..format.alpha import AlphaReader, OpaqueReader
from ..format.container import BytesLike, Header
from ..format.shrink import SHRINKS, means
from ..packs import store
from ..packs.kept import Kept
from ..packs.pack import Pack
from ..runtime import thread_count
from . import reduced
from .file import File
from .graph import Graph as Graph
from .graph import Macs as Macs
from .room import ROOM

MAX_STRIPS = 4
"""Strips that are drawn at a time, at most: memory is bounded, however many cores there are."""
DRAWN_PIXELS = 2**19
"""Of a strip so many are drawn at a time."""
BATCH_PIXELS = 2**20
"""Files of the same header are decoded together up to this many pixels: more gains nothing, and memory is bounded."""


class Preview(NamedTuple):
    """What a file holds that may be cut short or damaged.

    pixels: as `Decoder.decode` gives them. missing: what is wrong and what is missing, in a line; None if nothing is.
    """

    pixels: np.ndarray
    missing: str | None


class Decoder:
    """Decodes files, keeping the models they name loaded.

    Any number of threads may share one and call all its methods at once: the pixels are those of one thread.

    models: names or folders of packs to look into before the shipped and installed ones.
    max_pixels: larger images are refused before anything is allocated or inflated.
    threads: how many threads work on an image (0: as many as the processors that this process may use).
    Raises UsageError for numbers out of range.
    """

    def __init__(self, models: Sequence[str | Path] = (), max_pixels: int = container.MAX_PIXELS, threads: int = 0):
        self.models, self.max_pixels = tuple(models), max_pixels
        self.threads = thread_count(threads)
        self._loading = RLock()
        """Held while a pack or graph is looked up: each is loaded once, whoever comes first."""
        self._packs: dict[bytes, Pack] = {}
        self._kept = Kept()
        self._graphs: dict[tuple[bytes, int, int, int], Graph] = {}

    def decode(self, data: BytesLike, shrink: int = 1) -> np.ndarray:
        """Pixels of a .lrq file: uint8 of the header's shape: (height, width) grey, (height, width, 3) RGB; or, with
        alpha as the last channel, (height, width, 2) and (height, width, 4).

        shrink: 2, 4, 8 or 16 to draw the image at that part of its size, sides rounded up, which is several times
        faster. Raises FormatError, UnsupportedError (version, chunk or model not known), LimitError or UsageError.
        """
        return self.decode_batch([data], shrink)[0]

    def decode_batch(self, files: Sequence[BytesLike], shrink: int = 1) -> list[np.ndarray]:
        """`decode` of every file. Small images with the same header are decoded together, several times faster.

        Raises as `decode` does, for the first file that it finds wrong; then there are no pixels at all.
        """
        return self._decode([self._read(data) for data in files], shrink)

    def preview(self, data: BytesLike, shrink: int = 1) -> Preview:
        """What is left of a file that may be cut short after its header, or damaged after its first chunk.

        Nothing vouches for a header whose first chunk is cut short.
        A strip that is cut short is drawn as far as its coarse scales go, one that is missing grey. Missing alpha is
        255 everywhere.
        Raises as `decode` does for a file that is not valid although none of it is missing or damaged.
        """
        file = self._read(data, partial=True)
        return Preview(self._decode([file], shrink)[0], file.missing)

    def missing(self, data: BytesLike) -> str | None:
        """That of `preview`, without decoding. Raises as `preview` does, but not for the payloads of strips."""
        return self._read(data, partial=True).missing

    def strips(
        self, data: BytesLike, rows: tuple[int, int] | None = None, shrink: int = 1, partial: bool = False
    ) -> Iterator[np.ndarray]:
        """`decode` from top to bottom, a strip at a time: uint8 (its rows, width[, channels]), in bounded memory.

        rows: only the pixels from row rows[0] up to, but without, rows[1], counted in the image at 1/shrink of its
        size; strips far from them are not decoded. partial: the pixels of `preview`.
        Raises as `decode` does, UsageError if there are no such rows.
        """
        _check_shrink(shrink)
        file = self._read(data, partial)
        height = file.header.shrunk(shrink).height
        rows = rows or (0, height)
        if not 0 <= rows[0] < rows[1] <= height:
            raise UsageError(f"rows {rows[0]} to {rows[1]} of an image with {height}")
        return self._strips(file, rows, shrink)

    def _decode(self, files: Sequence[File], shrink: int) -> list[np.ndarray]:
        _check_shrink(shrink)
        out: list[np.ndarray] = [np.empty(0)] * len(files)
        small = []
        for number, file in enumerate(files):
            if len(file.strips) == 1 and not file.absent:
                small.append((number, file.header, file.strips[0]))
                continue
            size, row = file.header.shrunk(shrink), 0
            out[number] = np.empty(size.shape, np.uint8)
            for strip in self._strips(file, (0, size.height), shrink):
                out[number][row : row + len(strip)] = strip
                row += len(strip)
        for header, numbers, planes in self._batches(small, shrink):
            pixels = _run(self.graph(header), header, planes, shrink)
            for number, image in zip(numbers, pixels, strict=True):
                out[number] = _with_alpha(image, files[number].alpha_reader(), shrink)
        return out

    def _strips(self, file: File, rows: tuple[int, int], shrink: int) -> Iterator[np.ndarray]:
        alpha = file.alpha_reader()
        if alpha:
            alpha.skip(rows[0] * shrink)
        for strip in self._draw(file, rows, shrink):
            yield _with_alpha(strip, alpha, shrink)

    def _draw(self, file: File, rows: tuple[int, int], shrink: int) -> Iterator[np.ndarray]:
        """The pixels of these rows without alpha, strip by strip."""
        header, pack = file.header, self.pack(file.header)
        scales = grid.drawn(pack.scales, shrink)
        bounds = grid.strips(scales, header.height, header.width)
        # Many strips keep the threads busy, each with its own; of one, the graph shares out the work.
        workers = min(self.threads, MAX_STRIPS)
        graph = self.graph(header, self.threads if len(bounds) == 1 else 1)
        strip_rows = bounds[0][1]

        def decode_indices(number: int) -> list[np.ndarray]:
            payload, (start, end) = file.strips[number], bounds[number]
            if absent := file.absent.get(number):
                return entropy.decode_cut(payload, absent, pack, header, end - start, len(scales))
            return entropy.decode([payload], pack, header, end - start, len(scales))

        def draw(parts: dict[int, Future], start: int, end: int) -> np.ndarray:
            ranges = grid.window(scales, header.height, start, end, shrink)
            planes = []
            for i, (scale, window) in enumerate(zip(scales, ranges, strict=True)):
                pieces = []
                for number, part in parts.items():
                    low, stop = (max(0, row - bounds[number][0] // scale.span) for row in window)
                    pieces.append(part.result()[i][:, low:stop])
                planes.append(np.concatenate(pieces, axis=1))
            return _run(graph, header, planes, shrink, (start, end))[0]

        with ThreadPoolExecutor(workers) as pool:
            indices: dict[int, Future] = {}
            drawn: deque[Future] = deque()
            for start, end in _drawn_at_once(bounds, header, rows, shrink):
                patches = grid.window(scales, header.height, start, end, shrink)[0]
                low, stop = (row * scales[0].span for row in patches)
                first, last = low // strip_rows, (min(stop, header.height) - 1) // strip_rows
                # Submitted before what waits for them, so that the pool cannot starve.
                for number in range(first, last + 1):
                    if number not in indices:
                        indices[number] = pool.submit(decode_indices, number)
                indices = {number: part for number, part in indices.items() if number >= first}
                parts = {number: indices[number] for number in range(first, last + 1)}
                drawn.append(pool.submit(draw, parts, start, end))
                if len(drawn) > workers:
                    yield drawn.popleft().result()
            while drawn:
                yield drawn.popleft().result()

    def macs(self, data: BytesLike) -> Macs:
        """What decoding this file multiplies and accumulates, per pixel."""
        header, planes = self.indices(data)
        return self.graph(header).macs(planes, header.rank, header.height, header.width)

    def indices(self, data: BytesLike) -> tuple[Header, list[np.ndarray]]:
        """Header and index planes: a list, one a scale, of int64 (1, rows, columns, iterations)."""
        header, payloads, *_ = self._read(data)
        pack = self.pack(header)
        bounds = grid.strips(pack.scales, header.height, header.width)
        parts = [
            entropy.decode([payload], pack, header, bottom - top)
            for payload, (top, bottom) in zip(payloads, bounds, strict=True)
        ]
        return header, [np.concatenate(planes, axis=1) for planes in zip(*parts, strict=True)]

    def batches(self, files: Sequence[BytesLike]) -> Iterator[tuple[Header, list[int], list[np.ndarray]]]:
        """Headers, numbers of the files that share them, and the files' index planes, in batches of bounded size.

        The files must be of one strip each.
        """
        parsed = map(self._read, files)
        yield from self._batches([(number, header, payload) for number, (header, (payload,), *_) in enumerate(parsed)])

    def _batches(
        self, files: Sequence[tuple[int, Header, bytes]], shrink: int = 1
    ) -> Iterator[tuple[Header, list[int], list[np.ndarray]]]:
        alike: dict[Header, list[tuple[int, bytes]]] = {}
        for number, header, payload in files:
            alike.setdefault(header, []).append((number, payload))
        for header, entries in alike.items():
            count = max(1, BATCH_PIXELS // (header.width * header.height))
            for start in range(0, len(entries), count):
                numbers, batch = zip(*entries[start : start + count], strict=True)
                pack = self.pack(header)
                scales = len(grid.drawn(pack.scales, shrink))
                yield header, list(numbers), entropy.decode(batch, pack, header, header.height, scales)

    def _read(self, data: BytesLike, partial: bool = False) -> File:
        """A file, of which parts may be missing with `partial`."""
        rest = container.unpack_rest(data) if partial else container.Rest(*container.unpack(data), 0, None)
        header = rest.header
        header.check_size(self.max_pixels)
        strips = grid.strips(self.pack(header).scales, header.height, header.width)
        return File.of(rest, len(strips), partial)

    def pack(self, header: Header) -> Pack:
        """The model that the header names, loaded once. Raises UnsupportedError or FormatError."""
        with self._loading:
            if header.model not in self._packs:
                loaded = store.by_fingerprint(header.model, self.models).load()
                loaded.kept = self._kept
                self._packs[header.model] = loaded
            pack = self._packs[header.model]
        pack.check(header)
        return pack

    def graph(self, header: Header, threads: int | None = None) -> Graph:
        """The graph for the header's model, colour kind and smoothing, loaded once. threads: of ONNX Runtime."""
        threads = threads or self.threads
        key = header.model, header.colour, header.smoothing, threads
        with self._loading:
            if key not in self._graphs:
                self._graphs[key] = Graph(self.pack(header), header.colour, bool(header.smoothing), threads)
            return self._graphs[key]


@lru_cache(4)
def shared(models: tuple[str | Path, ...] = (), threads: int = 0) -> Decoder:
    """One decoder for all callers that ask for the same, so that its models stay loaded: for images of any size."""
    return Decoder(models, container.MAX_SIDE**2, threads)


def _check_shrink(shrink: int) -> None:
    """Raise UsageError unless it is one of `SHRINKS`."""
    if shrink not in SHRINKS:
        raise UsageError(f"shrink must be one of {', '.join(map(str, SHRINKS))}, not {shrink}")


def _drawn_at_once(
    bounds: Sequence[tuple[int, int]], header: Header, rows: tuple[int, int], shrink: int
) -> Iterator[tuple[int, int]]:
    """The rows of strips that lie within `rows`, at 1/shrink of the size: those of a very wide strip in parts."""
    step = max(1, DRAWN_PIXELS // header.shrunk(shrink).width)
    for start, end in bounds:
        start, end = max(-(-start // shrink), rows[0]), min(-(-end // shrink), rows[1])
        for top in range(start, end, step):
            yield top, min(top + step, end)


def _run(
    graph: Graph, header: Header, planes: list[np.ndarray], shrink: int, rows: tuple[int, int] | None = None
) -> list[np.ndarray]:
    """Images, or these rows of them, at 1/shrink of their size, from index planes, once there is room for them."""
    finest = planes[-1]
    with ROOM.of(finest[..., 0].size * graph.pack.scales[len(planes) - 1].patch ** 2):
        if shrink == 1:
            return [*graph.run(planes, header.rank, header.height, header.width, rows)]
        return reduced.run(graph, header, planes, shrink, rows)


def _with_alpha(colours: np.ndarray, alpha: AlphaReader | OpaqueReader | None, shrink: int) -> np.ndarray:
    """Rows of pixels and, as their last channel, as many next rows of the alpha, if there is any."""
    if alpha is None:
        return colours
    rows, width = colours.shape[:2]
    opacity = alpha.read(min(rows * shrink, alpha.rows_left))
    return np.dstack([colours, means(opacity, shrink, rows, width)])
