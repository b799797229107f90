"""Tries a new pack as its users will, before it takes its name."""

from itertools import product
from pathlib import Path

import numpy as np
import torch

from ..decoder import Decoder
from ..encoder import Encoder
from ..encoder.convolutions import predictors_of
from ..encoder.pyramid import from_patches, guess_from
from ..encoder.quantizer import Quantizer
from ..encoder.search import reconstruct
from ..encoder.transformer import Smoothing
from ..errors import LrqError
from ..format.container import GREY, RGB

SIDE = 128
"""Pixels of a side of the crop that is tried, at most."""
QUALITY = 90
"""What the crop is encoded with: high, so that all scales have something to draw."""
TOLERANCE = 1.0
"""Mean difference in levels, of which rounding to pixels makes 0.25; a wrong weight makes far more."""


def check_pack(folder: Path, image: np.ndarray, smoothing: Smoothing) -> None:
    """Raise LrqError, of any kind, unless the pack in a folder loads, encodes, and decodes to what it was trained for.

    image: uint8 (h, w, C), one of the training. A crop of it is tried in grey and, if the pack has it, in colour, each
    with smoothing and without. smoothing: as it was trained.
    """
    encoder, decoder = Encoder(folder, device="cpu"), Decoder([folder])
    pack = encoder.pack
    crop = image[:SIDE, :SIDE]
    pictures = {GREY: np.ascontiguousarray(crop[..., crop.shape[2] // 2])}
    if pack.channels == 3:
        pictures[RGB] = np.ascontiguousarray(crop)
    plain = Smoothing(pack.scales, pack.channels, 0)
    for (colour, picture), smooth in product(pictures.items(), (False, True)[: 1 + bool(smoothing.hidden)]):
        data = encoder.encode(picture, QUALITY, smoothing=smooth)
        wanted = _expected(data, decoder, smoothing if smooth else plain)
        pixels = decoder.decode(data).reshape(picture.shape)
        apart = np.abs(pixels - wanted[: len(picture), : picture.shape[1]].reshape(picture.shape)).mean()
        if not apart <= TOLERANCE:
            kind = f"{'colour' if colour == RGB else 'grey'}, {'with' if smooth else 'without'} smoothing"
            raise LrqError(f"it decodes to other pixels than in training ({kind}): {apart:.1f} levels apart on average")


@torch.no_grad()
def _expected(data: bytes, decoder: Decoder, smoothing: Smoothing) -> np.ndarray:
    """Pixels of a file by the arithmetic of the training: float32 (h, w, C), 0 to 255. Its sides are whole patches."""
    header, planes = decoder.indices(data)
    pack, channels = decoder.pack(header), 3 if header.colour == RGB else 1
    predictors = predictors_of(pack.tables, pack.scales, channels)
    books = Quantizer.of_factors(pack.scales, pack.tables, predictors, header.rank, channels).books
    decoded: list[torch.Tensor] = []
    for scale, of_scale, predictor, plane in zip(pack.scales, books, predictors, planes, strict=True):
        _, rows, columns, depth = plane.shape
        target = torch.empty(1, scale.channels(channels), rows * scale.patch, columns * scale.patch)
        drawn = reconstruct(torch.from_numpy(plane).reshape(-1, depth), of_scale)
        guess = guess_from(decoded[-1] if decoded else None, target, predictor)
        decoded.append(guess + from_patches(drawn[None], scale.patch, *target.shape[1:]))
    finest, coarser = decoded[-1], decoded[-2:][0]
    if channels < pack.channels:  # a grey image is one whose chroma is zero, and the mean of the colours is grey
        finest, coarser = (
            torch.cat([luma, luma.new_zeros(1, count - 1, *luma.shape[2:])], 1)
            for luma, count in ((finest, pack.scales[-1].channels(3)), (coarser, 3))
        )
    pixels = smoothing(finest, coarser)
    if channels < pack.channels:
        pixels = pixels.mean(1, keepdim=True)
    return (pixels[0] + 128).clamp(0, 255).movedim(0, -1).numpy()
