"""The `lrq` command: its commands, and how each ends in one line and an exit code.

Heavy modules are imported inside the commands: `lrq --help` and `lrq decode` never import torch, and `lrq info`
imports no onnxruntime either.
"""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from ..errors import UsageError
from ..files import FAILURES, Failure, explain, fail
from .bench import bench, speed
from .decode import decode
from .encode import encode
from .help import Group
from .inspect import compare, info
from .integrate import integrate
from .models import models
from .paper import paper
from .selftest import selftest
from .thumbnail import thumbnail
from .train import train
from .view import view


class Lrq(Group):
    """A group whose commands end in one line and the error's exit code, never in a traceback."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            return super().parse_args(ctx, args)  # shows the help
        with _one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _interruptions() as signals, _one_line(signals):
            return super().invoke(ctx)


@contextmanager
def _one_line(signals: Sequence[int] = ()) -> Iterator[None]:
    """Ends the program with one line and the exit code of the failure, if there is one that a user can meet.

    signals: those that were received. A native module that is interrupted may raise ImportError instead.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if signals or isinstance(error, KeyboardInterrupt):
            what_next = error.args if isinstance(error, KeyboardInterrupt) else ()
            fail(Failure(": ".join(["interrupted", *what_next]), 130))
        if isinstance(error, click.UsageError):
            more = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            fail(Failure(error.format_message().rstrip(".") + more, UsageError.exit_code))
        if isinstance(error, FAILURES):
            fail(explain(error))
        raise


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """SIGTERM raises KeyboardInterrupt, as SIGINT does, so that no temporary file is left. Gives what came."""
    received: list[int] = []

    def interrupt(number: int, frame: object) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():  # signals are its own
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as in a shell's background jobs
                before[number] = signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.group(cls=Lrq, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lrcodec")
def main() -> None:
    """Encode and decode images as .lrq files.

    \b
    Exit codes:
      0    ok
      1    a file cannot be read or written, memory is short, or a training or a self-test failed
      2    wrong usage, or an image that cannot be encoded
      3    not a valid .lrq file
      4    unsupported version of the format, or unknown model
      5    the image or its metadata exceeds a limit
      6    the encoder, or what bench needs, is not installed: pip install "lrcodec[encode,bench]"
      7    a file is cut short or damaged, and what is left of it was decoded (--partial)
      130  interrupted, by SIGINT or SIGTERM
    """


for command in (
    encode,
    decode,
    info,
    compare,
    view,
    thumbnail,
    integrate,
    selftest,
    models,
    train,
    bench,
    speed,
    paper,
):
    main.add_command(command)
