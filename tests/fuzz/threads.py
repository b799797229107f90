"""Threads that share one decoder: `python tests/fuzz/threads.py --files 1000 --threads 8`.

Small files of all kinds (`seeds.py`), each with other indices, are decoded by one thread, then by several that start
together with a decoder that has loaded nothing yet. Fails unless the pixels are the same.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import seeds

from lrcodec.decoder import Decoder
from lrcodec.format.container import Header
from lrcodec.packs import store


def make(count: int) -> list[bytes]:
    """Files with random indices, of all shipped models, of one strip or several."""
    random, files = np.random.default_rng(0), []
    packs = [entry.load() for entry in store.packs()]
    for number in range(count):
        pack = packs[number % len(packs)]
        width, height, rank, smoothing, colour, band = random.integers(
            1, [100, 300, pack.rank + 1, 3, 3, pack.bands + 1]
        )
        if pack.channels == 1:
            colour = 1
        header = Header(
            int(width), int(height), int(colour) - 1, int(smoothing) - 1, int(rank), 32, int(band) - 1, pack.fingerprint
        )
        files.append(seeds.with_random_indices(pack, header, random))
    return files


def digests(files: Sequence[bytes], threads: int) -> list[str]:
    """A hash of every file's pixels. Every thread takes every n-th file."""
    decoder, start = Decoder(threads=1), Barrier(threads)

    def work(first: int) -> list[str]:
        start.wait()
        images = map(decoder.decode, files[first::threads])
        return [hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest() for image in images]

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(work, range(threads)))
    out = [""] * len(files)
    for first, part in enumerate(parts):
        out[first::threads] = part
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=8)
    arguments = parser.parse_args()
    with seeds.small_strips():
        files = make(arguments.files)
        found = []
        for threads in (1, arguments.threads):
            start = time.perf_counter()
            found.append(digests(files, threads))
            print(f"{len(files):,} files, {threads} threads: {time.perf_counter() - start:.1f} s", flush=True)
    same = sum(one == other for one, other in zip(*found, strict=True))
    print(
        f"{same:,} of {len(files):,} files have the same pixels, {len(set(found[0])):,} of them differ from each other"
    )
    sys.exit(found[0] != found[1])


if __name__ == "__main__":
    main()
