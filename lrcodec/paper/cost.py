"""What a decoder costs: milliseconds, memory and weights, on one thread, each in a process of its own.

What is timed are index planes to pixels, in ONNX Runtime: neither container nor entropy decoding, which the baseline
has not. Times are those of the processor: what else runs on the machine does not count.
Nothing here imports torch: its memory must not be in these processes.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
import onnxruntime as ort

from ..decoder.graph import Graph
from ..decoder.session import session_options
from ..errors import LrqError
from ..format.container import Header
from ..packs.pack import PackFolder

BATCH = 64
"""Images that are decoded together."""
ROUNDS = 5

Run = Callable[[int, int], object]
"""run(first, end) decodes these images of the `BATCH`, to a uint8 array."""


class Decoding(Protocol):
    """A decoder, and `BATCH` images for it. It is handed to another process."""

    def weights(self) -> int:
        """Bytes of the files that the decoder reads."""

    def open(self) -> Run:
        """Load the decoder, for one thread."""


@dataclass(frozen=True)
class PackDecoding:
    """One of our packs. planes: index planes of every scale, int64 (n, rows, columns, iterations)."""

    pack: Path
    header: Header
    planes: list[np.ndarray]

    def weights(self) -> int:
        return sum(map(len, PackFolder("", self.pack).blobs.values()))

    def open(self) -> Run:
        header, pack = self.header, PackFolder(self.pack.name, self.pack).load()
        graph = Graph(pack, header.colour, bool(header.smoothing), 1)
        planes = [np.resize(plane, (BATCH, *plane.shape[1:])) for plane in self.planes]
        size = header.rank, header.height, header.width
        return lambda first, end: graph.run([plane[first:end] for plane in planes], *size)


@dataclass(frozen=True)
class BaselineDecoding:
    """The baseline. graph: file of its decoder, see `baseline_graph`. indices: int64 (n, h, w)."""

    graph: Path
    indices: np.ndarray

    def weights(self) -> int:
        return self.graph.stat().st_size

    def open(self) -> Run:
        session = open_baseline(self.graph.read_bytes(), 1)
        indices = np.resize(self.indices, (BATCH, *self.indices.shape[1:]))
        return lambda first, end: session.run(["pixels"], {"indices": indices[first:end]})


def open_baseline(graph: bytes, threads: int) -> ort.InferenceSession:
    """A session of the baseline's graph."""
    options = session_options(threads)
    # With so many channels as these, the layouts that it then chooses are the faster ones.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Cost:
    """What the decoder of a point of the suite costs, on one thread. dataset, model, setting: those of the point.

    macs: those of the point. ms, ms_batch: milliseconds of the processor for an image, alone and in a batch of `BATCH`:
    medians. memory, memory_batch: MiB of peak resident memory beyond what the process had before it opened the model,
    with one image and with a batch; None where the system does not tell. weights: bytes of the files that the decoder
    reads.
    """

    dataset: str
    model: str
    setting: str
    macs: float
    ms: float
    ms_batch: float
    memory: float | None
    memory_batch: float | None
    weights: int


def measure_cost(dataset: str, model: str, setting: str, macs: float, decoding: Decoding) -> Cost:
    """What a decoder costs, in a process of its own. Raises LrqError if that is killed."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            figures = pool.submit(_measure, decoding).result()
        except BrokenProcessPool:
            raise LrqError("the process that was to time a decoder was killed") from None
    return Cost(dataset, model, setting, macs, *figures, decoding.weights())


def _measure(decoding: Decoding) -> tuple[float, float, float | None, float | None]:
    """ms, ms_batch, memory and memory_batch."""
    before = _start_of_peak()
    run = decoding.open()
    alone = _seconds(run, 1)
    memory = _beyond(before)
    batch = _seconds(run, BATCH)
    return 1000 * alone, 1000 * batch / BATCH, memory, _beyond(before)


def _seconds(run: Run, count: int) -> float:
    """Median of the seconds for `count` images together, after a first round that does not count."""
    seconds: list[float] = []
    for number in range(1 + ROUNDS):
        for first in range(0, BATCH, count):
            start = time.process_time()
            run(first, first + count)
            if number:
                seconds.append(time.process_time() - start)
    return median(seconds)


def _start_of_peak() -> int | None:
    """Forget the peak of this process's memory so far. Returns what it has now in KiB; None if that cannot be done."""
    try:
        # ru_maxrss would be no use: a new process takes over that of the one that started it.
        Path("/proc/self/clear_refs").write_text("5")
        return _peak()
    except OSError:
        return None


def _beyond(before: int | None) -> float | None:
    return None if before is None else (_peak() - before) / 1024


def _peak() -> int:
    """KiB of resident memory, at most, since `_start_of_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
