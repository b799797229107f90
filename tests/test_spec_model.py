"""SPEC.md and the code say the same of a model: grids, strips, tables, graphs, fingerprint."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import reference
from markdown import Document, evaluate, hexadecimal, number
from onnx import numpy_helper

from lrcodec.format import container, fixed, grid
from lrcodec.format.container import Header
from lrcodec.format.grid import Scale, check_scales
from lrcodec.packs import tablefile
from lrcodec.packs.pack import fingerprint
from lrcodec.training import context_tables

SPEC = Document(Path(__file__).parent.parent / "SPEC.md")
HEADER = Header(width=64, height=64, colour=1, rank=2, iterations=8, band=0, smoothing=1, model=bytes(8))


def test_grids():
    """The example, as the formulas of SPEC.md and the code work it out."""
    example = {name: number(cell) for name, cell in SPEC.row("Grids", "width").items()}
    names = {name: example[name] for name in ("width", "height", "s", "p")}
    for name, formula in SPEC.formulas("Grids").items():
        names[name] = evaluate(formula, **names)
    assert names == example
    scale = Scale(example["s"], example["p"], (1,))
    assert (scale.span, scale.grid(example["height"], example["width"])) == (
        example["span"],
        (example["rows"], example["columns"]),
    )


def test_strips():
    example = {name: number(cell) for name, cell in SPEC.row("Strips", "span").items()}
    width, height, span, columns = (example[name] for name in ("width", "height", "span", "columns"))
    (formula,) = SPEC.formulas("Strips").values()
    assert evaluate(formula, STRIP_PIXELS=grid.STRIP_PIXELS, span=span, columns=columns) == example["strip_rows"]
    assert evaluate(formula, STRIP_PIXELS=grid.STRIP_PIXELS, span=1024, columns=2) == 1
    scales = (Scale(span // 4, 4, (1,)),)
    assert columns == scales[0].grid(height, width)[1]
    bounds = grid.strips(scales, height, width)
    last = height - example["height of the last"]
    assert (len(bounds), bounds[0], bounds[-1]) == (
        example["strips"],
        (0, example["height of a strip"]),
        (last, height),
    )
    assert example["height of a strip"] == example["strip_rows"] * span


@pytest.mark.parametrize(
    "scales",
    [
        (Scale(4, 4, (1,)), Scale(1, 4, (1,))),
        (Scale(2, 4, (1,)),),
        (Scale(1, 5, (1,)),),
        (Scale(2, 4, (1,)), Scale(1, 6, (1,))),
        (Scale(1, 4, ()),),
        (Scale(1, 4, (8, 4), shared=True),),
        (Scale(1, 4, (1,), luma_only=True),),
    ],
    ids=["halve", "end at 1", "even", "nest", "iterations", "equal K if shared", "chroma in scale 2"],
)
def test_rules_of_grids(scales: tuple[Scale, ...]):
    with pytest.raises(ValueError):
        check_scales(scales)


def test_tables(random_pack):
    """Every array of tables.npz is named, with its type and its shape, and no other is."""
    pack, _ = random_pack
    t, rows = pack.tables, SPEC.table("Tables", "name")
    numbers = sorted((str(s.scale) for s in pack.scales), reverse=True)
    pattern = re.compile(rf"^(?!smooth)([a-z_]+?)({'|'.join(numbers)})(_\d+)?$")
    found = {name: pattern.sub(lambda m: m[1] + "{s}" + ("_{i}" if m[3] else ""), name) for name in t}
    assert sorted({*found.values()}) == sorted(row["name"] for row in rows)
    described = {row["name"]: (row["dtype"], row["shape"]) for row in rows}
    letters = {row["letter"]: row["value"] for row in SPEC.table("Tables", "letter")}
    for name, general in found.items():
        dtype, shape = described[general]
        c = pack.channels
        luma_only = int(t["luma_only"])
        fine = evaluate(letters["F"], C=c, s=1, luma_only=luma_only)
        sizes = {"S": len(pack.scales), "C": c, "bands": pack.bands, "R": pack.rank}
        sizes |= {"H": len(t["smooth_b1"]), "I": evaluate(letters["I"], C=c, F=fine)}
        if match := pattern.match(name):
            scale = next(s for s in pack.scales if s.scale == int(match[2]))
            sizes |= {"D": len(scale.codewords), "p": scale.patch, "rows": scale.rows}
            sizes["F"] = evaluate(letters["F"], C=c, s=scale.scale, luma_only=luma_only)
            assert sizes["F"] == scale.channels(c)
            if "M" in shape:
                sizes["M"] = t[name].shape[shape.strip("()").split(", ").index("M")]
            if match[3]:
                clusters = t[f"clusters{match[2]}{match[3]}"]
                sizes |= {"K": scale.codewords[int(match[3][1:])], "A": clusters.shape[2]}
        assert (t[name].dtype.name, t[name].shape) == (dtype, evaluate(shape, **sizes)), name


def test_descriptions_of_tables():
    """What reading and writing go by is the table of SPEC.md: names, dtypes and shapes."""
    described = {(row["name"], row["dtype"], row["shape"]) for row in SPEC.table("Tables", "name")}
    assert {(f.name, np.dtype(f.dtype).name, str(f.shape).replace("'", "")) for f in tablefile.FIELDS} == described


def test_tables_that_training_makes():
    """Their shapes where the number of clusters is not that of their members, as it is in `random_pack`."""
    arrays = context_tables.context_tables({}, Scale(2, 8, (8, 32)), bands=3, limit=5)
    described = {row["name"]: (row["dtype"], row["shape"]) for row in SPEC.table("Tables", "name")}
    of_contexts = [name for name in described if re.match("depth|edges|classes|clusters|members", name)]
    general = {name: re.sub(r"2(_\d)?$", lambda m: "{s}_{i}" if m[1] else "{s}", name) for name in arrays}
    assert {*general.values()} == {*of_contexts}
    for name, array in arrays.items():
        sizes = {"D": 2, "bands": 3, "M": 5}
        if "{i}" in general[name]:
            sizes |= {"K": (8, 32)[int(name[-1])], "A": (2, 4)[int(name[-1])]}
        dtype, shape = described[general[name]]
        assert (array.dtype.name, array.shape) == (dtype, evaluate(shape, **sizes)), name


def test_graphs_and_weights_of_smoothing(random_pack):
    pack, smoothing = random_pack
    files = {row["file"]: (row["colour kind"], row["smoothing"]) for row in SPEC.table("Tables", "file")}
    assert files.keys() == pack.graphs.keys()
    for name, (kind, smooth) in files.items():
        colour = {"grey": container.GREY, "RGB": container.RGB}[kind]
        assert pack.graph(colour, {"no": False, "yes": True}[smooth]) == pack.graphs[name]
    weights_of = {row["name"]: row["meaning"] for row in SPEC.table("Tables", "name") if "weights of" in row["meaning"]}
    shifts = {name: int(re.findall(r"over 2\^(\d+)", meaning)[0]) for name, meaning in weights_of.items()}
    assert shifts == {"smooth_w1": fixed.WEIGHT_BITS, "smooth_w2": fixed.WEIGHT_BITS}
    for colour, c in ((container.GREY, 1), (container.RGB, 3)):
        graph = onnx.load_from_string(pack.graph(colour, True)).graph
        weights = {w.name: numpy_helper.to_array(w).astype(float) for w in graph.initializer}
        w1, b1, w2, b2 = smoothing
        if c == 1:
            w1, w2, b2 = w1[:, :4], w2[:4], b2[:4]
        for name, array in (("w1", w1 / 2**9), ("b1", b1 + 0.5), ("w2", w2 / 2**9), ("b2", b2 + 0.5)):
            np.testing.assert_array_equal(weights[name], array)
        for got, want in zip(reference.weights(pack.tables, c), (w1, b1, w2, b2), strict=True):
            np.testing.assert_array_equal(got, want)


def test_inputs_of_graphs(random_pack):
    pack, _ = random_pack
    types = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    inputs = [[row[head] for head in ("input", "dtype", "shape")] for row in SPEC.table("Graphs", "input")]
    expected = {
        name.format(s=scale.scale, d=d): (types[kind], len(shape.split(",")))
        for scale in pack.scales
        for d in range(1, len(scale.codewords) + 1)
        for name, kind, shape in inputs
        if name != "crop{s}" or scale != pack.scales[0]
    }

    def described(values) -> dict[str, tuple[int, int]]:
        kinds = {value.name: value.type.tensor_type for value in values}
        return {name: (kind.elem_type, len(kind.shape.dim)) for name, kind in kinds.items()}

    graph = onnx.load_from_string(pack.graph(container.RGB, True)).graph
    assert described(graph.input) == expected
    output = SPEC.row("Graphs", "output")
    assert (output["output"], output["dtype"]) == ("pixels", "uint8")
    assert described(graph.output) == {"pixels": (onnx.TensorProto.UINT8, len(output["shape"].split(",")))}


def test_fingerprint_example():
    example = SPEC.row("Model fingerprint", "decoder-grey.onnx")
    pack = {name: content.encode() for name, content in example.items() if "." in name}
    assert len(pack) == 2 and fingerprint(pack).hex() == example["SHA-256"]
    assert example["SHA-256"].startswith(example["fingerprint"])
    (kind,) = (row["kind"] for row in SPEC.table("Header fields") if row["name"] == "model")
    assert f"bytes{len(hexadecimal(example['fingerprint']))}" == kind == f"bytes{len(HEADER.model)}"
