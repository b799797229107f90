"""Every failure a user can meet: one kind a cause, each with its exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

INCOMPLETE = 7
"""Exit code for what is no error: a file was cut short or damaged, and what is left of it was decoded."""


class LrqError(Exception):
    """Base of all errors that lrcodec raises on purpose. Its message is one line for the user."""

    exit_code = 1


class UsageError(LrqError):
    """An argument outside its documented range, or inputs that do not fit together."""

    exit_code = 2


class FormatError(LrqError):
    """The bytes are not a valid .lrq file: damaged, truncated, or something else altogether."""

    exit_code = 3


class UnsupportedError(LrqError):
    """A valid file that needs a newer version, an unknown critical chunk, or a model that is not here."""

    exit_code = 4


class LimitError(LrqError):
    """The image is larger than the limit that the caller set, or its metadata than that of the format."""

    exit_code = 5


class EncoderMissingError(LrqError):
    """Optional dependencies are not installed: lrcodec[encode] to encode and train, lrcodec[bench] to measure."""

    exit_code = 6


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turns a failing import into EncoderMissingError, which names the optional dependencies to install."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").startswith("lrcodec"):
            raise  # our own mistake, which installing something would not mend
        raise EncoderMissingError(f'{error}; pip install "lrcodec[{name}]"') from error
