"""Calls timed in turns, on a bounded number of cores, and the parts of a decode."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ..decoder import Decoder
from ..decoder.graph import Graph
from ..decoder.session import session_options

GRAPH_PARTS = ("prediction", "smoothing", "colour")


class Call(NamedTuple):
    """What is timed: a codec or image, how many threads it may have (0: any), and which part of it; "" for all."""

    what: str
    threads: int
    part: str = ""


def rounds(calls: Mapping[Call, Callable[[], object]], count: int) -> dict[Call, list[float]]:
    """The seconds that every call took in each of `count` rounds.

    A round makes every call twice, and times it the second time: whatever else the machine does hits all calls alike,
    and no call suffers from what the one before it has put into the caches of the processor.
    """
    seconds: dict[Call, list[float]] = {call: [] for call in calls}
    for _ in range(count):
        for call, function in calls.items():
            with _cores(call.threads):
                function()
                start = time.perf_counter()
                value = function()
                seconds[call].append(time.perf_counter() - start)
            del value  # giving the memory back is not decoding
            if call.threads > 1:
                time.sleep(0.002)  # ONNX Runtime's threads wait for work busily for a while: not in the next call
    return seconds


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Keep this thread, and those that it starts, on `count` cores (0: all): codecs may take threads unasked."""
    if not count or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Parts:
    """A file, decoded in parts, the whole image at once: `entropy`, then `low_rank`, then `graph`."""

    def __init__(self, decoder: Decoder, data: bytes):
        self._decoder, self._data = decoder, data
        self._header, self._planes = decoder.indices(data)
        self._folder = tempfile.TemporaryDirectory(prefix="lrq-")
        options = session_options(decoder.threads)
        options.enable_profiling, options.profile_file_prefix = True, str(Path(self._folder.name, "profile"))
        pack = decoder.pack(self._header)
        self._graph = Graph(pack, self._header.colour, bool(self._header.smoothing), options=options)
        self._inputs = self._graph.inputs(self._planes, self._header.rank)

    def entropy(self) -> object:
        """The container, and entropy decoding."""
        return self._decoder.indices(self._data)

    def low_rank(self) -> object:
        """The sums of the codewords."""
        return self._graph.inputs(self._planes, self._header.rank)

    def graph(self) -> object:
        """All that ONNX Runtime does."""
        return self._graph.session.run(["pixels"], self._inputs)

    def of_graph(self, count: int) -> dict[str, float]:
        """The seconds that each of `GRAPH_PARTS` took, by ONNX Runtime's own account: medians of the last `count` runs.

        To be called once, after these runs.
        """
        runs: list[dict[str, float]] = [dict.fromkeys(GRAPH_PARTS, 0.0)]
        for event in json.loads(Path(self._graph.session.end_profiling()).read_text(encoding="utf-8")):
            part, _, node = event["name"].partition("/")
            if event["name"] == "model_run":
                runs.append(dict.fromkeys(GRAPH_PARTS, 0.0))
            elif part in GRAPH_PARTS and node.endswith("_kernel_time"):
                runs[-1][part] += event["dur"] / 1e6
        self._folder.cleanup()
        return {part: median(run[part] for run in runs[-1 - count : -1]) for part in GRAPH_PARTS}
