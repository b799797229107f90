"""lrcodec: a learned image codec whose decoder looks codewords up and multiplies thin matrices.

>>> import numpy as np
>>> image = np.full((16, 24, 3), 200, np.uint8)
>>> data = encode(image, quality=20, effort=0)
>>> decode(data).shape
(16, 24, 3)

Importing this package, probing and decoding never import torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import runtime as runtime
from .errors import EncoderMissingError, FormatError, LimitError, LrqError, UnsupportedError, UsageError, extra
from .format.container import MAX_PIXELS, BytesLike, Header, unpack, unpack_header
from .format.metadata import Metadata, unpack_metadata

if TYPE_CHECKING:
    from .decoder import Decoder as Decoder
    from .encoder import Encoder as Encoder

__version__ = "0.1.0"
__all__ = [
    "Decoder",
    "Encoder",
    "EncoderMissingError",
    "FormatError",
    "Header",
    "LimitError",
    "LrqError",
    "Metadata",
    "UnsupportedError",
    "UsageError",
    "decode",
    "encode",
    "metadata",
    "probe",
]


def __dir__() -> list[str]:
    return [*globals(), "Decoder", "Encoder"]


def __getattr__(name: str) -> Any:
    """`Encoder` and `Decoder`, which keep a model loaded, imported when they are asked for: they need much more."""
    if name == "Decoder":
        from .decoder import Decoder

        return Decoder
    if name == "Encoder":
        with extra("encode"):
            from .encoder import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def encode(
    image: np.ndarray,
    *,
    quality: float = 50,
    rank: int | None = None,
    iterations: int | None = None,
    model: str | Path = "photo",
    effort: int = 1,
    tune: str = "eye",
    device: str = "auto",
    threads: int = 0,
    smoothing: bool = True,
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> bytes:
    """Encode one image; `Encoder` says what the arguments mean and keeps the model loaded.

    image: uint8 (height, width) grey, (height, width, 3) RGB, or with alpha as the last channel (height, width, 2) or
    (height, width, 4). icc_profile, exif, xmp: kept byte for byte, at most 16 MiB each; exif is a TIFF structure,
    and the prefix that JPEG gives it is left out. Raises LrqError and its kinds: EncoderMissingError where the extra
    `encode` is not installed.
    """
    return __getattr__("Encoder")(model, device, threads).encode(
        image, quality, rank, iterations, effort, tune, smoothing, metadata=Metadata(icc_profile, exif, xmp)
    )


def decode(
    data: BytesLike,
    *,
    shrink: int = 1,
    models: Sequence[str | Path] = (),
    max_pixels: int = MAX_PIXELS,
    threads: int = 0,
) -> np.ndarray:
    """Pixels of a .lrq file: uint8, in the shape that was encoded, see `encode`.

    data: any bytes-like object. shrink: 2, 4, 8 or 16 to draw the image at that part of its size, sides rounded up,
    which is several times faster. models: names or folders of packs to look into first. Models stay loaded: a second
    call takes no longer than one of a `Decoder` that is kept. Any number of threads may call this at once.
    threads: how many threads work on an image (0: as many as the processors that this process may use).
    Raises FormatError, UnsupportedError or LimitError; UsageError for arguments out of range.
    """
    from .decoder import shared

    decoder = shared(tuple(models), threads)
    unpack(data)[0].check_size(max_pixels)
    return decoder.decode(data, shrink)


def probe(data: BytesLike) -> Header:
    """The header from the first 64 bytes of a .lrq file. Raises FormatError or UnsupportedError.

    If the bytes have the first chunk too, its checksum vouches for the header; otherwise nothing does.
    """
    return unpack_header(data)


def metadata(data: BytesLike) -> Metadata:
    """The ICC profile, EXIF and XMP of a .lrq file, where it has them.

    Raises FormatError, UnsupportedError, or LimitError if one is larger than 16 MiB.
    """
    return unpack_metadata(unpack(data)[1])
