"""Rebuild the conformance vectors and the damaged files, vectors/ and corrupt/, with the shipped models:

    python formats/make_vectors.py

It needs lrcodec[encode]. All images are made up here, from seeds. README.md, beside this file, says what is made.
"""

import hashlib
import io
import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import lrcodec
from lrcodec import entropy
from lrcodec.errors import INCOMPLETE, FormatError, LimitError, LrqError, UnsupportedError
from lrcodec.format import container, grid
from lrcodec.format.alpha import AXES, pack_alpha
from lrcodec.format.container import Chunk, Header
from lrcodec.format.metadata import MAX_METADATA, Metadata, unpack_metadata
from lrcodec.format.shrink import SHRINKS
from lrcodec.packs import store
from lrcodec.packs.pack import Pack

HERE = Path(__file__).parent
VECTORS, CORRUPT = HERE / "vectors", HERE / "corrupt"
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
METADATA = Metadata(
    icc_profile=b"made-up profile " * 20,
    exif=b"II*\0\x08\0\0\0" + bytes(6),
    xmp="<x:xmpmeta>\N{SNOWMAN}</x:xmpmeta>".encode(),
)


Parts = list[bytes | int]
"""Of a file: its bytes, and for each CRC-32 which bits of it are wrong."""


def main() -> None:
    """Replace both folders."""
    for folder in (VECTORS, CORRUPT):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for vector in vectors():
        _write_vector(vector)
    cases = {}
    for case in damaged():
        name = f"{case.check:02}-{case.name}.lrq"
        assert name not in cases, name
        (CORRUPT / name).write_bytes(case.data)
        cases[name] = {"check": case.check, "error": case.error.__name__, "exit": case.error.exit_code}
        cases[name] |= {"partial": _partial_exit(case), "metadata": case.metadata, "what": case.what}
    (CORRUPT / "cases.json").write_text(_json(cases), encoding="utf-8")


class Vector(NamedTuple):
    """A valid file, or one to preview. tests: what a decoder shows by decoding it, in one sentence.

    shrink, partial: how it is to be decoded, as by the command.
    """

    name: str
    tests: str
    data: bytes
    shrink: int = 1
    partial: bool = False


class Damaged(NamedTuple):
    """A file that a reader must refuse. check: number of the first check of SPEC.md, "Errors", that fails.

    metadata: whether only a reader that gives out metadata has to refuse it.
    """

    check: int
    name: str
    what: str
    error: type[LrqError]
    parts: Parts
    metadata: bool = False

    @property
    def data(self) -> bytes:
        """The whole file."""
        return joined(self.parts)


def _write_vector(vector: Vector) -> None:
    folder = VECTORS / vector.name
    folder.mkdir()
    (folder / "image.lrq").write_bytes(vector.data)
    pixels, missing = decoder().preview(vector.data, vector.shrink)
    assert vector.partial or np.array_equal(decoder().decode(vector.data, vector.shrink), pixels)
    image = Image.fromarray(pixels)
    assert image.mode == MODES[(*pixels.shape, 1)[2]]
    image.save(folder / "reference.png", optimize=True)
    header = lrcodec.probe(vector.data)
    metadata = unpack_metadata(container.unpack_rest(vector.data).chunks)._asdict()
    case = {
        "tests": vector.tests,
        **({"shrink": vector.shrink} if vector.shrink > 1 else {}),
        **({"partial": True, "exit": INCOMPLETE if missing else 0} if vector.partial else {}),
        "model": next(entry.name for entry in store.packs() if entry.fingerprint == header.model),
        "fingerprint": header.model.hex(),
        "shape": pixels.shape,
        "file_sha256": _sha256(vector.data),
        "pixels_sha256": _sha256(pixels.tobytes()),
        "metadata_sha256": {name: _sha256(content) for name, content in metadata.items() if content is not None},
    }
    (folder / "case.json").write_text(_json(case), encoding="utf-8")


def _partial_exit(case: Damaged) -> int:
    """The exit code of `lrq decode --partial`."""
    try:
        decoder().preview(case.data)
        unpack_metadata(container.unpack_rest(case.data).chunks)
    except LrqError as error:
        return error.exit_code
    return INCOMPLETE


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"


# ---- parts of files


@cache
def decoder() -> "lrcodec.Decoder":
    return lrcodec.Decoder()


@cache
def pack(model: str = "photo") -> Pack:
    return store.find(model).load()


@cache
def encoder(model: str) -> "lrcodec.Encoder":
    return lrcodec.Encoder(model, "cpu")


def encoded(image: np.ndarray, model: str = "photo", **options) -> bytes:
    return encoder(model).encode(image, **options)


def drawn(header: Header, planes: list[np.ndarray], others: tuple[Chunk, ...] = (), model: str = "photo") -> bytes:
    """A file of index planes (1, rows, columns, iterations), as the encoder makes it of those that it found."""
    payloads = []
    for top, bottom in grid.strips(pack(model).scales, header.height, header.width):
        spans = [scale.span for scale in pack(model).scales]
        parts = [plane[:, top // span : -(-bottom // span)] for plane, span in zip(planes, spans, strict=True)]
        payloads += entropy.encode(parts, pack(model), header)
    return container.pack(header, [*others, *(Chunk(container.INDICES, payload) for payload in payloads)])


def head(height: int, width: int, model: str = "photo", **fields: int) -> Header:
    """A header, by default of an RGB image, all ranks and all iterations in the middle rate band."""
    own = pack(model)
    deepest = max(len(scale.codewords) for scale in own.scales)
    header = Header(width, height, container.RGB, 0, own.rank, deepest, own.bands // 2, own.fingerprint)
    return replace(header, **fields)


def planes_of(header: Header, index: Callable[..., np.ndarray], depth=None, model: str = "photo") -> list[np.ndarray]:
    """Index planes: index(K, iteration, grid) draws the indices of every patch, depth(D, grid) tells how many it takes,
    all if None."""
    out = []
    for scale in pack(model).scales:
        shape = 1, *scale.grid(header.height, header.width)
        count = len(scale.codewords)
        plane = np.stack([index(k, i, shape) for i, k in enumerate(scale.codewords)], 3)
        out.append(plane if depth is None else plane * (np.arange(count) < depth(count, shape)[..., None]))
    return out


def picture(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """A made-up image uint8 (height, width[, channels]): ramps, a box, a disc and noise.

    The last of 2 or 4 channels is alpha: a disc with a soft edge. All are integers: the same on every machine.
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    colours = 3 if channels > 2 else 1
    out = 128 + (np.stack([y, x], 2) @ random.integers(-12, 13, (2, colours))) // 4
    box = (abs(4 * y - height) < height) & (abs(4 * x - 2 * width) < width)
    radius = max(1, min(height, width) // 3)
    distance = (y - height // 2) ** 2 + (x - 2 * width // 3) ** 2
    for shape in (box, distance < radius**2):
        out[shape] = random.integers(0, 256, colours)
    noisy = (y > 3 * height // 4) & (x < width // 2)
    out[noisy] += random.integers(-40, 41, (int(noisy.sum()), 1))
    if channels in (2, 4):
        out = np.dstack([out, 255 - 255 * distance // (2 * radius**2)])
    out = np.clip(out, 0, 255).astype(np.uint8)
    return out[..., 0] if channels == 1 else out


def with_chunks(data: bytes, *chunks: Chunk) -> bytes:
    """A file with chunks in place of its own; with alpha if one of them is alpha."""
    header, _ = container.unpack(data)
    return container.pack(replace(header, alpha=int(any(c.tag == container.ALPHA for c in chunks))), list(chunks))


def indices(data: bytes) -> Chunk:
    """The only chunk of indices of a file."""
    (chunk,) = (chunk for chunk in container.unpack(data)[1] if chunk.tag == container.INDICES)
    return chunk


# ---- vectors


def vectors() -> Iterator[Vector]:
    """All of them, with names of their own."""
    yield from _shapes()
    yield from _options()
    yield from _indices()
    yield from _chunks()
    yield from _strips()
    yield from _models()
    yield from _shrunk()
    yield from _incomplete()


def _shapes() -> Iterator[Vector]:
    yield Vector("pixel-grey", "One grey pixel.", encoded(picture(1, 1, 1, 1)))
    yield Vector("pixel-rgba", "One pixel with alpha.", encoded(picture(1, 1, 4, 2)))
    yield Vector("row", "A height of 1.", encoded(picture(1, 97, 3, 3)))
    yield Vector("column", "A width of 1.", encoded(picture(97, 1, 3, 4)))
    yield Vector("prime-sides", "Sides that no patch divides.", encoded(picture(61, 43, 3, 5)))
    span = pack().scales[0].span
    yield Vector("one-patch", "Sides of exactly one coarsest patch.", encoded(picture(span, span, 3, 6), quality=20))
    more = picture(span + 1, span + 1, 1, 7)
    yield Vector("one-pixel-more", "Sides of one coarsest patch and one pixel.", encoded(more, quality=30))
    for channels, name in enumerate(("grey", "grey-alpha", "rgb", "rgba"), 1):
        yield Vector(name, f"Mode {MODES[channels]}.", encoded(picture(37, 45, channels, 8)))


def _options() -> Iterator[Vector]:
    image = picture(32, 40, 3, 9)
    for rank in range(1, pack().rank + 1):
        yield Vector(f"rank-{rank}", f"Codewords cut to rank {rank}.", encoded(image, rank=rank, quality=60))
    for band in range(pack().bands):
        quality = round(100 * encoder("photo").config.middle(band))
        yield Vector(f"band-{band}", f"The tables of rate band {band}.", encoded(image, quality=quality))
    capped = encoded(image, iterations=1)
    yield Vector("iterations-1", "A cap of one iteration.", capped)
    header, chunks = container.unpack(encoded(image))
    most = container.pack(replace(header, iterations=32), chunks)
    yield Vector("iterations-32", "A cap beyond the iterations of the model, which changes nothing.", most)
    bars = np.array([[y >> 2 & 1, y >> 1 & 1, y & 1] for y in range(8)], np.uint8).repeat(5, 0) * 255
    saturated = np.where(np.arange(40)[:, None] // 4 % 2, bars[:, None], 255 - bars).astype(np.uint8)
    yield Vector("saturated", "Pixels of 0 and 255, which are clipped.", encoded(saturated, quality=90))


def _indices() -> Iterator[Vector]:
    """Index planes that no encoder would choose."""

    def none(count: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape, np.int64)

    def anything(seed: int) -> Callable[..., np.ndarray]:
        random = np.random.default_rng(seed)
        return lambda k, i, shape: random.integers(1, k + 1, shape)

    def any_depth(count: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng(count).integers(0, count + 1, shape)

    header = head(19, 23)
    stops = drawn(header, planes_of(header, anything(0), none))
    assert not indices(stops).payload
    yield Vector("all-stop", "Depth 0 everywhere: the payload is empty, and reads as zeros.", stops)
    header = head(27, 29)
    deepest = drawn(header, planes_of(header, anything(1)))
    yield Vector("deepest", "All iterations in every patch of every scale, any codewords.", deepest)
    header = head(39, 33, colour=container.GREY, band=0)
    mixed = drawn(header, planes_of(header, anything(2), any_depth))
    yield Vector("any-depths-grey", "Any depths and codewords, grey.", mixed)
    header = head(35, 26, band=pack().bands - 1)
    mixed = drawn(header, planes_of(header, anything(3), any_depth))
    yield Vector("any-depths-rgb", "Any depths and codewords, RGB.", mixed)
    header = head(26, 25)
    ends = drawn(header, planes_of(header, lambda k, i, shape: np.indices(shape).sum(0) % 2 * (k - 1) + 1))
    yield Vector("first-and-last-codewords", "Index 1 and index K of every iteration.", ends)
    header = head(40, 40)
    yield Vector("plane-limits", "Codewords that drive planes to both limits.", drawn(header, _extreme(header)))


def _extreme(header: Header) -> list[np.ndarray]:
    """In the left half of an image the codewords that brighten it most, in the right half those that darken it most."""
    planes = []
    for scale in pack().scales:
        u, v = (pack().tables[f"{factor}{scale.scale}"] for factor in "uv")
        light = (u.sum(2, dtype=np.int64) * v[:, :, : scale.patch].sum(2, dtype=np.int64)).sum(1)
        signs = 1 - 2 * (np.arange(scale.symmetries) % 2)  # nothing else that a symmetry changes makes it lighter
        light = (light[:, None] * signs).reshape(-1)
        rows, columns = scale.grid(header.height, header.width)
        plane = np.empty((1, rows, columns, len(scale.codewords)), np.int64)
        for i, (start, k) in enumerate(zip(scale.starts, scale.codewords, strict=True)):
            own = light[start * scale.symmetries :][:k]
            left = np.arange(columns) * scale.span < header.width // 2
            plane[..., i] = np.where(left, own.argmax(), own.argmin()) + 1
        planes.append(plane)
    return planes


def _chunks() -> Iterator[Vector]:
    image = picture(21, 25, 4, 10)
    plain = encoded(image[..., :3])
    own = indices(plain)
    for number, axis in enumerate(AXES):
        filtered = image[..., 3] if axis is None else np.diff(image[..., 3], axis=axis, prepend=np.uint8(0))
        alpha = Chunk(container.ALPHA, bytes([number]) + zlib.compress(filtered.tobytes(), 9))
        yield Vector(f"alpha-filter-{number}", f"Alpha of filter {number}.", with_chunks(plain, alpha, own))
    alpha = Chunk(container.ALPHA, b"\0" + zlib.compress(image[..., 3].tobytes(), 0))
    yield Vector("alpha-last", "Alpha after the indices, in stored blocks.", with_chunks(plain, own, alpha))
    yield Vector("metadata", "An ICC profile, EXIF and XMP.", encoded(image[..., 0], metadata=METADATA))
    empty = [Chunk(tag, zlib.compress(b"")) for tag in (container.ICC_PROFILE, container.EXIF, container.XMP)]
    yield Vector("metadata-empty", "Metadata of no bytes.", with_chunks(plain, *empty, own))
    largest = Chunk(container.XMP, zlib.compress(b" " * MAX_METADATA, 9))
    yield Vector(
        "metadata-largest", "As much XMP as there may be, after the indices.", with_chunks(plain, own, largest)
    )
    unknown = [Chunk(tag, b"any content") for tag in (b"q", b"q", b"i", b"a")]
    several = with_chunks(plain, *unknown, own, *unknown)
    yield Vector("unknown-ancillary", "Unknown ancillary chunks, also twice, are skipped.", several)
    everything = encoded(image, metadata=METADATA)
    header, chunks = container.unpack(everything)
    everything = container.pack(header, [*chunks[::-1], *unknown])
    yield Vector("everything", "Alpha, all metadata and unknown chunks, in an unusual order.", everything)
    # The zeros are what a decoder reads beyond the payload.
    longer = with_chunks(plain, Chunk(container.INDICES, own.payload + bytes(12) + b"anything"))
    assert np.array_equal(decoder().decode(longer), decoder().decode(plain))
    yield Vector("longer-payload", "Bytes after the last symbol of the payload do not matter.", longer)


def _strips() -> Iterator[Vector]:
    """Two strips each, which are flat but where they meet."""
    coarsest = pack().scales[0].span
    tall = head(0, 9)
    strip = grid.STRIP_PIXELS // coarsest**2 * coarsest
    yield _two_strips(
        replace(tall, height=strip + coarsest + 3, alpha=1),
        "strips-tall",
        "Two strips of a narrow image, with alpha and a chunk between them.",
    )
    wide = head(0, grid.STRIP_PIXELS // coarsest + 1, colour=container.GREY)
    yield _two_strips(
        replace(wide, height=coarsest + 5),
        "strips-wide",
        "Two strips of one row of patches each: more of them would be too many pixels, and so is one.",
    )


def _two_strips(header: Header, name: str, tests: str) -> Vector:
    """Some patches that touch the edge between the strips, or the left edge of a wide image, have any depth."""
    (_, edge), (_, _) = grid.strips(pack().scales, header.height, header.width)
    random = np.random.default_rng(11)
    planes = []
    for scale in pack().scales:
        rows, columns = scale.grid(header.height, header.width)
        count = len(scale.codewords)
        plane = np.stack([random.integers(1, k + 1, (1, rows, columns)) for k in scale.codewords], 3)
        near = (abs(np.arange(rows) - edge // scale.span) < 2)[:, None] & (np.arange(columns) * scale.span < 64)
        depth = np.where(near, random.integers(0, count + 1, (rows, columns)), 0)
        planes.append(plane * (np.arange(count) < depth[..., None]))
    others: tuple[Chunk, ...] = ()
    if header.alpha:
        shade = np.tile((np.arange(header.height) // 256 % 256).astype(np.uint8)[:, None], (1, header.width))
        others = (Chunk(container.ALPHA, pack_alpha(shade)),)
    header, chunks = container.unpack(drawn(header, planes, others))
    between = [Chunk(b"q", b"between the strips")] if header.alpha else []
    return Vector(name, tests, container.pack(header, [*chunks[:-1], *between, chunks[-1]]))


def _models() -> Iterator[Vector]:
    for model, side in (("thumbs64", 64), ("faces64", 64), ("cifar10", 32), ("conformance", 40)):
        image = picture(side, side, 3, 12)
        yield Vector(f"{model}-rgb", f"Model {model}, in its own size.", encoded(image, model, quality=30))
        image = picture(side // 2 - 3, side // 2 + 5, 2, 13)
        yield Vector(f"{model}-grey-alpha", f"Model {model}, grey, with alpha.", encoded(image, model, quality=80))
    image = picture(32, 40, 3, 9)
    for mode, part in (("rgb", image), ("grey", image[..., 1])):
        data = encoded(np.ascontiguousarray(part), "conformance", smoothing=False)
        yield Vector(f"no-smoothing-{mode}", "A model that has smoothing, without it.", data)
    stroke = np.zeros((28, 28), np.uint8)
    stroke[5:8, 6:20], stroke[8:23, 16:20] = 255, 200
    yield Vector("mnist", "A model for grey images only.", encoded(stroke, "mnist"))
    random = np.random.default_rng(14)
    header = head(17, 22, "mnist", colour=container.GREY, band=0)
    planes = planes_of(header, lambda k, i, shape: random.integers(1, k + 1, shape), model="mnist")
    yield Vector("mnist-deepest", "All iterations of that model.", drawn(header, planes, model="mnist"))


def _shrunk() -> Iterator[Vector]:
    """At a part of their size."""
    odd = encoded(picture(61, 43, 3, 5), quality=70)
    for shrink in SHRINKS[1:]:
        yield Vector(f"shrink-{shrink}", f"At 1/{shrink} of the size, whose sides are odd.", odd, shrink)
    for shrink, channels in ((2, 1), (2, 4), (4, 2), (8, 1), (8, 4), (16, 2)):
        data = encoded(picture(37, 45, channels, 8))
        name = f"shrink-{shrink}-{MODES[channels].lower()}"
        yield Vector(name, f"Mode {MODES[channels]} at 1/{shrink} of its size.", data, shrink)
    pixel = encoded(picture(1, 1, 4, 2))
    yield Vector("shrink-pixel", "One pixel at 1/16 of its size, and its alpha.", pixel, 16)
    yield Vector("shrink-row", "A height of 1 at 1/2 of it.", encoded(picture(1, 97, 3, 3)), 2)
    limits = head(40, 40)
    yield Vector("shrink-plane-limits", "Planes at both limits.", drawn(limits, _extreme(limits)), 8)
    for vector in _strips():
        name = f"shrink-{vector.name}"
        yield vector._replace(name=name, tests=f"At 1/4 of the size: {vector.tests}", shrink=4)
    for model, shrink, channels in (
        *(("thumbs64", 8, 3), ("conformance", 16, 3), ("faces64", 2, 3), ("faces64", 8, 3), ("faces64", 16, 2)),
        *(("cifar10", 4, 3), ("cifar10", 8, 4), ("mnist", 8, 1), ("mnist", 16, 1)),
    ):
        data = encoded(picture(27, 39, channels, 16), model)
        means = "" if shrink <= pack(model).scales[0].scale else ", by means of its coarsest scale"
        name = f"shrink-{shrink}-{model}-{MODES[channels].lower()}"
        yield Vector(name, f"Model {model} at 1/{shrink} of the size{means}.", data, shrink)


def _incomplete() -> Iterator[Vector]:
    """Files that are cut short or damaged."""

    def partial(name: str, tests: str, data: bytes, shrink: int = 1) -> Vector:
        return Vector(f"partial-{name}", tests, data, shrink, True)

    plain = encoded(picture(61, 43, 3, 5), quality=70)
    end, payload = len(plain) - 4, indices(plain).payload
    start = end - len(payload)
    cuts = _cuts(plain)
    for scale, size in cuts.items():
        data = plain[: start + size]
        yield partial(f"scale-{scale}", f"The payload ends within the indices of scale {scale}.", data)
    for shrink in (2, 8):
        what = f"A payload that ends within scale 4, at 1/{shrink} of the size."
        yield partial(f"shrink-{shrink}", what, plain[: start + cuts[4]], shrink)
    yield partial("complete", "A complete file is not changed.", plain)
    yield partial("no-payload", "Only the length of the payload is there.", plain[:start])
    yield partial("last-byte", "The last byte of the payload is absent, and its CRC-32.", plain[: end - 1])
    yield partial("no-crc", "The payload is whole, and its CRC-32 is not there.", plain[:end])
    yield partial("no-indices", "A header alone.", plain[: len(container.pack(container.unpack_header(plain), []))])
    yield partial("trailing", "A byte after the last chunk; the picture is whole.", plain + b"\0")
    before = Chunk(b"q", b"a sound chunk")
    flipped = bytearray(with_chunks(plain, before, indices(plain)))
    flipped[-4 - len(payload) // 2] ^= 1
    yield partial("crc", "A bit of the payload is wrong: the chunk does not count.", bytes(flipped))
    image = picture(21, 25, 4, 10)
    colours = encoded(np.ascontiguousarray(image[..., :3]))
    own = indices(colours)
    alpha = Chunk(container.ALPHA, b"\1" + zlib.compress(np.diff(image[..., 3], axis=1, prepend=np.uint8(0)).tobytes()))
    last = with_chunks(colours, own, alpha)
    yield partial("alpha-cut", "Alpha after the indices, cut short: it is 255 everywhere.", last[:-9])
    yield partial("alpha-missing", "No alpha where the header tells some.", last[: -len(alpha.payload) - 6])
    first = with_chunks(colours, alpha, own)
    yield partial("alpha-whole", "Alpha before indices that are cut short.", first[: -len(own.payload) // 2])
    third = with_chunks(colours, before, alpha, own)
    damaged = third.replace(alpha.payload, alpha.payload[:-1] + bytes([alpha.payload[-1] ^ 1]))
    yield partial("alpha-crc", "Damaged alpha: the indices after it do not count either.", damaged, 2)
    tall, _ = _strips()
    one = tall.data.index(b"between the strips") - 2
    yield partial("strips-between", "The file ends between the chunks of two strips.", tall.data[:one])
    yield partial("strips-second", "The payload of the second strip is cut short.", tall.data[:-80])
    damaged = tall.data.replace(b"between", b"betweem")
    yield partial("strips-crc", "A damaged chunk between two strips: the second does not count.", damaged, 4)
    grey = encoded(picture(30, 35, 1, 17), "mnist", quality=90)
    small = indices(grey).payload
    data = grey[: len(grey) - 4 - len(small) // 3]
    yield partial("mnist", "The model for grey images, cut short.", data)
    yield partial("mnist-shrink", "That at 1/16 of its size.", data, 16)


def _cuts(data: bytes) -> dict[int, int]:
    """For each scale a number of bytes, of the payload of an image of one strip, that decides some of its indices."""
    header, payload = lrcodec.probe(data), indices(data).payload
    cuts: dict[int, list[int]] = {}
    whole = entropy.decode([payload], pack(), header, header.height)
    for size in range(len(payload)):
        planes = entropy.decode_cut(payload[:size], len(payload) - size, pack(), header, header.height)
        for scale, plane, full in zip(pack().scales, planes, whole, strict=True):
            if not np.array_equal(plane, full):
                if plane.any():
                    cuts.setdefault(scale.scale, []).append(size)
                break
    return {scale: sizes[len(sizes) // 2] for scale, sizes in cuts.items()}


# ---- damaged files


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def joined(parts: Parts) -> bytes:
    out, sealed = bytearray(), 0
    for part in parts:
        if isinstance(part, int):
            part, sealed = (zlib.crc32(out[sealed:]) ^ part).to_bytes(4, "little"), len(out)
        out += part
    return bytes(out)


def chunk(tag: bytes, payload: bytes, length: bytes | None = None, wrong: int = 0) -> Parts:
    return [tag + (varint(len(payload)) if length is None else length) + payload, wrong]


def damaged() -> Iterator[Damaged]:
    """At least one for each check, and pairs of faults that tell their order."""
    parts = _bad_signatures, _bad_headers, _bad_chunks, _bad_for_the_model, _bad_indices, _bad_alpha, _bad_metadata
    for part in parts:
        yield from part()


GOOD = (9, 12)
"""Height and width of the small grey image that most damaged files are made of."""

UNKNOWN = bytes(container.FINGERPRINT_BYTES)
"""The fingerprint of no model."""


@cache
def small() -> bytes:
    return encoded(picture(*GOOD, 1, 15))


def start(
    version: int = container.VERSION,
    width: bytes = varint(GOOD[1]),
    height: bytes = varint(GOOD[0]),
    flags: int = 0,
    **fields: int | bytes,
) -> Parts:
    """The header of `small`, with other bytes in places. flags: set in the options as well. fields: of the header."""
    header = replace(container.unpack(small())[0], **fields)
    options_model = container.pack(header, [])[6:]
    options = int.from_bytes(options_model[:2], "little") | flags
    body = options.to_bytes(2, "little") + options_model[2:]
    return [container.SIGNATURE + bytes([0x80 | version]) + width + height + body]


def rest(wrong: int = 0) -> Parts:
    """The chunk of indices of `small`."""
    return chunk(*indices(small()), wrong=wrong)


FIRST = chunk(b"q", b"first")
"""A sound chunk, in front of others."""


def _bad_signatures() -> Iterator[Damaged]:
    data = small()
    png = io.BytesIO()
    Image.new("L", (2, 2)).save(png, "PNG")
    for name, what, content in (
        ("empty", "No bytes at all.", b""),
        ("cut-in-signature", "The first two bytes alone.", data[:2]),
        ("signature-alone", "The signature alone, without a version.", data[:3]),
        ("seven-bits", "The highest bit of the version is lost, as in old mail.", data[:3] + b"\1" + data[4:]),
        ("one-byte-late", "A byte in front of the signature.", b"\n" + data),
        ("png", "A PNG file.", png.getvalue()),
        ("text", "A text.", b"not an image\n"),
        ("text-lrq", "A text that begins as the signature.", b"LRQ is no image\n"),
        ("zeros", "Zeros alone.", bytes(64)),
    ):
        yield Damaged(1, name, what, FormatError, [content])


def _bad_headers() -> Iterator[Damaged]:
    data = joined(start())
    for size, what in (
        (4, "the version"),
        (5, "the width"),
        (6, "the height"),
        (7, "one byte of the options"),
        (8, "the options"),
        (11, "three bytes of the model"),
    ):
        yield Damaged(2, f"cut-at-{size:02}", f"The file ends after {what}.", FormatError, [data[:size]])
    for name, what, changed in (
        ("width-not-shortest", "The width has a byte too many.", {"width": b"\x8c\0"}),
        ("height-not-shortest", "The height has a byte too many.", {"height": b"\x89\x80\0"}),
        ("width-six-bytes", "The width has six bytes.", {"width": b"\x8c" + b"\x80" * 4 + b"\1"}),
    ):
        yield Damaged(2, name, what, FormatError, start(**changed) + rest())
    yield Damaged(2, "cut-in-width", "The file ends inside the width.", FormatError, [data[:4] + b"\x8c\x80"])

    yield Damaged(3, "no-chunks", "A header alone.", FormatError, start())
    for at, what in ((3, "version"), (4, "width"), (5, "height"), (7, "options"), (11, "model")):
        flipped = bytearray(small())
        flipped[at] ^= 2
        yield Damaged(3, f"{what}-flipped", f"A bit of the {what} is wrong.", FormatError, [bytes(flipped)])
    for name, what, changed in (
        ("newer-version", "A newer version", {"version": 2}),
        ("reserved-bit", "A reserved bit of the options", {"flags": 1 << 14}),
        ("width-0", "A width of 0", {"width": b"\0"}),
    ):
        bad = start(**changed) + rest(wrong=1)
        yield Damaged(3, f"{name}-crc", f"{what}, and the CRC-32 is wrong.", FormatError, bad)
        cut = [joined(start(**changed) + rest())[:-1]]
        yield Damaged(3, f"{name}-cut", f"{what}, and the first chunk is cut short.", FormatError, cut)

    for version in (0, 2, 127):
        what = f"Version {version}, undamaged."
        yield Damaged(4, f"version-{version}", what, UnsupportedError, start(version=version) + rest())
    for bit in (14, 15):
        what = f"The reserved bit {bit} of the options."
        yield Damaged(4, f"reserved-bit-{bit}", what, UnsupportedError, start(flags=1 << bit) + rest())
    both = start(version=2, width=b"\0") + rest()
    yield Damaged(4, "newer-version-width-0", "A newer version may mean it otherwise.", UnsupportedError, both)
    both = start(version=2) + rest() + rest(wrong=1)
    yield Damaged(4, "newer-version-damaged", "A newer version, whose second chunk is damaged.", UnsupportedError, both)

    for name, what, changed in (
        ("width-0", "A width of 0.", {"width": b"\0"}),
        ("height-0", "A height of 0.", {"height": b"\0"}),
        ("width-65536", "A width of 65,536.", {"width": varint(65536)}),
        ("height-65536", "A height of 65,536.", {"height": varint(65536)}),
        ("width-largest", "The largest number of five bytes as width.", {"width": varint(2**35 - 1)}),
    ):
        yield Damaged(5, name, what, FormatError, start(**changed) + rest())
    bad = start(height=b"\0") + chunk(b"Z", b"") + rest()
    yield Damaged(5, "height-0-critical", "A height of 0, before an unknown critical chunk.", FormatError, bad)


def _bad_chunks() -> Iterator[Damaged]:
    yield from _broken_chunks(3, start())
    yield from _broken_chunks(6, start() + FIRST)
    data = small()
    for name, what, content in (
        ("trailing-zero", "A zero byte after the last chunk.", b"\0"),
        ("trailing-letter", "A letter after the last chunk.", b"q"),
        ("trailing-line", "A line end after the last chunk.", b"\r\n"),
        ("twice", "The whole file twice.", data),
        ("chunk-twice", "The bytes of the chunk twice.", data[len(joined(start())) :]),
    ):
        yield Damaged(6, name, what, FormatError, [data, content])
    damaged = start() + FIRST + rest(wrong=1) + chunk(b"Z", b"")
    yield Damaged(6, "crc-then-critical", "A damaged chunk before an unknown critical one.", FormatError, damaged)
    for name, what, parts in (
        ("critical", "An unknown critical chunk.", chunk(b"Z", b"new") + rest()),
        ("critical-last", "An unknown critical chunk after the indices.", rest() + chunk(b"B", b"")),
        ("critical-alone", "An unknown critical chunk, and no indices.", chunk(b"Z", b"new")),
        ("critical-then-crc", "It comes before a damaged chunk.", chunk(b"Z", b"") + rest(wrong=1)),
    ):
        yield Damaged(6, name, what, UnsupportedError, start() + parts)

    payload = indices(small()).payload
    alpha = chunk(b"A", pack_alpha(np.full(GOOD, 9, np.uint8)))
    for name, what, parts in (
        ("no-indices", "Ancillary chunks alone.", start() + chunk(b"q", b"") + chunk(b"i", payload)),
        ("no-alpha", "No alpha where the header tells some.", start(alpha=1) + rest()),
        ("alpha-too-many", "Alpha where the header tells none.", start() + alpha + rest()),
        ("alpha-twice", "Alpha twice.", start(alpha=1) + alpha + rest() + alpha),
        ("no-indices-model", "No indices, of an unknown model.", start(model=UNKNOWN) + FIRST),
    ):
        yield Damaged(7, name, what, FormatError, parts)
    for tag in (container.ICC_PROFILE, container.EXIF, container.XMP):
        what = f"{container.CONTENTS[tag]} twice."
        twice = chunk(tag, zlib.compress(b"content")) + rest() + chunk(tag, zlib.compress(b"content"))
        yield Damaged(7, f"twice-{tag.decode()}", what, FormatError, start() + twice)


def _broken_chunks(check: int, before: Parts) -> Iterator[Damaged]:
    """The first chunk, or one behind a sound one: what vouches for it is the same, what it vouches for is not."""
    header, chunks = container.unpack(small())
    payload, front = chunks[0].payload, joined(before)
    data, begin = joined(before + rest()), len(front)
    for size, what in (
        (begin + 1, "the tag"),
        (begin + 2, "the length"),
        (begin + 2 + len(payload) // 2, "half of the payload"),
        (len(data) - 4, "the payload, before its CRC-32"),
        (len(data) - 1, "three bytes of the payload's CRC-32"),
    ):
        name = f"cut-{len(data) - size:02}-early"
        yield Damaged(check, name, f"The file ends after {what}.", FormatError, [data[:size]])
    other = replace(header, band=header.band - 1)
    of_other = joined([container.pack(other, [])] + before[1:] + rest())[begin:]
    for name, what, parts in (
        ("crc", "A bit of the chunk's CRC-32 is wrong.", rest(wrong=0x10000000)),
        ("tag-flipped", "A tag that damage made ancillary.", [b"i" + data[begin + 1 :]]),
        ("digit", "A digit as tag, with the right CRC-32.", chunk(b"1", b"") + rest()),
        ("no-ascii", "A tag that is a letter in Latin-1 alone.", chunk(b"\xe9", b"") + rest()),
        ("length-not-shortest", "A length with a byte too many.", chunk(b"q", b"abc", b"\x83\0") + rest()),
        ("length-six-bytes", "A length of six bytes.", chunk(b"q", b"abc", b"\x83" + b"\x80" * 4 + b"\1") + rest()),
        ("length-largest", "A payload of 2^35 - 1 bytes that is not there.", chunk(b"q", b"", varint(2**35 - 1))),
        ("ancillary-crc", "A wrong CRC-32 of a chunk that a reader skips.", chunk(b"q", b"", wrong=1) + rest()),
        ("critical-crc", "Damage must not pass for a critical chunk.", chunk(b"Z", b"", wrong=1) + rest()),
        ("of-another-file", "The chunk of a file with another rate band.", [of_other]),
    ):
        yield Damaged(check, name, what, FormatError, before + parts)


def _bad_for_the_model() -> Iterator[Damaged]:
    over, under = varint(container.MAX_PIXELS // 2**14 + 1), varint(2**14)
    large = {"width": over, "height": under}
    what = "A column of pixels more than lrq's limit."
    yield Damaged(8, "too-many-pixels", what, LimitError, start(**large) + rest())
    largest = {"width": varint(65535), "height": varint(65535)}
    yield Damaged(8, "largest", "The largest sides that the format has.", LimitError, start(**largest) + rest())
    both = start(**large, model=UNKNOWN) + rest()
    yield Damaged(8, "too-many-pixels-model", "Too many pixels, of an unknown model.", LimitError, both)

    assert UNKNOWN not in [entry.fingerprint for entry in store.packs()]
    yield Damaged(9, "model", "A model that is nowhere.", UnsupportedError, start(model=UNKNOWN) + rest())
    close = bytes([*pack().fingerprint[:-1], pack().fingerprint[-1] ^ 1])
    what = "A model of which one bit differs: no other may be tried."
    yield Damaged(9, "model-one-bit", what, UnsupportedError, start(model=close) + rest())
    both = start(model=UNKNOWN, band=15) + rest()
    yield Damaged(9, "model-band", "An unknown model, in any rate band.", UnsupportedError, both)

    for band in (pack().bands, 15):
        what = f"Rate band {band} of {pack().bands}, counted from 0."
        yield Damaged(10, f"band-{band}", what, FormatError, start(band=band) + rest())
    if pack().rank < 4:
        what = f"Rank 4 of a model that has {pack().rank}."
        yield Damaged(10, "rank", what, FormatError, start(rank=4) + rest())
    model = pack("mnist").fingerprint
    colour = start(model=model, colour=container.RGB) + rest()
    yield Damaged(10, "colour", "RGB, of a model that knows grey alone.", FormatError, colour)

    what = "Two chunks of indices, of an image of one strip."
    yield Damaged(11, "strip-too-many", what, FormatError, start() + rest() + rest())
    tall = {"width": varint(1), "height": varint(65535)}
    what = "One chunk of indices, of an image of several strips."
    yield Damaged(11, "strip-too-few", what, FormatError, start(**tall) + rest())


def _bad_indices() -> Iterator[Damaged]:
    first = start() + chunk(b"I", b"\xff" * 8)
    yield Damaged(12, "quantile", "The first quantile is 2^24.", FormatError, first)
    later = start(width=varint(120), height=varint(90), iterations=32) + chunk(b"I", _late_quantile())
    yield Damaged(12, "quantile-later", "A quantile is 2^24 or more, after other symbols.", FormatError, later)
    header = head(*GOOD)
    deep = drawn(header, planes_of(header, lambda k, i, shape: np.ones(shape, np.int64)))
    capped = container.pack(replace(header, iterations=1), [indices(deep)])
    yield Damaged(12, "depth", "Depths above the header's cap.", FormatError, [capped])
    span = pack().scales[0].span
    tall = head(grid.STRIP_PIXELS // span + 1, 1)
    strips = container.pack(tall, [Chunk(container.INDICES, b""), Chunk(container.INDICES, b"\xff" * 8)])
    yield Damaged(12, "second-strip", "The first quantile of the second strip is 2^24.", FormatError, [strips])


def _late_quantile() -> bytes:
    """A payload, found by trying, in which a quantile is 2^24 or more: by chance one of some ten thousand is."""
    header = replace(container.unpack(small())[0], width=120, height=90, iterations=32)
    for seed in range(100_000):
        payload = np.random.default_rng(seed).bytes(400)
        try:
            entropy.decode([payload], pack(), header, header.height)
        except FormatError:
            return payload
    raise AssertionError("no payload was found")


def _bad_alpha() -> Iterator[Damaged]:
    alpha = np.full(GOOD, 9, np.uint8).tobytes()
    stream = zlib.compress(alpha)
    with_dictionary = zlib.compressobj(zdict=b"dictionary")
    for name, what, payload in (
        ("no-filter", "Alpha without bytes.", b""),
        ("filter-3", "Alpha of filter 3.", b"\3" + stream),
        ("filter-alone", "Alpha without a stream.", b"\0"),
        ("not-zlib", "Alpha that is no zlib stream.", b"\0" + alpha),
        ("raw", "A deflate stream without zlib's header.", b"\0" + stream[2:-4]),
        ("short", "A pixel too few.", b"\0" + zlib.compress(alpha[1:])),
        ("long", "A pixel too many.", b"\0" + zlib.compress(alpha + b"\0")),
        ("bomb", "A million pixels too many.", b"\0" + zlib.compress(bytes(10**6))),
        ("cut", "The stream ends before its checksum.", b"\0" + stream[:-4]),
        ("cut-early", "The stream ends early.", b"\0" + stream[:5]),
        ("checksum", "A wrong Adler-32.", b"\0" + stream[:-1] + bytes([stream[-1] ^ 1])),
        ("trailing", "A byte after the stream.", b"\0" + stream + b"\0"),
        ("dictionary", "A preset dictionary.", b"\0" + with_dictionary.compress(alpha) + with_dictionary.flush()),
    ):
        yield Damaged(12, f"alpha-{name}", what, FormatError, start(alpha=1) + chunk(b"A", payload) + rest())


def _bad_metadata() -> Iterator[Damaged]:
    stream = zlib.compress(b"content" * 9)
    for tag, name, what, payload in (
        (b"c", "empty", "An ICC profile without bytes.", b""),
        (b"e", "not-zlib", "EXIF that is no zlib stream.", METADATA.exif or b""),
        (b"x", "not-zlib", "XMP that is no zlib stream.", METADATA.xmp or b""),
        (b"c", "cut", "An ICC profile whose stream ends early.", stream[:-6]),
        (b"e", "checksum", "EXIF with a wrong Adler-32.", stream[:-1] + bytes([stream[-1] ^ 1])),
        (b"x", "trailing", "A byte after the stream of XMP.", stream + b"\0"),
    ):
        parts = start() + chunk(tag, payload) + rest()
        yield Damaged(12, f"{tag.decode()}-{name}", what, FormatError, parts, metadata=True)
    bomb = zlib.compress(bytes(MAX_METADATA + 1), 9)
    parts = start() + chunk(b"c", bomb) + rest()
    yield Damaged(12, "c-bomb", "An ICC profile of a byte too many.", LimitError, parts, metadata=True)
    bomb = zlib.compress(bytes(MAX_METADATA + 1000), 9)
    parts = start() + rest() + chunk(b"x", bomb[:-4] + b"junk")
    yield Damaged(
        12, "x-bomb", "XMP of a thousand bytes too many, with a wrong Adler-32.", LimitError, parts, metadata=True
    )


if __name__ == "__main__":
    main()
