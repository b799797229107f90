"""Index planes -> pixels: look-ups, thin matrix products and optional smoothing, in ONNX Runtime on the CPU.

The graph (built by encoder/export.py, defined by SPEC.md, "Reconstruction") works on float32 tensors that
hold integers over a power of two, small enough that every addition is exact. So the pixels are the same
on every machine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from . import container, entropy, zoo
from .container import Header
from .errors import LimitError, UnsupportedError
from .grid import Scale
from .zoo import Pack

BATCH_PIXELS = 2**20
"""Files of the same header are decoded together up to this many pixels: more gains nothing, and memory is bounded."""


@dataclass(frozen=True)
class Macs:
    """Executed multiply-accumulates per image pixel, by part of the decoder."""

    low_rank: float
    enlargement: float
    smoothing: float
    colour: float


class Graph:
    """One ONNX graph of a pack, for one colour kind, with or without smoothing."""

    def __init__(
        self,
        pack: Pack,
        colour: int,
        smoothing: bool,
        threads: int = 0,
        optimization: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    ):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = optimization
        options.log_severity_level = 3
        self.pack, self.smoothing = pack, smoothing
        self.channels = 3 if colour == container.RGB else 1
        graph = pack.graph(colour, smoothing)
        try:
            self.session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many kinds, and documents none
            raise UnsupportedError(f"model {pack.name} has a broken graph: {error}") from None

    def run(self, planes: list[np.ndarray], rank: int, height: int, width: int) -> np.ndarray:
        """uint8 pixels (count, height, width[, 3]) from index planes (count, rows, columns, iterations)."""
        inputs = dict(self.pack.factors(rank, self.channels))
        for scale, plane in zip(self.pack.scales, planes, strict=True):
            inputs |= _by_depth(scale, plane)
        polyphase = self.session.run(["pixels"], inputs)[0]
        count, channels, _, rows, columns = polyphase.shape
        pixels = polyphase.reshape(count, channels, 2, 2, rows, columns).transpose(0, 4, 3, 5, 2, 1)
        pixels = pixels.reshape(count, 2 * rows, 2 * columns, channels)[:, :height, :width]
        return np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels)

    def macs(self, planes: list[np.ndarray], rank: int, height: int, width: int) -> Macs:
        """What `run` multiplies and accumulates for each pixel, from the shapes of its products and convolutions."""
        c, low_rank, enlargement, rows, columns = self.channels, 0.0, 0, 0, 0
        for scale, plane in zip(self.pack.scales, planes, strict=True):
            p = scale.patch
            # On the coarser plane five taps across give two phases, in its padding of four rows too; five down, four.
            enlargement += c * 5 * columns * (2 * (rows + 4) + 4 * rows)
            rows, columns = plane.shape[1] * p, plane.shape[2] * p
            low_rank += np.count_nonzero(plane) / len(plane) * rank * p * p * c
        area, pixels = rows * columns, height * width
        smoothing = area // 4 * self.pack.smoothing_weights(c) if self.smoothing else 0
        return Macs(low_rank / pixels, enlargement / pixels, smoothing / pixels, area * 4 * c * c / pixels)


class Decoder:
    """Decodes files, keeping the models they name loaded. Threads may share one.

    models: folders of packs to know beside the shipped ones.
    max_pixels: larger images are refused before anything is allocated.
    threads: threads of ONNX Runtime (0: as many as cores).
    """

    def __init__(self, models: Sequence[str | Path] = (), max_pixels: int = container.MAX_PIXELS, threads: int = 0):
        self.models, self.max_pixels, self.threads = tuple(models), max_pixels, threads
        self._packs: dict[bytes, Pack] = {}
        self._graphs: dict[tuple[bytes, int, int], Graph] = {}

    def decode(self, data: bytes) -> np.ndarray:
        """Pixels of a .lrq file: uint8, (height, width, 3) or, for grey, (height, width).

        Raises FormatError, UnsupportedError (version, chunk or model not known) or LimitError.
        """
        return self.decode_batch([data])[0]

    def decode_batch(self, files: Sequence[bytes]) -> list[np.ndarray]:
        """`decode` of every file. Small images that differ in their indices only cost a fraction of one by one.

        Raises as `decode` does, for the first file that it finds wrong; then there are no pixels at all.
        """
        out: list[np.ndarray] = [np.empty(0)] * len(files)
        for header, members, planes in self.batches(files):
            pixels = self.graph(header).run(planes, header.rank, header.height, header.width)
            for member, image in zip(members, pixels, strict=True):
                out[member] = image
        return out

    def macs(self, data: bytes) -> Macs:
        """What decoding this file multiplies and accumulates, per pixel."""
        header, planes = self.indices(data)
        return self.graph(header).macs(planes, header.rank, header.height, header.width)

    def indices(self, data: bytes) -> tuple[Header, list[np.ndarray]]:
        """Header and index planes: a list, one a scale, of int64 (1, rows, columns, iterations)."""
        header, _, planes = next(self.batches([data]))
        return header, planes

    def batches(self, files: Sequence[bytes]) -> Iterator[tuple[Header, list[int], list[np.ndarray]]]:
        """Headers, numbers of the files that share them, and the files' index planes, in batches of bounded size."""
        alike: dict[Header, list[tuple[int, bytes]]] = {}
        for number, data in enumerate(files):
            header, chunks = container.unpack(data)
            if header.width * header.height > self.max_pixels:
                raise LimitError(f"{header.width} x {header.height} is more than {self.max_pixels} pixels")
            payload = next(chunk.payload for chunk in chunks if chunk.tag == container.INDICES)
            alike.setdefault(header, []).append((number, payload))
        for header, entries in alike.items():
            count = max(1, BATCH_PIXELS // (header.width * header.height))
            for start in range(0, len(entries), count):
                numbers, payloads = zip(*entries[start : start + count], strict=True)
                yield header, list(numbers), entropy.decode(payloads, self.pack(header), header)

    def pack(self, header: Header) -> Pack:
        """The model that the header names, loaded once. Raises UnsupportedError or FormatError."""
        if header.model not in self._packs:
            self._packs[header.model] = zoo.by_fingerprint(header.model, self.models).load()
        pack = self._packs[header.model]
        pack.check(header)
        return pack

    def graph(self, header: Header) -> Graph:
        """The graph for the header's model, colour kind and smoothing, loaded once."""
        key = header.model, header.colour, header.smoothing
        if key not in self._graphs:
            self._graphs[key] = Graph(self.pack(header), header.colour, bool(header.smoothing), self.threads)
        return self._graphs[key]


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
