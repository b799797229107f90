"""A day in the life of a thumbnail service: `python tests/fuzz/soak.py --minutes 20`.

Threads that share a decoder take files at random: valid ones of all packs, ranks, bands and sizes, damaged ones, and
those that claim to be huge. With `--encoders N`, N of the threads encode small images as well, which needs PyTorch.
Every answer is checked: pixels against those that were drawn beforehand, errors against their documented kind. Large
images are taken strip by strip, so that memory is the decoder's alone.

Prints resident memory and open descriptors each minute. Exits with 1 if an answer was wrong, if resident memory at the
end is more than 10 % above that of minute 5 (of a quarter of the time, if that is sooner), or if descriptors leaked.
Needs Linux.
"""

import argparse
import gc
import hashlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import seeds

import lrcodec
from lrcodec.decoder import Decoder
from lrcodec.errors import FormatError, LimitError, LrqError, UnsupportedError
from lrcodec.format import container, grid
from lrcodec.format.container import INDICES, Chunk, Header
from lrcodec.packs import store
from lrcodec.packs.pack import Pack

CORRUPT = Path(__file__).parent.parent.parent / "formats" / "corrupt"
SIZES = ((1, 1), (28, 28), (32, 32), (64, 64), (333, 217), (640, 480), (1024, 1024))
LARGE = ((3000, 2000), (65535, 70))
"""Of the first pack, which is for images of any size."""
MAX_PIXELS = 2**24
Answer = str | type[LrqError]
"""A hash of the pixels, or the kind of the error."""


def status(field: str) -> int:
    """MiB of this process, such as VmRSS."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) // 1024


def file_of(pack: Pack, size: tuple[int, int], random: np.random.Generator) -> bytes:
    """A valid file with random indices, of any rank, band and colour."""
    colour = int(random.integers(2)) if pack.channels == 3 else container.GREY
    rank, band = int(random.integers(1, pack.rank + 1)), int(random.integers(pack.bands))
    header = Header(*size, colour, 0, rank, 32, band, pack.fingerprint)
    return seeds.with_random_indices(pack, header, random)


def digest(decoder: Decoder, data: bytes) -> Answer:
    """What a service makes of a file."""
    try:
        lrcodec.metadata(data)  # which a service passes on
        header = container.unpack_header(data)
        out = hashlib.sha256()
        if header.width * header.height <= grid.STRIP_PIXELS:
            out.update(np.ascontiguousarray(decoder.decode(data)))
        else:
            for strip in decoder.strips(data):
                out.update(np.ascontiguousarray(strip))
        return out.hexdigest()
    except LrqError as error:
        return type(error)


def stream(random: np.random.Generator) -> list[tuple[str, bytes, Answer | None]]:
    """Files: what they are, their bytes, and the answer if it is documented."""
    files: list[tuple[str, bytes, Answer | None]] = []
    kinds = {kind.exit_code: kind for kind in (FormatError, UnsupportedError, LimitError)}
    cases = json.loads((CORRUPT / "cases.json").read_text())
    for name, case in cases.items():
        files.append(("hostile", (CORRUPT / name).read_bytes(), kinds[case["exit"]]))
    for entry in store.packs():
        pack = entry.load()
        for size in SIZES + LARGE * (entry.name == "photo"):
            data = file_of(pack, size, random)
            files.append(("valid", data, None))
            cut = bytearray(data)
            cut[random.integers(9, len(cut))] ^= 1 << int(random.integers(8))
            files.append(("damaged", bytes(cut), FormatError))
        huge = Header(65535, 65535, container.GREY, 0, 1, 32, 0, pack.fingerprint)
        files.append(("hostile", container.pack(huge, [Chunk(INDICES, b"")]), LimitError))
        unknown = Header(8, 8, container.GREY, 0, 1, 32, 0, bytes(4))
        files.append(("hostile", container.pack(unknown, [Chunk(INDICES, b"")]), UnsupportedError))
    return files


def answered() -> list[tuple[str, bytes, Answer]]:
    """The files, with all answers: pixels as one thread draws them, with a decoder that has kept nothing."""
    files = []
    for number, (kind, data, documented) in enumerate(stream(np.random.default_rng(0))):
        answer = documented or digest(Decoder(max_pixels=MAX_PIXELS, threads=1), data)
        if kind == "valid" and not isinstance(answer, str):
            sys.exit(f"file {number} is refused: {answer}")
        files.append((kind, data, answer))
    return files


def encoding() -> Callable[[np.random.Generator], bool]:
    """What encodes a small image and says whether the file is the one that it should be."""
    from lrcodec.encoder import Encoder

    encoder, random = Encoder("thumbs64", threads=1), np.random.default_rng(1)
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in ((8, 8), (64, 64), (100, 40))]
    wanted = [encoder.encode(image, effort=0) for image in images]

    def check(random: np.random.Generator) -> bool:
        number = int(random.integers(len(images)))
        return encoder.encode(images[number], effort=0) == wanted[number]

    return check


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--encoders", type=int, default=2)
    arguments = parser.parse_args()
    # In a process of its own: this one is to have what a service has.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        files = pool.submit(answered).result()
    print(f"{len(files)} files", flush=True)
    check = encoding() if arguments.encoders else None
    decoder, counts, wrong = Decoder(max_pixels=MAX_PIXELS), Counter[str](), list[str]()
    lock, stop = threading.Lock(), threading.Event()

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        while not stop.is_set():
            at = int(random.integers(len(files)))
            kind, data, wanted = files[at]
            try:
                right = digest(decoder, data) == wanted
                if check and number < arguments.encoders and random.integers(4) == 0:
                    kind, right = "encoded", check(random)
            except Exception as error:  # whatever it is, it is wrong
                right, kind = False, f"{kind}: {error!r}"
            with lock:
                counts[kind] += 1
                if not right:
                    wrong.append(f"{kind}, file {at}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(arguments.threads)]
    start, taken = time.monotonic(), list[tuple[float, int, int]]()
    for thread in threads:
        thread.start()
    while not stop.is_set():
        stop.wait(min(60, max(0.1, start + 60 * arguments.minutes - time.monotonic())))
        minute, memory = (time.monotonic() - start) / 60, status("VmRSS")
        taken.append((minute, memory, len(os.listdir("/proc/self/fd"))))
        print(f"minute {minute:4.1f}: {memory} MiB, {taken[-1][2]} descriptors, {dict(counts)}", flush=True)
        if minute >= arguments.minutes:
            stop.set()
    for thread in threads:
        thread.join()
    gc.collect()
    print(f"at rest: {status('VmRSS')} MiB, at most {status('VmHWM')} MiB; {len(wrong)} wrong answers")
    for line in wrong[:10]:
        print(line)
    settled = next(entry for entry in taken if entry[0] >= min(5, arguments.minutes / 4))
    grown = max(memory for _, memory, _ in taken[-2:]) / settled[1] - 1
    leaked = len(os.listdir("/proc/self/fd")) - settled[2]
    print(f"memory since minute {settled[0]:.1f}: {grown:+.1%}; descriptors {leaked:+d}")
    sys.exit(bool(wrong or grown > 0.1 or leaked > 0))


if __name__ == "__main__":
    main()
