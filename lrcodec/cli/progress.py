"""How commands that take long show it, and end."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..errors import LrqError


@contextmanager
def goes_on(work: Path) -> Iterator[None]:
    """Says, when a training is interrupted or runs out of memory, that what it has done is kept in the work folder."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError) as error:
        if not work.exists():
            raise
        what_next = f"run the same command again, it goes on from {work}"
        if isinstance(error, MemoryError):
            raise LrqError(f"out of memory; when there is more, {what_next}") from None
        raise KeyboardInterrupt(what_next) from None


@contextmanager
def bar_of(length: int) -> Iterator[Any]:
    """A progress bar of click on a terminal, else None: click would print an empty line."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=length, file=sys.stderr, item_show_func=lambda line: line) as bar:
        yield bar
