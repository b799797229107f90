"""What native libraries are told before they start, and how many threads they may have.

This is imported before any of them. A codec tells nobody anything, and several of its processes share a machine.
"""

import ctypes
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .errors import UsageError

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Else threads of OpenMP, which PyTorch runs on, spin while they wait: two processes on two cores take 25 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""Numbers of glibc's mallopt."""


def _mallopt(parameter: int, value: int) -> None:
    """Tell malloc something, if it is that of glibc and the user has told it nothing."""
    told = any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ
    if platform.libc_ver()[0] == "glibc" and not told:
        ctypes.CDLL(None).mallopt(parameter, value)


_mallopt(M_ARENA_MAX, 2)  # else up to eight heaps for each processor keep what threads have freed


def cores() -> int:
    """The number of processors that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(threads: int) -> int:
    """`threads`, or for 0 as many as there are `cores`. Raises UsageError for a negative number."""
    if threads < 0:
        raise UsageError(f"threads must be 0 or more, not {threads}")
    return threads or cores()


@contextmanager
def large_arrays_apart() -> Iterator[None]:
    """Within, what an array of 4 MiB or more took goes back to the system at once, where malloc can be told so."""
    _mallopt(M_MMAP_THRESHOLD, 2**22)
    try:
        yield
    finally:
        _mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that malloc comes to by itself


def give_back() -> None:
    """Give unused memory back to the system, where malloc can be told to: that of glibc."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def no_list_of_fonts() -> Iterator[None]:
    """Within, Matplotlib keeps its list of fonts in a folder that is removed at the end, not in one of the user's.

    A user who has chosen a folder, by the variable MPLCONFIGDIR, keeps it.
    """
    if "MPLCONFIGDIR" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="lrq-") as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]
