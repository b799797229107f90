"""How commands that take long show it, and end."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
    if not (sys.stderr and sys.stderr.isatty()):
        yield None
        return
    with click.progressbar(length=length, file=sys.stderr, item_show_func=lambda line: line) as bar:
        yield bar


@contextmanager
def bar_of_shares(wanted: bool = True) -> Iterator[Callable[[float], None]]:
    """Gives what to tell the share, 0..1, that is done. From the first one on a bar shows it, and how long is left.

    wanted: whether there may be a bar.
    """
    with ExitStack() as stack:
        bar: Any = None

        def tell(share: float) -> None:
            nonlocal bar
            if wanted:
                bar = bar or stack.enter_context(bar_of(1000))
            if bar:
                bar.update(round(1000 * share) - bar.pos)

        yield tell
