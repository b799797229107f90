"""Mutation fuzzing: `python tests/fuzz/mutate.py --parser 1000000 --decoder 50000` tries that many damaged files.

A file is made by its number alone (`--first` and a count of 1 repeat one). The files are tried in a process of their
own, so that a crash of native code is seen, and named. Fails unless

- every file decodes or raises LrqError or one of its kinds;
- what the parser accepts it packs to the same bytes again;
- a file whose checksums were not made to match (by `mutations.py`, which knows) decodes only to the pixels of the file
  it was made from, or consists of undamaged parts of several files, which is counted apart;
- no file takes 2 seconds of processor time, of all threads;
- peak resident memory grows by less than 512 MiB from after the seeds were decoded to the end, all files together.
"""

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.connection import Connection
from random import Random
from typing import Any, NamedTuple

import numpy as np
import seeds
from mutations import Mutant, Seed, mutate

from lrcodec.decoder import Decoder
from lrcodec.errors import LrqError
from lrcodec.format import container
from lrcodec.format.container import ANCILLARY_BIT, Chunk, Header
from lrcodec.format.metadata import unpack_metadata
from lrcodec.format.shrink import SHRINKS

SECONDS, MEBIBYTES = 2.0, 512
REPORT = 500
"""Files between two messages of the worker."""
SILENCE = 300
"""Seconds without a message after which the worker hangs."""


class Wrong(Exception):
    """What was expected of the program does not hold."""


def parser_target(originals: list[Seed]) -> Callable[[Mutant], str]:
    """container.unpack and unpack_header."""

    def check(mutant: Mutant) -> str:
        try:
            container.unpack_header(mutant.data)
        except LrqError as error:
            header_error = str(error)
        else:
            header_error = ""
        header, chunks = container.unpack(mutant.data)
        if header_error:
            raise Wrong(f"unpack accepts what unpack_header refuses: {header_error}")
        if container.pack(header, chunks) != mutant.data:
            raise Wrong("the parser accepts two forms of one file")
        return "accepted"

    return check


def decoder_target(originals: list[Seed], decoder: Decoder | None = None) -> Callable[[Mutant], str]:
    """Decoder.decode, with one decoder for all files, and the metadata of what it decodes."""
    decoder = decoder or Decoder(threads=1)
    pixels = {critical(seed.header, seed.chunks): decoder.decode(seed.data) for seed in originals}
    headers = {seed.header for seed in originals}
    chunks = {chunk for seed in originals for chunk in seed.chunks}

    def check(mutant: Mutant) -> str:
        image = decoder.decode(mutant.data)
        header, parts = container.unpack(mutant.data)
        with suppress(LrqError):
            unpack_metadata(parts)
        if image.shape != header.shape:
            raise Wrong(f"{image.shape} pixels where the header says {header}")
        wanted = pixels.get(critical(header, parts))
        if wanted is not None:
            if not np.array_equal(image, wanted):
                raise Wrong("the same header and indices gave other pixels")
            return "decoded, the pixels of a seed"
        if mutant.sealed:
            return "decoded, with checksums that were made to match"
        if header in headers and chunks.issuperset(critical(header, parts)[1]):
            return "decoded, of undamaged parts of several files"
        raise Wrong("a wrong picture was accepted")

    return check


def preview_target(originals: list[Seed], decoder: Decoder | None = None) -> Callable[[Mutant], str]:
    """Decoder.preview, at any size: it draws all that is decoded, and tells where something is missing."""
    decoder = decoder or Decoder(threads=1)

    def check(mutant: Mutant) -> str:
        shrink = SHRINKS[len(mutant.data) % len(SHRINKS)]
        image, missing = decoder.preview(mutant.data, shrink)
        if image.shape != container.unpack_header(mutant.data).shrunk(shrink).shape:
            raise Wrong(f"{image.shape} pixels at 1/{shrink} of the size")
        try:
            whole = decoder.decode(mutant.data, shrink)
        except LrqError as error:
            if missing is None:
                raise Wrong(f"nothing is missing of what is refused: {error}") from None
            return "drawn in part"
        if missing or not np.array_equal(image, whole):
            raise Wrong("a complete file is not drawn as it is decoded")
        return "drawn"

    return check


def critical(header: Header, chunks: Iterable[Chunk]) -> tuple[Header, tuple[Chunk, ...]]:
    """All of a file that decides about its pixels."""
    return header, tuple(chunk for chunk in chunks if not chunk.tag[0] & ANCILLARY_BIT)


TARGETS: dict[str, Callable[[list[Seed]], Callable[[Mutant], str]]] = {
    "parser": parser_target,
    "decoder": decoder_target,
    "preview": preview_target,
}


class Progress(NamedTuple):
    """What the worker found since its last message."""

    outcomes: Counter[str]
    failures: list[tuple[int, str]]
    slowest: tuple[float, int]
    grown: float
    done: int


def work(target: str, files: list[bytes], first: int, last: int, current: Any, pipe: Connection) -> None:
    """Try the files from `first` up to, but without, `last`. Runs in the worker."""
    with seeds.small_strips():
        originals = [Seed.of(data) for data in files]
        check = TARGETS[target](originals)
        before = peak()
        report = Progress(Counter(), [], (0.0, first), 0.0, first)
        for number in range(first, last):
            current.value = number
            mutant = mutate(Random(number), originals)
            start = time.process_time()
            try:
                outcome = check(mutant)
            except LrqError as error:
                outcome = type(error).__name__
            except BaseException as error:
                outcome = "FAILED"
                report.failures.append((number, f"{type(error).__name__}: {error}"))
            seconds = time.process_time() - start
            report.outcomes[outcome] += 1
            report = report._replace(
                slowest=max(report.slowest, (seconds, number)), grown=peak() - before, done=number + 1
            )
            if report.done % REPORT == 0 or report.done == last:
                pipe.send(report)
                report = Progress(Counter(), [], (0.0, report.done), 0.0, report.done)


def peak() -> float:
    """Largest resident memory that this process has had, in MiB."""
    import resource  # which Windows lacks: only what is imported from here works there

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def fuzz(target: str, files: list[bytes], first: int, count: int) -> bool:
    """Try files and print what became of them. Returns whether all was well."""
    start, at, last = time.perf_counter(), first, first + count
    outcomes: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    slowest, grown = (0.0, first), 0.0
    context = multiprocessing.get_context("spawn")
    while at < last:
        current = context.Value("q", at)
        here, there = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(target, files, at, last, current, there))
        worker.start()
        there.close()
        try:
            while at < last and here.poll(SILENCE):
                report = here.recv()
                outcomes += report.outcomes
                failures += report.failures
                slowest, grown, at = max(slowest, report.slowest), max(grown, report.grown), report.done
            hangs = at < last
        except EOFError:
            hangs = False
        if hangs:
            worker.kill()
        worker.join()
        if at < last:
            # What the worker had done since its last message is not counted.
            failures.append((current.value, "hangs" if hangs else f"the process died, exit code {worker.exitcode}"))
            outcomes["CRASHED"] += 1
            at = current.value + 1
    seconds = time.perf_counter() - start
    print(f"{target}: {count:,} damaged files (numbers {first:,} to {last - 1:,}) in {seconds:,.0f} s")
    for outcome, number in outcomes.most_common():
        print(f"  {number:>9,}  {outcome}")
    print(f"  slowest: {slowest[0]:.3f} s of processor time, file {slowest[1]:,}")
    print(f"  peak resident memory grew by {grown:,.0f} MiB over that after decoding the seeds")
    for number, message in failures[:20]:
        print(f"  FAILED file {number:,}: {message}")
    return not failures and slowest[0] < SECONDS and grown < MEBIBYTES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parser", type=int, default=100_000, help="files through the parser")
    parser.add_argument("--decoder", type=int, default=5_000, help="files through the whole decoder")
    parser.add_argument("--preview", type=int, default=5_000, help="files through the preview of what is left of them")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    arguments = parser.parse_args()
    files = seeds.make()
    print(f"{len(files)} seeds, {min(map(len, files)):,} to {max(map(len, files)):,} bytes")
    good = [fuzz(target, files, arguments.first, getattr(arguments, target)) for target in TARGETS]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
