"""SPEC.md and the code say the same: every fact here is read from SPEC.md's text and compared with the code.

The table of header fields is compared in test_container.py.
"""

import re
from dataclasses import replace
from pathlib import Path

import click
import constriction
import numpy as np
import onnx
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from lrcodec import decoder, entropy, errors
from lrcodec.cli.main import main
from lrcodec.entropy import cost_tables, order
from lrcodec.errors import FormatError, LrqError, UnsupportedError
from lrcodec.format import container, extras, fixed, grid
from lrcodec.format.container import Chunk, Header
from lrcodec.format.grid import Scale, check_scales
from lrcodec.packs import tablefile, zoo
from lrcodec.training import context_tables, export

ROOT = Path(__file__).parent.parent
SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")
HEADER = Header(width=64, height=64, colour=1, rank=2, iterations=8, band=0, smoothing=1, model=bytes(8))


def section(title: str) -> str:
    """Text below a heading, down to the next heading of any level."""
    parts = re.split(rf"^#+ {re.escape(title)}$", SPEC, flags=re.M)
    assert len(parts) == 2, title
    return re.split(r"^#+ ", parts[1], maxsplit=1, flags=re.M)[0]


def words(title: str) -> str:
    """A section in one line."""
    return " ".join(section(title).split())


def table(title: str) -> list[list[str]]:
    """Cells of the table in a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]]


def literals(title: str) -> list[str]:
    """The indented blocks of a section, each as its text."""
    return re.findall(r"(?:^    .*\n)+", section(title), flags=re.M)


def integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"(?<![\w.])-?\d+", text.replace(",", ""))]


def number(pattern: str, title: str) -> int:
    """The one number that the group of `pattern` matches in a section."""
    found = re.findall(pattern, words(title))
    assert len(found) == 1, (pattern, found)
    return int(found[0].replace(",", ""))


def hexadecimal(text: str) -> bytes:
    return bytes.fromhex(" ".join(text.split()))


def test_code_refers_to_headings_that_exist():
    headings = set(re.findall(r"^#+ (.+)$", SPEC, flags=re.M))
    code = [*(ROOT / "lrcodec").rglob("*.py"), ROOT / "tests" / "reference.py"]
    texts = [path.read_text(encoding="utf-8") for path in code]
    references = [names for text in texts for names in re.findall(r'SPEC\.md, ((?:"[^"]+"|, | and )+)', text)]
    named = {name for names in references for name in re.findall(r'"([^"]+)"', names)}
    assert len(named) > 5 and named <= headings
    inside = set(re.findall(r'"([A-Z][^"]+)"', SPEC))
    assert len(inside) >= 3 and inside <= headings


def test_glossary_has_every_term():
    terms = re.findall(r"^- \*\*(.+?)\*\*:", section("Glossary"), flags=re.M)
    assert len(terms) == len(set(terms))
    needed = (
        "scale patch span iteration codeword depth index plane strip rank cluster member group phase pack fingerprint"
    )
    assert {*needed.split(), "rate band", "energy level", "context class"} <= set(terms)


# Container


def test_signature_and_version():
    text = words("Container")
    assert hexadecimal(re.findall(r"four bytes `([0-9A-F ]+)`", text)[0]) == container.SIGNATURE
    assert hexadecimal(re.findall(r"the version: one byte, `(\d\d)`", text)[0]) == bytes([container.VERSION])
    assert number(r"Its version byte is (\d+)", "Status") == container.VERSION


def test_varint_examples():
    examples = re.findall(r"(\d+) is `([0-9A-F ]+)`", words("Varint"))
    assert len(examples) == 3
    for value, form in examples:
        assert container._varint(int(value)) == hexadecimal(form)
        assert container._Reader(hexadecimal(form)).varint("it") == int(value)
    longest = number(r"It MUST have at most (\d+) bytes", "Varint")
    assert container._Reader(b"\xff" * (longest - 1) + b"\x7f").varint("it") == 2 ** (7 * longest) - 1
    with pytest.raises(FormatError, match="too large"):
        container._Reader(b"\xff" * longest + b"\x01").varint("it")
    assert number(r"at most 2\^(\d+) - 1 bytes", "Limits") == 7 * longest


def test_crc_check_value():
    import zlib

    text, value = re.findall(r"ASCII bytes `(\d+)` is `(0x[0-9A-F]+)`", words("CRC-32"))[0]
    assert zlib.crc32(text.encode()) == int(value, 16)


def test_chunk_tags():
    rows = table("Chunks")
    assert [row[0].encode() for row in rows] == [*container.CONTENTS]
    bit = int(re.findall(r"Bit (0x\d+) of the tag is the ancillary bit", words("Chunks"))[0], 16)
    assert bit == container.ANCILLARY_BIT
    for tag, kind, status, content in rows:
        assert kind == ("ancillary" if ord(tag) & bit else "critical") and status == "defined"
        assert content.startswith(container.CONTENTS[tag.encode()])
    indices = Chunk(container.INDICES, b"")
    for tag in {*"BCDEFGHJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"} - {row[0] for row in rows}:
        data = container.pack(HEADER, [Chunk(tag.encode(), b"later"), indices])
        if ord(tag) & bit:
            assert container.unpack(data)[1][-1] == indices
        else:
            with pytest.raises(UnsupportedError):
                container.unpack(data)


def test_alpha():
    described = {int(row[0]): row[1] for row in table("Alpha")}
    assert [*described] == [*range(len(extras.AXES))]
    earlier = [None if "alpha" not in text else "x - 1" in text for text in described.values()]
    assert [axis if axis is None else axis == 1 for axis in extras.AXES] == earlier
    rows = re.findall(r"the alpha ([\d, ]+) above ([\d, ]+) may", words("Alpha"))[0]
    alpha = np.array([integers(row) for row in rows], np.uint8)
    payload = hexadecimal(literals("Alpha")[-1])
    assert payload[0] == number(r"payload, of filter (\d)", "Alpha")
    np.testing.assert_array_equal(extras.AlphaReader(payload, *alpha.shape).read(len(alpha)), alpha)
    np.testing.assert_array_equal(
        reference.alpha(payload, replace(HEADER, width=alpha.shape[1], height=len(alpha))), alpha
    )


def test_metadata():
    assert number(r"inflates to at most ([\d,]+) bytes", "Metadata") == extras.MAX_METADATA
    assert number(r"has at most ([\d,]+) bytes in each chunk", "Limits") == extras.MAX_METADATA
    tags = re.findall(r"^- `(\w)`: (?:an )?(ICC profile|EXIF|XMP)\b", section("Metadata"), flags=re.M)
    assert {tag.encode(): what for tag, what in tags} == {tag: container.CONTENTS[tag] for tag in extras.TAGS.values()}


def test_options():
    """The table of bits is what the fields make, and what they leave is reserved."""
    expected, at = [], 0
    for field in container.OPTIONS:
        bits = str(at) if field.bits == 1 else f"{at}..{at + field.bits - 1}"
        expected.append([bits, f"`{field.name}`" + (f" - {field.low}" if field.low else "")])
        assert field.high - field.low + 1 == 2**field.bits
        at += field.bits
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section("Options").splitlines()[7:]]
    assert [row for row in rows if len(row) == 2] == [*expected, [f"{at}..15", "reserved"]]
    told = dict(zip(("rank", "iterations", "band"), integers(words("Options").split("*Note*")[1]), strict=False))
    header = replace(HEADER, colour=container.RGB, smoothing=1, **told)
    for alpha, example in enumerate(re.findall(r"are `([0-9A-F ]+)`", words("Options"))):
        assert container.pack(replace(header, alpha=alpha), [])[7:9] == hexadecimal(example)
    assert alpha == 1


def test_container_example_and_overhead():
    header, chunks = container.unpack(hexadecimal(literals("Chunks")[0]))
    assert header == replace(HEADER, width=640, height=480, band=3, model=b"\x01" * 8)
    assert chunks == [Chunk(b"I", b"indices")]
    pattern = r"are (\d+) if the payload is shorter than (\d+) bytes, and (\d+) from (\d+) to ([\d,]+) bytes"
    small, below, large, low, high = (int(n.replace(",", "")) for n in re.findall(pattern, words("Chunks"))[0])
    for size, overhead in ((0, small), (below - 1, small), (low, large), (high, large), (high + 1, large + 1)):
        assert len(container.pack(HEADER, [Chunk(b"I", bytes(size))])) - size == overhead


def test_limits():
    assert number(r"`lrq` is ([\d,]+) pixels", "Limits") == container.MAX_PIXELS
    sides = {field.high for field in container.FIELDS if field.name in ("width", "height")}
    assert sides == {number(r"Sides are at most ([\d,]+) pixels", "Limits")}


def test_exit_codes():
    rows = table("Errors")
    kinds = {kind.__name__: kind.exit_code for kind in (errors.LrqError, *errors.LrqError.__subclasses__())}
    assert {row[1]: int(row[0]) for row in rows if row[1] != "none"} == kinds
    assert isinstance(main, click.Group) and main.help
    documented = re.findall(r"^ *(\d+)  +\w", main.help.split("Exit codes:")[1], flags=re.M)
    assert [row[0] for row in rows] == documented


# Model


def test_grid_example():
    width, height, scale, patch, span, rows, columns, tall, wide = integers(words("Grids").split("*Note*")[1])
    example = Scale(scale, patch, (1,))
    assert (example.span, example.grid(height, width)) == (span, (rows, columns))
    assert (tall, wide) == (rows * patch, columns * patch)


def test_strips_example():
    assert f"2^{grid.STRIP_PIXELS.bit_length() - 1} //" in literals("Strips")[0]
    assert grid.STRIP_PIXELS == reference.STRIP_PIXELS == 2**20
    span, width, height, columns, rows, high, count, last = integers(words("Strips").split("*Note*")[1])
    scales = (Scale(span // 4, 4, (1,)),)
    assert columns == scales[0].grid(height, width)[1] and rows == 2**20 // (span * span * columns)
    bounds = grid.strips(scales, height, width)
    assert (len(bounds), bounds[0], bounds[-1]) == (count, (0, high), (height - last, height))
    assert high == rows * span


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


def test_limits_of_models():
    assert number(r"span of the coarsest scale is at most ([\d,]+)", "Grids") == tablefile.MAX_SPAN
    assert number(r"Every scale has 1 to (\d+) iterations", "Grids") == tablefile.MAX_ITERATIONS
    assert number(r"K is 2 to ([\d,]+)", "Tables") == tablefile.MAX_CODEWORDS
    assert number(r"hidden channels of its smoothing pair, at most (\d+)", "Tables") == tablefile.MAX_HIDDEN
    assert number(r"The limit of `lrq` is ([\d,]+) bytes", "Tables") == tablefile.MAX_BYTES


def test_descriptions_of_tables():
    """What reading and writing go by is the table of SPEC.md: names, dtypes and shapes."""
    described = {tuple(row[:3]) for row in table("Tables")}
    fields = {(f.name, np.dtype(f.dtype).name, str(f.shape).replace("'", "")) for f in tablefile.FIELDS}
    assert fields == described


def test_tables(random_pack):
    """Every array of tables.npz is named, with its type and its shape, and no other is."""
    pack, _ = random_pack
    t, rows = pack.tables, table("Tables")
    numbers = sorted((str(s.scale) for s in pack.scales), reverse=True)
    pattern = re.compile(rf"^(?!smooth)([a-z_]+?)({'|'.join(numbers)})(_\d+)?$")
    found = {name: pattern.sub(lambda m: m[1] + "{s}" + ("_{i}" if m[3] else ""), name) for name in t}
    assert sorted({*found.values()}) == sorted(row[0] for row in rows)
    described = {row[0]: row[1:3] for row in rows}
    (inputs,) = re.findall(r"I is ([^,]+), with the F of scale 1", words("Tables"))
    for name, general in found.items():
        dtype, shape = described[general]
        c = pack.channels
        fine = pack.scales[-1].channels(c)
        sizes = {"S": len(pack.scales), "C": c, "bands": pack.bands, "R": pack.rank}
        sizes |= {"H": len(t["smooth_b1"]), "I": eval(inputs, {}, {"C": c, "F": fine})}
        if match := pattern.match(name):
            scale = next(s for s in pack.scales if s.scale == int(match[2]))
            sizes |= {"D": len(scale.codewords), "p": scale.patch, "rows": scale.rows, "F": scale.channels(c)}
            if "M" in shape:
                sizes["M"] = t[name].shape[shape.strip("()").split(", ").index("M")]
            if match[3]:
                clusters = t[f"clusters{match[2]}{match[3]}"]
                sizes |= {"K": scale.codewords[int(match[3][1:])], "A": clusters.shape[2]}
        assert (t[name].dtype.name, t[name].shape) == (dtype, eval(shape, {}, sizes)), name


def test_tables_that_training_makes():
    """Their shapes where the number of clusters is not that of their members, as it is in `random_pack`."""
    made = context_tables.context_tables({}, Scale(2, 8, (8, 32)), bands=3, limit=5)
    described = {row[0]: row[1:3] for row in table("Tables")}
    of_contexts = [name for name in described if re.match("depth|edges|classes|clusters|members", name)]
    general = {name: re.sub(r"2(_\d)?$", lambda m: "{s}_{i}" if m[1] else "{s}", name) for name in made}
    assert {*general.values()} == set(of_contexts)
    for name, array in made.items():
        sizes = {"D": 2, "bands": 3, "M": 5}
        if "{i}" in general[name]:
            sizes |= {"K": (8, 32)[int(name[-1])], "A": (2, 4)[int(name[-1])]}
        dtype, shape = described[general[name]]
        assert (array.dtype.name, array.shape) == (dtype, eval(shape, {}, sizes)), name


def test_graphs_and_weights_of_smoothing(random_pack):
    pack, smoothing = random_pack
    assert set(re.findall(r"`(decoder-[a-z-]+\.onnx)`", words("Tables"))) == set(pack.graphs)
    shifts = {row[0]: int(re.findall(r"over 2\^(\d+)", row[3])[0]) for row in table("Tables") if "weights of" in row[3]}
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
    told = re.findall(r"`(\w+\{s\}\w*(?:\{d\})?)` (float32|int64) \(([^)]*)\)", section("Graphs"))
    expected = {
        name.format(s=scale.scale, d=d): (types[kind], len(shape.split(",")))
        for scale in pack.scales
        for d in range(1, len(scale.codewords) + 1)
        for name, kind, shape in told
        if name != "crop{s}" or scale != pack.scales[0]
    }

    def described(values) -> dict[str, tuple[int, int]]:
        kinds = {value.name: value.type.tensor_type for value in values}
        return {name: (kind.elem_type, len(kind.shape.dim)) for name, kind in kinds.items()}

    graph = onnx.load_from_string(pack.graph(container.RGB, True)).graph
    assert described(graph.input) == expected
    (shape,) = re.findall(r"`pixels`, uint8 \(([^)]*)\)", words("Graphs"))
    assert described(graph.output) == {"pixels": (onnx.TensorProto.UINT8, len(shape.split(",")))}


def test_fingerprint_example():
    names = re.findall(r"`(ab|c|[\w-]+\.(?:onnx|npz))`", words("Model fingerprint").split("*Note*")[1])
    digest, short = re.findall(r"`([0-9a-f]{16,64})`", words("Model fingerprint"))
    assert zoo.fingerprint({names[0]: names[1].encode(), names[2]: names[3].encode()}).hex() == digest
    assert digest.startswith(short) and len(short) == 16
    assert number(r"first (\d+) bytes of a SHA-256", "Model fingerprint") == len(short) // 2 == len(HEADER.model)


# Entropy coding


def test_contexts():
    first, second = re.split("The four features", section("Context classes"))
    for text, count, name in (
        (first, order.DEPTH_FEATURES, "depth"),
        (second, order.INDEX_FEATURES, "index"),
    ):
        assert [int(f) for f in re.findall(r"^(\d)\. ", text, flags=re.M)] == list(range(count))
        cell = " + ".join(["level_0", *(f"{cost_tables.LEVELS**f} * level_{f}" for f in range(1, count))])
        assert re.search(rf"the cell of an? {name} is `{re.escape(cell)}`", words("Context classes"), flags=re.I)
    assert number(r"the number of its (\d+) edges", "Context classes") == cost_tables.LEVELS - 1
    levels, edges = cost_tables.LEVELS, cost_tables.LEVELS - 1
    assert f"`depth_edges{{s}}` | uint8 | (2, {order.DEPTH_FEATURES}, {edges})" in SPEC
    assert f"`depth_classes{{s}}` | uint8 | (2, {levels**order.DEPTH_FEATURES})" in SPEC
    assert f"`edges{{s}}` | uint8 | ({order.INDEX_FEATURES}, {edges})" in SPEC
    assert f"`classes{{s}}` | uint8 | (D, {levels**order.INDEX_FEATURES})" in SPEC


def test_features_are_clipped(random_pack, random_planes):
    pack, _ = random_pack
    limit = number(r"replaced by `min\(feature, (\d+)\)`", "Context classes")
    highest: dict[tuple[bool, int], int] = {}
    planes = random_planes(pack, replace(HEADER, width=200, height=100), 1)

    def coder(group: order.Group) -> np.ndarray:
        for f, feature in enumerate(group.features):
            key = group.iteration is None, f
            highest[key] = max(highest.get(key, 0), int(feature.max()))
        return order.known(planes, group)

    grids = [plane.shape[1:3] for plane in planes]
    order.walk(pack.scales, [np.full(s.rows, 200, np.uint8) for s in pack.scales], grids, 1, coder)
    # Parents and what is around them reach the limit, depths cannot.
    assert [highest[True, f] for f in (1, 2)] == [highest[False, f] for f in (2, 3)] == [limit] * 2
    assert highest[False, 0] == 3 and highest[True, 0] == highest[False, 1] <= 12


def test_order_of_phases_and_features():
    """A grid of three patches by three, worked out by hand, under one of two patches by two."""
    scales = (Scale(2, 8, (9,)), Scale(1, 8, (9, 9)))
    coarse = np.array([[1, 0], [3, 9]])[None, :, :, None]
    fine = np.array([[[1, 2], [0, 0], [3, 0]], [[4, 5], [6, 7], [0, 0]], [[0, 0], [8, 0], [9, 9]]])[None]
    energies = [np.arange(10, 19, dtype=np.uint8), np.arange(100, 118, dtype=np.uint8)]
    seen = {}

    def coder(group: order.Group) -> np.ndarray:
        columns = [np.asarray(f).tolist() for f in group.features]
        seen[group.position, group.iteration, group.phase] = group.at.tolist(), *columns
        return order.known([coarse, fine], group)

    order.walk(scales, energies, [(2, 2), (3, 3)], 1, coder)
    assert seen == {
        # depths: places, sum of the neighbours' depths in phase 1, row, column
        (0, None, 0): ([0, 3], [0, 0], [0, 1], [0, 1]),
        (0, None, 1): ([1, 2], [2, 2], [0, 1], [1, 0]),
        # indices: places, depth left, depths around, row, column
        (0, 0, 0): ([0, 2, 3], [1, 1, 1], [1, 2, 1], [0, 1, 1], [0, 0, 1]),
        # below, total of the parent and totals around it instead; later, what came before instead of the latter
        # totals of the coarse patches: 10, 0, 12, 18
        (1, None, 0): ([0, 2, 4, 6, 8], [0] * 5, [10, 0, 10, 12, 18], [12, 28, 12, 28, 12]),
        (1, None, 1): ([1, 3, 5, 7], [5, 4, 5, 4], [10, 10, 0, 12], [12, 12, 28, 28]),
        (1, 0, 0): (
            [0, 2, 3, 4, 7, 8],
            [2, 1, 2, 2, 1, 2],
            [2, 0, 4, 3, 4, 1],
            [10, 0, 10, 10, 12, 18],
            [12, 28, 12, 12, 28, 12],
        ),
        # Before: the energy of the first index, 99 more than the index.
        (1, 1, 0): ([0, 3, 4, 8], [1, 1, 1, 1], [2, 4, 3, 1], [10, 10, 10, 18], [100, 103, 105, 108]),
    }


def test_costs_of_indices(random_pack):
    """Summed over cluster and member, in the order of the codewords."""
    pack, _ = random_pack
    highest = number(r"They are up to (\d+)", "Order")
    assert highest == 2 * np.iinfo(np.uint8).max
    own = entropy.tables(pack, HEADER.band)[-1]
    clusters, members = (pack.tables[f"{name}1_0"][0].astype(int) for name in ("clusters", "members"))
    b = members.shape[1]
    costs = [int(clusters[2, j // b] + members[j // b, j % b]) for j in range(members.size)]
    assert max(costs) > 255
    assert own.frequencies(0, 0, 2).tolist() == reference.frequencies(costs)
    depths = pack.tables["depths1"][0, 1, 3]
    assert own.frequencies(None, 1, 3).tolist() == reference.frequencies(depths)
    assert (
        cost_tables.frequencies(np.array([0, highest])).tolist()
        == reference.frequencies([0, highest])
        == [2**24 - 1, 1]
    )


def test_frequencies():
    eighths, formulas = literals("Frequencies")
    values = integers(eighths)
    assert values == cost_tables._EIGHTHS.tolist() == reference.EIGHTHS
    assert values == [round(2**24 * 2 ** (-j / 8)) for j in range(8)]
    assert 2 ** int(re.findall(r"w_j \* \(2\^(\d+) - n\)", formulas)[0]) == cost_tables.TOTAL
    assert number(r"whose sum is 2\^(\d+)\.", "Frequencies") == 24
    costs, freq = example_of_frequencies()
    assert cost_tables.frequencies(np.array(costs, np.uint8)).tolist() == reference.frequencies(costs) == freq


def example_of_frequencies() -> tuple[list[int], list[int]]:
    found = re.findall(r"The costs ([\d, ]+) give the frequencies ([\d, ]+)\.", words("Frequencies"))
    costs, freq = ([int(n) for n in text.split(",")] for text in found[0])
    return costs, freq


def test_range_coder_example():
    text = re.findall(
        r"the symbols ([\d, ]+), all with the frequencies of the costs ([\d, ]+), are", words("Range coder")
    )
    symbols, costs = ([int(n) for n in part.split(",")] for part in text[0])
    assert costs == example_of_frequencies()[0]
    freq = reference.frequencies(costs)
    payload = hexadecimal(literals("Range coder")[-1])
    assert by_reference(payload, freq, len(symbols)) == symbols
    assert by_constriction(symbols, freq) == payload == encode(symbols, freq)


def encode(symbols: list[int], freq: list[int]) -> bytes:
    """The encoder of SPEC.md, "Range coder"."""
    lower, range_, n = 0, 2**64 - 1, 0
    for symbol in symbols:
        scale = range_ >> 24
        lower, range_ = lower + scale * sum(freq[:symbol]), scale * freq[symbol]
        if range_ < 2**32:
            lower, range_, n = lower << 32, range_ << 32, n + 1
    for length in range(4 * (n + 1) + 1):
        unit = 2 ** (32 * (n + 2) - 8 * length)
        number = -(-lower // unit)
        if number * unit < lower + range_:
            return number.to_bytes(length, "big")
    raise AssertionError("SPEC.md says that it stops by now")


def by_constriction(symbols: list[int], freq: list[int]) -> bytes:
    """What the program writes for these symbols."""
    queue = constriction.stream.queue.RangeEncoder()
    queue.encode(np.array(symbols, np.int32), model_of(freq))
    return entropy._finish(queue)


def model_of(freq: list[int]) -> constriction.stream.model.Categorical:
    """What the program codes symbols of these frequencies with, as `Tables.model` makes it."""
    return constriction.stream.model.Categorical(np.array(freq, np.float64) - 1, perfect=False)


def by_reference(payload: bytes, freq: list[int], count: int) -> list[int] | None:
    """The symbols, or None if the payload is not valid."""
    coder = reference.RangeDecoder(payload)
    try:
        return [coder.symbol(freq) for _ in range(count)]
    except ValueError:
        return None


@settings(max_examples=500, deadline=None)
@given(st.lists(st.integers(0, 510), min_size=3, max_size=3), st.lists(st.integers(0, 2), max_size=40))
def test_range_coder_writes_what_the_spec_says(costs: list[int], symbols: list[int]):
    freq = reference.frequencies(costs)
    payload = encode(symbols, freq)
    assert by_constriction(symbols, freq) == payload
    assert by_reference(payload, freq, len(symbols)) == symbols
    assert not payload or payload[-1] and by_reference(payload[:-1], freq, len(symbols)) != symbols


@pytest.mark.parametrize("count", [2, 33, 4096, 60000])
def test_range_coder_with_alphabets_of_all_sizes(count: int):
    """Most symbols at the least frequency, some at much more."""
    random = np.random.default_rng(count)
    freq = reference.frequencies(np.minimum(random.integers(0, 256, count) + random.integers(0, 256, count), 510))
    assert sum(freq) == 2**24 and min(freq) >= 1
    symbols = [0, count - 1, *random.integers(0, count, 30).tolist(), int(np.argmax(freq)), 0]
    payload = encode(symbols, freq)
    assert by_constriction(symbols, freq) == payload
    assert by_reference(payload, freq, len(symbols)) == symbols


def test_range_coder_reads_what_the_spec_says():
    """The same symbols, or the same refusal, from whatever bytes."""
    assert 2 ** number(r"if quantile >= 2\^(\d+): the file is not valid", "Range coder") == cost_tables.TOTAL
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        freq = reference.frequencies(random.integers(0, 200, 4).tolist())
        symbols = random.integers(0, 4, random.integers(1, 12)).tolist()
        payload = encode(symbols, freq)
        for data in (payload, payload[:-1], payload + b"\1", payload + bytes(9), payload[1:], b"\xff" * 8):
            words = np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype(np.uint32)
            try:
                got = constriction.stream.queue.RangeDecoder(words).decode(model_of(freq), len(symbols)).tolist()
            except AssertionError:
                got = None
                refused += 1
            assert got == by_reference(data, freq, len(symbols))
    assert refused


# Reconstruction


def test_number_formats():
    told = {name: int(value.replace(",", "")) for name, value, _ in table("Number formats")}
    assert told == {name: value for name, value in vars(fixed).items() if isinstance(value, int)}
    # The formulas hold these numbers as literals.
    planes = "".join(literals("Planes"))
    shift = fixed.FACTOR_BITS - fixed.PLANE_BITS
    limit = fixed.PLANE_LIMIT
    assert planes.count(f"+ {1 << shift - 1}) >> {shift}, -{limit}, {limit})") == 2
    assert f"+ {1 << shift - fixed.ENLARGE_BITS} * enlarged" in planes
    assert f"+ {1 << fixed.ENLARGE_BITS - 1}) >> {fixed.ENLARGE_BITS}" in literals("Enlargement")[1]
    bits, pixel = fixed.WEIGHT_BITS, fixed.COLOUR_BITS + fixed.PLANE_BITS
    hidden, change, smooth = literals("Smoothing")[1].splitlines()
    assert f"<< {bits}) + {1 << bits - 1}) >> {bits}, 0, {limit})" in hidden
    assert change.endswith(f"<< {bits}) + {1 << bits - 1}) >> {bits}") and smooth.endswith(f", -{limit}, {limit})")
    assert f"(257 << {pixel - 1})) >> {pixel}, 0, 255)" in literals("Pixels")[1]
    assert 257 << pixel - 1 == 128.5 * 2**pixel


def test_order_of_rows_and_columns(random_pack):
    """A patch alone: its pixels lie where "Low-rank sums" says."""
    pack, _ = random_pack
    side, *example = integers(words("Low-rank sums").split("*Note*")[1].split(".")[0])
    h = side // 2
    assert example[:side] == list(range(side)) and example[side:] == [2 * (a % h) + a // h for a in range(side)]
    coarse, scale = pack.scales[-2:]
    p, c = scale.patch, scale.channels(3)
    planes = [np.zeros((1, *s.grid(p, p), len(s.codewords)), np.int64) for s in pack.scales]
    planes[-1][0, 0, 0, 0] = 5

    def drawn(scale: Scale, row: int) -> np.ndarray:
        u, v = (pack.tables[f"{name}{scale.scale}"][row, :2].astype(np.int64) for name in "uv")
        patch, channels = np.einsum("ra,rb->ab", u, v), scale.channels(3)
        out, p = np.zeros((channels, scale.patch, scale.patch), np.int64), scale.patch
        for a in range(p):
            for b in range(channels * p):
                t = b % p
                out[b // p, 2 * (a % (p // 2)) + a // (p // 2), 2 * (t % (p // 2)) + t // (p // 2)] = patch[a, b]
        return np.clip(out + 256 >> 9, -2047, 2047)

    def shown(value: np.ndarray) -> np.ndarray:
        matrix = fixed.colour_matrix(3)[:, : len(value)]
        return np.clip(np.einsum("jc,cyx->yxj", matrix, value) + (257 << 12) >> 13, 0, 255)

    graph = decoder.Graph(pack, container.RGB, smoothing=False, threads=1)
    np.testing.assert_array_equal(graph.run(planes, 2, p, p)[0], shown(drawn(scale, 4)))
    if c < 3:
        # Chroma comes from the scale before, interpolated. Luma must not: so its part of V is zero here.
        planes[-1][:], planes[-2][0, 0, 0, 0] = 0, 7
        graph._inputs(2)["v2"][..., :8] = 0
        got = graph.run(planes, 2, p, p)[0]
        value = reference.interpolate(drawn(coarse, 6)[:, : p // 2, : p // 2])
        value[0] = 0
        np.testing.assert_array_equal(got, shown(value))


def test_chroma_taps():
    """The nine weights of each of the four pixels that a pixel of chroma becomes."""
    weights = integers(literals("Chroma")[0].split("=")[1])
    assert weights[:3] == [9, 3, 3]
    taps = np.einsum("ia,jb->ijab", fixed.CHROMA_TAPS, fixed.CHROMA_TAPS)
    assert taps[0, 0].ravel().tolist() == [1, 3, 0, 3, 9, 0, 0, 0, 0]
    impulse = np.zeros((1, 3, 3), np.int64)
    impulse[0, 1, 1] = 16
    wanted = np.pad(taps[:, :, ::-1, ::-1].transpose(2, 0, 3, 1).reshape(6, 6), 0)
    np.testing.assert_array_equal(reference.interpolate(impulse)[0], wanted)


def test_taps():
    taps = [integers(line) for line in literals("Enlargement")[0].splitlines()]
    assert taps == fixed.ENLARGE_TAPS.tolist() == reference.TAPS.tolist()


def test_colour_matrix():
    matrix = [integers(line) for line in literals("Pixels")[0].splitlines()]
    assert matrix == fixed.colour_matrix(3).tolist() == reference.MATRIX.tolist()
    assert matrix[0][:1] == fixed.colour_matrix(1).ravel().tolist()


def test_bounds_of_exactness():
    """The fixed parts of the sums; with them, what a model adds is refused from 2^24 on."""
    gain = np.abs(fixed.ENLARGE_TAPS).sum(1).max()
    assert f"g = {gain} / {2**fixed.ENLARGE_BITS}:" in words("Exactness")
    g = gain / 2**fixed.ENLARGE_BITS
    enlarged = ((fixed.PLANE_LIMIT * g + 1) * g + 1) * 2 ** (fixed.FACTOR_BITS - fixed.PLANE_BITS)
    assert number(r"which is ([\d,]+);", "Exactness") == enlarged
    colour = np.abs(fixed.colour_matrix(3)).sum(1).max() * fixed.PLANE_LIMIT + 128.5 * 2**13
    assert number(r"which is at most ([\d,]+)", "Exactness") == colour < fixed.EXACT
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
        export.check_exact((scale,), 3, {"u1": -u, "v1": v}, None)

    def smoothing(weight: int, bias: int, name: str) -> None:
        """Two hidden channels; the sums of one of the convolutions."""
        w1, b1, w2, b2 = (np.zeros(shape, np.int64) for shape in ((2, 12, 3, 3), 2, (12, 2, 3, 3), 12))
        weights, biases = (w1, b1) if name == "w1" else (w2, b2)
        weights[1, 1, 2, 0], weights[1, 0, 0, 0], biases[1] = -(weight // 2), weight - weight // 2, -bias
        export.check_exact((scale,), 3, zero, (w1, b1, w2, b2))

    limit, room = fixed.PLANE_LIMIT, fixed.EXACT - int(enlarged)
    w1, w2 = fixed.EXACT // limit - 1, fixed.EXACT // limit - 2**9 - 1
    b1 = -(-(fixed.EXACT - w1 * limit) // 2**9) - 1
    b2 = -(-(fixed.EXACT - (w2 + 2**9) * limit) // 2**9) - 1
    for check, least in (
        (product, (room,)),
        (lambda *sizes: smoothing(*sizes, "w1"), (w1, b1)),
        (lambda *sizes: smoothing(*sizes, "w2"), (w2, b2)),
    ):
        check(*least[:-1], least[-1] - 1)
        with pytest.raises(LrqError, match="not exact"):
            check(*least)
