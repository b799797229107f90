"""Builds the decoder's ONNX graphs: SPEC.md, "Reconstruction".

Every tensor holds integers over a power of two, and no partial sum of numerators reaches 2^24, so float addition is
exact in any order; exactness.py refuses tables that could pass the bound.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..encoder.convolutions import Integers
from ..format.fixed import (
    CHROMA_TAPS,
    COLOUR_BITS,
    ENLARGE_BITS,
    ENLARGE_TAPS,
    PLANE_BITS,
    PLANE_LIMIT,
    WEIGHT_BITS,
    colour_matrix,
)
from ..format.grid import Scale

Predictions = Sequence[Integers | None]
"""For every scale, coarse to fine, what is added to the enlarged planes: of F inputs and 4 * F outputs, F being the
channels of the scale. None or no hidden channels: nothing, as for the coarsest."""


class _Graph:
    """Collects nodes, constants and outputs; every method returns the name of what it made.

    suffix: of all these names. A graph within another must not use its names again.
    part: what nodes are added to from now on, a field of `decoder.graph.Macs`: their own names begin with it.
    """

    def __init__(self, suffix: str = "") -> None:
        self.suffix = suffix
        self.part = "prediction"
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.outputs: list[onnx.ValueInfoProto] = []

    def const(self, name: str, value, dtype) -> str:
        name += self.suffix
        self.constants.setdefault(name, np.asarray(value, dtype))
        return name

    def f(self, value: float) -> str:
        return self.const(f"f{value:g}", value, np.float32)

    def ints(self, *values: int) -> str:
        return self.const("i" + "_".join(map(str, values)), values, np.int64)

    def op(self, kind: str, *inputs: str, name: str = "", **attributes) -> str:
        name = (name or f"{kind.lower()}{len(self.nodes)}") + self.suffix
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{self.part}/{name}", **attributes))
        return name

    def output(self, name: str, data_type: int, channels: int) -> None:
        """Give out `name`, (images, channels, rows, columns)."""
        self.outputs.append(helper.make_tensor_value_info(name, data_type, ["images", channels, None, None]))

    def proto(self, inputs: Sequence[onnx.ValueInfoProto] = ()) -> onnx.GraphProto:
        """The finished graph."""
        constants = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        return helper.make_graph(self.nodes, f"lrcodec{self.suffix}", inputs, self.outputs, constants)


def build_graph(
    scales: tuple[Scale, ...], channels: int, predictions: Predictions, smoothing: Integers | None
) -> bytes:
    """The serialised decoder graph, for images of so many channels.

    smoothing: None, or convolutions of as many inputs and outputs as `Scale.smoothed` counts.

    Inputs, for each scale s of F channels:
        drawn{s} float32 (images, 4 * F, rows / 2, columns / 2): sums of codewords, in the unit of planes, polyphase;
        crop{s} int64 (1,), but for the coarsest: rows of the scale before it that lie above its own first row;
    and finest int64 (1,): the number of the finest scale that is drawn; outputs of finer ones are empty.
    Outputs: pixels uint8 (images, 4 * channels, rows / 2, columns / 2), polyphase: channel 4 * c + phase, where phase
    is 2 * (y % 2) + x % 2; and, of each scale but the finest of several, plane{s} float32 (images, channels, rows,
    columns): integers within the limits of planes.
    """
    g = _Graph()
    inputs = [helper.make_tensor_value_info("finest", TensorProto.INT64, [1])]
    coarser = ""
    for scale, prediction in zip(scales, predictions, strict=True):
        s = scale.scale
        inner = _Graph(f"_scale{s}") if coarser else g
        phases = _draw(inner, scale, channels, coarser, prediction)
        if s > 1 or not coarser:
            plane = inner.op("DepthToSpace", phases, blocksize=2, mode="CRD", name=f"plane{s}")
            inner.output(plane, TensorProto.FLOAT, channels)
        if s == 1:
            inner.output(_pixels(inner, scale, channels, phases, coarser, smoothing), TensorProto.UINT8, 4 * channels)
        inputs.append(
            helper.make_tensor_value_info(
                f"drawn{s}", TensorProto.FLOAT, [f"images{s}", 4 * scale.channels(channels), f"rows{s}", f"columns{s}"]
            )
        )
        if coarser:
            inputs.append(helper.make_tensor_value_info(f"crop{s}", TensorProto.INT64, [1]))
            _draw_if_asked_for(g, s, inner)
        coarser = f"plane{s}"
    return _serialised(g.proto(inputs))


def build_codewords_graph() -> bytes:
    """The serialised graph that multiplies codewords, of any model.

    Inputs: left float32 (n, R, p) and right float32 (n, R, F * p), the factors of n codewords.
    Output: codewords float32 (n, p, F * p), their products.
    """
    g = _Graph()
    g.part = "low_rank"
    g.op("MatMul", g.op("Transpose", "left", perm=[0, 2, 1]), "right", name="codewords")
    g.outputs.append(helper.make_tensor_value_info("codewords", TensorProto.FLOAT, ["n", "p", "columns"]))
    shapes = {"left": ["n", "rank", "p"], "right": ["n", "rank", "columns"]}
    return _serialised(
        g.proto([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()])
    )


def _serialised(graph: onnx.GraphProto) -> bytes:
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], producer_name="lrcodec", ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _draw_if_asked_for(g: _Graph, scale: int, inner: _Graph) -> None:
    """Give out what `inner` draws of a scale; if `finest` is coarser, nothing of it runs, and all outputs are empty."""
    nothing = _Graph(f"_without{inner.suffix}")
    names = []
    for output in inner.outputs:
        kind, name = output.type.tensor_type, output.name.removesuffix(inner.suffix)
        channels = kind.shape.dim[1].dim_value
        empty = np.zeros((0, channels, 0, 0), helper.tensor_dtype_to_np_dtype(kind.elem_type))
        nothing.output(
            nothing.op("Constant", value=numpy_helper.from_array(empty), name=name), kind.elem_type, channels
        )
        g.output(name, kind.elem_type, channels)
        names.append(name)
    branches = {"then_branch": inner.proto(), "else_branch": nothing.proto()}
    asked_for = g.op("LessOrEqual", "finest", g.ints(scale))
    g.nodes.append(helper.make_node("If", [asked_for], names, name=f"draw{scale}", **branches))


def _draw(g: _Graph, scale: Scale, channels: int, coarser: str, prediction: Integers | None) -> str:
    """The planes of a scale, polyphase (images, 4 * C, h, w). coarser: those of the scale before it, or ""."""
    coded = scale.channels(channels)
    sums = f"drawn{scale.scale}"
    if not coarser:
        return _to_plane(g, g.op("Add", sums, g.f(0.5)), "phases")
    cut = coarser if coded == channels else g.op("Slice", coarser, g.ints(0), g.ints(coded), g.ints(1))
    predicted = _predict(g, cut, coded, prediction)
    return _to_plane(g, g.op("Add", _crop(g, predicted, sums, f"crop{scale.scale}"), sums), "phases")


def _pixels(g: _Graph, scale: Scale, channels: int, planes: str, coarser: str, smoothing: Integers | None) -> str:
    """Pixels of the planes of the finest scale, polyphase (images, 4 * C, h, w). coarser: those of the one before."""
    coded = scale.channels(channels)
    if coded < channels:
        chroma = g.op("Slice", coarser, g.ints(coded), g.ints(channels), g.ints(1))
        planes = g.op("Concat", planes, _crop(g, chroma, planes, f"crop{scale.scale}"), axis=1)
    if smoothing is not None:
        g.part = "smoothing"
        planes = _smooth(g, planes, smoothing)
    if coded < channels:
        g.part = "prediction"
        luma, coarse = (g.op("Slice", planes, g.ints(a), g.ints(b), g.ints(1)) for a, b in ((0, 4), (4, 6)))
        planes = g.op("Concat", luma, _interpolate(g, coarse), axis=1)
    g.part = "colour"
    return _colour(g, planes, channels)


def _predict(g: _Graph, coarser: str, channels: int, prediction: Integers | None) -> str:
    """What a scale starts from: (images, C, h, w) twice as large, polyphase (images, 4 * C, h, w).

    1/2 is added for rounding.
    """
    enlarged = _enlarge(g, coarser, channels)
    if prediction is None or not len(prediction[0]):
        return enlarged
    return g.op("Add", enlarged, _convolve(g, coarser, prediction, "predict"))


def _enlarge(g: _Graph, plane: str, channels: int) -> str:
    """Twofold enlargement of (images, C, h, w), polyphase (images, 4 * C, h, w); 1/2 added for rounding."""
    taps = np.tile(ENLARGE_TAPS / 2.0**ENLARGE_BITS, (2 * channels, 1))
    down = g.const("taps_y", taps[: 2 * channels, None, :, None], np.float32)
    across = g.const("taps_x", taps[:, None, None, :], np.float32)
    halves = [g.const(f"half{n}", [0.5] * n, np.float32) for n in (2 * channels, 4 * channels)]
    padded = g.op("Pad", plane, g.ints(0, 0, 2, 2, 0, 0, 2, 2), mode="edge")
    # Every channel becomes two phases in y, and each of those two in x.
    tall = g.op("Floor", g.op("Conv", padded, down, halves[0], group=channels, name="enlarge_y"))
    return g.op("Conv", tall, across, halves[1], group=2 * channels, name="enlarge_x")


def _to_plane(g: _Graph, sums: str, name: str) -> str:
    """Sums, 1/2 added for rounding, to integers within the limits of planes."""
    limit = float(PLANE_LIMIT)
    return g.op("Clip", g.op("Floor", sums), g.f(-limit), g.f(limit), name=name)


def _crop(g: _Graph, tensor: str, like: str, crop: str) -> str:
    """From row `crop` on as many rows and columns as `like` has."""
    start = g.op("Concat", crop, g.ints(0), axis=0)
    return g.op("Slice", tensor, start, g.op("Add", start, g.op("Shape", like, start=2)), g.ints(2, 3))


def grey_predictions(predictions: Predictions) -> list[Integers | None]:
    """The predictions of a pack with three channels as grey images take them: those of luma alone."""
    return [prediction and _of_luma(prediction, 1) for prediction in predictions]


def grey_smoothing(smoothing: Integers) -> Integers:
    """The smoothing of a pack with three channels as grey images take it: that of luma alone."""
    return _of_luma(smoothing, 4)


def _of_luma(convolutions: Integers, inputs: int) -> Integers:
    """Integers cut to the inputs that are luma's, and to the outputs that are: its four phases."""
    w1, b1, w2, b2 = convolutions
    return w1[:, :inputs], b1, w2[:4], b2[:4]


def _smooth(g: _Graph, planes: str, smoothing: Integers) -> str:
    """Planes (images, I, h, w) with what the two convolutions add."""
    w1, b1, w2, b2 = smoothing
    change = _convolve(g, planes, (w1, b1, w2, b2 + 0.5), "smooth")  # 1/2 for rounding
    return _to_plane(g, g.op("Add", planes, change), "smoothed")


def _convolve(g: _Graph, planes: str, convolutions: Integers, name: str) -> str:
    """Two convolutions of planes (images, inputs, h, w); the sums of the second, not rounded."""
    w1, b1, w2, b2 = convolutions
    unit, pads = 2.0**-WEIGHT_BITS, [1, 1, 1, 1]
    first, second = (g.const(f"{name}_w{n}", w * unit, np.float32) for n, w in ((1, w1), (2, w2)))
    bias = g.const(f"{name}_b1", b1 + 0.5, np.float32)
    hidden = g.op("Conv", planes, first, bias, pads=pads, name=f"{name}1")
    hidden = g.op("Floor", g.op("Clip", hidden, g.f(0.0), g.f(float(PLANE_LIMIT))))
    bias = g.const(f"{name}_b2", b2, np.float32)
    return g.op("Conv", hidden, second, bias, pads=pads, name=f"{name}2")


def _interpolate(g: _Graph, chroma: str) -> str:
    """Chroma (images, 2, h, w) at full resolution, polyphase (images, 8, h, w)."""
    taps = np.einsum("ia,jb->ijab", CHROMA_TAPS, CHROMA_TAPS).reshape(4, 1, 3, 3) / 16
    weights = g.const("chroma_taps", np.tile(taps, (2, 1, 1, 1)), np.float32)
    padded = g.op("Pad", chroma, g.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="edge")
    half = g.const("half8", [0.5] * 8, np.float32)
    return g.op("Floor", g.op("Conv", padded, weights, half, group=2, name="enlarge_chroma"))


def _colour(g: _Graph, planes: str, channels: int) -> str:
    """Planes (images, 4 * C, h, w) to pixels."""
    matrix = np.kron(colour_matrix(channels), np.eye(4))[:, :, None, None] * 2.0 ** -(COLOUR_BITS + PLANE_BITS)
    weights, offset = g.const("colour", matrix, np.float32), g.const("offset", [128.5] * len(matrix), np.float32)
    levels = g.op("Conv", planes, weights, offset, name="colour_conv")
    # Nothing is negative here, so the cast rounds down.
    return g.op("Cast", g.op("Clip", levels, g.f(0.0), g.f(255.0)), to=TensorProto.UINT8, name="pixels")
