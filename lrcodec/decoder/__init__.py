"""Index planes -> pixels: look-ups, thin matrix products and optional smoothing, in ONNX Runtime on the CPU.

The graph (built by training/export.py, defined by SPEC.md, "Reconstruction") works on float32 tensors that
hold integers over a power of two, small enough that every addition is exact. So the pixels are the same
on every machine, and whether an image is drawn whole or strip by strip.
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
from ..errors import FormatError, UsageError
from ..format import container, grid
from ..format.alpha import AlphaReader
from ..format.container import BytesLike, Header
from ..packs import store
from ..packs.pack import Pack
from ..runtime import thread_count
from .graph import Graph as Graph
from .graph import Macs as Macs

MAX_STRIPS = 4
"""Strips that are drawn at a time, at most: memory is bounded, however many cores there are."""
BATCH_PIXELS = 2**20
"""Files of the same header are decoded together up to this many pixels: more gains nothing, and memory is bounded."""


class File(NamedTuple):
    """What is decoded of a file: the header, the payload of every strip, and that of the alpha if there is any."""

    header: Header
    strips: list[bytes]
    alpha: bytes | None

    def alpha_reader(self) -> AlphaReader | None:
        """The reader of the alpha, if there is any. Raises FormatError."""
        return None if self.alpha is None else AlphaReader(self.alpha, self.header.height, self.header.width)


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
        self._graphs: dict[tuple[bytes, int, int, int], Graph] = {}

    def decode(self, data: BytesLike) -> np.ndarray:
        """Pixels of a .lrq file: uint8 of the header's shape: (height, width) grey, (height, width, 3) RGB; or, with
        alpha as the last channel, (height, width, 2) and (height, width, 4).

        Raises FormatError, UnsupportedError (version, chunk or model not known) or LimitError.
        """
        return self.decode_batch([data])[0]

    def decode_batch(self, files: Sequence[BytesLike]) -> list[np.ndarray]:
        """`decode` of every file. Small images with the same header are decoded together, several times faster.

        Raises as `decode` does, for the first file that it finds wrong; then there are no pixels at all.
        """
        out: list[np.ndarray] = [np.empty(0)] * len(files)
        parsed = [self._read(data) for data in files]
        small = []
        for number, file in enumerate(parsed):
            if len(file.strips) == 1:
                small.append((number, file.header, file.strips[0]))
                continue
            out[number], row = np.empty(file.header.shape, np.uint8), 0
            for strip in self._strips(file, (0, file.header.height)):
                out[number][row : row + len(strip)] = strip
                row += len(strip)
        for header, numbers, planes in self._batches(small):
            pixels = self.graph(header).run(planes, header.rank, header.height, header.width)
            for number, image in zip(numbers, pixels, strict=True):
                out[number] = _with_alpha(image, parsed[number].alpha_reader())
        return out

    def strips(self, data: BytesLike, rows: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """`decode` from top to bottom, a strip at a time: uint8 (its rows, width[, channels]), in bounded memory.

        rows: only the pixels from row rows[0] up to, but without, rows[1]; strips far from them are not decoded.
        Raises as `decode` does, UsageError if there are no such rows.
        """
        file = self._read(data)
        height = file.header.height
        rows = rows or (0, height)
        if not 0 <= rows[0] < rows[1] <= height:
            raise UsageError(f"rows {rows[0]} to {rows[1]} of an image with {height}")
        return self._strips(file, rows)

    def _strips(self, file: File, rows: tuple[int, int]) -> Iterator[np.ndarray]:
        alpha = file.alpha_reader()
        if alpha:
            alpha.skip(rows[0])
        for strip in self._draw(file.header, file.strips, rows):
            yield _with_alpha(strip, alpha)

    def _draw(self, header: Header, payloads: list[bytes], rows: tuple[int, int]) -> Iterator[np.ndarray]:
        """The pixels of these rows without alpha, strip by strip."""
        top, bottom = rows
        scales = self.pack(header).scales
        bounds = grid.strips(scales, header.height, header.width)
        # Many strips keep the threads busy, each with its own; of one, the graph shares out the work.
        workers = min(self.threads, MAX_STRIPS)
        graph = self.graph(header, self.threads if len(bounds) == 1 else 1)
        strip_rows = bounds[0][1]

        def decode_indices(number: int) -> list[np.ndarray]:
            start, end = bounds[number]
            return entropy.decode([payloads[number]], self.pack(header), header, end - start)

        def draw(first: int, parts: list[Future], start: int, end: int) -> np.ndarray:
            ranges = grid.window(scales, header.height, start, end)
            planes = []
            for i, (scale, (low, stop)) in enumerate(zip(scales, ranges, strict=True)):
                above = bounds[first][0] // scale.span
                plane = np.concatenate([part.result()[i] for part in parts], axis=1)
                planes.append(plane[:, low - above : stop - above])
            return graph.run(planes, header.rank, header.height, header.width, (start, end))[0]

        with ThreadPoolExecutor(workers) as pool:
            indices: dict[int, Future] = {}
            drawn: deque[Future] = deque()
            for start, end in bounds:
                start, end = max(start, top), min(end, bottom)
                if start >= end:
                    continue
                low, stop = (row * scales[0].span for row in grid.window(scales, header.height, start, end)[0])
                first, last = low // strip_rows, (min(stop, header.height) - 1) // strip_rows
                # Submitted before what waits for them, so that the pool cannot starve.
                for number in range(first, last + 1):
                    if number not in indices:
                        indices[number] = pool.submit(decode_indices, number)
                indices = {number: part for number, part in indices.items() if number >= first}
                parts = [indices[number] for number in range(first, last + 1)]
                drawn.append(pool.submit(draw, first, parts, start, end))
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
        header, payloads, _ = self._read(data)
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
        yield from self._batches([(number, header, payload) for number, (header, (payload,), _) in enumerate(parsed)])

    def _batches(
        self, files: Sequence[tuple[int, Header, bytes]]
    ) -> Iterator[tuple[Header, list[int], list[np.ndarray]]]:
        alike: dict[Header, list[tuple[int, bytes]]] = {}
        for number, header, payload in files:
            alike.setdefault(header, []).append((number, payload))
        for header, entries in alike.items():
            count = max(1, BATCH_PIXELS // (header.width * header.height))
            for start in range(0, len(entries), count):
                numbers, batch = zip(*entries[start : start + count], strict=True)
                yield header, list(numbers), entropy.decode(batch, self.pack(header), header, header.height)

    def _read(self, data: BytesLike) -> File:
        """Header and payloads, with as many strips as the image must have."""
        header, chunks = container.unpack(data)
        header.check_size(self.max_pixels)
        payloads = [chunk.payload for chunk in chunks if chunk.tag == container.INDICES]
        wanted = len(grid.strips(self.pack(header).scales, header.height, header.width))
        if len(payloads) != wanted:
            raise FormatError(f"{len(payloads)} chunks of indices instead of {wanted}")
        return File(header, payloads, next((chunk.payload for chunk in chunks if chunk.tag == container.ALPHA), None))

    def pack(self, header: Header) -> Pack:
        """The model that the header names, loaded once. Raises UnsupportedError or FormatError."""
        with self._loading:
            if header.model not in self._packs:
                self._packs[header.model] = store.by_fingerprint(header.model, self.models).load()
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


def _with_alpha(colours: np.ndarray, alpha: AlphaReader | None) -> np.ndarray:
    """Rows of pixels and, as their last channel, as many next rows of the alpha, if there is any."""
    return colours if alpha is None else np.dstack([colours, alpha.read(len(colours))])
