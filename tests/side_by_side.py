"""Processes that share a machine: `python tests/side_by_side.py IMAGE` prints how long 1, 2 and 4 at once take.

`lrq encode` and `lrq decode` run as a user's would, whole processes, each with an output of its own. With as many
processors as processes, or more, the ratio would be 1; N processes on P processors take N / P times as long at best.
Medians of several rounds, in which 1, 2 and 4 take turns.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from lrcodec.runtime import cores

COUNTS = (1, 2, 4)


def side_by_side(command: list[str], outputs: list[Path]) -> float:
    """Seconds until the last process has ended, of those that write the outputs at the same time."""
    start = time.perf_counter()
    running = [subprocess.Popen([*command, "-o", str(output)], stderr=subprocess.DEVNULL) for output in outputs]
    if any([process.wait() for process in running]):
        sys.exit("a command failed")
    return time.perf_counter() - start


def main() -> None:
    """Encode the image at both efforts and decode it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    lrq = [sys.executable, "-m", "lrcodec"]
    print(f"{cores()} processors")
    with tempfile.TemporaryDirectory() as folder:
        coded, decoded = ([Path(folder, f"{n}{suffix}") for n in range(max(COUNTS))] for suffix in (".lrq", ".png"))
        for name, command, outputs in (
            ("encode --effort 0", [*lrq, "encode", arguments.image, "--effort", "0"], coded),
            ("encode --effort 1", [*lrq, "encode", arguments.image], coded),
            ("decode", [*lrq, "decode", str(coded[0])], decoded),
        ):
            seconds: dict[int, list[float]] = {count: [] for count in COUNTS}
            for _ in range(arguments.rounds):
                for count in COUNTS:
                    seconds[count].append(side_by_side(command, outputs[:count]))
            alone = median(seconds[1])
            ratios = ", ".join(f"{n} at once {median(seconds[n]) / alone:.2f} times" for n in COUNTS[1:])
            print(f"{name}: alone {alone:.2f} s, {ratios}", flush=True)


if __name__ == "__main__":
    main()
