"""Reads and writes files and pipes for the commands. A file is written whole or not at all; a failure is one line."""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn, TextIO

import click

from .errors import LrqError, UsageError

STANDARD = Path("-")
"""Stands for standard input, or standard output, where a file is named."""
FAILURES = (LrqError, OSError, MemoryError)


@dataclass(frozen=True)
class Failure:
    """How a command failed: one line for the user, and the exit code."""

    message: str
    code: int


def explain(error: Exception) -> Failure:
    """The failure that one of `FAILURES` stands for. A broken pipe is raised: the reader of our output has gone."""
    if isinstance(error, LrqError):
        return Failure(str(error), error.exit_code)
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:
            raise error  # click ends quietly: the reader of our output has gone
        reason = error.strerror or str(error)
        return Failure(f"{error.filename}: {reason}" if error.filename else reason, 1)
    return Failure("out of memory", 1)


def show(text: str = "") -> None:
    """Show what is being done on a terminal, in a line that the next call or `say` replaces; elsewhere nothing."""
    if sys.stderr and sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
        sys.stderr.write("\r\033[K" + printable(text)[: columns - 1])
        sys.stderr.flush()


def say(line: str) -> None:
    """Print a line on standard error, in place of what `show` shows."""
    show()
    click.echo(line, err=True)


def printable(text: str) -> str:
    """The text in one line; what would control a terminal, from a file name or a model's card, becomes '?'."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def complain(message: str) -> None:
    """Print an error message on standard error, in one line."""
    say(f"lrq: error: {printable(message)}")


def fail(failure: Failure) -> NoReturn:
    """Print the failure, and end the program with its exit code."""
    complain(failure.message)
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:  # Python would try again at the end, and complain in its own words
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(failure.code)


def standard(direction: Literal["input", "output"]) -> BinaryIO:
    """Standard input or output. Raises UsageError if it is a terminal, OSError if it is not open."""
    stream: TextIO | None = sys.stdin if direction == "input" else sys.stdout
    if stream is None:
        raise OSError(errno.EBADF, "not open", f"standard {direction}")
    if stream.isatty():
        raise UsageError(f"standard {direction} is a terminal: - needs a pipe or a file there")
    return stream.buffer


def title(path: Path, direction: Literal["input", "output"] = "input") -> str:
    """The name of a file in messages."""
    return f"standard {direction}" if path == STANDARD else str(path)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Puts this name before what an LrqError says, and gives it to an OSError that names no file."""
    try:
        yield
    except LrqError as error:
        raise type(error)(f"{name}: {error}") from error
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, name) from error
        raise
    except MemoryError as error:
        raise LrqError(f"{name}: out of memory") from error


def read_file(path: Path) -> bytes:
    """The content of a file, or of standard input. Raises OSError; UsageError if standard input is a terminal."""
    if path != STANDARD:
        return path.read_bytes()
    stream = standard("input")
    with naming(title(path)):
        return stream.read()


def write_file(path: Path, data: bytes | Iterable[bytes]) -> int:
    """Write the whole file or nothing: a temporary file beside it takes its name once it is complete.

    data: the content, or its pieces in order. An error in making a piece is raised, and leaves no file either.
    A pipe, a device, or standard output, for which `STANDARD` stands, gets each piece at once.
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
    stream, size = standard("output"), 0
    for piece in pieces:
        rest = memoryview(piece)
        with naming(title(STANDARD, "output")):
            while rest:  # an unbuffered stream takes what fits into the pipe
                rest = rest[stream.write(rest) :]
            stream.flush()
        size += len(piece)
    return size


def _write_pieces(path: Path, pieces: Iterable[bytes], mode: Literal["wb", "xb"] = "wb") -> int:
    try:
        with path.open(mode) as file:
            return sum(map(file.write, pieces))
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_place(path: Path, make_folders: bool = False) -> None:
    """Raise OSError if a file clearly cannot be written here. make_folders: missing folders will be made."""
    if path == STANDARD:
        return
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if path.exists() and not path.is_file():  # a pipe or a device
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "may not be written", str(path))
        return
    _check_folder((Path(os.path.realpath(path)) if path.is_symlink() else path).parent, make_folders)


def _check_folder(folder: Path, make: bool) -> None:
    """Raise OSError if no file can be written into this folder. make: a missing folder will be made."""
    while make and not folder.exists():
        folder = folder.parent
    if not folder.exists():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(folder))
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is no folder", str(folder))
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


def identity(path: Path) -> object:
    """A value that is the same for all names of a file, links included; of a missing file, its place."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def refuse_input(output: Path, inputs: Iterable[Path]) -> None:
    """Raise UsageError if the output is one of the inputs, by whatever name or link: the input would be lost.

    inputs: all that the output must not replace, so also other outputs.
    """
    replaced = identity(output)
    for path in inputs:
        if STANDARD not in (output, path) and identity(path) == replaced:
            name = "" if str(path) == str(output) else f" ({path})"
            raise UsageError(f"{output} would replace a file of this command{name}: name another output")


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path], folders: bool = False) -> None:
    """Before the work, raise UsageError for outputs that must not be written after it, OSError for those that cannot.

    outputs: files or, with `folders`, folders that are made where they are missing. No two may be one. None: not asked
    for. inputs: what no output may replace.
    """
    taken = [*inputs]
    for path in outputs:
        if path and path != STANDARD:
            refuse_input(path, taken)
            if folders:
                _check_folder(path, make=True)
            else:
                check_place(path)
            taken.append(path)
