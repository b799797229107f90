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

from .container import MAX_PIXELS, Header, unpack, unpack_header
from .errors import LrqError
from .extras import Metadata, unpack_metadata

if TYPE_CHECKING:
    from .decoder import Decoder as Decoder
    from .encoder import Encoder as Encoder

__all__ = ["Header", "LrqError", "Metadata", "decode", "encode", "metadata", "probe"]


def __getattr__(name: str) -> Any:
    """`Encoder` and `Decoder`, which keep a model loaded, imported when they are asked for: they need much more."""
    if name == "Decoder":
        from .decoder import Decoder

        return Decoder
    if name == "Encoder":
        from .encoder import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def encode(
    image: np.ndarray,
    *,
    quality: int = 50,
    rank: int | None = None,
    iterations: int | None = None,
    model: str | Path = "photo",
    effort: int = 1,
    device: str = "auto",
    smoothing: bool = True,
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> bytes:
    """Encode one image; `Encoder` says what the arguments mean and keeps the model loaded.

    image: uint8 (height, width) grey, (height, width, 3) RGB, or with alpha as the last channel (height, width, 2) or
    (height, width, 4). icc_profile, exif, xmp: kept byte for byte, at most 16 MiB each; exif is a TIFF structure,
    and the prefix that JPEG gives it is left out. Raises LrqError and its kinds, and ImportError where the extra
    `encode` is not installed.
    """
    from .encoder import Encoder

    own = Metadata(icc_profile, exif, xmp)
    return Encoder(model, device).encode(image, quality, rank, iterations, effort, smoothing, metadata=own)


def decode(data: bytes, *, models: Sequence[str | Path] = (), max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels of a .lrq file: uint8, in the shape that was encoded, see `encode`.

    models: folders of packs beside the shipped ones. Raises FormatError, UnsupportedError or LimitError.
    """
    from .decoder import Decoder

    return Decoder(models, max_pixels).decode(data)


def probe(data: bytes) -> Header:
    """The header from the first 64 bytes of a .lrq file. Raises FormatError or UnsupportedError."""
    return unpack_header(data)


def metadata(data: bytes) -> Metadata:
    """The ICC profile, EXIF and XMP of a .lrq file, where it has them.

    Raises FormatError, UnsupportedError, or LimitError if one is larger than 16 MiB.
    """
    return unpack_metadata(unpack(data)[1])
