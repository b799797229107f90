"""A reference decoder written from SPEC.md: integers only, no constriction, no ONNX Runtime, no float."""

import zlib
from typing import NamedTuple

import numpy as np

STRIP_PIXELS = 2**20
TAPS = np.array([[-3, 29, 111, -9, 0], [0, -9, 111, 29, -3]], np.int64)
EIGHTHS = [16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842]
MATRIX = np.array([[591, 724, 418], [591, 0, -836], [591, -724, 418]], np.int64)


def decode(data: bytes, t: dict) -> np.ndarray:
    """Pixels of a file; t: the arrays of its model's tables.npz."""
    head, payloads, alpha_payload = container(data)
    out = pixels(indices(payloads, t, head), t, head)
    return np.dstack([out, alpha(alpha_payload, head)]) if head.alpha else out


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


def container(data: bytes) -> tuple[Header, list[bytes], bytes | None]:
    """SPEC.md, "Container": the header, the payloads of the chunks of indices, and that of the chunk of alpha."""
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        assert at <= len(data)
        return data[at - count : at]

    def varint() -> int:
        value, shift, byte = 0, 0, 128
        while byte & 128:
            (byte,) = take(1)
            value |= (byte & 127) << shift
            shift += 7
        assert shift <= 35 and (byte or shift == 7)
        return value

    def check(start: int) -> None:
        crc = zlib.crc32(data[start:at])
        assert int.from_bytes(take(4), "little") == crc

    assert take(5) == b"\x8cLRQ\x01"
    width, height = varint(), varint()
    options = int.from_bytes(take(2), "little")
    model = take(8)
    check(0)
    assert 1 <= width <= 65535 and 1 <= height <= 65535 and options < 2**14
    payloads, others = [], []
    while at < len(data):
        start = at - 4
        tag = take(1)
        payload = take(varint())
        check(start)
        if tag == b"I":
            payloads.append(payload)
        else:
            assert tag.islower() or tag == b"A"
            others.append((tag, payload))
    bits = options & 1, options >> 1 & 1, 1 + (options >> 2 & 3), 1 + (options >> 4 & 31), options >> 9 & 15
    has_alpha = options >> 13
    tags = [tag for tag, _ in others]
    assert payloads and tags.count(b"A") == has_alpha and all(tags.count(tag) < 2 for tag in (b"c", b"e", b"x"))
    return Header(width, height, *bits, model, has_alpha), payloads, dict(others).get(b"A")


def alpha(payload: bytes, head: Header) -> np.ndarray:
    """SPEC.md, "Alpha": uint8 (height, width), pixel by pixel."""
    assert payload[0] < 3
    stream = zlib.decompressobj()
    coded = stream.decompress(payload[1:])
    assert stream.eof and not stream.unused_data and len(coded) == head.width * head.height
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
        if quantile >= 2**24:
            raise ValueError("not valid")
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


def frequencies(costs) -> list[int]:
    weights = [max(1, EIGHTHS[c % 8] >> c // 8) for c in map(int, costs)]
    n, total = len(weights), sum(weights)
    freq = [1 + w * (2**24 - n) // total for w in weights]
    freq[freq.index(max(freq))] += 2**24 - sum(freq)
    return freq


def starts(codewords: list[int], t: dict) -> list[int]:
    """For each iteration of a scale the number of its first codeword."""
    return [0 if t["shared"] else sum(codewords[:i]) for i in range(len(codewords))]


def strip_heights(t: dict, head) -> list[int]:
    """SPEC.md, "Strips": their rows of pixels."""
    s, p = t["scales"][0].tolist()
    span = s * p
    rows = max(1, STRIP_PIXELS // (span * span * -(-head.width // span)))
    return [min(rows * span, head.height - top) for top in range(0, head.height, rows * span)]


def indices(payloads: list[bytes], t: dict, head) -> list[np.ndarray]:
    """Index planes of an image, from the payloads of its strips."""
    heights = strip_heights(t, head)
    assert len(payloads) == len(heights)
    strips = [strip(payload, height, t, head) for payload, height in zip(payloads, heights, strict=True)]
    return [np.concatenate(planes) for planes in zip(*strips, strict=True)]


def strip(payload: bytes, height: int, t: dict, head) -> list[np.ndarray]:
    """SPEC.md, "Entropy coding": index planes (rows, columns, D) of a strip."""
    coder, band = RangeDecoder(payload), head.band
    planes: list[np.ndarray] = []
    parents = parent_span = None
    for s, p in t["scales"].tolist():
        ks, span = t[f"codewords{s}"].tolist(), s * p
        rows, cols = -(-height // span), -(-head.width // span)
        patches = [(y, x) for y in range(rows) for x in range(cols)]
        plane = np.zeros((rows, cols, len(ks)), np.int64)
        depth, total = np.zeros((rows, cols), int), np.zeros((rows, cols), int)

        def around(grid, y, x):
            places = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            return sum(int(grid[a, b]) for a, b in places if 0 <= a < grid.shape[0] and 0 <= b < grid.shape[1])

        def cell(edges, features):
            return sum(8**f * int((edges[f] < min(int(v), 255)).sum()) for f, v in enumerate(features))

        above = {(y, x): (y, x) for y, x in patches}
        if parents is not None:
            for y, x in patches:
                at = y * span // parent_span, x * span // parent_span
                above[y, x] = parents[at], around(parents, *at)
        for phase in (0, 1):
            group: dict[int, list] = {}
            for y, x in patches:
                if (y + x) % 2 == phase:
                    beside = around(depth, y, x) if phase else 0
                    features = beside, *above[y, x]
                    label = t[f"depth_classes{s}"][phase, cell(t[f"depth_edges{s}"][phase], features)]
                    group.setdefault(int(label), []).append((y, x))
            for label, members in sorted(group.items()):
                freq = frequencies(t[f"depths{s}"][band, phase, label])
                for y, x in members:
                    depth[y, x] = coder.symbol(freq)
        if depth.max() > head.iterations:
            raise ValueError("not valid")
        for i, k in enumerate(ks):
            first, group = starts(ks, t)[i], {}
            clusters, members_of = t[f"clusters{s}_{i}"][band], t[f"members{s}_{i}"][band]
            b = members_of.shape[1]
            for y, x in patches:
                if depth[y, x] > i:
                    latest = t[f"energy{s}"][starts(ks, t)[i - 1] + plane[y, x, i - 1] - 1] if i else 0
                    parent, beyond = above[y, x]
                    features = depth[y, x] - i, around(depth, y, x), parent, latest if i else beyond
                    group.setdefault(int(t[f"classes{s}"][i, cell(t[f"edges{s}"], features)]), []).append((y, x))
            for label, members in sorted(group.items()):
                freq = frequencies(clusters[label].astype(int).repeat(b) + members_of.reshape(k))
                for y, x in members:
                    plane[y, x, i] = coder.symbol(freq) + 1
                    total[y, x] += t[f"energy{s}"][first + plane[y, x, i] - 1]
        planes.append(plane)
        parents, parent_span = total, span
    return planes


def pixels(planes: list[np.ndarray], t: dict, head) -> np.ndarray:
    """SPEC.md, "Reconstruction": uint8 (height, width[, 3])."""
    channels = 3 if head.colour else 1
    scale_planes: list[np.ndarray] = []
    for (s, p), plane in zip(t["scales"].tolist(), planes, strict=True):
        c = 1 if t["luma_only"] and s == 1 else channels
        rows, cols, depth = plane.shape
        first = starts(t[f"codewords{s}"].tolist(), t)
        drawn = np.zeros((rows, cols, p, c * p), np.int64)
        for i in range(depth):
            row = first[i] + plane[:, :, i] - 1
            u = t[f"u{s}"][row][:, :, : head.rank].astype(np.int64)
            v = t[f"v{s}"][row][:, :, : head.rank, : c * p].astype(np.int64)
            drawn += np.where((plane[:, :, i] > 0)[..., None, None], np.einsum("yxrp,yxrq->yxpq", u, v), 0)
        drawn = drawn.reshape(rows, cols, 2, p // 2, c, 2, p // 2)  # phase, place in y; channel; phase, place in x
        drawn = drawn.transpose(4, 0, 3, 2, 1, 6, 5).reshape(c, rows * p, cols * p)
        if scale_planes:
            drawn += enlarge(scale_planes[-1][:c])[:, : rows * p, : cols * p] * 4  # both over 2^9
        scale_planes.append(np.clip(drawn + 256 >> 9, -2047, 2047))
    fine, h, w = scale_planes[-1].shape
    x = scale_planes[-1].reshape(fine, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3).reshape(4 * fine, h // 2, w // 2)
    if fine < channels:
        x = np.concatenate([x, scale_planes[-2][fine:, : h // 2, : w // 2]])
    if head.smoothing:
        x = smoothing(x, *weights(t, channels))
    value = x[: 4 * fine].reshape(fine, 2, 2, h // 2, w // 2).transpose(0, 3, 1, 4, 2).reshape(fine, h, w)
    value = np.concatenate([value, interpolate(x[4 * fine :])])
    level = np.einsum("jc,cyx->jyx", MATRIX[:channels, :channels], value)
    out = np.clip(level + (257 << 12) >> 13, 0, 255).astype(np.uint8)[:, : head.height, : head.width]
    return out.transpose(1, 2, 0) if channels == 3 else out[0]


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
    hidden = np.clip(convolve(x, w1) + (b1[:, None, None] << 9) + 256 >> 9, 0, 2047)
    return np.clip((x + b2[:, None, None] << 9) + convolve(hidden, w2) + 256 >> 9, -2047, 2047)


def convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """3 x 3 with a border of zeros."""
    h, w = x.shape[1:]
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1)])
    return sum(
        np.einsum("oi,ihw->ohw", kernel[:, :, dy, dx], padded[:, dy : dy + h, dx : dx + w])
        for dy in range(3)
        for dx in range(3)
    )
