"""The files of one command: which are converted together, by one loaded model, and what is told of each."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from ..errors import INCOMPLETE, UsageError
from ..files import (
    FAILURES,
    STANDARD,
    Failure,
    check_place,
    complain,
    explain,
    fail,
    identity,
    naming,
    printable,
    read_file,
    refuse_input,
    say,
    show,
    standard,
    title,
)
from .names import Source, find, name_outputs

GROUP_FILES = 256
"""Small files are converted in groups of at most so many, which bounds the memory for what they carry beside pixels."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Written(NamedTuple):
    """A file that was written: its bytes, and a line about it.

    always: print the line without --verbose too. remark: a note to print at the end. missing: what the source lacks.
    """

    size: int
    text: str
    always: bool = False
    remark: str = ""
    missing: str | None = None


class Loaded(NamedTuple, Generic[Item]):
    """What a source holds, and its number of pixels."""

    item: Item
    pixels: int


class Task(NamedTuple, Generic[Item]):
    """A source that was read, and its output."""

    source: Path
    target: Path
    loaded: Loaded[Item]


class Batch:
    """The files of one command, converted in groups of bounded size by one loaded model.

    A single file fails as a command does. Of many, each that fails takes one line, and the others go on.
    Standard input is a single file; without a name its output is standard output.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        output: Path | None,
        suffix: str,
        wanted: Callable[[Path], bool],
        *,
        out_dir: Path | None = None,
        force: bool = False,
        skip_existing: bool = False,
        recursive: bool = False,
        verbose: bool = False,
        quiet: bool = False,
    ):
        """sources: files, and folders whose `wanted` files are taken. suffix: of outputs that have no name yet.

        Raises UsageError if the options do not fit together, or if a terminal would have to take or give a file.
        """
        folders = any(map(_is_folder, sources))
        self.single = len(sources) == 1 and not folders
        if STANDARD in sources:
            if len(sources) > 1:
                raise UsageError("- is an input on its own: standard input holds one file")
            if out_dir:
                raise UsageError("- has no name that its output in --out-dir could have: name that with -o")
            output = output or STANDARD
            standard("input")
        if output == STANDARD:
            standard("output")
        if output and (out_dir or not self.single):
            raise UsageError("-o names the output of a single input, without --out-dir")
        if output and (force or skip_existing):
            raise UsageError("-f and --skip-existing go with outputs that take their names from the inputs, without -o")
        if force and skip_existing:
            raise UsageError("only one of -f and --skip-existing can say what becomes of outputs that exist")
        if recursive and not folders:
            raise UsageError("-r goes with a folder as the input")
        if verbose and quiet:
            raise UsageError("only one of -v and --quiet can say how much is told")
        if output:
            refuse_input(output, sources)
        self.named, self.out_dir, self.force, self.skip_existing = output is not None, out_dir, force, skip_existing
        self.verbose, self.quiet = verbose, quiet
        self.sizes: list[int] = []
        """Bytes of the outputs that were written."""
        self.remarks: list[tuple[Path, str]] = []
        """Sources, and the notes about them."""
        self.skipped = self.incomplete = 0
        self.failures: list[Failure] = []
        inputs = self._find(sources, recursive, wanted)
        outputs = [output] if output else name_outputs(inputs, out_dir, suffix)
        self.files = list(zip([source.path for source in inputs], outputs, strict=True))
        self.count = len(self.files) + len(self.failures)
        self.start = time.perf_counter()

    @property
    def targets(self) -> list[Path]:
        """Where outputs will be written."""
        return [target for _, target in self.files if not isinstance(target, Failure)]

    def run(
        self,
        read: Callable[[bytes], Loaded[Item]],
        load: Callable[[], Callable[[list[Item]], Sequence[Result]]],
        write: Callable[[Path, Result], Written],
        group_pixels: int,
    ) -> None:
        """Convert every file. `end` must follow.

        read: what a source holds. load: makes the function that converts a group, once there is something to convert.
        write: writes a result; results may be lazy, and fail only then. group_pixels: small files
        form a group of up to so many pixels; a larger file is converted alone. An interruption loses one group at most.
        """
        convert = None
        for group in self._groups(read, group_pixels):
            names = [title(task.source) for task in group]
            pixels = sum(task.loaded.pixels for task in group)
            what = names[0] if len(group) == 1 else f"{len(group):,} files"
            self.show(f"{what}, {pixels:,} pixels")
            convert = convert or load()
            began = time.perf_counter()
            results = _convert(convert, [task.loaded.item for task in group], names)
            each = (time.perf_counter() - began) / len(group)
            for task, name, result in zip(group, names, results, strict=True):
                began = time.perf_counter()
                written = result if isinstance(result, Failure) else _try(name, self._write, write, task.target, result)
                self._finish(task, written, each + time.perf_counter() - began)
        self.show()

    def end(self) -> None:
        """Say what became of many files. Ends the program with the first failure's exit code or `INCOMPLETE`."""
        written, total, seconds = len(self.sizes), sum(self.sizes), time.perf_counter() - self.start
        if self.skipped:
            self.say(f"{self.skipped:,} of {self.count:,} files skipped: their outputs exist")
        if written and not self.single:
            speed = f"{total / written:,.1f} bytes a file, {written / seconds:,.1f} files a second"
            self.say(f"{written:,} of {self.count:,} files written: {total:,} bytes, {speed}")
        if self.failures:
            fail(Failure(f"{len(self.failures):,} of {self.count:,} files failed", self.failures[0].code))
        if self.incomplete:
            sys.exit(INCOMPLETE)

    def say(self, line: str) -> None:
        """Print a line on standard error, unless --quiet."""
        if not self.quiet:
            say(line)

    def show(self, text: str = "") -> None:
        """Show on a terminal what is being done, unless --quiet, and how far it is; without a text, nothing more."""
        done = len(self.sizes) + self.skipped + len(self.failures)
        if text and done:
            left = (time.perf_counter() - self.start) / done * (self.count - done)
            text = f"{done:,} of {self.count:,} files done, {timedelta(seconds=round(left))} left: {text}"
        if not self.quiet:
            show(text)

    def _find(self, sources: Sequence[Path], recursive: bool, wanted: Callable[[Path], bool]) -> list[Source]:
        """Files, and what folders hold. Of several folders, one that is of no use does not stop the others."""
        inputs: list[Source] = []
        for source in sources:
            found = _try(title(source), find, source, recursive, wanted) if _is_folder(source) else [Source(source)]
            if not isinstance(found, Failure):
                inputs += found
            elif len(sources) == 1:
                fail(found)
            else:
                self._refuse(found)
        return inputs

    def _groups(self, read: Callable[[bytes], Loaded[Item]], group_pixels: int) -> Iterator[list[Task[Item]]]:
        """The files to convert, small ones in groups."""
        group: list[Task[Item]] = []
        pixels = 0
        for task in self._tasks(read):
            if group and pixels + task.loaded.pixels > group_pixels:
                yield group
                group, pixels = [], 0
            group.append(task)
            pixels += task.loaded.pixels
            if len(group) == GROUP_FILES or pixels >= group_pixels:
                yield group
                group, pixels = [], 0
        if group:
            yield group

    def _tasks(self, read: Callable[[bytes], Loaded[Item]]) -> Iterator[Task[Item]]:
        """The files to convert. A source that cannot be read is reported at once."""
        for source, target in self.files:
            task = target if isinstance(target, Failure) else _try(title(source), self._read, read, source, target)
            if isinstance(task, Failure):
                self._refuse(task)
            elif task is None:
                self.skipped += 1
            else:
                yield task

    def _read(self, read: Callable[[bytes], Loaded[Item]], source: Path, target: Path) -> Task[Item] | None:
        """The task, or None if its output is to be kept. Raises UsageError if the target may not be replaced."""
        if not self.named and target.exists():
            way = "name the output with -o" if self.single else "name a folder with --out-dir"
            if identity(target) == identity(source):
                raise UsageError(f"would be its own output: {way}")
            if self.skip_existing:
                return None
            if identity(target) in self._identities:
                raise UsageError(f"{target} is an input: {way}")
            if not self.force:
                raise UsageError(f"{target} exists: {way}, or add -f")
        check_place(target, make_folders=self.out_dir is not None)
        return Task(source, target, read(read_file(source)))

    @cached_property
    def _identities(self) -> set[object]:
        return {identity(source) for source, _ in self.files}

    def _write(self, write: Callable[[Path, Any], Written], target: Path, result: Any) -> Written:
        if self.out_dir:
            target.parent.mkdir(parents=True, exist_ok=True)
        return write(target, result)

    def _finish(self, task: Task, outcome: Written | Failure, seconds: float) -> None:
        """Record what became of a file: the size that was written, or the failure."""
        if isinstance(outcome, Failure):
            self._refuse(outcome)
            return
        self.sizes.append(outcome.size)
        if outcome.missing:
            self.incomplete += 1
            say(f"lrq: incomplete: {printable(f'{title(task.source)}: {outcome.missing}')}")
        if outcome.remark:
            self.remarks.append((task.source, outcome.remark))
        if outcome.always or self.verbose:
            took = f", {seconds:.2f} s" if self.verbose else ""
            self.say(f"{printable(title(task.target, 'output'))}: {outcome.text}{took}")

    def _refuse(self, failure: Failure) -> None:
        if self.single:
            fail(failure)
        self.failures.append(failure)
        complain(failure.message)


def _try(name: str, call: Callable[..., Result], *arguments: Any) -> Result | Failure:
    """What the call returns, or how it failed with the file of that name."""
    try:
        with naming(name):
            return call(*arguments)
    except FAILURES as error:
        return explain(error)


def _is_folder(source: Path) -> bool:
    return source != STANDARD and os.path.isdir(source)


def _convert(
    convert: Callable[[list[Item]], Sequence[Result]], items: list[Item], names: Sequence[str]
) -> list[Result | Failure]:
    """`convert` of all items. If a batch fails, its halves are tried, so that in the end only bad items fail."""
    outcome = _try(names[0], convert, items)
    if not isinstance(outcome, Failure):
        return [*outcome]
    if len(items) == 1:
        return [outcome]
    middle = len(items) // 2
    return _convert(convert, items[:middle], names[:middle]) + _convert(convert, items[middle:], names[middle:])
