"""Pillow reads and writes .lrq files once this module is imported: `import lrcodec.plugin`.

`Image.open` reads the header and the metadata; pixels come with `load`. `save` takes `quality`, `rank`, `iterations`,
`effort`, `tune`, `smoothing`, `model` and `device` as `lrcodec.encoder.Encoder` does, and `icc_profile`, `exif` and
`xmp`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, TYPE_CHECKING, cast

import numpy as np
from PIL import Image, ImageFile

from .errors import LrqError, UsageError
from .format.container import has_signature, scan, unpack
from .format.metadata import TAGS, Metadata, unpack_metadata
from .format.shrink import SHRINKS

if TYPE_CHECKING:
    from .encoder import Encoder

FORMAT = "LRQ"
MODES = ("L", "LA", "RGB", "RGBA")
SETTINGS = ("quality", "rank", "iterations", "effort", "tune", "smoothing")


class LrqImageFile(ImageFile.ImageFile):
    """An image in a .lrq file. `verify` and `load` tell whether its header is sound, for which only chunks vouch."""

    format = FORMAT
    format_description = "lrcodec learned image codec"

    def _open(self) -> None:
        try:
            header, chunks = scan(cast(IO[bytes], self.fp), TAGS.values())
        except LrqError as error:
            raise SyntaxError(str(error)) from error
        self._size = header.width, header.height
        self._mode = MODES[2 * header.colour + header.alpha]
        try:
            metadata = unpack_metadata(chunks)
        except LrqError:
            metadata = Metadata()  # `load` will say what is wrong
        self.info |= {name: content for name, content in metadata._asdict().items() if content is not None}
        self.tile = [ImageFile._Tile("lrq", (0, 0, *self.size), 0, (1,))]

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Be decoded at 1/16 to 1/2 of the size, the least whose sides are both `size` or more; the mode is kept.

        As that of JPEG: `thumbnail` calls it. Returns the mode, and the box of the new image that is that of the old.
        """
        if size is None or [tile.args for tile in self.tile] != [(1,)]:
            return None
        width, height = self.size
        fits = [s for s in SHRINKS if s * size[0] <= width and s * size[1] <= height]
        shrink = max(fits, default=1)
        self._size = -(-width // shrink), -(-height // shrink)
        self.tile = [ImageFile._Tile("lrq", (0, 0, *self.size), 0, (shrink,))]
        return self.mode, (0, 0, width / shrink, height / shrink)

    def verify(self) -> None:
        """Check the whole file for damage, but do not decode it. Raises OSError."""
        file = cast(IO[bytes], self.fp)
        file.seek(0)
        with _as_os_error():
            unpack_metadata(unpack(file.read())[1])
        super().verify()


class LrqDecoder(ImageFile.PyDecoder):
    """Fills an image with the pixels of a file."""

    _pulls_fd = True

    def decode(self, buffer: object) -> tuple[int, int]:
        from .decoder import shared

        data = cast(IO[bytes], self.fd).read()
        with _as_os_error():
            unpack_metadata(unpack(data)[1])
            pixels = shared().decode(data, *self.args)  # no limit of size but Pillow's own, which comes first
        self.set_as_raw(pixels.tobytes())
        return -1, 0


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Turns an LrqError into an OSError, as Pillow's callers expect."""
    try:
        yield
    except LrqError as error:
        raise OSError(str(error)) from error


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    if image.mode not in MODES:
        raise OSError(f"cannot write mode {image.mode} as {FORMAT}")
    options = image.encoderinfo
    exif = options.get("exif")
    metadata = Metadata(
        options.get("icc_profile", image.info.get("icc_profile")),
        exif.tobytes() if isinstance(exif, Image.Exif) else exif,
        options.get("xmp"),
    )
    settings = {name: options[name] for name in SETTINGS if name in options}
    with _as_os_error():
        encoder = _encoder(options.get("model", "photo"), options.get("device", "auto"))
        try:
            data = encoder.encode(np.asarray(image), **settings, metadata=metadata)
        except UsageError as error:
            raise ValueError(str(error)) from error
    file.write(data)


@lru_cache(1)
def _encoder(model: str, device: str) -> "Encoder":
    from . import Encoder

    return Encoder(model, device)


Image.register_open(FORMAT, LrqImageFile, has_signature)
Image.register_decoder("lrq", LrqDecoder)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".lrq")
Image.register_mime(FORMAT, "image/x-lrq")
