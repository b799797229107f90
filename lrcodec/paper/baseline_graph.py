"""The decoder of the paper's baseline in ONNX Runtime, as this project's own decoder runs."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from .baseline import Residuals, Vqvae
from .cost import open_baseline


def baseline_graph(model: Vqvae) -> bytes:
    """The serialised graph: indices int64 (images, h, w) to pixels uint8 (images, rows, columns, channels)."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(value: float | torch.Tensor | None) -> str:
        array = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, np.float32)
        constants.append(numpy_helper.from_array(array, f"constant{len(constants)}"))
        return constants[-1].name

    def op(kind: str, *inputs: str, name: str = "", **attributes) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [name or f"{kind.lower()}{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def layer(module: nn.Module, x: str) -> str:
        if isinstance(module, nn.ReLU):
            return op("Relu", x)
        if isinstance(module, Residuals):
            for wide, back in zip(module.wide, module.back, strict=True):
                x = op("Add", x, layer(back, op("Relu", layer(wide, op("Relu", x)))))
            return op("Relu", x)
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        kind = "Conv" if isinstance(module, nn.Conv2d) else "ConvTranspose"
        weights = [constant(p) for p in (module.weight, module.bias)]
        return op(kind, x, *weights, pads=[*module.padding] * 2, strides=[*module.stride])

    x = op("Gather", constant(model.embeddings), "indices", axis=0)
    x = op("Transpose", x, perm=[0, 3, 1, 2])
    for module in model.decoder:
        x = layer(module, x)
    x = op("Round", op("Mul", op("Add", x, constant(0.5)), constant(255.0)))
    x = op("Cast", op("Clip", x, constant(0.0), constant(255.0)), to=TensorProto.UINT8)
    op("Transpose", x, perm=[0, 2, 3, 1], name="pixels")
    graph = helper.make_graph(
        nodes,
        "baseline",
        [helper.make_tensor_value_info("indices", TensorProto.INT64, ["images", "h", "w"])],
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["images", "rows", "columns", None])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


class BaselineDecoder:
    """Decodes an image of random indices, with random weights: its time is that of any other.

    size: rows and columns of the image, which are cut to a multiple of the stride. channels: 1 or 3.
    bytes: of the indices, at equal lengths. macs: multiply-accumulates per pixel.
    """

    def __init__(self, size: tuple[int, int], channels: int, threads: int):
        torch.manual_seed(0)
        model = Vqvae(channels).eval()
        rows, columns = (max(1, side // model.stride) for side in size)
        self.indices = np.random.default_rng(0).integers(0, model.codewords, (1, rows, columns))
        self.bytes = self.indices.size * (model.codewords - 1).bit_length() / 8
        with torch.no_grad():
            self.macs = model.decoder_macs(rows * model.stride, columns * model.stride)
        self.session = open_baseline(baseline_graph(model), threads)

    def decode(self) -> np.ndarray:
        """uint8 (1, rows, columns, channels)."""
        return self.session.run(["pixels"], {"indices": self.indices})[0]
