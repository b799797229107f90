"""Calls timed in turns, on a bounded number of cores, and the share of ONNX Runtime in a decode."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..decoder import Decoder
from .classic import Pixels


class Call(NamedTuple):
    """What is timed: a codec or image, how many threads it may have (0: any), and whether only entropy decoding."""

    what: str
    threads: int
    entropy: bool = False


def rounds(calls: Mapping[Call, Callable[[], object]], count: int) -> dict[Call, list[float]]:
    """The seconds that every call took in each of `count` rounds, after one that does not count.

    A round makes every call once, so whatever else the machine does hits all calls alike.
    """
    seconds: dict[Call, list[float]] = {call: [] for call in calls}
    for number in range(1 + count):
        for call, function in calls.items():
            with _cores(call.threads):
                start = time.perf_counter()
                value = function()
                taken = time.perf_counter() - start
            del value  # giving the memory back is not decoding
            if number:
                seconds[call].append(taken)
            if call.threads > 1:
                time.sleep(0.002)  # ONNX Runtime's threads wait for work busily for a while: not in the next call
    return seconds


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Keep this thread, and those that it starts, on `count` cores (0: all): codecs may take threads unasked."""
    if not count or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Watch:
    """Stands in for a graph's session of ONNX Runtime, and adds up the seconds of its runs."""

    def __init__(self, session: Any):
        self.session, self.seconds = session, 0.0

    def run(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        value = self.session.run(*arguments)
        self.seconds += time.perf_counter() - start
        return value


def watched_decode(decoder: Decoder, data: bytes, seconds: list[float]) -> Pixels:
    """Decode, and append the seconds that the graph took; a graph that had to be loaded is watched from now on."""
    before = _graph_seconds(decoder)
    pixels = decoder.decode(data)
    seconds.append(_graph_seconds(decoder) - before)
    return pixels


def _graph_seconds(decoder: Decoder) -> float:
    for graph in decoder._graphs.values():
        graph.session = graph.session if isinstance(graph.session, Watch) else Watch(graph.session)
    return sum(graph.session.seconds for graph in decoder._graphs.values())
