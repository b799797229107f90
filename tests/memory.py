"""One large image: `python tests/memory.py --megapixels 100` prints the peak memory and the time of both commands.

`lrq encode` (effort 0) and `lrq decode` run as a user's would, one after the other, on a PNG that is made here.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from skimage import data

from lrcodec.files import write_file
from lrcodec.image_io import write_strips


def picture(side: int) -> Iterator[np.ndarray]:
    """A square image in strips: a photograph as tiles, each turned, mirrored and shaded at random."""
    photo = data.astronaut().astype(np.int16)
    random = np.random.default_rng(0)
    across = -(-side // len(photo))
    for top in range(0, side, len(photo)):
        tiles = []
        for turns, mirror, shade in zip(*random.integers(0, [[4], [2], [61]], (3, across)), strict=True):
            tile = np.rot90(photo, turns)[:, :: 1 - 2 * mirror] + (shade - 30)
            tiles.append(tile.clip(0, 255).astype(np.uint8))
        yield np.concatenate(tiles, axis=1)[: side - top, :side]


def measure(*arguments: str | Path) -> None:
    """Run lrq in a process of its own, and print what it took."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "lrcodec", *map(str, arguments)])
    _, status, usage = os.wait4(child.pid, 0)  # the usage of this child alone, unlike RUSAGE_CHILDREN
    if status:
        sys.exit(os.waitstatus_to_exitcode(status))
    seconds = time.perf_counter() - start
    print(f"{arguments[0]}: {usage.ru_maxrss / 1024:,.0f} MiB at most, {seconds:,.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=100)
    parser.add_argument("--model", default="photo")
    arguments = parser.parse_args()
    side = math.isqrt(round(arguments.megapixels * 1e6))
    with tempfile.TemporaryDirectory() as folder:
        source, coded, decoded = (Path(folder, name) for name in ("in.png", "coded.lrq", "out.png"))
        write_file(source, write_strips(picture(side), side))
        measure("encode", source, "-o", coded, "--effort", "0", "--model", arguments.model)
        measure("decode", coded, "-o", decoded, *(["--model", arguments.model] * os.path.isdir(arguments.model)))


if __name__ == "__main__":
    main()
