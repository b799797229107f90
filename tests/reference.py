"""A reference decoder written from SPEC.md: integers only, no constriction, no ONNX Runtime, no float."""

import hashlib
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

STRIP_PIXELS = 2**20
TAPS = np.array([[-3, 29, 111, -9, 0], [0, -9, 111, 29, -3]], np.int64)
EIGHTHS = [16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842]
MATRIX = np.array([[591, 724, 418], [591, 0, -836], [591, -724, 418]], np.int64)


def decode(data: bytes, t: dict, shrink: int = 1, partial: bool = False) -> np.ndarray:
    """Pixels of a file; t: the arrays of its model's tables.npz. partial: also of a file that is not complete."""
    file = container(data, partial)
    head = file.head
    planes = indices(file, t, partial)
    out = reduced(planes, t, head, shrink) if shrink > 1 else pixels(planes, t, head)
    if not head.alpha:
        return out
    if file.alpha is None:
        return np.dstack([out, np.full(out.shape[:2], 255, np.uint8)])
    return np.dstack([out, reduced_alpha(alpha(file.alpha, head), shrink)])


def complete(data: bytes, t: dict) -> bool:
    """Whether a file that `decode` draws with `partial` needs that."""
    file = container(data, True)
    alpha_is_there = file.alpha is not None or not file.head.alpha
    return not file.damaged and alpha_is_there and len(file.payloads) == len(strip_heights(t, file.head))


class NotValid(ValueError):
    """A reader must refuse the file."""


class CutShort(NotValid):
    """It ends too early."""


def need(condition: bool) -> None:
    if not condition:
        raise NotValid


class Header(NamedTuple):
    width: int
    height: int
    colour: int
    smoothing: int
    rank: int
    iterations: int
    band: int
    model: bytes
    alpha: int


class File(NamedTuple):
    """payloads: of the chunks of indices. absent: how many bytes the last of them lacks. damaged: cut or not valid."""

    head: Header
    payloads: list[bytes]
    alpha: bytes | None
    absent: int
    damaged: bool


def container(data: bytes, partial: bool = False) -> File:
    """SPEC.md, "Container" and "Incomplete files"."""
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        if at + count > len(data):
            raise CutShort
        at += count
        return data[at - count : at]

    def varint() -> int:
        value, shift, byte = 0, 0, 128
        while byte & 128:
            need(shift < 35)
            (byte,) = take(1)
            value |= (byte & 127) << shift
            shift += 7
        need(byte > 0 or shift == 7)
        return value

    need(take(4) == b"LRQ\x81")
    width, height = varint(), varint()
    options = int.from_bytes(take(2), "little")
    model = take(4)
    sealed, vouched = 0, False
    need(1 <= width <= 65535 and 1 <= height <= 65535 and options < 2**14)
    payloads, others, absent, damaged = [], [], 0, False
    while at < len(data) and not damaged:
        try:
            tag = take(1)
            need(tag.isalpha())
            length = varint()
            if partial and tag == b"I" and at + length + 4 > len(data):
                payloads.append(data[at : at + length])
                absent, damaged = length - len(payloads[-1]), True
                continue
            payload = take(length)
            crc = zlib.crc32(data[sealed:at])
            sealed = at
            need(int.from_bytes(take(4), "little") == crc)
            vouched = True
        except NotValid as error:
            if not partial or not (vouched or isinstance(error, CutShort)):
                raise
            damaged = True
            continue
        if tag == b"I":
            payloads.append(payload)
        else:
            need(tag.islower() or tag == b"A")
            others.append((tag, payload))
    bits = options & 1, options >> 1 & 1, 1 + (options >> 2 & 3), 1 + (options >> 4 & 31), options >> 9 & 15
    has_alpha = options >> 13
    tags = [tag for tag, _ in others]
    need(tags.count(b"A") <= has_alpha and all(tags.count(tag) < 2 for tag in (b"c", b"e", b"x")))
    need(partial or payloads and tags.count(b"A") == has_alpha)
    head = Header(width, height, *bits, model, has_alpha)
    return File(head, payloads, dict(others).get(b"A"), absent, damaged)


def alpha(payload: bytes, head: Header) -> np.ndarray:
    """SPEC.md, "Alpha": uint8 (height, width), pixel by pixel."""
    need(payload[:1] in (b"\0", b"\1", b"\2"))
    stream = zlib.decompressobj()
    coded = stream.decompress(payload[1:])
    need(stream.eof and not stream.unused_data and len(coded) == head.width * head.height)
    out = [[0] * head.width for _ in range(head.height)]
    for y in range(head.height):
        for x in range(head.width):
            left, up = out[y][x - 1] if x else 0, out[y - 1][x] if y else 0
            out[y][x] = (coded[y * head.width + x] + (0, left, up)[payload[0]]) % 256
    return np.array(out, np.uint8)


class RangeDecoder:
    """SPEC.md, "Range coder"."""

    def __init__(self, payload: bytes):
        payload += bytes(-len(payload) % 4)
        self.words = [int.from_bytes(payload[i : i + 4], "big") for i in range(0, len(payload), 4)][::-1]
        self.lower, self.range = 0, 2**64 - 1
        self.point = self.next_word() << 32 | self.next_word()

    def next_word(self) -> int:
        return self.words.pop() if self.words else 0

    def symbol(self, freq: list[int]) -> int:
        scale = self.range >> 24
        quantile = ((self.point - self.lower) % 2**64) // scale
        need(quantile < 2**24)
        symbol, left = 0, 0
        while left + freq[symbol] <= quantile:
            left += freq[symbol]
            symbol += 1
        self.lower = (self.lower + scale * left) % 2**64
        self.range = scale * freq[symbol]
        if self.range < 2**32:
            self.lower = self.lower << 32 & 2**64 - 1
            self.range <<= 32
            self.point = self.point << 32 & 2**64 - 1 | self.next_word()
        return symbol


class CutDecoder:
    """SPEC.md, "Cut payloads": refuses the first symbol that is not known."""

    def __init__(self, payload: bytes, absent: int):
        self.fillings = [RangeDecoder(payload + fill * min(absent, 16)) for fill in (b"\x00", b"\xff")]

    def symbol(self, freq: list[int]) -> int:
        low, high = (decoder.symbol(freq) for decoder in self.fillings)
        need(low == high)
        return low


def frequencies(costs) -> list[int]:
    weights = [max(1, EIGHTHS[c % 8] >> c // 8) for c in map(int, costs)]
    n, total = len(weights), sum(weights)
    freq = [1 + w * (2**24 - n) // total for w in weights]
    freq[freq.index(max(freq))] += 2**24 - sum(freq)
    return freq


def starts(counts: list[int], t: dict) -> list[int]:
    """For each iteration of a scale, which has so many shapes, the number of its first shape in the scale."""
    return [0 if t["shared"] else sum(counts[:i]) for i in range(len(counts))]


def codeword(u: np.ndarray, v: np.ndarray, symmetry: int) -> tuple[np.ndarray, np.ndarray]:
    """SPEC.md, "Symmetries": left and right of a shape (R, p) and (R, F * p)."""
    p = u.shape[1]
    sign, mirror, flip, transpose = 1 - 2 * (symmetry % 2), symmetry // 2 % 2, symmetry // 4 % 2, symmetry // 8
    row = [p - 1 - a if flip else a for a in range(p)]
    column = [b // p * p + (p - 1 - b % p if mirror else b % p) for b in range(v.shape[1])]
    return sign * (v if transpose else u)[:, row].astype(np.int64), (u if transpose else v)[:, column].astype(np.int64)


def codewords(u: np.ndarray, v: np.ndarray, symmetries: int) -> tuple[np.ndarray, np.ndarray]:
    """`codeword` of shapes (n, R, p) and (n, R, F * p) in all symmetries, in the order of their indices."""
    pairs = [codeword(u[n], v[n], symmetry) for n in range(len(u)) for symmetry in range(symmetries)]
    left, right = (np.stack(factors) for factors in zip(*pairs, strict=True))
    return left, right


def strip_heights(t: dict, head) -> list[int]:
    """SPEC.md, "Strips": their rows of pixels."""
    s, p, _ = t["scales"][0].tolist()
    span = s * p
    rows = max(1, STRIP_PIXELS // (span * span * -(-head.width // span)))
    return [min(rows * span, head.height - top) for top in range(0, head.height, rows * span)]


def indices(file: File, t: dict, partial: bool = False) -> list[np.ndarray]:
    """Index planes of an image, from the payloads of its strips."""
    heights, payloads = strip_heights(t, file.head), file.payloads
    need(len(payloads) == len(heights) or partial and len(payloads) < len(heights))
    lack = [0] * (len(payloads) - 1) + [file.absent]
    strips = [strip(*one, t, file.head) for one in zip(payloads, lack, heights, strict=False)]
    strips += [empty_planes(height, t, file.head) for height in heights[len(payloads) :]]
    return [np.concatenate(planes) for planes in zip(*strips, strict=True)]


def empty_planes(height: int, t: dict, head: Header) -> list[np.ndarray]:
    """Index planes (rows, columns, D) of a strip of depth 0."""
    spans = [s * p for s, p, _ in t["scales"].tolist()]
    depths = [len(t[f"shapes{s}"]) for s in t["scales"][:, 0]]
    return [
        np.zeros((-(-height // span), -(-head.width // span), depth), np.int64)
        for span, depth in zip(spans, depths, strict=True)
    ]


def strip(payload: bytes, absent: int, height: int, t: dict, head: Header) -> list[np.ndarray]:
    """Index planes (rows, columns, D) of a strip whose payload lacks so many bytes: SPEC.md, "Cut payloads"."""
    planes = empty_planes(height, t, head)
    coder = CutDecoder(payload, absent) if absent else RangeDecoder(payload)
    plane, i = planes[0], 0
    try:
        for plane, i in decode_units(coder, planes, t, head):  # noqa: B007 - the last unit that was begun
            pass
    except NotValid:
        if not absent:
            raise
        plane[..., i:] = 0
    return planes


def decode_units(
    coder: "RangeDecoder | CutDecoder", planes: list[np.ndarray], t: dict, head: Header
) -> Iterator[tuple[np.ndarray, int]]:
    """SPEC.md, "Entropy coding": fills index planes. Before each unit it tells its plane and iteration."""
    band, parents = head.band, None
    for (s, p, symmetries), plane in zip(t["scales"].tolist(), planes, strict=True):
        counts, span = t[f"shapes{s}"].tolist(), s * p
        first = starts(counts, t)
        rows, cols, _ = plane.shape
        patches = [(y, x) for y in range(rows) for x in range(cols)]
        depth, total = np.zeros((rows, cols), int), np.zeros((rows, cols), int)
        yield plane, 0

        def places(y, x, rows, cols):
            return [
                (a, b) for a, b in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)) if 0 <= a < rows and 0 <= b < cols
            ]

        def around(grid, y, x):
            return sum(int(grid[at]) for at in places(y, x, *grid.shape))

        def cell(edges, features):
            return sum(8**f * int((edges[f] < min(int(v), 255)).sum()) for f, v in enumerate(features))

        def traits(y, x, i, plane=plane, s=s, first=first, symmetries=symmetries):
            """Energy level, orientation and frequency level of an index; what stands for them where there is none."""
            if i < 0 or plane[y, x, i] == 0:
                return 0, 4, 0
            shape, symmetry = divmod(int(plane[y, x, i]) - 1, symmetries)
            energy, orientation, frequency = (
                int(t[f"{name}{s}"][first[i] + shape]) for name in ("energy", "orientation", "frequency")
            )
            return energy, 8 - orientation if symmetry // 8 else orientation, frequency

        above = {(y, x): (y, x, 4, 0) for y, x in patches}
        if parents is not None:
            for y, x in patches:
                at = y * span // parents["span"], x * span // parents["span"]
                _, *of_parent = parents["traits"](*at, 0)
                above[y, x] = int(parents["total"][at]), around(parents["total"], *at), *of_parent
        for phase in (0, 1):
            group: dict[int, list] = {}
            for y, x in patches:
                if (y + x) % 2 == phase:
                    beside = around(depth, y, x) if phase else 0
                    features = beside, *above[y, x][:2]
                    label = t[f"depth_classes{s}"][phase, cell(t[f"depth_edges{s}"][phase], features)]
                    group.setdefault(int(label), []).append((y, x))
            for label, members in sorted(group.items()):
                freq = frequencies(t[f"depths{s}"][band, phase, label])
                for y, x in members:
                    depth[y, x] = coder.symbol(freq)
        need(depth.max() <= head.iterations)
        for g in range(len(counts) + 1):
            i = max(g - 1, 0)
            yield plane, i
            clusters, members_of = t[f"clusters{s}_{i}"][band], t[f"members{s}_{i}"][band]
            b = members_of.shape[1]
            group, shapes = {}, {}
            for y, x in patches:
                if depth[y, x] > i and (i or (y + x) % 2 == g):
                    total_above, totals_around, *of_parent = above[y, x]
                    beside = [traits(*at, 0) for at in places(y, x, rows, cols)]
                    every = (
                        *(depth[y, x] - i, around(depth, y, x), total_above, totals_around),
                        *traits(y, x, i - 1),
                        *(16 + sum(orientation - 4 for _, orientation, _ in beside), sum(f for *_, f in beside)),
                        *of_parent,
                        *(y, x),
                    )
                    features = [every[number] for number in t[f"features{s}"][g]]
                    group.setdefault(int(t[f"classes{s}"][g, cell(t[f"edges{s}"][g], features)]), []).append((y, x))
            for label, members in sorted(group.items()):
                freq = frequencies(clusters[label].astype(int).repeat(b) + members_of.reshape(counts[i]))
                for at in members:
                    shapes[at] = coder.symbol(freq)
            for at in sorted(shapes):
                row = first[i] + shapes[at]
                symmetry = coder.symbol(frequencies(t[f"symmetries{s}"][row])) if symmetries > 1 else 0
                plane[at][i] = shapes[at] * symmetries + symmetry + 1
                total[at] += t[f"energy{s}"][row]
        parents = {"traits": traits, "total": total, "span": span}


def planes_of(planes: list[np.ndarray], t: dict, head) -> list[np.ndarray]:
    """SPEC.md, "Planes": of all scales that have index planes, coarse to fine, (channels, rows, columns)."""
    channels = 3 if head.colour else 1
    scale_planes: list[np.ndarray] = []
    for (s, p, symmetries), plane in zip(t["scales"].tolist(), planes, strict=False):
        c = 1 if t["luma_only"] and s == 1 else channels
        rows, cols, _ = plane.shape
        first = starts(t[f"shapes{s}"].tolist(), t)
        drawn = np.zeros((rows, cols, p, c * p), np.int64)
        for y, x, i in np.argwhere(plane).tolist():
            shape, symmetry = divmod(int(plane[y, x, i]) - 1, symmetries)
            u, v = t[f"u{s}"][first[i] + shape, : head.rank], t[f"v{s}"][first[i] + shape, : head.rank, : c * p]
            left, right = codeword(u, v, symmetry)
            drawn[y, x] += left.T @ right
        drawn = drawn.reshape(rows, cols, 2, p // 2, c, 2, p // 2)  # phase, place in y; channel; phase, place in x
        drawn = drawn.transpose(4, 0, 3, 2, 1, 6, 5).reshape(c, rows * p, cols * p)
        if scale_planes:
            coarser = scale_planes[-1][:c]
            predicted = enlarge(coarser) * 4 + change(coarser, *prediction_weights(t, s, c))  # both over 2^9
            drawn += predicted[:, : rows * p, : cols * p]
        scale_planes.append(np.clip(drawn + 256 >> 9, -2047, 2047))
    return scale_planes


def reduced(planes: list[np.ndarray], t: dict, head, shrink: int) -> np.ndarray:
    """SPEC.md, "Reduced pixels": uint8 (reduced height, reduced width[, 3])."""
    scales = t["scales"][:, 0].tolist()
    scale = min(shrink, scales[0])
    plane = planes_of(planes, t, head)[scales.index(scale)]
    height, width = -(-head.height // shrink), -(-head.width // shrink)
    return coloured(means(plane, shrink // scale, height, width))


def reduced_alpha(alpha: np.ndarray, shrink: int) -> np.ndarray:
    """SPEC.md, "Reduced pixels": uint8, of (height, width)."""
    height, width = (-(-side // shrink) for side in alpha.shape)
    return means(alpha[None].astype(np.int64), shrink, height, width)[0].astype(np.uint8)


def means(planes: np.ndarray, n: int, height: int, width: int) -> np.ndarray:
    """Of n x n numbers each, (C, height, width), number by number; edges are repeated."""
    count, rows, columns = planes.shape
    out = np.zeros((count, height, width), np.int64)
    for c, y, x in np.ndindex(out.shape):
        covered = [
            int(planes[c, min(n * y + j, rows - 1), min(n * x + k, columns - 1)]) for j in range(n) for k in range(n)
        ]
        out[c, y, x] = (sum(covered) + n * n // 2) // (n * n)
    return out


def coloured(value: np.ndarray) -> np.ndarray:
    """SPEC.md, "Pixels": uint8 (rows, columns[, 3]) of values (C, rows, columns)."""
    channels = len(value)
    level = np.einsum("jc,cyx->jyx", MATRIX[:channels, :channels], value)
    out = np.clip(level + (257 << 12) >> 13, 0, 255).astype(np.uint8)
    return out.transpose(1, 2, 0) if channels == 3 else out[0]


def pixels(planes: list[np.ndarray], t: dict, head) -> np.ndarray:
    """SPEC.md, "Reconstruction": uint8 (height, width[, 3])."""
    channels = 3 if head.colour else 1
    scale_planes = planes_of(planes, t, head)
    fine, h, w = scale_planes[-1].shape
    x = scale_planes[-1].reshape(fine, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3).reshape(4 * fine, h // 2, w // 2)
    if fine < channels:
        x = np.concatenate([x, scale_planes[-2][fine:, : h // 2, : w // 2]])
    if head.smoothing:
        x = smoothing(x, *weights(t, channels))
    value = x[: 4 * fine].reshape(fine, 2, 2, h // 2, w // 2).transpose(0, 3, 1, 4, 2).reshape(fine, h, w)
    value = np.concatenate([value, interpolate(x[4 * fine :])])
    return coloured(value[:, : head.height, : head.width])


def enlarge(x: np.ndarray) -> np.ndarray:
    """Twice the size; the result is over 2^7 of the input's unit."""
    c, h, w = x.shape
    padded = np.pad(x, [(0, 0), (2, 2), (2, 2)], mode="edge")
    down = np.zeros((c, 2 * h, w + 4), np.int64)
    for phase in (0, 1):
        down[:, phase::2] = sum(TAPS[phase, k] * padded[:, k : k + h] for k in range(5)) + 64 >> 7
    out = np.zeros((c, 2 * h, 2 * w), np.int64)
    for phase in (0, 1):
        out[:, :, phase::2] = sum(TAPS[phase, k] * down[:, :, k : k + w] for k in range(5))
    return out


def change(
    x: np.ndarray, first: np.ndarray, first_bias: np.ndarray, second: np.ndarray, second_bias: np.ndarray
) -> np.ndarray:
    """SPEC.md, "Prediction": what is added at twice the size, over 2^9 of the input's unit."""
    c, h, w = x.shape
    out = np.zeros((c, 2 * h, 2 * w), np.int64)
    if len(first):
        sums = convolve(hidden(x, first, first_bias), second) + (second_bias[:, None, None] << 9)
        for channel, q, r in np.ndindex(c, 2, 2):
            out[channel, q::2, r::2] = sums[4 * channel + 2 * q + r]
    return out


def prediction_weights(t: dict, s: int, channels: int) -> tuple[np.ndarray, ...]:
    """The weights and biases of the prediction of scale s, for so many of its channels."""
    names = "first", "first_bias", "second", "second_bias"
    first, first_bias, second, second_bias = (t[f"{name}{s}"].astype(np.int64) for name in names)
    return first[:, :channels], first_bias, second[: 4 * channels], second_bias[: 4 * channels]


def interpolate(x: np.ndarray) -> np.ndarray:
    """SPEC.md, "Chroma": twice the size."""
    c, h, w = x.shape
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1)], mode="edge")
    out = np.zeros((c, 2 * h, 2 * w), np.int64)
    for q in (0, 1):
        for r in (0, 1):
            rows, columns = slice(2 * q, 2 * q + h), slice(2 * r, 2 * r + w)
            beside = 3 * padded[:, rows, 1:-1] + 3 * padded[:, 1:-1, columns] + padded[:, rows, columns]
            out[:, q::2, r::2] = 9 * x + beside + 8 >> 4
    return out


def weights(t: dict, channels: int) -> tuple[np.ndarray, ...]:
    """w1, b1, w2 and b2 for images of these channels."""
    w1, b1, w2, b2 = (t[f"smooth_{name}"].astype(np.int64) for name in ("w1", "b1", "w2", "b2"))
    if channels == 1 and t["channels"] == 3:
        w1, w2, b2 = w1[:, :4], w2[:4], b2[:4]
    return w1, b1, w2, b2


def smoothing(x: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray) -> np.ndarray:
    """SPEC.md, "Smoothing"."""
    return np.clip((x + b2[:, None, None] << 9) + convolve(hidden(x, w1, b1), w2) + 256 >> 9, -2047, 2047)


def hidden(x: np.ndarray, weights: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """The first convolution of smoothing and of prediction."""
    return np.clip(convolve(x, weights) + (biases[:, None, None] << 9) + 256 >> 9, 0, 2047)


def convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """3 x 3 with a border of zeros."""
    h, w = x.shape[1:]
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1)])
    return sum(
        np.einsum("oi,ihw->ohw", kernel[:, :, dy, dx], padded[:, dy : dy + h, dx : dx + w])
        for dy in range(3)
        for dx in range(3)
    )


MODEL_ARRAYS = (
    *("scales:i4:2", "channels:i4:0", "shared:i4:0", "luma_only:i4:0", "bands:i4:0"),
    *("smooth_w1:i4:4", "smooth_b1:i4:1", "smooth_w2:i4:4", "smooth_b2:i4:1"),
)
PREDICTION = ("first:i4:4", "first_bias:i4:1", "second:i4:4", "second_bias:i4:1")
OF_SCALE = (
    *("shapes:i4:1", *PREDICTION, "u:i1:3", "v:i2:3"),
    *("energy:u1:1", "orientation:u1:1", "frequency:u1:1", "symmetries:u1:2"),
    *("depth_edges:u1:3", "depth_classes:u1:2", "depths:u1:4", "features:u1:2", "edges:u1:3", "classes:u1:2"),
)
OF_ITERATION = ("clusters:u1:3", "members:u1:3")
"""Of arrays their names, dtypes and numbers of axes, in the order of a model file."""


def model_file(data: bytes) -> tuple[bytes, dict[str, np.ndarray]]:
    """SPEC.md, "Model file": the fingerprint and the arrays by their names in tables.npz."""
    assert data[:4] == b"LRM\x81"
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    t: dict[str, np.ndarray] = {}
    at = 8

    def take(arrays: tuple[str, ...], suffix: str) -> None:
        nonlocal at
        for name, dtype, axes in (array.split(":") for array in arrays):
            shape = np.frombuffer(data, "<u4", int(axes), at).tolist()
            at += 4 * len(shape)
            count = int(np.prod(shape))
            t[name + suffix] = np.frombuffer(data, "<" + dtype, count, at).reshape(shape)
            at += t[name + suffix].nbytes
            assert not any(data[at : at + -at % 4])
            at += -at % 4

    take(MODEL_ARRAYS, "")
    for number, s in enumerate(t["scales"][:, 0].tolist()):
        take(tuple(array for array in OF_SCALE if number or array not in PREDICTION), str(s))
        for i in range(len(t[f"shapes{s}"])):
            take(OF_ITERATION, f"{s}_{i}")
    assert at == len(data) - 32
    return data[4:8], t
