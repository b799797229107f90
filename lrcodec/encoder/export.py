"""Builds the decoder's ONNX graphs (SPEC.md, "Reconstruction") and proves that float32 keeps them exact.

Every tensor holds integers over a power of two, and no partial sum of numerators reaches 2^24, so float
addition is exact in any order; `check_exact` asserts the bound for the tables at hand.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..fixed import COLOUR_BITS, ENLARGE_BITS, EXACT, FACTOR_BITS, PLANE_BITS, PLANE_LIMIT, WEIGHT_BITS
from ..grid import Scale

ENLARGE_TAPS = np.array([[-3, 29, 111, -9, 0], [0, -9, 111, 29, -3]])
"""Bicubic (Keys 1981, a = -1/2) at the positions -1/4 and +1/4 of a pixel, times 2^ENLARGE_BITS."""


class _Graph:
    """Collects nodes and constants; every method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def const(self, name: str, value, dtype) -> str:
        self.constants.setdefault(name, np.asarray(value, dtype))
        return name

    def f(self, value: float) -> str:
        return self.const(f"f{value:g}", value, np.float32)

    def ints(self, *values: int) -> str:
        return self.const("i" + "_".join(map(str, values)), values, np.int64)

    def op(self, kind: str, *inputs: str, name: str = "", **attributes) -> str:
        name = name or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name


def build_graph(scales: tuple[Scale, ...], channels: int, smoothing: tuple[np.ndarray, ...] | None) -> bytes:
    """The serialised decoder graph.

    smoothing: None or integer arrays (w1 (H, 4C, 3, 3), b1 (H,), w2 (4C, H, 3, 3), b2 (4C,)), weights over
        2^WEIGHT_BITS, biases in plane units.

    Inputs, for each scale s with sizes p (patch side), C channels and depth limit D:
        u{s} int8 (rows, R, p), v{s} int16 (rows, R, C * p): the factors of all iterations, one row a codeword;
        d{s}_{d} int64 (n, d): rows of the patches that have exactly d iterations, d = 1..D;
        place{s} int64 (images, grid rows, grid columns): for each patch, 0 (stopped at once) or 1 + its position
        in the concatenation of d{s}_1, d{s}_2, ...
    Output: pixels uint8 (images, C, 4, rows / 2, columns / 2), polyphase: phase 2 * (x % 2) + y % 2.
    """
    g = _Graph()
    inputs = []
    plane = ""
    for i, scale in enumerate(scales):
        patches, scale_inputs = _patches(g, scale, channels)
        inputs += scale_inputs
        if plane:
            patches = g.op("Add", _enlarge(g, plane, patches, channels), patches)
        else:
            patches = g.op("Add", patches, g.f(0.5))
        limit = float(PLANE_LIMIT)
        polyphase = g.op("Clip", g.op("Floor", patches), g.f(-limit), g.f(limit), name=f"plane{scale.scale}")
        if i + 1 < len(scales):
            plane = _interleave(g, polyphase, channels)
    if smoothing is not None:
        polyphase = _smooth(g, polyphase, channels, smoothing)
    _colour(g, polyphase, channels)
    graph = helper.make_graph(
        g.nodes,
        "lrcodec",
        inputs,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["images", channels, 4, None, None])],
        [numpy_helper.from_array(value, name) for name, value in g.constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="lrcodec", ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _patches(g: _Graph, scale: Scale, channels: int) -> tuple[str, list]:
    """Sums of low-rank products of one scale, polyphase (images, C, 4, h, w), over 2^PLANE_BITS."""
    s, p, c = scale.scale, scale.patch, channels
    u, v, place = f"u{s}", f"v{s}", f"place{s}"
    inputs = [
        helper.make_tensor_value_info(u, TensorProto.INT8, [f"rows{s}", "rank", p]),
        helper.make_tensor_value_info(v, TensorProto.INT16, [f"rows{s}", "rank", c * p]),
    ]
    parts = [g.const(f"stopped{s}", np.zeros((1, p, c * p)), np.float32)]
    for depth in range(1, len(scale.codewords) + 1):
        rows = f"d{s}_{depth}"
        inputs.append(helper.make_tensor_value_info(rows, TensorProto.INT64, [f"n{s}_{depth}", depth]))
        # All iterations of a patch in one product: their factors are concatenated along the rank.
        count, width = g.op("Shape", rows, end=1), g.op("Mul", g.op("Shape", u, start=1, end=2), g.ints(depth))
        left = g.op("Reshape", g.op("Gather", u, rows, axis=0), g.op("Concat", count, width, g.ints(p), axis=0))
        right = g.op("Reshape", g.op("Gather", v, rows, axis=0), g.op("Concat", count, width, g.ints(c * p), axis=0))
        left = g.op("Mul", g.op("Cast", left, to=TensorProto.FLOAT), g.f(2.0 ** (PLANE_BITS - FACTOR_BITS)))
        right = g.op("Cast", right, to=TensorProto.FLOAT)
        parts.append(g.op("MatMul", g.op("Transpose", left, perm=[0, 2, 1]), right, name=f"lowrank{s}_{depth}"))
    inputs.append(helper.make_tensor_value_info(place, TensorProto.INT64, ["images", f"gh{s}", f"gw{s}"]))
    tiles = g.op("Gather", g.op("Concat", *parts, axis=0), place, axis=0)
    size, count, grid = g.op("Shape", place), g.op("Shape", place, end=1), g.op("Shape", place, start=1)
    tiles = g.op("Reshape", tiles, g.op("Concat", size, g.ints(2, p // 2, c, 2, p // 2), axis=0))
    tiles = g.op("Transpose", tiles, perm=[0, 5, 6, 3, 1, 4, 2, 7])
    shape = g.op("Concat", count, g.ints(c, 4), g.op("Mul", grid, g.ints(p // 2)), axis=0)
    return g.op("Reshape", tiles, shape), inputs


def _enlarge(g: _Graph, plane: str, like: str, channels: int) -> str:
    """Twofold enlargement of (images, C, h, w) to the shape of `like`, polyphase; 1/2 added for rounding."""
    taps = np.tile(ENLARGE_TAPS / 2.0**ENLARGE_BITS, (2 * channels, 1))
    across = g.const("taps_x", taps[: 2 * channels, None, None, :], np.float32)
    down = g.const("taps_y", taps[:, None, :, None], np.float32)
    halves = [g.const(f"half{n}", [0.5] * n, np.float32) for n in (2 * channels, 4 * channels)]
    padded = g.op("Pad", plane, g.ints(0, 0, 2, 2, 0, 0, 2, 2), mode="edge")
    # Every channel becomes two phases in x, and each of those two in y.
    wide = g.op("Floor", g.op("Conv", padded, across, halves[0], group=channels, name=f"enlarge_x_{plane}"))
    tall = g.op("Conv", wide, down, halves[1], group=2 * channels, name=f"enlarge_y_{plane}")
    tall = g.op("Slice", tall, g.ints(0, 0), g.op("Shape", like, start=3), g.ints(2, 3))
    return g.op("Reshape", tall, g.op("Shape", like))


def _interleave(g: _Graph, polyphase: str, channels: int) -> str:
    """Polyphase (images, C, 4, h, w) to (images, C, 2h, 2w)."""
    count, size = g.op("Shape", polyphase, end=1), g.op("Shape", polyphase, start=3)
    split = g.op("Reshape", polyphase, g.op("Concat", count, g.ints(channels, 2, 2), size, axis=0))
    mixed = g.op("Transpose", split, perm=[0, 1, 4, 3, 5, 2])
    return g.op("Reshape", mixed, g.op("Concat", count, g.ints(channels), g.op("Mul", size, g.ints(2)), axis=0))


def _stack(g: _Graph, polyphase: str, channels: int) -> str:
    """Polyphase (images, C, 4, h, w) to (images, 4 * C, h, w)."""
    count, size = g.op("Shape", polyphase, end=1), g.op("Shape", polyphase, start=3)
    return g.op("Reshape", polyphase, g.op("Concat", count, g.ints(4 * channels), size, axis=0))


def _smooth(g: _Graph, polyphase: str, channels: int, smoothing: tuple[np.ndarray, ...]) -> str:
    unit = 2.0**-WEIGHT_BITS
    x = _stack(g, polyphase, channels)
    w1, w2 = (g.const(f"w{i}", smoothing[2 * i - 2] * unit, np.float32) for i in (1, 2))
    b1, b2 = (g.const(f"b{i}", smoothing[2 * i - 1] + 0.5, np.float32) for i in (1, 2))
    hidden = g.op("Floor", g.op("Conv", x, w1, b1, pads=[1, 1, 1, 1], name="smooth1"))
    hidden = g.op("Clip", hidden, g.f(0.0), g.f(float(PLANE_LIMIT)))
    change = g.op("Conv", hidden, w2, b2, pads=[1, 1, 1, 1], name="smooth2")
    smooth = g.op("Floor", g.op("Add", x, change))
    smooth = g.op("Clip", smooth, g.f(-float(PLANE_LIMIT)), g.f(float(PLANE_LIMIT)))
    return g.op("Reshape", smooth, g.op("Shape", polyphase))


def colour_matrix(channels: int) -> np.ndarray:
    """int64 (C, C): plane channels (luma, R-B, R+B-2G; orthonormal) to RGB, times 2^COLOUR_BITS; grey from luma."""
    luma, red_blue, green = 3**-0.5, 2**-0.5, 6**-0.5
    exact = [[luma, red_blue, green], [luma, 0, -2 * green], [luma, -red_blue, green]]
    return np.rint(np.array(exact)[:channels, :channels] * 2**COLOUR_BITS).astype(np.int64)


def _colour(g: _Graph, polyphase: str, channels: int) -> None:
    # All four phases at once, as one 1 x 1 convolution: its channels then fill whole vectors.
    matrix = np.kron(colour_matrix(channels), np.eye(4)) * 2.0 ** -(COLOUR_BITS + PLANE_BITS)
    stacked = _stack(g, polyphase, channels)
    weights = g.const("colour", matrix[:, :, None, None], np.float32)
    rgb = g.op("Conv", stacked, weights, g.const("mid_grey", [128.5] * 4 * channels, np.float32), name="colour_conv")
    rgb = g.op("Cast", g.op("Floor", g.op("Clip", rgb, g.f(0.0), g.f(255.0))), to=TensorProto.UINT8)
    g.op("Reshape", rgb, g.op("Shape", polyphase), name="pixels")


def check_exact(scales: tuple[Scale, ...], factors: dict[int, tuple[np.ndarray, np.ndarray]], smoothing) -> None:
    """Raise ValueError unless every sum of numerators stays below 2^24 for whatever indices a file holds.

    factors: for each scale u int8 (rows, R, p) and v int16 (rows, R, C * p).
    """
    sums = {}
    for scale in scales:
        u, v = (np.abs(a.astype(np.float64)) for a in factors[scale.scale])
        product = np.einsum("krp,krq->kpq", u, v).max(axis=(1, 2))
        gain = np.abs(ENLARGE_TAPS).sum(1).max() / 2**ENLARGE_BITS
        enlarged = ((PLANE_LIMIT * gain + 1) * gain + 1) * 2.0 ** (FACTOR_BITS - PLANE_BITS)
        largest = [product[start : start + k].max() for start, k in zip(scale.starts, scale.codewords, strict=True)]
        sums[f"scale {scale.scale}"] = sum(largest) + enlarged
    if smoothing is not None:
        w1, b1, w2, b2 = (np.abs(a.astype(np.float64)) for a in smoothing)
        unit = 2**WEIGHT_BITS
        sums["smoothing 1"] = (w1.sum(axis=(1, 2, 3)) * PLANE_LIMIT + (b1 + 1) * unit).max(initial=0)
        sums["smoothing 2"] = (w2.sum(axis=(1, 2, 3)) * PLANE_LIMIT + (b2 + PLANE_LIMIT + 1) * unit).max(initial=0)
    sums["colour"] = np.abs(colour_matrix(3)).sum(1).max() * PLANE_LIMIT + 128.5 * 2 ** (COLOUR_BITS + PLANE_BITS)
    too_large = {name: value for name, value in sums.items() if value >= EXACT}
    if too_large:
        raise ValueError(f"not exact in float32: {too_large}")
