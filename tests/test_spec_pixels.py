"""SPEC.md and the code say the same of the numbers that become pixels."""

import copy
import re
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import reference
from markdown import Document, evaluate, number, numbers

from lrcodec import decoder
from lrcodec.encoder.convolutions import Integers
from lrcodec.errors import LrqError
from lrcodec.format import container, fixed, grid, shrink
from lrcodec.format.container import Header
from lrcodec.format.grid import Scale
from lrcodec.training import exactness, export

SPEC = Document(Path(__file__).parent.parent / "SPEC.md")


def test_number_formats():
    described = {row["name"]: number(row["value"]) for row in SPEC.table("Number formats")}
    assert described == {name: value for name, value in vars(fixed).items() if isinstance(value, int)}
    # The formulas hold these numbers as literals.
    planes = "".join(SPEC.blocks("Planes"))
    shift = fixed.FACTOR_BITS - fixed.PLANE_BITS
    limit = fixed.PLANE_LIMIT
    assert planes.count(f"+ {1 << shift - 1}) >> {shift}, -{limit}, {limit})") == 2
    assert f"+ {1 << shift - fixed.ENLARGE_BITS} * enlarged" in planes
    assert f"+ {1 << fixed.ENLARGE_BITS - 1}) >> {fixed.ENLARGE_BITS}" in SPEC.blocks("Prediction")[1]
    bits, pixel = fixed.WEIGHT_BITS, fixed.COLOUR_BITS + fixed.PLANE_BITS
    assert bits == shift  # so the change is added to the sums of products as it is
    hidden, change, _ = SPEC.blocks("Prediction")[2].splitlines()
    assert f"<< {bits}) + {1 << bits - 1}) >> {bits}, 0, {limit})" in hidden and change.endswith(f"<< {bits})")
    hidden, change, smooth = SPEC.blocks("Smoothing")[1].splitlines()
    assert f"<< {bits}) + {1 << bits - 1}) >> {bits}, 0, {limit})" in hidden
    assert change.endswith(f"<< {bits}) + {1 << bits - 1}) >> {bits}") and smooth.endswith(f", -{limit}, {limit})")
    assert f"(257 << {pixel - 1})) >> {pixel}, 0, 255)" in SPEC.blocks("Pixels")[1]
    assert 257 << pixel - 1 == 128.5 * 2**pixel


def test_order_of_rows_and_columns(random_pack):
    """A patch alone: its pixels lie where "Low-rank sums" says."""
    pack, _ = random_pack
    formulas = SPEC.formulas("Low-rank sums")

    def place(name: str, p: int, **place_in_product: int) -> int:
        return evaluate(formulas[name], h=evaluate(formulas["h"], p=p), p=p, **place_in_product)

    example = SPEC.table("Low-rank sums")
    assert [int(row["a"]) for row in example] == [*range(len(example))]
    assert [int(row["row(a)"]) for row in example] == [place("row(a)", len(example), a=a) for a in range(len(example))]
    coarse, scale = pack.scales[-2:]
    p, c = scale.patch, scale.channels(3)
    planes = [np.zeros((1, *s.grid(p, p), len(s.codewords)), np.int64) for s in pack.scales]
    planes[-1][0, 0, 0, 0] = 5

    def drawn(scale: Scale, row: int) -> np.ndarray:
        u, v = (pack.tables[f"{name}{scale.scale}"][:, :2] for name in "uv")
        u, v = (factor[row] for factor in reference.codewords(u, v, scale.symmetries))
        patch, channels = np.einsum("ra,rb->ab", u, v), scale.channels(3)
        out, p = np.zeros((channels, scale.patch, scale.patch), np.int64), scale.patch
        for a in range(p):
            for b in range(channels * p):
                column = place("channel(b)", p, b=b), place("row(a)", p, a=a), place("column(b)", p, b=b)
                out[column] = patch[a, b]
        return np.clip(out + 256 >> 9, -2047, 2047)

    def shown(value: np.ndarray) -> np.ndarray:
        matrix = fixed.colour_matrix(3)[:, : len(value)]
        return np.clip(np.einsum("jc,cyx->yxj", matrix, value) + (257 << 12) >> 13, 0, 255)

    graph = decoder.Graph(pack, container.RGB, smoothing=False, threads=1)
    plain = export.build_graph(pack.scales, 3, [None] * len(pack.scales), None)  # convolutions would see other patches
    graph.session = ort.InferenceSession(plain, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(graph.run(planes, 2, p, p)[0], shown(drawn(scale, 4)))
    if c < 3:
        # Chroma comes from the scale before, interpolated. Luma must not: so its part of V is zero here.
        planes[-1][:], planes[-2][0, 0, 0, 0] = 0, 7
        graph.pack = copy.copy(pack)
        name, graph.pack.factors = f"v{coarse.scale}", {}
        graph.pack.tables = pack.tables | {name: pack.tables[name].copy()}
        graph.pack.tables[name][6 // coarse.symmetries, :, : coarse.patch] = 0
        got = graph.run(planes, 2, p, p)[0]
        value = reference.interpolate(drawn(coarse, 6)[:, : p // 2, : p // 2])
        value[0] = 0
        np.testing.assert_array_equal(got, shown(value))


def test_chroma_taps():
    """The nine weights of each of the four pixels that a pixel of chroma becomes."""
    weights = numbers(SPEC.formulas("Chroma")["chroma(c, 2 * y + q, 2 * x + r)"])
    assert weights[:3] == [9, 3, 3]
    taps = np.einsum("ia,jb->ijab", fixed.CHROMA_TAPS, fixed.CHROMA_TAPS)
    assert taps[0, 0].ravel().tolist() == [1, 3, 0, 3, 9, 0, 0, 0, 0]
    impulse = np.zeros((1, 3, 3), np.int64)
    impulse[0, 1, 1] = 16
    wanted = np.pad(taps[:, :, ::-1, ::-1].transpose(2, 0, 3, 1).reshape(6, 6), 0)
    np.testing.assert_array_equal(reference.interpolate(impulse)[0], wanted)


def test_taps():
    taps = [numbers(line) for line in SPEC.blocks("Prediction")[0].splitlines()]
    assert taps == fixed.ENLARGE_TAPS.tolist() == reference.TAPS.tolist()


@pytest.mark.parametrize("hidden", [0, 2])
def test_change_of_prediction(hidden: int):
    """The formulas, pixel by pixel, against the reference decoder."""
    random = np.random.default_rng(3)
    shapes = (hidden, 3, 3, 3), hidden, (12, hidden, 3, 3), 12
    weights = [random.integers(-300, 301, shape) for shape in shapes]
    coarser = random.integers(-2047, 2048, (3, 4, 5))
    got = reference.change(coarser, *weights)
    if not hidden:
        return np.testing.assert_array_equal(got, np.zeros((3, 8, 10)))
    formulas = SPEC.formulas("Prediction")
    names = {"clip": lambda x, a, b: min(max(x, a), b), "coarser": zero_outside(coarser)}
    names |= dict(zip(("w1", "b1", "w2", "b2"), weights, strict=True))

    def values(name: str, count: int, inputs: int) -> np.ndarray:
        terms = f"for i in range({inputs}) for j in range(3) for k in range(3))"
        formula = re.sub(r"sum of (.*? k - 1\))", rf"sum(\1 {terms}", formulas[f"{name}(o, y, x)"])
        function = evaluate(f"lambda o, y, x: {formula}", **names)
        return np.array([function(*at) for at in np.ndindex(count, 4, 5)]).reshape(count, 4, 5)

    names["hidden"] = zero_outside(values("hidden", 2, 3))
    names["sums"] = zero_outside(values("sums", 12, 2))
    place = "change(c, 2 * y + q, 2 * x + r)"
    for c, y, x, q, r in np.ndindex(3, 4, 5, 2, 2):
        assert got[c, 2 * y + q, 2 * x + r] == evaluate(formulas[place], **names, c=c, y=y, x=x, q=q, r=r)


def zero_outside(planes: np.ndarray):
    """planes(i, y, x)."""
    padded = np.pad(planes, [(0, 0), (1, 1), (1, 1)])
    return lambda i, y, x: padded[i, y + 1, x + 1]


def test_colour_matrix():
    matrix = [numbers(line) for line in SPEC.blocks("Pixels")[0].splitlines()]
    assert matrix == fixed.colour_matrix(3).tolist() == reference.MATRIX.tolist()
    assert matrix[0][:1] == fixed.colour_matrix(1).ravel().tolist()


def test_sizes_of_reduced_images():
    formulas = SPEC.formulas("Reduced pixels")
    for row in SPEC.table("Reduced pixels"):
        example = {name: int(cell) for name, cell in row.items()}
        names = {name: example[name] for name in ("width", "height", "S", "coarsest")} | {"min": min}
        for name in ("reduced_width", "reduced_height", "t", "n"):
            names[name] = evaluate(formulas[name], **names)
            assert names[name] == example[name]
        head = Header(example["width"], example["height"], 1, 0, 1, 1, 0, bytes(4)).shrunk(example["S"])
        assert (head.width, head.height) == (example["reduced_width"], example["reduced_height"])
        sides = [example["coarsest"] >> k for k in range(example["coarsest"].bit_length())]
        drawn = grid.drawn([Scale(s, 2, (1,)) for s in sides], example["S"])
        assert drawn[-1].scale == example["t"]


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_means_of_reduced_images(n: int):
    """The formulas, number by number, against the reference decoder and the code; the last mean covers an edge."""
    formulas = SPEC.formulas("Reduced pixels")
    terms = re.compile(r"sum of (\w+\([^)]*\))")
    values = np.random.default_rng(n).integers(-2047, 2048, (2, 2 * n + 1, 3 * n - n // 2))

    def at(c: int, y: int, x: int) -> int:
        return int(values[c, min(y, values.shape[1] - 1), min(x, values.shape[2] - 1)])

    got = reference.means(values, n, 3, 3)
    np.testing.assert_array_equal(shrink.means(values.astype(np.int16), n, 3, 3), got)
    for name, side in (("small(c, y, x)", "n"), ("reduced_alpha(y, x)", "S")):
        formula = terms.sub(rf"sum(\1 for j in range({side}) for k in range({side}))", formulas[name])
        for c, y, x in np.ndindex(got.shape):
            names = {side: n, "c": c, "y": y, "x": x, "plane_t": at, "alpha": lambda y, x, c=c: at(c, y, x), "sum": sum}
            assert evaluate(formula, **names) == got[c, y, x]


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_of_reduced_images(channels: int):
    """As of others: the formulas are the same, but for a name."""
    formulas, whole = SPEC.formulas("Reduced pixels"), SPEC.formulas("Pixels")
    level = formulas["level(i, y, x)"].replace("small", "value").replace("[i]", "[j]")
    assert level == whole["level(j, y, x)"]
    assert formulas["pixel(y, x, i)"].replace("(i,", "(j,") == whole["pixel(y, x, j)"]
    limit = fixed.PLANE_LIMIT
    planes = np.random.default_rng(0).integers(-limit, limit + 1, (channels, 40, 50))
    planes[:, 0, :9] = np.array([limit, -limit, 0]).repeat(3)
    np.testing.assert_array_equal(shrink.colours(planes.astype(np.int16)), reference.coloured(planes), strict=True)


def test_bounds_of_exactness():
    """The fixed parts of the sums; with them, what a model adds is refused from 2^24 on."""
    gain = np.abs(fixed.ENLARGE_TAPS).sum(1).max()
    formulas = SPEC.formulas("Exactness")
    g = gain / 2**fixed.ENLARGE_BITS
    assert evaluate(formulas["g"]) == g
    enlarged = ((fixed.PLANE_LIMIT * g + 1) * g + 1) * 2 ** (fixed.FACTOR_BITS - fixed.PLANE_BITS)
    sums = {row["sum"]: number(row["value"]) for row in SPEC.table("Exactness")}
    assert sums["enlargement"] == evaluate(formulas["enlarged"], g=g) == enlarged < fixed.EXACT
    assert sums["chroma"] == np.abs(fixed.CHROMA_TAPS).sum(1).max() ** 2 * fixed.PLANE_LIMIT + 8 < 2**15
    colour = np.abs(fixed.colour_matrix(3)).sum(1).max() * fixed.PLANE_LIMIT + 128.5 * 2**13
    assert sums["pixels"] == colour < fixed.EXACT
    scale = Scale(1, 2, (1, 1))
    zero = {"u1": np.zeros((2, 4, 2), np.int8), "v1": np.zeros((2, 4, 6), np.int16)}

    def product(total: int) -> None:
        """Two iterations whose largest sums over four ranks add up to `total`."""
        u, v = np.zeros((2, 4, 2), np.int8), np.zeros((2, 4, 6), np.int16)
        u[:, :, 0], u[1, 3, 0] = 127, 1
        rest = total
        for k in range(2):
            for r in range(4):
                v[k, r, 0] = min(rest // int(u[k, r, 0]), 32767)
                rest -= int(u[k, r, 0]) * int(v[k, r, 0])
        assert rest == 0
        exactness.check_exact((scale,), 3, {"u1": -u, "v1": v}, [None], None)

    def convolutions(inputs: int, name: str, weight: int, bias: int) -> Integers:
        """Two hidden channels; the sums of one of the convolutions."""
        w1, b1, w2, b2 = (np.zeros(shape, np.int64) for shape in ((2, inputs, 3, 3), 2, (12, 2, 3, 3), 12))
        weights, biases = (w1, b1) if name == "w1" else (w2, b2)
        weights[1, 1, 2, 0], weights[1, 0, 0, 0], biases[1] = -(weight // 2), weight - weight // 2, -bias
        return w1, b1, w2, b2

    def prediction(name: str, weight: int, bias: int) -> None:
        exactness.check_exact((scale,), 3, zero, [convolutions(3, name, weight, bias)], None)

    def smoothing(name: str, weight: int, bias: int) -> None:
        exactness.check_exact((scale,), 3, zero, [None], convolutions(12, name, weight, bias))

    limit, room = fixed.PLANE_LIMIT, fixed.EXACT - int(enlarged)
    w1, w2, change = fixed.EXACT // limit - 1, fixed.EXACT // limit - 2**9 - 1, room // limit - 1
    b1 = -(-(fixed.EXACT - w1 * limit) // 2**9) - 1
    b2 = -(-(fixed.EXACT - (w2 + 2**9) * limit) // 2**9) - 1
    change_bias = -(-(room - change * limit) // 2**9)
    for check, least in (
        (product, (room,)),
        (partial(prediction, "w1"), (w1, b1)),
        (partial(prediction, "w2"), (change, change_bias)),
        (partial(smoothing, "w1"), (w1, b1)),
        (partial(smoothing, "w2"), (w2, b2)),
    ):
        check(*least[:-1], least[-1] - 1)
        with pytest.raises(LrqError, match="not exact"):
            check(*least)
