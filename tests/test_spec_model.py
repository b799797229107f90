"""SPEC.md and the code say the same of a model: grids, strips, tables, graphs, fingerprint."""

import re
from copy import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import reference
from markdown import Document, evaluate, hexadecimal, number, numbers
from onnx import numpy_helper

from lrcodec.entropy.features import Traits
from lrcodec.format import container, fixed, grid
from lrcodec.format.container import Header
from lrcodec.format.grid import Scale, check_scales
from lrcodec.format.symmetry import LEFT, RIGHT, SIGNS, SYMMETRIES, factors
from lrcodec.packs import modelfile, tablefile
from lrcodec.packs.pack import fingerprint
from lrcodec.training import context_tables, export

SPEC = Document(Path(__file__).parent.parent / "SPEC.md")
HEADER = Header(width=64, height=64, colour=1, rank=2, iterations=8, band=0, smoothing=1, model=bytes(4))


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
        (Scale(1, 4, (1,), symmetries=4),),
    ],
    ids=["halve", "end at 1", "even", "nest", "iterations", "equal N if shared", "chroma in scale 2", "symmetries"],
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
            if scale != pack.scales[0]:
                sizes["P"] = len(t[f"first_bias{scale.scale}"])
            sizes |= {"D": len(scale.shapes), "p": scale.patch, "rows": scale.rows, "G": scale.symmetries}
            sizes["F"] = evaluate(letters["F"], C=c, s=scale.scale, luma_only=luma_only)
            assert sizes["F"] == scale.channels(c)
            if "M" in shape:
                sizes["M"] = t[name].shape[shape.strip("()").split(", ").index("M")]
            if match[3]:
                clusters = t[f"clusters{match[2]}{match[3]}"]
                sizes |= {"N": scale.shapes[int(match[3][1:])], "A": clusters.shape[2]}
        assert (t[name].dtype.name, t[name].shape) == (dtype, evaluate(shape, **sizes)), name


def test_symmetries():
    """The bits, the formulas and the example, as the decoder changes factors and the reference decoder shapes."""
    formulas, p, random = SPEC.formulas("Symmetries"), 4, np.random.default_rng(0)
    bits = {row["change"]: int(row["bit"]) for row in SPEC.table("Symmetries", "bit")}
    assert sorted(bits.values()) == [0, 1, 2, 3] and 2 ** len(bits) == max(SYMMETRIES)
    for channels, symmetries in ((1, 16), (3, 8), (3, 2), (1, 1)):
        u, v = random.integers(-99, 99, (3, 2, p)), random.integers(-99, 99, (3, 2, channels * p))
        lefts, rights = reference.codewords(u, v, symmetries)
        many_lefts, many_rights = factors(u, v, symmetries)
        for k in range(1, len(lefts) + 1):
            shape, symmetry = (evaluate(formulas[name], k=k, G=symmetries) for name in ("shape", "symmetry"))
            left, right = by_formulas(u[shape], v[shape], symmetry)
            np.testing.assert_array_equal(lefts[k - 1], left)
            np.testing.assert_array_equal(rights[k - 1], right)
            np.testing.assert_array_equal(SIGNS[symmetry] * many_lefts[LEFT[symmetry], shape], left)
            np.testing.assert_array_equal(many_rights[RIGHT[symmetry], shape], right)
            # As pictures: what the table of bits tells.
            picture = patch(u[shape], v[shape], p)
            if symmetry >> bits["transpose"] & 1:
                picture = picture.transpose(0, 2, 1)
            if symmetry >> bits["flip"] & 1:
                picture = picture[:, ::-1]
            if symmetry >> bits["mirror"] & 1:
                picture = picture[:, :, ::-1]
            np.testing.assert_array_equal(patch(left, right, p), picture * (-1) ** (symmetry >> bits["negate"] & 1))
    for row in SPEC.table("Symmetries", "index"):
        shape, symmetry = divmod(int(row["index"]) - 1, 16)
        assert (str(shape), str(symmetry)) == (row["shape"], row["symmetry"])
        left, right = reference.codeword(np.array([[1, 2]]), np.array([[3, 5]]), symmetry)
        assert (left[0].tolist(), right[0].tolist()) == (numbers(row["left"]), numbers(row["right"]))


def by_formulas(u: np.ndarray, v: np.ndarray, symmetry: int) -> tuple[np.ndarray, np.ndarray]:
    """Left and right of a shape's U and V, as the formulas of "Symmetries" tell."""
    formulas = SPEC.formulas("Symmetries")
    names = {"p": u.shape[1], "symmetry": symmetry, "U": lambda r, a: u[r, a], "V": lambda r, b: v[r, b]}
    names |= {name: evaluate(formulas[name], **names) for name in ("sign", "mirror", "flip", "transpose")}
    left, right = np.zeros_like(u), np.zeros_like(v)
    for r, a in np.ndindex(left.shape):
        left[r, a] = evaluate(formulas["left"], r=r, row=evaluate(formulas["row"], a=a, **names), **names)
    for r, b in np.ndindex(right.shape):
        right[r, b] = evaluate(formulas["right"], r=r, column=evaluate(formulas["column"], b=b, **names), **names)
    return left, right


def patch(left: np.ndarray, right: np.ndarray, p: int) -> np.ndarray:
    """The pixels (channels, p, p) that a codeword draws."""
    rows = [evaluate(SPEC.formulas("Low-rank sums")["row(a)"], a=a, h=p // 2) for a in range(p)]
    product = (left.T @ right).reshape(p, -1, p)
    out = np.zeros((product.shape[1], p, p), np.int64)
    out[:, np.array(rows)[:, None], rows] = product.transpose(1, 0, 2)
    return out


def test_orientation_of_codewords():
    (line,) = (block.strip() for block in SPEC.blocks("Symmetries") if block.strip().startswith("8 - orientation"))
    scale = Scale(1, 4, (2,), symmetries=16)
    orientation = np.array([1, 4], np.uint8)
    arrays = {"orientation1": orientation, "energy1": orientation, "frequency1": orientation, "features1": orientation}
    got = Traits.of(scale, arrays).orientation
    assert got[0] == 4 and len(got) == 33
    for k in range(1, 33):
        n, symmetry = divmod(k - 1, 16)
        text = line.replace("orientation{s}[n]", "orientation")
        assert evaluate(text, orientation=int(orientation[n]), transpose=symmetry // 8) == got[k]


def test_descriptions_of_tables():
    """What reading and writing go by is the table of SPEC.md: names, dtypes and shapes."""
    described = {(row["name"], row["dtype"], row["shape"]) for row in SPEC.table("Tables", "name")}
    assert {(f.name, np.dtype(f.dtype).name, str(f.shape).replace("'", "")) for f in tablefile.FIELDS} == described


def test_tables_that_training_makes():
    """Their shapes where the number of clusters is not that of their members, as it is in `random_pack`."""
    arrays = context_tables.context_tables({}, Scale(2, 8, (8, 32)), bands=3, limit=5)
    described = {row["name"]: (row["dtype"], row["shape"]) for row in SPEC.table("Tables", "name")}
    of_contexts = [name for name in described if re.match("depth|features|edges|classes|clusters|members", name)]
    general = {name: re.sub(r"2(_\d)?$", lambda m: "{s}_{i}" if m[1] else "{s}", name) for name in arrays}
    assert {*general.values()} == {*of_contexts}
    for name, array in arrays.items():
        sizes = {"D": 2, "bands": 3, "M": 5}
        if "{i}" in general[name]:
            i = int(name[-1])
            # The phases of the first iteration have classes of their own.
            sizes |= {"N": (8, 32)[i], "A": (2, 4)[i], "M": (10, 5)[i]}
        dtype, shape = described[general[name]]
        assert (array.dtype.name, array.shape) == (dtype, evaluate(shape, **sizes)), name


def test_graphs_and_weights_of_convolutions(random_pack):
    pack, smoothing = random_pack
    files = {row["file"]: (row["colour kind"], row["smoothing"]) for row in SPEC.table("Tables", "file")}
    assert files.keys() == pack.graphs.keys()
    (codewords,) = (name for name, kinds in files.items() if kinds == ("both", "both"))
    assert pack.graphs[codewords] == pack.codewords_graph
    for name, (kind, smooth) in files.items() - {(codewords, files[codewords])}:
        colour = {"grey": container.GREY, "RGB": container.RGB}[kind]
        assert pack.graph(colour, {"no": False, "yes": True}[smooth]) == pack.graphs[name]
    weights_of = {row["name"]: row["meaning"] for row in SPEC.table("Tables", "name") if "weights of" in row["meaning"]}
    shifts = {name: int(re.findall(r"over 2\^(\d+)", meaning)[0]) for name, meaning in weights_of.items()}
    assert shifts == dict.fromkeys(("smooth_w1", "smooth_w2", "first{s}", "second{s}"), fixed.WEIGHT_BITS)
    for colour, c in ((container.GREY, 1), (container.RGB, 3)):
        graph = onnx.load_from_string(pack.graph(colour, True)).graph
        inner = [a.g for node in graph.node for a in node.attribute if a.name == "then_branch"]
        assert [branch.name for branch in inner] == [f"lrcodec_scale{scale.scale}" for scale in pack.scales[1:]]
        weights = {w.name: numpy_helper.to_array(w).astype(float) for branch in inner for w in branch.initializer}
        w1, b1, w2, b2 = smoothing
        if c == 1:
            w1, w2, b2 = w1[:, :4], w2[:4], b2[:4]
        for name, array in (("w1", w1 / 2**9), ("b1", b1 + 0.5), ("w2", w2 / 2**9), ("b2", b2 + 0.5)):
            np.testing.assert_array_equal(weights[f"smooth_{name}_scale1"], array)
        for got, want in zip(reference.weights(pack.tables, c), (w1, b1, w2, b2), strict=True):
            np.testing.assert_array_equal(got, want)
        for scale in pack.scales[1:]:
            s, t, f = scale.scale, pack.tables, scale.channels(c)
            w1, b1, w2, b2 = t[f"first{s}"][:, :f], t[f"first_bias{s}"], t[f"second{s}"][: 4 * f], t[f"second_bias{s}"]
            b2 = b2[: 4 * f]
            for name, array in (("w1", w1 / 2**9), ("b1", b1 + 0.5), ("w2", w2 / 2**9), ("b2", b2)):
                name = f"predict_{name}_scale{s}"
                assert (name in weights) == (len(w1) > 0)
                np.testing.assert_array_equal(weights.get(name, array), array)


def test_graph_of_codewords(random_pack):
    pack, _ = random_pack
    rows = {row["input or output"]: (row["dtype"], row["shape"]) for row in SPEC.table("Graphs", "input or output")}
    session = ort.InferenceSession(pack.codewords_graph, providers=["CPUExecutionProvider"])
    assert [value.name for value in (*session.get_inputs(), *session.get_outputs())] == [*rows]
    random, sizes = np.random.default_rng(0), {"n": 5, "rank": 3, "p": 4, "F": 2}
    arrays = {}
    for name, (dtype, shape) in rows.items():
        arrays[name] = random.integers(-9, 10, evaluate(shape, **sizes)).astype(dtype)
    (codewords,) = session.run(None, {name: arrays[name] for name in ("left", "right")})
    assert (codewords.dtype, codewords.shape) == (arrays["codewords"].dtype, arrays["codewords"].shape)
    np.testing.assert_array_equal(codewords, np.einsum("nra,nrb->nab", arrays["left"], arrays["right"]))


def test_inputs_of_graphs(random_pack):
    pack, _ = random_pack
    types = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    inputs = [[row[head] for head in ("input", "dtype", "shape")] for row in SPEC.table("Graphs", "input")]
    expected = {
        name.format(s=scale.scale): (types[kind], len(shape.split(",")))
        for scale in pack.scales
        for name, kind, shape in inputs
        if name != "crop{s}" or scale != pack.scales[0]
    }

    def described(values) -> dict[str, tuple[int, int]]:
        kinds = {value.name: value.type.tensor_type for value in values}
        return {name: (kind.elem_type, len(kind.shape.dim)) for name, kind in kinds.items()}

    graph = onnx.load_from_string(pack.graph(container.RGB, True)).graph
    assert described(graph.input) == expected
    types["uint8"] = onnx.TensorProto.UINT8
    outputs = [[row[head] for head in ("output", "dtype", "shape")] for row in SPEC.table("Graphs", "output")]
    assert described(graph.output) == {
        name.format(s=scale.scale): (types[kind], len(shape.split(",")))
        for name, kind, shape in outputs
        for scale in pack.scales[:-1]
    }
    only = onnx.load_from_string(export.build_graph((Scale(1, 8, (2,)),), 3, [None], None)).graph
    assert described(only.output) == {"pixels": (types["uint8"], 4), "plane1": (types["float32"], 4)}


def test_fingerprint_example():
    example = SPEC.row("Model fingerprint", "decoder-grey.onnx")
    pack = {name: content.encode() for name, content in example.items() if "." in name}
    assert len(pack) == 2 and fingerprint(pack).hex() == example["SHA-256"]
    assert example["SHA-256"].startswith(example["fingerprint"])
    (kind,) = (row["kind"] for row in SPEC.table("Header fields") if row["name"] == "model")
    assert f"bytes{len(hexadecimal(example['fingerprint']))}" == kind == f"bytes{len(HEADER.model)}"


def test_model_file(random_pack):
    """The parts, the order of the arrays and the example, as the code writes them; the reference decoder reads them."""
    pack, _ = random_pack
    data = modelfile.save(pack)
    parts = {row["part"]: row["content"] for row in SPEC.table("Model file", "part")}
    assert [*parts] == ["signature", "version", "fingerprint", "arrays", "SHA-256"]
    signature, version = (hexadecimal(parts[part]) for part in ("signature", "version"))
    start = signature + version + pack.fingerprint
    assert data.startswith(start) and len(start) % 4 == 0 and len(data) % 4 == 0
    fingerprint, tables = reference.model_file(data)
    assert (fingerprint, tables.keys()) == (pack.fingerprint, pack.tables.keys())
    for name, array in tables.items():
        np.testing.assert_array_equal(array, pack.tables[name], strict=True)


def test_order_of_a_model_file():
    """The reference decoder reads the arrays in the order, and with the dtypes and numbers of axes, of "Tables"."""
    general = (
        *reference.MODEL_ARRAYS,
        *(f"{array.replace(':', '{s}:', 1)}" for array in reference.OF_SCALE),
        *(f"{array.replace(':', '{s}_{i}:', 1)}" for array in reference.OF_ITERATION),
    )
    rows = SPEC.table("Tables", "name")
    axes = [0 if row["shape"] == "()" else len(row["shape"].strip("(),").split(",")) for row in rows]
    described = zip(rows, axes, strict=True)
    assert [f"{row['name']}:{np.dtype(row['dtype']).str[1:]}:{count}" for row, count in described] == [*general]


def test_example_of_a_model_file(random_pack):
    rows = SPEC.table("Model file", "field")
    example = {row["field"]: hexadecimal(row["bytes"]) for row in rows}
    scales, channels = (numbers(row["value"]) for row in rows if row["field"] in ("scales", "channels"))
    pack = copy(random_pack[0])
    assert [int(pack.tables["channels"])] == channels
    arrays = {"scales": np.array(scales, np.int32).reshape(numbers(rows[3]["value"]))}
    pack.fingerprint, pack.tables = example["fingerprint"], pack.tables | arrays
    assert modelfile.save(pack).startswith(b"".join(example.values()))
