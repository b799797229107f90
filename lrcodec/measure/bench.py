"""Measures rate and distortion of the codec on images, beside the classic codecs of Pillow. report.py prints the rows.

Every rate counts the whole file. Every PSNR is taken after rounding to uint8.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple, Protocol, TypeVar

from ..image_files import read_file
from .classic import CLASSIC, Pixels, classic_decode, classic_encode, split_available
from .metrics import chroma_psnr, ms_ssim, mse, psnr, ssimulacra2

LRQ = "lrq"
MEAN = "mean"
DECODES = 3

T = TypeVar("T")


class Macs(Protocol):
    """Multiply-accumulates of decoding, per image pixel: see `decoder.graph.Macs`."""

    @property
    def low_rank(self) -> float: ...
    @property
    def prediction(self) -> float: ...
    @property
    def smoothing(self) -> float: ...
    @property
    def colour(self) -> float: ...


class Decoder(Protocol):
    """What is measured: it decodes a file to uint8 (H, W) or (H, W, 3), and counts the work that a file costs."""

    def decode(self, data: bytes, /) -> Pixels: ...
    def macs(self, data: bytes, /) -> Macs: ...


class Curve(NamedTuple):
    """What makes the files of a rate-distortion curve: codec, rank and tuning as in `Row`."""

    codec: str
    rank: int | None = None
    tune: str | None = None

    def __str__(self) -> str:
        """
        >>> str(Curve("lrq", 2, "eye")), str(Curve("jpeg"))
        ('lrq rank 2 eye', 'jpeg')
        """
        return self.codec if self.rank is None else f"{self.codec} rank {self.rank} {self.tune}"


@dataclass(frozen=True)
class Row:
    """One file, or the mean of several: then `image` is `MEAN` and every figure an arithmetic mean over the images.

    image: file name without folders.
    codec: "lrq" or a key of `CLASSIC`.
    setting: the quality, on the codec's own scale (`Classic.scale`).
    rank: columns of U used, 1..4; tune: what lrq was tuned for, eye or psnr. None for a classic codec.
    bytes, bpp: the whole file, and its bits per pixel.
    ratio: raw 8-bit bytes / file bytes.
    mse: on [0, 1] pixels. psnr: dB, inf for equal pixels. psnr_cb, psnr_cr: of chroma, nan for grey.
    ms_ssim, ssimulacra2: nan for a small image (metrics.py has the sizes).
    macs_*: multiply-accumulates of decoding, per pixel; None for a classic codec.
    encode_s, decode_s: seconds; one encode, and the median of three decodes after one that is not counted.
    """

    image: str
    codec: str
    setting: float
    rank: int | None
    tune: str | None
    bytes: float
    bpp: float
    ratio: float
    mse: float
    psnr: float
    psnr_cb: float
    psnr_cr: float
    ms_ssim: float
    ssimulacra2: float
    macs_low_rank: float | None
    macs_prediction: float | None
    macs_smoothing: float | None
    macs_colour: float | None
    encode_s: float
    decode_s: float

    @property
    def curve(self) -> Curve:
        """The rate-distortion curve that it is a point of."""
        return Curve(self.codec, self.rank, self.tune)


FIGURES = tuple(field.name for field in fields(Row))[5:]


@dataclass(frozen=True)
class Result:
    """What `bench` measured, and the classic codecs that it could not measure because this Pillow lacks them."""

    rows: list[Row]
    skipped: tuple[str, ...] = ()


def read_images(paths: Iterable[Path]) -> Iterator[tuple[str, Pixels]]:
    """File name and pixels, one image at a time: uint8 (H, W) for grey, (H, W, 3) for all others, upright.

    Raises as `read_file` does.
    """
    for path in paths:
        yield path.name, read_file(path)


def row_count(
    images: int, ours: Sequence[Curve], qualities: Sequence[float], classic: Sequence[str] = tuple(CLASSIC)
) -> int:
    """How many rows `bench` will make of this many images: the length of a progress bar."""
    available, _ = split_available(classic)
    return images * (len(ours) * len(qualities) + sum(len(CLASSIC[name].qualities) for name in available))


def bench(
    images: Iterable[tuple[str, Pixels]],
    ours: Sequence[Curve],
    qualities: Sequence[float],
    encoder: Callable[[Pixels, float, Curve], bytes],
    decoder: Decoder,
    classic: Sequence[str] = tuple(CLASSIC),
    progress: Callable[[Row], object] = lambda row: None,
    look: Callable[[Row, Pixels, Pixels], object] = lambda row, image, decoded: None,
) -> Result:
    """Measure every image with lrq as each of `ours` says at every quality, and with the classic codecs at their own.

    images: name and uint8 (H, W) or (H, W, 3), as `read_images` yields them.
    encoder: encode(image, quality 0..100, one of ours) -> file. Its model should be loaded: it would count as encoding.
    look: called for each file, with its row, the image and what was decoded. progress: called with the row after that.
    Raises UsageError for an unknown classic codec, or if a decoder returns another shape than it was given;
    EncoderMissingError without the package ssimulacra2.
    """
    available, skipped = split_available(classic)
    rows: list[Row] = []

    def add(image: Pixels, row: Row, decoded: Pixels) -> None:
        rows.append(row)
        look(row, image, decoded)
        progress(row)

    for name, image in images:
        for curve in ours:
            for quality in qualities:
                data, seconds = _timed(encoder, image, quality, curve)
                macs = decoder.macs(data)
                add(image, *_measure(name, image, curve, quality, data, seconds, decoder.decode, macs))
        for codec in available:
            for quality in CLASSIC[codec].qualities:
                data, seconds = _timed(classic_encode, image, codec, quality)
                decode = partial(classic_decode, grey=image.ndim == 2)
                add(image, *_measure(name, image, Curve(codec), quality, data, seconds, decode, None))
    return Result(rows, skipped)


def means(rows: Iterable[Row]) -> list[Row]:
    """One row for each curve and setting, in order of first appearance: the means over its images.

    PSNR is the mean of the images' PSNRs. Images without a figure are left out of its mean.
    """
    groups: dict[tuple[Curve, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.curve, row.setting), []).append(row)
    return [
        Row(MEAN, codec, setting, rank, tune, *(_mean([getattr(row, name) for row in group]) for name in FIGURES))
        for ((codec, rank, tune), setting), group in groups.items()
    ]


def _measure(
    name: str,
    image: Pixels,
    curve: Curve,
    setting: float,
    data: bytes,
    encode_s: float,
    decode: Callable[[bytes], Pixels],
    macs: Macs | None,
) -> tuple[Row, Pixels]:
    decoded = decode(data)  # also the warm-up of the timed decodes
    height, width = image.shape[:2]
    psnr_cb, psnr_cr = chroma_psnr(image, decoded)
    row = Row(
        image=name,
        codec=curve.codec,
        setting=setting,
        rank=curve.rank,
        tune=curve.tune,
        bytes=len(data),
        bpp=8 * len(data) / (height * width),
        ratio=image.size / len(data),
        mse=mse(image, decoded),
        psnr=psnr(image, decoded),
        psnr_cb=psnr_cb,
        psnr_cr=psnr_cr,
        ms_ssim=ms_ssim(image, decoded),
        ssimulacra2=ssimulacra2(image, decoded),
        macs_low_rank=None if macs is None else macs.low_rank,
        macs_prediction=None if macs is None else macs.prediction,
        macs_smoothing=None if macs is None else macs.smoothing,
        macs_colour=None if macs is None else macs.colour,
        encode_s=encode_s,
        decode_s=median(_timed(decode, data)[1] for _ in range(DECODES)),
    )
    return row, decoded


def _timed(call: Callable[..., T], *arguments: object) -> tuple[T, float]:
    """What the call returns, and the seconds it took."""
    start = time.perf_counter()
    value = call(*arguments)
    return value, time.perf_counter() - start


def _mean(values: list[Any]) -> Any:
    defined = [value for value in values if value is not None and not math.isnan(value)]
    return fmean(defined) if defined else values[0]
