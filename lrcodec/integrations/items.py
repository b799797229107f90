"""Lists of images to files and back, in which a bad item is an error beside the others, and ends nothing.

One thread a process: an engine has as many processes as it has cores to give. Models are loaded once a process, when
they are first needed, and anew in a process that was forked: threads of ONNX Runtime and OpenMP do not survive a fork.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from ..decoder import Decoder
from ..errors import UsageError
from ..format.container import MAX_PIXELS, BytesLike
from ..format.metadata import NO_METADATA
from ..format.shrink import SHRINKS
from ..image_io import Picture, read_picture
from ..packs import store

if TYPE_CHECKING:
    from ..encoder import Encoder

GROUP_PIXELS = 2**20
"""Images are read and encoded in groups of so many pixels: a batch of photographs need not fit into memory."""
KEPT = 4
"""Models with settings that a process keeps loaded, at most."""
READING = ("to_8bit", "strip")
"""Settings of how image files are read."""

Item = TypeVar("Item")
Value = TypeVar("Value")


class Outcome(NamedTuple, Generic[Value]):
    """What became of an item: a value, or None and an error, in one line that begins with its kind."""

    value: Value | None
    error: str | None


def attempt(run: Callable[[Sequence[Item]], Iterable[Value]], items: Sequence[Item]) -> list[Outcome[Value]]:
    """`run` of all items. If it fails, of its halves, so that in the end only bad items fail.

    Whatever is raised is an error of the item: nobody wants to lose a night's work to one file.
    """
    try:
        return [Outcome(value, None) for value in run(items)]
    except Exception as error:
        if len(items) == 1:
            return [Outcome(None, " ".join(f"{type(error).__name__}: {str(error) or 'no more is known'}".split()))]
    middle = len(items) // 2
    return attempt(run, items[:middle]) + attempt(run, items[middle:])


@dataclass(frozen=True)
class EncodeItems:
    """Encodes lists of images. May be pickled: it holds settings alone.

    model, device, quality, rank, iterations, effort, tune, smoothing: as for `lrcodec.encode`.
    to_8bit, strip: how image files are read, as for `image_io.read_picture`.
    """

    model: str | Path = "photo"
    device: str = "cpu"
    quality: float = 50
    rank: int | None = None
    iterations: int | None = None
    effort: int = 1
    tune: str = "eye"
    smoothing: bool = True
    to_8bit: bool = False
    strip: bool = False

    def __call__(self, images: Iterable[bytes | np.ndarray | None]) -> list[Outcome[bytes]]:
        """The .lrq file of every image, in their order.

        images: image files, whose metadata is kept, or arrays uint8 (height, width[, 1 to 4]).
        Raises LrqError if the model or the settings cannot be used at all.
        """
        encoder = _encoder(self, os.getpid())
        return [outcome for group in self._groups(images) for outcome in self._encode(encoder, group)]

    def _groups(self, images: Iterable[bytes | np.ndarray | None]) -> Iterator[list[Outcome[Picture]]]:
        """The pictures, read one by one."""
        group: list[Outcome[Picture]] = []
        pixels = 0
        for image in images:
            group += attempt(lambda given: map(self._read, given), [image])
            pixels += group[-1].value.pixels[..., 0].size if group[-1].value else 0
            if pixels >= GROUP_PIXELS:
                yield group
                group, pixels = [], 0
        yield group

    def _read(self, image: bytes | np.ndarray | None) -> Picture:
        given = _given(image)
        if isinstance(given, np.ndarray):
            return Picture(given[..., 0] if given.shape[2:] == (1,) else given, NO_METADATA)
        return read_picture(given, self.to_8bit, self.strip)

    def _encode(self, encoder: "Encoder", group: list[Outcome[Picture]]) -> Iterator[Outcome[bytes]]:
        def run(pictures: Sequence[Picture]) -> list[bytes]:
            pixels, metadata = zip(*pictures, strict=True) if pictures else ((), ())
            return encoder.encode_batch(pixels, metadata=metadata, **self.settings)

        coded = iter(attempt(run, [read.value for read in group if read.value]))
        return (next(coded) if read.value else Outcome(None, read.error) for read in group)

    @property
    def settings(self) -> dict:
        """What `Encoder.encode_batch` takes."""
        return {name: value for name, value in asdict(self).items() if name not in ("model", "device", *READING)}


@dataclass(frozen=True)
class DecodeItems:
    """Decodes lists of .lrq files. May be pickled: it holds settings alone.

    models, shrink, max_pixels: as for `lrcodec.decode`.
    """

    models: tuple[str | Path, ...] = ()
    shrink: int = 1
    max_pixels: int = MAX_PIXELS

    def __call__(self, files: Iterable[BytesLike | None]) -> list[Outcome[np.ndarray]]:
        """The pixels of every file, in their order: uint8 (height, width[, 2 to 4]).

        Raises LrqError if a model or the settings cannot be used at all.
        """
        decoder = self.decoder
        return attempt(lambda some: decoder.decode_batch([_given(file) for file in some], self.shrink), [*files])

    @property
    def decoder(self) -> Decoder:
        """That of this process. Raises LrqError as a call does."""
        return _decoder(self, os.getpid())


def _given(item: Any) -> Any:
    """The item. Raises UsageError if there is none."""
    if item is None:
        raise UsageError("there is no image: the value is null")
    return item


@lru_cache(KEPT)
def _encoder(items: EncodeItems, process: int) -> "Encoder":
    """The encoder of this process. Its settings are tried on a tiny image: wrong ones are an error of the job."""
    from .. import Encoder

    encoder = Encoder(items.model, items.device, threads=1)
    encoder.encode(np.zeros((1, 1), np.uint8), **items.settings)
    return encoder


@lru_cache(KEPT)
def _decoder(items: DecodeItems, process: int) -> Decoder:
    """The decoder of this process."""
    if items.shrink not in SHRINKS:
        raise UsageError(f"shrink must be one of {', '.join(map(str, SHRINKS))}, not {items.shrink}")
    store.packs(items.models)
    return Decoder(items.models, items.max_pixels, threads=1)
