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
if platform.libc_ver()[0] == "glibc" and not {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES"} & os.environ.keys():
    # Else up to eight heaps for each processor keep what threads have freed.
    ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


def cores() -> int:
    """The number of processors that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(threads: int) -> int:
    """`threads`, or for 0 as many as there are `cores`. Raises UsageError for a negative number."""
    if threads < 0:
        raise UsageError(f"threads must be 0 or more, not {threads}")
    return threads or cores()


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
