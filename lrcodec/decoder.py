"""Index planes -> pixels: look-ups, thin matrix products and optional smoothing, in ONNX Runtime on the CPU.

The graph (built by encoder/export.py, defined by SPEC.md, "Reconstruction") works on float32 tensors that
hold integers over a power of two, small enough that every addition is exact. So the pixels are the same
on every machine, and whether an image is drawn whole or strip by strip.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from . import entropy
from .errors import FormatError, UnsupportedError, UsageError
from .format import container, grid
from .format.container import BytesLike, Header
from .format.extras import AlphaReader
from .format.fixed import FACTOR_BITS, PLANE_BITS
from .format.grid import Scale
from .packs import zoo
from .packs.zoo import Pack
from .runtime import thread_count

ort.disable_telemetry_events()  # of versions that do not know what runtime.py sets

MAX_STRIPS = 4
"""Strips that are drawn at a time, at most: memory is bounded, however many cores there are."""
BATCH_PIXELS = 2**20
"""Files of the same header are decoded together up to this many pixels: more gains nothing, and memory is bounded."""


@dataclass(frozen=True)
class Macs:
    """Executed multiply-accumulates per image pixel, by part of the decoder."""

    low_rank: float
    enlargement: float
    smoothing: float
    colour: float

    @property
    def total(self) -> float:
        """Of all parts."""
        return self.low_rank + self.enlargement + self.smoothing + self.colour


class Graph:
    """One ONNX graph of a pack, for one colour kind, with or without smoothing."""

    def __init__(
        self,
        pack: Pack,
        colour: int,
        smoothing: bool,
        threads: int = 0,
        # Not ALL: it would pad the few channels of the convolutions to 16.
        optimization: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    ):
        options = ort.SessionOptions()
        options.intra_op_num_threads = thread_count(threads)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other processes need the cores
        options.graph_optimization_level = optimization
        options.log_severity_level = 4  # what goes wrong is raised, and takes one line
        options.add_session_config_entry("session.load_model_format", "ONNX")
        self.pack, self.smoothing = pack, smoothing
        self.channels = 3 if colour == container.RGB else 1
        self._factors: dict[int, dict[str, np.ndarray]] = {}
        graph = pack.graph(colour, smoothing)
        try:
            self.session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many kinds, and documents none
            raise UnsupportedError(f"model {pack.name} has a broken graph: {error}") from None

    def run(
        self, planes: list[np.ndarray], rank: int, height: int, width: int, rows: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Draw images, or the rows of pixels [top, bottom) of them.

        planes: index planes (count, rows, columns, iterations) of every scale; of all rows that the image has, or of
        those that `grid.window` names. Returns uint8 (count, height or bottom - top, width[, 3]).
        """
        top, bottom = rows or (0, height)
        ranges = grid.window(self.pack.scales, height, top, bottom)
        inputs = dict(self._inputs(rank))
        above = 0
        for i, (scale, plane, (first, _)) in enumerate(zip(self.pack.scales, planes, ranges, strict=True)):
            inputs |= _by_depth(scale, plane)
            start = first * scale.patch
            if i:
                inputs[f"crop{scale.scale}"] = np.array([start // 2 - above])
            above = start
        finest = self.pack.scales[-1]
        count, h, w = (np.array(planes[-1].shape[:3]) * (1, finest.patch, finest.patch) // (1, 2, 2)).tolist()
        polyphase = self._pixels(inputs)
        if (polyphase.dtype, polyphase.shape) != (np.uint8, (count, 4 * self.channels, h, w)):
            raise UnsupportedError(f"model {self.pack.name} has a broken graph: its pixels are of another size or type")
        phases = polyphase.reshape(count, self.channels, 2, 2, h, w)
        pixels = np.empty((count, h, 2, w, 2, self.channels), np.uint8)
        for c, y, x in np.ndindex(self.channels, 2, 2):  # several times faster than one transposition
            pixels[:, :, y, :, x, c] = phases[:, c, y, x]
        pixels = pixels.reshape(count, 2 * h, 2 * w, self.channels)[:, top - above : bottom - above, :width]
        return np.ascontiguousarray(pixels[..., 0] if self.channels == 1 else pixels)

    def _pixels(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        try:
            return self.session.run(["pixels"], inputs)[0]
        except MemoryError:
            raise
        except Exception as error:  # ONNX Runtime raises many kinds, and documents none
            if "allocate memory" in str(error) or "bad_alloc" in str(error):
                raise MemoryError from None
            raise UnsupportedError(f"the graph of model {self.pack.name} failed: {error}") from None

    def _inputs(self, rank: int) -> dict[str, np.ndarray]:
        """The graph's inputs u{s} and v{s}, as float32. Made once."""
        if rank not in self._factors:
            unit = {"u": 2.0 ** (PLANE_BITS - FACTOR_BITS), "v": 1.0}
            self._factors[rank] = {
                name: factor.astype(np.float32) * np.float32(unit[name[0]])
                for name, factor in self.pack.factors(rank, self.channels).items()
            }
        return self._factors[rank]

    def macs(self, planes: list[np.ndarray], rank: int, height: int, width: int) -> Macs:
        """What `run` multiplies and accumulates for each pixel, from the shapes of its products and convolutions."""
        low_rank, enlargement, rows, columns = 0.0, 0, 0, 0
        for scale, plane in zip(self.pack.scales, planes, strict=True):
            p, c = scale.patch, scale.channels(self.channels)
            # On the coarser plane five taps down give two phases, four padding columns included; five across give four.
            enlargement += c * 5 * rows * (2 * (columns + 4) + 4 * columns)
            rows, columns = plane.shape[1] * p, plane.shape[2] * p
            low_rank += np.count_nonzero(plane) / len(plane) * rank * p * p * c
        blocks, pixels, finest = rows * columns // 4, height * width, self.pack.scales[-1]
        smoothing = blocks * self.pack.smoothing_weights(self.channels) if self.smoothing else 0
        # Chroma that the finest scale has not is interpolated with nine taps for each of four phases.
        enlargement += blocks * 36 * (self.channels - finest.channels(self.channels))
        colour = blocks * (4 * self.channels) ** 2
        return Macs(low_rank / pixels, enlargement / pixels, smoothing / pixels, colour / pixels)


class File(NamedTuple):
    """What is decoded of a file: the header, the payload of every strip, and that of the alpha if there is any."""

    header: Header
    strips: list[bytes]
    alpha: bytes | None

    def alpha_reader(self) -> AlphaReader | None:
        """Of the alpha, if there is any. Raises FormatError."""
        return None if self.alpha is None else AlphaReader(self.alpha, self.header.height, self.header.width)


class Decoder:
    """Decodes files, keeping the models they name loaded.

    Any number of threads may share one and call all its methods at once: the pixels are those of one thread.

    models: names or folders of packs to look into before the shipped and installed ones.
    max_pixels: larger images are refused before anything is allocated or inflated.
    threads: how many work on an image (0: as many as there are processors that this process may use).
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
        """`decode` of every file. Small images that differ in their indices only cost a fraction of one by one.

        Raises as `decode` does, for the first file that it finds wrong; then there are no pixels at all.
        """
        out: list[np.ndarray] = [np.empty(0)] * len(files)
        read = [self._read(data) for data in files]
        small = []
        for number, file in enumerate(read):
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
                out[number] = _with_alpha(image, read[number].alpha_reader())
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
        for strip in self._colours(file.header, file.strips, rows):
            yield _with_alpha(strip, alpha)

    def _colours(self, header: Header, payloads: list[bytes], rows: tuple[int, int]) -> Iterator[np.ndarray]:
        top, bottom = rows
        scales = self.pack(header).scales
        bounds = grid.strips(scales, header.height, header.width)
        # Many strips keep the threads busy, each with its own; of one, the graph shares out the work.
        workers = min(self.threads, MAX_STRIPS)
        graph = self.graph(header, self.threads if len(bounds) == 1 else 1)
        high = bounds[0][1]

        def indices(number: int) -> list[np.ndarray]:
            start, end = bounds[number]
            return entropy.decode([payloads[number]], self.pack(header), header, end - start)

        def draw(first: int, parts: list[Future], start: int, end: int) -> np.ndarray:
            ranges = grid.window(scales, header.height, start, end)
            planes = []
            for i, (scale, (low, stop)) in enumerate(zip(scales, ranges, strict=True)):
                skipped = bounds[first][0] // scale.span
                whole = np.concatenate([part.result()[i] for part in parts], axis=1)
                planes.append(whole[:, low - skipped : stop - skipped])
            return graph.run(planes, header.rank, header.height, header.width, (start, end))[0]

        with ThreadPoolExecutor(workers) as pool:
            known: dict[int, Future] = {}
            drawn: deque[Future] = deque()
            for start, end in bounds:
                start, end = max(start, top), min(end, bottom)
                if start >= end:
                    continue
                low, stop = (row * scales[0].span for row in grid.window(scales, header.height, start, end)[0])
                first, last = low // high, (min(stop, header.height) - 1) // high
                # Submitted before what waits for them, so that the pool cannot starve.
                for number in range(first, last + 1):
                    if number not in known:
                        known[number] = pool.submit(indices, number)
                known = {number: part for number, part in known.items() if number >= first}
                parts = [known[number] for number in range(first, last + 1)]
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
        read = map(self._read, files)
        yield from self._batches([(number, header, payload) for number, (header, (payload,), _) in enumerate(read)])

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
                self._packs[header.model] = zoo.by_fingerprint(header.model, self.models).load()
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


def _by_depth(scale: Scale, plane: np.ndarray) -> dict[str, np.ndarray]:
    """The graph's inputs d{scale}_1.. and place{scale}: patches grouped by the number of their iterations."""
    s, depths = scale.scale, len(scale.codewords)
    flat = plane.reshape(-1, depths)
    depth = np.count_nonzero(flat, axis=1)
    order = np.argsort(depth, kind="stable")
    ends = np.searchsorted(depth[order], np.arange(depths + 1), side="right")
    place = np.zeros(len(flat), np.int64)
    place[order[ends[0] :]] = np.arange(1, len(flat) - ends[0] + 1)
    inputs = {f"place{s}": place.reshape(plane.shape[:3])}
    starts = np.array(scale.starts) - 1  # index 1 is the first row of its iteration
    for d in range(1, depths + 1):
        inputs[f"d{s}_{d}"] = flat[order[ends[d - 1] : ends[d]], :d] + starts[:d]
    return inputs
