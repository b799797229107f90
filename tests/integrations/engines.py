"""How the tests and `tests/engines_throughput.py` run Ray and Spark: one thread a worker, of which one is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # Ray makes its workers nice: on a busy machine they would wait for ever.
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Spark takes the first python3 that it finds otherwise, and the machine's name may lead nowhere.
    "PYSPARK_PYTHON": sys.executable,
    "SPARK_LOCAL_IP": "127.0.0.1",
}


PATIENCE = 1200
"""Seconds that a job may take: engines start slowly where others are at work."""


def descendants(pid: int) -> dict[int, str]:
    """The processes that a process has started, and those that they have: {number: command line}. Linux."""
    parents, commands = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has ended
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return {one: commands[one] for one in found[1:]}


def workers(pid: int) -> list[int]:
    """The processes that encode: Ray's actors, and what Spark's Python daemon has forked."""
    every = descendants(pid)
    actors = [one for one, command in every.items() if command.startswith("ray::MapWorker(MapBatches(Encode")]
    daemons = [one for one, command in every.items() if "pyspark.daemon" in command]
    return actors + [one for one in daemons if set(descendants(one)) == set() and len(daemons) > 1]


@contextmanager
def started(command: Sequence[object]) -> Iterator[subprocess.Popen]:
    """A job in a session of its own, all of whose processes are killed at the end: half-way, if it is still at work."""
    environment = os.environ | ENVIRONMENT
    with subprocess.Popen([*map(str, command)], env=environment, start_new_session=True) as job:
        try:
            yield job
        finally:
            os.killpg(job.pid, signal.SIGKILL)


def finished(command: Sequence[object]) -> str:
    """What a job prints, which must end well."""
    environment = os.environ | ENVIRONMENT
    result = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    return result.stdout


def kill_one_worker(pid: int, when: Callable[[], bool], timeout: float = PATIENCE) -> int:
    """Kill one of the workers that a process has started as soon as `when` is true. Returns its number."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if when():
            for worker in workers(pid):
                os.kill(worker, signal.SIGKILL)
                return worker
        time.sleep(0.02)
    raise TimeoutError("no worker was there to be killed")
