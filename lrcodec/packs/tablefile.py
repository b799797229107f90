"""tables.npz -> arrays that keep every rule of SPEC.md, "Tables": the decoder then looks up nothing out of bounds."""

import io
import zipfile

import numpy as np

from ..format.grid import Scale, check_scales

MAX_BYTES = 2**28
"""Larger archives, counted as they inflate, are refused."""
MAX_SPAN, MAX_ITERATIONS, MAX_CODEWORDS, MAX_HIDDEN = 1024, 32, 65536, 256
"""Of a model: side of a coarsest patch in image pixels, iterations of a scale, codewords of one, and hidden channels of
smoothing."""


class _Archive:
    """The arrays of an .npz archive, each checked as it is read."""

    def __init__(self, data: bytes):
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            entries = members.infolist()
        if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
            raise ValueError("tables.npz is packed in a way that NumPy does not write")
        if sum(entry.file_size for entry in entries) > MAX_BYTES:
            raise ValueError(f"tables.npz holds more than {MAX_BYTES:,} bytes")
        self.file = np.load(io.BytesIO(data), allow_pickle=False)
        self.arrays: dict[str, np.ndarray] = {}

    def take(self, name: str, dtype: type, *shape: int | None, low: int | None = None, high: int = 0) -> np.ndarray:
        """The array, of this dtype and shape (None: any length above 0) and, if asked, from low to high."""
        array = self.file[name]
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            raise ValueError(f"{name} is not {np.dtype(dtype)}")
        if array.ndim != len(shape) or any(
            have != want if want is not None else not have for have, want in zip(array.shape, shape, strict=True)
        ):
            raise ValueError(f"{name} has the wrong shape {array.shape}")
        if low is not None and not (low <= array.min() and array.max() <= high):
            raise ValueError(f"{name} is not within {low} to {high}")
        self.arrays[name] = array
        return array

    def number(self, name: str, low: int, high: int) -> int:
        return int(self.take(name, np.int32, low=low, high=high))


def load(data: bytes) -> tuple[dict[str, np.ndarray], tuple[Scale, ...]]:
    """The arrays of tables.npz by name, no others, and the scales that they describe, coarse to fine.

    Raises ValueError for a broken rule, and what NumPy and zipfile raise on archives that are damaged or hold pickles.
    """
    archive = _Archive(data)
    with archive.file:
        channels, bands = archive.number("channels", 1, 3), archive.number("bands", 1, 16)
        if channels == 2:
            raise ValueError("channels is neither 1 nor 3")
        scales = _scales(archive)
        _smoothing(archive, channels, scales[-1])
        rank = archive.file["u1"].shape[1]
        if not 1 <= rank <= 4:
            raise ValueError(f"rank {rank} is not within 1 to 4")
        for scale in scales:
            _scale(archive, scale, channels, bands, rank)
    return archive.arrays, scales


def _scales(archive: _Archive) -> tuple[Scale, ...]:
    shared, luma_only = (bool(archive.number(name, 0, 1)) for name in ("shared", "luma_only"))
    scales = []
    for s, p in archive.take("scales", np.int32, None, 2, low=1, high=MAX_SPAN).tolist():
        codewords = archive.take(f"codewords{s}", np.int32, None, low=2, high=MAX_CODEWORDS).tolist()
        if len(codewords) > MAX_ITERATIONS:
            raise ValueError(f"scale {s} has more than {MAX_ITERATIONS} iterations")
        scales.append(Scale(s, p, tuple(codewords), shared, luma_only and s == 1))
    check_scales(tuple(scales))
    if scales[0].span > MAX_SPAN:
        raise ValueError(f"a patch spans more than {MAX_SPAN} pixels")
    return tuple(scales)


def _smoothing(archive: _Archive, channels: int, finest: Scale) -> None:
    hidden, planes = archive.file["smooth_b1"].size, finest.smoothed(channels)
    if hidden > MAX_HIDDEN:
        raise ValueError(f"smoothing has more than {MAX_HIDDEN} channels")
    archive.take("smooth_w1", np.int32, hidden, planes, 3, 3)
    archive.take("smooth_b1", np.int32, hidden)
    archive.take("smooth_w2", np.int32, planes, hidden, 3, 3)
    archive.take("smooth_b2", np.int32, planes)


def _scale(archive: _Archive, scale: Scale, channels: int, bands: int, rank: int) -> None:
    s, p, depth = scale.scale, scale.patch, len(scale.codewords)
    archive.take(f"u{s}", np.int8, scale.rows, rank, p)
    archive.take(f"v{s}", np.int16, scale.rows, rank, scale.channels(channels) * p)
    archive.take(f"energy{s}", np.uint8, scale.rows)
    archive.take(f"depth_edges{s}", np.uint8, 2, 3, 7)
    archive.take(f"edges{s}", np.uint8, 4, 7)
    classes = archive.take(f"depths{s}", np.uint8, bands, 2, None, depth + 1).shape[2]
    archive.take(f"depth_classes{s}", np.uint8, 2, 512, low=0, high=classes - 1)
    of_iterations = archive.take(f"classes{s}", np.uint8, depth, 4096)
    for i, codewords in enumerate(scale.codewords):
        _, classes, clusters = archive.take(f"clusters{s}_{i}", np.uint8, bands, None, None).shape
        if of_iterations[i].max() >= classes:
            raise ValueError(f"classes{s} has classes that clusters{s}_{i} has not")
        if codewords % clusters:
            raise ValueError(f"clusters{s}_{i} do not divide the codewords")
        archive.take(f"members{s}_{i}", np.uint8, bands, clusters, codewords // clusters)
