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

import numpy as np

from .container import MAX_PIXELS, Header, unpack_header
from .errors import LrqError

__all__ = ["Header", "LrqError", "decode", "encode", "probe"]


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
) -> bytes:
    """Encode one image; `lrcodec.encoder.Encoder` says what the arguments mean and keeps the model loaded.

    image: uint8 (height, width, 3) RGB or (height, width) grey. Raises LrqError and its kinds, and
    ImportError where the extra `encode` is not installed.
    """
    from .encoder import Encoder

    return Encoder(model, device).encode(image, quality, rank, iterations, effort, smoothing)


def decode(data: bytes, *, models: Sequence[str | Path] = (), max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels of a .lrq file: uint8 (height, width, 3), or (height, width) for grey.

    models: folders of packs beside the shipped ones. Raises FormatError, UnsupportedError or LimitError.
    """
    from .decoder import Decoder

    return Decoder(models, max_pixels).decode(data)


def probe(data: bytes) -> Header:
    """The header from the first bytes of a .lrq file. Raises FormatError or UnsupportedError."""
    return unpack_header(data)
