"""Files and pipes in and out, for the commands: many at once, whole or not at all, each failure in one line."""

import errno
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, TextIO, TypeVar

import click

from .errors import LrqError, UsageError

STANDARD = Path("-")
"""Stands for standard input, or standard output, where a file is named."""
FAILURES = (LrqError, OSError, MemoryError)
GROUP_FILES, GROUP_PIXELS = 256, 2**22
"""Many files are converted in groups that end at either limit: more gains nothing, and memory is bounded."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """What is left of an exception: one line for the user, and the exit code."""

    message: str
    code: int


def explain(error: Exception) -> Failure:
    """One of `FAILURES` in words."""
    if isinstance(error, LrqError):
        return Failure(str(error), error.exit_code)
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:
            raise error  # click ends quietly: the reader of our output has gone
        reason = error.strerror or str(error)
        return Failure(f"{error.filename}: {reason}" if error.filename else reason, 1)
    return Failure("out of memory", 1)


def say(line: str) -> None:
    """Print a line on standard error, over the progress bar if there is one."""
    if sys.stderr and sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    click.echo(line, err=True)


def printable(text: str) -> str:
    """The text in one line; what would control a terminal, from a file name or a model's card, becomes '?'."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def complain(message: str) -> None:
    say(f"lrq: error: {printable(message)}")


def fail(failure: Failure) -> NoReturn:
    complain(failure.message)
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:  # Python would try again at the end, and complain in its own words
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(failure.code)


def _try(call: Callable[..., Result], *arguments: Any) -> Result | Failure:
    """What the call returns, or how it failed."""
    try:
        return call(*arguments)
    except FAILURES as error:
        return explain(error)


def _standard(direction: Literal["input", "output"]) -> BinaryIO:
    """Standard input or output. Raises UsageError if it is a terminal, OSError if it is not open."""
    stream: TextIO | None = sys.stdin if direction == "input" else sys.stdout
    if stream is None:
        raise OSError(errno.EBADF, "not open", f"standard {direction}")
    if stream.isatty():
        raise UsageError(f"standard {direction} is a terminal: - needs a pipe or a file there")
    return stream.buffer


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Gives an OSError that names no file this name."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, name) from error
        raise


def read_file(path: Path) -> bytes:
    """The content of a file, or of standard input. Raises OSError; UsageError if standard input is a terminal."""
    if path != STANDARD:
        return path.read_bytes()
    with _named("standard input"):
        return _standard("input").read()


def write_file(path: Path, data: bytes | Iterable[bytes]) -> int:
    """Write the whole file or nothing: a temporary file beside it takes its name once it is complete.

    data: the content, or its pieces in order. What goes wrong in making a piece leaves no file either, and is raised.
    What is not a file gets each piece at once: a pipe, a device, or standard output, for which `STANDARD` stands.
    A process that is killed may leave the temporary file, which no other run touches: its writer may still be at work.
    Nothing is synchronised with the disk: what a power failure destroys can be made again from the input.
    Returns the number of bytes. Raises OSError; UsageError if standard output is a terminal.
    """
    pieces = [data] if isinstance(data, bytes) else data
    if path == STANDARD:
        return _write_standard(pieces)
    if path.exists() and not path.is_file():
        return _write_pieces(path, pieces)  # a pipe or a device, such as /dev/stdout, must not be replaced
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".lrq-{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a killed process that had our number
        size = _write_pieces(temporary, pieces, "xb")  # never through a link that someone else put there
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise  # of a file that was needed to make a piece
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return size


def _write_standard(pieces: Iterable[bytes]) -> int:
    stream, size = _standard("output"), 0
    for piece in pieces:
        rest = memoryview(piece)
        with _named("standard output"):
            while rest:  # an unbuffered stream takes what fits into the pipe
                rest = rest[stream.write(rest) :]
            stream.flush()
        size += len(piece)
    return size


def _write_pieces(path: Path, pieces: Iterable[bytes], mode: Literal["wb", "xb"] = "wb") -> int:
    with path.open(mode) as file:
        return sum(map(file.write, pieces))


def identity(path: Path) -> object:
    """Equal for all names of one file, links too; of a file that is not there, its place."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def refuse_input(output: Path, inputs: Iterable[Path]) -> None:
    """Raise UsageError if the output is one of the inputs, by whatever name or link: the input would be lost.

    inputs: all that the output must not replace, so also other outputs.
    """
    own = identity(output)
    for path in inputs:
        if STANDARD not in (output, path) and identity(path) == own:
            name = "" if str(path) == str(output) else f" ({path})"
            raise UsageError(f"{output} would replace a file of this command{name}: name another output")


class Batch:
    """The files of one command, converted in groups of bounded size by one loaded model.

    A single file fails as a command does. Of many, each that fails takes one line, and the others go on.
    Standard input is a single file; without a name its output is standard output.
    Raises UsageError if the options do not fit together, if two sources would have the same output, or if a terminal
    would have to take or give a file.
    """

    def __init__(self, sources: Sequence[Path], output: Path | None, out_dir: Path | None, suffix: str, force: bool):
        if STANDARD in sources:
            if len(sources) > 1:
                raise UsageError("- is an input on its own: standard input holds one file")
            if out_dir:
                raise UsageError("- has no name that its output in --out-dir could have: name that with -o")
            output = output or STANDARD
            _standard("input")
        if output == STANDARD:
            _standard("output")
        self.single, self.named, self.out_dir, self.force = len(sources) == 1, output is not None, out_dir, force
        if self.named and (out_dir or not self.single):
            raise UsageError("-o names the output of a single input, without --out-dir")
        if output:
            refuse_input(output, sources)
        targets = [output or (out_dir or source.parent) / f"{source.stem}{suffix}" for source in sources]
        self.files = list(zip(sources, targets, strict=True))
        owners: dict[str, Path] = {}
        for source, target in self.files:
            owner = owners.setdefault(os.path.realpath(target), source)
            if owner is not source:
                raise UsageError(f"{owner} and {source} have the same output {target}")
        self.sizes: list[int] = []
        """Bytes of the outputs that were written."""
        self.failures: list[Failure] = []

    def run(
        self,
        read: Callable[[bytes], tuple[Item, int]],
        load: Callable[[], Callable[[list[Item]], Sequence[Result]]],
        write: Callable[[Path, Result], int],
    ) -> None:
        """Convert every file. Ends the program with the first failure's exit code if there was one.

        read: what a source holds, and its number of pixels. load: makes the function that converts a group, once
        there is something to convert. write: writes a result and returns how many bytes that took; results may be
        lazy, and fail only then.
        """
        start, convert = time.perf_counter(), None
        with _progress(len(self.files)) as show:
            for group in self._groups(read):
                items = [item for _, _, item in group if not isinstance(item, Failure)]
                if items and convert is None:
                    convert = load()
                results = _convert(convert, items) if convert else []
                for source, target, item in group:
                    outcome: Any = item if isinstance(item, Failure) else results.pop(0)
                    if not isinstance(outcome, Failure):
                        outcome = _try(self._write, write, target, outcome)
                    self._finish(source, outcome)
                show(len(self.sizes) + len(self.failures))
        if not self.single:
            self._sum_up(time.perf_counter() - start)

    def _groups(self, read: Callable[[bytes], tuple[Item, int]]) -> Iterator[list[tuple[Path, Path, Item | Failure]]]:
        """Source, target and content of every file, or how reading it failed."""
        group: list[tuple[Path, Path, Item | Failure]] = []
        pixels = 0
        for source, target in self.files:
            content = _try(self._read, read, source, target)
            item, area = (content, 0) if isinstance(content, Failure) else content
            group.append((source, target, item))
            pixels += area
            if len(group) == GROUP_FILES or pixels >= GROUP_PIXELS:
                yield group
                group, pixels = [], 0
        if group:
            yield group

    def _read(self, read: Callable[[bytes], tuple[Item, int]], source: Path, target: Path) -> tuple[Item, int]:
        """Also raises UsageError if the target is the source, or exists and may not be replaced."""
        data = read_file(source)
        itself = os.path.realpath(target) == os.path.realpath(source)
        if not self.named and (itself or target.exists() and not self.force):
            way = "name the output with -o" if self.single else "name a folder with --out-dir"
            raise UsageError(f"{target} exists: {way}" + ("" if itself else ", or add -f"))
        return read(data)

    def _write(self, write: Callable[[Path, Result], int], target: Path, result: Result) -> int:
        if self.out_dir:
            self.out_dir.mkdir(parents=True, exist_ok=True)
        return write(target, result)

    def _finish(self, source: Path, outcome: int | Failure) -> None:
        """Keep the account of a file: the size that was written, or the failure."""
        if not isinstance(outcome, Failure):
            self.sizes.append(outcome)
        elif self.single:
            fail(outcome)
        else:
            self.failures.append(outcome)
            known = outcome.message.startswith(f"{source}: ")
            complain(outcome.message if known else f"{source}: {outcome.message}")

    def _sum_up(self, seconds: float) -> None:
        count, written, total = len(self.files), len(self.sizes), sum(self.sizes)
        if written:
            speed = f"{total / written:,.1f} bytes a file, {written / seconds:,.1f} files a second"
            say(f"{written:,} of {count:,} files written: {total:,} bytes, {speed}")
        if self.failures:
            fail(Failure(f"{len(self.failures):,} of {count:,} files failed", self.failures[0].code))


def _convert(convert: Callable[[list[Item]], Sequence[Result]], items: list[Item]) -> list[Result | Failure]:
    """`convert` of all items. If a batch fails, its halves are tried, so that in the end only bad items fail."""
    outcome = _try(convert, items)
    if not isinstance(outcome, Failure):
        return [*outcome]
    if len(items) == 1:
        return [outcome]
    middle = len(items) // 2
    return _convert(convert, items[:middle]) + _convert(convert, items[middle:])


@contextmanager
def _progress(count: int) -> Iterator[Callable[[int], None]]:
    """Gives what shows how many files are done: a bar for many on a terminal, else nothing."""
    if count == 1 or not sys.stderr.isatty():
        yield lambda done: None
        return
    with click.progressbar(length=count, file=sys.stderr, show_pos=True) as bar:
        yield lambda done: bar.update(done - bar.pos)
