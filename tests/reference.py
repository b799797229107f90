"""A reference decoder written from SPEC.md: integers only, no constriction, no ONNX Runtime, no float."""

import numpy as np

TAPS = np.array([[-3, 29, 111, -9, 0], [0, -9, 111, 29, -3]], np.int64)
EIGHTHS = [16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842]


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


def indices(payload: bytes, t: dict, header) -> list[np.ndarray]:
    """Index planes of the chunk of indices; t: the arrays of tables.npz."""
    coder = RangeDecoder(payload)
    planes, coarser = [], None
    for s, p in t["scales"].tolist():
        ks, span = t[f"codewords{s}"].tolist(), s * p
        rows, cols = -(-header.height // span), -(-header.width // span)
        plane = np.zeros((rows, cols, len(ks)), np.int64)
        latest, total = np.zeros((rows, cols), int), np.zeros((rows, cols), int)

        def around(levels, y, x):
            places = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            return sum(int(levels[a, b]) for a, b in places if 0 <= a < levels.shape[0] and 0 <= b < levels.shape[1])

        for i in range(min(len(ks), header.iterations)):
            cluster_costs = t[f"clusters{s}_{i}"][header.band]
            member_costs = t[f"members{s}_{i}"][header.band]
            b = member_costs.shape[1]
            for phase in (0, 1):
                group = [
                    (y, x)
                    for y in range(rows)
                    for x in range(cols)
                    if (y + x) % 2 == phase and (i == 0 or plane[y, x, i - 1])
                ]
                classes = []
                for y, x in group:
                    above = int(coarser[0][y * span // coarser[1], x * span // coarser[1]]) if coarser else 0
                    features = (around(latest, y, x), int(latest[y, x]), around(total, y, x), above)
                    cell = 0
                    for f, value in enumerate(features):
                        edges = t[f"edges{s}"][i, phase, f].tolist()
                        cell += 8**f * sum(edge < min(value, 255) for edge in edges)
                    classes.append(t[f"classes{s}"][i, phase, cell])
                symbols = [coder.symbol(frequencies(cluster_costs[c])) for c in classes]
                for (y, x), a in zip(group, symbols, strict=True):
                    if a:
                        plane[y, x, i] = 1 + (a - 1) * b + coder.symbol(frequencies(member_costs[a - 1]))
                for y, x in group:
                    k = int(plane[y, x, i])
                    latest[y, x] = t[f"energy{s}"][starts(ks, t)[i] + k - 1] if k else 0
                    total[y, x] += latest[y, x]
        planes.append(plane)
        coarser = total, span
    return planes


def pixels(planes: list[np.ndarray], t: dict, header, smoothing: tuple | None, colour: np.ndarray) -> np.ndarray:
    """uint8 pixels; smoothing: integer w1, b1, w2, b2 for these channels; colour: integer matrix over 2^10."""
    c = 3 if header.colour else 1
    x = None
    for (s, p), plane in zip(t["scales"].tolist(), planes, strict=True):
        rows, cols, depth = plane.shape
        first = starts(t[f"codewords{s}"].tolist(), t)
        drawn = np.zeros((rows, cols, p, c * p), np.int64)
        for i in range(depth):
            row = first[i] + plane[:, :, i] - 1
            u = t[f"u{s}"][row][:, :, : header.rank].astype(np.int64)
            v = t[f"v{s}"][row][:, :, : header.rank, : c * p].astype(np.int64)
            drawn += np.where((plane[:, :, i] > 0)[..., None, None], np.einsum("yxrp,yxrq->yxpq", u, v), 0)
        drawn = drawn.reshape(rows, cols, 2, p // 2, c, 2, p // 2)  # phase, place in y; channel; phase, place in x
        drawn = drawn.transpose(4, 0, 3, 2, 1, 6, 5).reshape(c, rows * p, cols * p)
        if x is None:
            x = drawn + 256 >> 9
        else:
            x = enlarge(x)[:, : rows * p, : cols * p] * 4 + drawn  # both over 2^9
            x = x + 256 >> 9
        x = np.clip(x, -2047, 2047)
    if smoothing is not None:
        x = smooth(x, *smoothing)
    levels = np.einsum("ij,jhw->hwi", colour, x) + (257 << 12) >> 13
    out = np.clip(levels, 0, 255).astype(np.uint8)[: header.height, : header.width]
    return out if c == 3 else out[:, :, 0]


def enlarge(x: np.ndarray) -> np.ndarray:
    """Twice the size; the result is over 2^7 of the input's unit."""
    c, h, w = x.shape
    wide = np.pad(x, [(0, 0), (2, 2), (2, 2)], mode="edge")
    across = np.zeros((c, h + 4, 2 * w), np.int64)
    for phase in (0, 1):
        across[:, :, phase::2] = sum(TAPS[phase, k] * wide[:, :, k : k + w] for k in range(5)) + 64 >> 7
    out = np.zeros((c, 2 * h, 2 * w), np.int64)
    for phase in (0, 1):
        out[:, phase::2] = sum(TAPS[phase, k] * across[:, k : k + h] for k in range(5))
    return out


def smooth(x: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray) -> np.ndarray:
    c, h, w = x.shape
    blocks = x.reshape(c, h // 2, 2, w // 2, 2).transpose(0, 4, 2, 1, 3).reshape(4 * c, h // 2, w // 2)
    hidden = np.clip(convolve(blocks, w1, b1), 0, 2047)
    blocks = np.clip(blocks + convolve(hidden, w2, b2), -2047, 2047)
    return blocks.reshape(c, 2, 2, h // 2, w // 2).transpose(0, 3, 2, 4, 1).reshape(c, h, w)


def convolve(x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """3 x 3 with a border of zeros; weights over 2^9; rounded."""
    h, w = x.shape[1:]
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1)])
    total = sum(
        np.einsum("oi,ihw->ohw", weights[:, :, dy, dx], padded[:, dy : dy + h, dx : dx + w])
        for dy in range(3)
        for dx in range(3)
    )
    return total + (bias[:, None, None] << 9) + 256 >> 9
