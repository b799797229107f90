"""tables.npz <-> arrays that keep every rule of SPEC.md, "Tables": the decoder then looks up nothing out of bounds.

Every array is described once, as a `Field`. Reading and writing check the arrays by these descriptions, and by the few
rules that no description tells.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..format.grid import Scale, check_scales
from ..format.symmetry import TRANSPOSED

MAX_BYTES = 2**28
"""Larger archives, counted as they inflate, are refused."""
MAX_SPAN, MAX_ITERATIONS, MAX_CODEWORDS, MAX_HIDDEN = 1024, 32, 65536, 256
"""Of a model: side of a coarsest patch in image pixels, iterations of a scale, codewords of one, and hidden channels of
smoothing and of each prediction."""


class Field(NamedTuple):
    """One array: its name, dtype and shape, and the least and the largest value that it may hold, if there are such.

    name: with {s} for the number of the scale and {i} for the iteration.
    shape: lengths, or their names as in SPEC.md. A name that stands for nothing yet stands for what the array has.
    """

    name: str
    dtype: DTypeLike
    shape: tuple[int | str, ...] = ()
    limits: tuple[int, int] | None = None


MODEL = (
    Field("scales", np.int32, ("S", 3), (1, MAX_SPAN)),
    Field("channels", np.int32, (), (1, 3)),
    Field("shared", np.int32, (), (0, 1)),
    Field("luma_only", np.int32, (), (0, 1)),
    Field("bands", np.int32, (), (1, 16)),
)
SMOOTHING = (
    Field("smooth_w1", np.int32, ("H", "I", 3, 3)),
    Field("smooth_b1", np.int32, ("H",)),
    Field("smooth_w2", np.int32, ("I", "H", 3, 3)),
    Field("smooth_b2", np.int32, ("I",)),
)
SHAPES = Field("shapes{s}", np.int32, ("D",), (2, MAX_CODEWORDS))
PREDICTION = (
    Field("first{s}", np.int32, ("P", "F", 3, 3)),
    Field("first_bias{s}", np.int32, ("P",)),
    Field("second{s}", np.int32, ("4 * F", "P", 3, 3)),
    Field("second_bias{s}", np.int32, ("4 * F",)),
)
"""Of every scale but the coarsest."""
SCALE = (
    Field("u{s}", np.int8, ("rows", "R", "p")),
    Field("v{s}", np.int16, ("rows", "R", "F * p"), (-32767, 32767)),  # -32768 has no opposite
    Field("energy{s}", np.uint8, ("rows",)),
    Field("orientation{s}", np.uint8, ("rows",), (0, 8)),
    Field("frequency{s}", np.uint8, ("rows",), (1, 8)),
    Field("symmetries{s}", np.uint8, ("rows", "G")),
    Field("depth_edges{s}", np.uint8, (2, 3, 7)),
    Field("depth_classes{s}", np.uint8, (2, 512)),
    Field("depths{s}", np.uint8, ("bands", 2, "M", "D + 1")),
    Field("features{s}", np.uint8, ("D + 1", 4), (0, 12)),
    Field("edges{s}", np.uint8, ("D + 1", 4, 7)),
    Field("classes{s}", np.uint8, ("D + 1", 4096)),
)
CLUSTERS = Field("clusters{s}_{i}", np.uint8, ("bands", "M", "A"))
MEMBERS = Field("members{s}_{i}", np.uint8, ("bands", "A", "N // A"))
FIELDS = (*MODEL, *SMOOTHING, SHAPES, *PREDICTION, *SCALE, CLUSTERS, MEMBERS)
"""In the order of SPEC.md, which is also that of a model file."""
LENGTHS = {"D": (1, MAX_ITERATIONS), "H": (0, MAX_HIDDEN), "P": (0, MAX_HIDDEN), "R": (1, 4)}
"""The limits of lengths that an array is the first to have. All others are 1 or more."""

Arrays = dict[str, np.ndarray]
Find = Callable[[str, DTypeLike], Any]
"""Finds an array by its name. It may be made of the dtype that is asked for, but need not."""


def load(data: bytes) -> tuple[Arrays, tuple[Scale, ...]]:
    """The arrays of tables.npz by name, no others, and the scales that they describe, coarse to fine.

    Raises ValueError for a broken rule, and what NumPy and zipfile raise on archives that are damaged or hold pickles.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as members:
        entries = members.infolist()
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise ValueError("tables.npz is packed in a way that NumPy does not write")
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise ValueError(f"tables.npz holds more than {MAX_BYTES:,} bytes")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return _check(lambda name, dtype: file[name])


def save(arrays: Mapping[str, ArrayLike]) -> bytes:
    """A tables.npz of arrays by name, such as `load` gives. The same arrays give the same bytes.

    Integers are converted to the dtypes of the file. Raises ValueError for a broken rule and for a name that the file
    does not have, KeyError for a missing one, and TypeError for numbers that are not integers.
    """

    def find(name: str, dtype: DTypeLike) -> np.ndarray:
        array = np.asarray(arrays[name])
        converted = array.astype(dtype, casting="same_kind")
        if not np.array_equal(array, converted):
            raise ValueError(f"{name} has values that {np.dtype(dtype)} cannot hold")
        return converted

    checked, _ = _check(find)
    if unknown := arrays.keys() - checked.keys():
        raise ValueError(f"tables.npz has no {', '.join(sorted(unknown))}")
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **dict(sorted(checked.items())))
    return file.getvalue()


def describe(scales: Sequence[Scale], channels: int, bands: int) -> dict[str, ArrayLike]:
    """The arrays that say which others there are: the inverse of what `load` makes scales of."""
    arrays: dict[str, ArrayLike] = {
        "channels": channels,
        "bands": bands,
        "shared": scales[0].shared,
        "luma_only": scales[-1].luma_only,
        "scales": [(scale.scale, scale.patch, scale.symmetries) for scale in scales],
    }
    return arrays | {SHAPES.name.format(s=scale.scale): scale.shapes for scale in scales}


def _check(find: Find) -> tuple[Arrays, tuple[Scale, ...]]:
    """The arrays that the descriptions name, all rules checked, and the scales. Raises ValueError for a broken one."""
    sizes: dict[str, int] = {}
    arrays = _take(MODEL, find, sizes)
    scales = _scales(arrays, find)
    channels = int(arrays["channels"])
    if channels == 2:
        raise ValueError("channels is neither 1 nor 3")
    sizes |= {"bands": int(arrays["bands"]), "I": scales[-1].smoothed(channels)}
    arrays |= _take(SMOOTHING, find, sizes)
    for scale in scales:
        coded, depth, patch = scale.channels(channels), len(scale.shapes), scale.patch
        if scale.symmetries == TRANSPOSED and coded > 1:
            raise ValueError(f"scale {scale.scale} transposes shapes of several channels")
        if scale != scales[0]:
            arrays |= _take(PREDICTION, find, sizes | {"F": coded, "4 * F": 4 * coded}, s=scale.scale)
        sizes |= {"rows": scale.rows, "p": patch, "F * p": coded * patch}
        sizes |= {"D": depth, "D + 1": depth + 1, "G": scale.symmetries}
        arrays |= _take_scale(scale, find, sizes)
        if 2 * scale.rows * scale.symmetries * sizes["R"] * (sizes["p"] + sizes["F * p"]) > MAX_BYTES:
            raise ValueError(f"the codewords of scale {scale.scale} take more than {MAX_BYTES:,} bytes")
    return arrays, scales


def _take(fields: Sequence[Field], find: Find, sizes: dict[str, int], **numbers: int) -> Arrays:
    """The arrays of some fields, checked. Adds to `sizes` the lengths that they are the first to have.

    numbers: the s and i of their names.
    """
    arrays = {}
    for field in fields:
        name = field.name.format(**numbers)
        array = find(name, field.dtype)
        if not isinstance(array, np.ndarray) or array.dtype != field.dtype:
            raise ValueError(f"{name} is not {np.dtype(field.dtype)}")
        if array.ndim != len(field.shape):
            raise ValueError(f"{name} has the wrong shape {array.shape}")
        for length, size in zip(array.shape, field.shape, strict=True):
            if isinstance(size, str) and size not in sizes:
                low, high = LENGTHS.get(size, (1, MAX_BYTES))
                if not low <= length <= high:
                    raise ValueError(f"{name} has the wrong shape {array.shape}: {size} is {low} to {high}")
                sizes[size] = length
            elif length != (sizes[size] if isinstance(size, str) else size):
                raise ValueError(f"{name} has the wrong shape {array.shape}")
        if field.limits is not None and not (field.limits[0] <= array.min() and array.max() <= field.limits[1]):
            raise ValueError(f"{name} is not within {field.limits[0]} to {field.limits[1]}")
        arrays[name] = array
    return arrays


def _scales(arrays: Arrays, find: Find) -> tuple[Scale, ...]:
    """The scales, coarse to fine. Adds the arrays that count their shapes."""
    shared, luma_only = bool(arrays["shared"]), bool(arrays["luma_only"])
    scales = []
    for s, p, symmetries in arrays["scales"].tolist():
        taken = _take([SHAPES], find, {}, s=s)
        (shapes,) = taken.values()
        scales.append(Scale(s, p, tuple(shapes.tolist()), shared, luma_only and s == 1, symmetries))
        arrays |= taken
    check_scales(tuple(scales))
    if max(k for scale in scales for k in scale.codewords) > MAX_CODEWORDS:
        raise ValueError(f"an iteration has more than {MAX_CODEWORDS:,} codewords")
    if scales[0].span > MAX_SPAN:
        raise ValueError(f"a patch spans more than {MAX_SPAN} pixels")
    return tuple(scales)


def _take_scale(scale: Scale, find: Find, sizes: dict[str, int]) -> Arrays:
    """The arrays of a scale and of its iterations. Adds the rank to `sizes`."""
    s = scale.scale
    sizes.pop("M", None)  # of another scale
    arrays = _take(SCALE, find, sizes, s=s)
    if arrays[f"depth_classes{s}"].max() >= sizes["M"]:
        raise ValueError(f"depth_classes{s} has classes that depths{s} has not")
    for i, shapes in enumerate(scale.shapes):
        lengths = {"bands": sizes["bands"]}
        arrays |= _take([CLUSTERS], find, lengths, s=s, i=i)
        groups = arrays[f"classes{s}"][i + 1 if i else slice(2)]
        if groups.max() >= lengths["M"]:
            raise ValueError(f"classes{s} has classes that clusters{s}_{i} has not")
        if shapes % lengths["A"]:
            raise ValueError(f"clusters{s}_{i} do not divide the shapes")
        lengths["N // A"] = shapes // lengths["A"]
        arrays |= _take([MEMBERS], find, lengths, s=s, i=i)
    return arrays
