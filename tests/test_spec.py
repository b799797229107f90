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

from lrcodec import container, decoder, entropy, errors, fixed, zoo
from lrcodec.cli import main
from lrcodec.container import Chunk, Header
from lrcodec.encoder import export, tables
from lrcodec.errors import FormatError, UnsupportedError
from lrcodec.grid import Scale, check_scales

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
    named = {name for path in code for name in re.findall(r'SPEC\.md, "([^"]+)"', path.read_text(encoding="utf-8"))}
    assert len(named) > 5 and named <= headings
    inside = set(re.findall(r'"([A-Z][^"]+)"', SPEC))
    assert len(inside) >= 3 and inside <= headings


def test_glossary_has_every_term():
    terms = re.findall(r"^- \*\*(.+?)\*\*:", section("Glossary"), flags=re.M)
    assert len(terms) == len(set(terms))
    needed = "scale patch span iteration codeword index stop plane rank cluster member group phase pack fingerprint"
    assert {*needed.split(), "rate band", "context class"} <= set(terms)


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
    assert [row[0] for row in rows if row[2] == "defined"] == [container.INDICES.decode()]
    assert sorted(row[0] for row in rows if row[2] == "reserved") == sorted("AScex")
    bit = int(re.findall(r"Bit (0x\d+) of the tag is the ancillary bit", words("Chunks"))[0], 16)
    assert bit == container.ANCILLARY_BIT
    indices = Chunk(container.INDICES, b"")
    for tag, kind, status, _ in rows:
        assert kind == ("ancillary" if ord(tag) & bit else "critical")
        if status == "reserved":
            data = container.pack(HEADER, [Chunk(tag.encode(), b"later"), indices])
            if kind == "ancillary":
                assert container.unpack(data)[1][-1] == indices
            else:
                with pytest.raises(UnsupportedError):
                    container.unpack(data)


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
    example = hexadecimal(re.findall(r"are `([0-9A-F ]+)`", words("Options"))[0])
    assert container.pack(header, [])[7:9] == example


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


@pytest.mark.parametrize(
    "scales",
    [
        (Scale(4, 4, (1,)), Scale(1, 4, (1,))),
        (Scale(2, 4, (1,)),),
        (Scale(1, 5, (1,)),),
        (Scale(2, 4, (1,)), Scale(1, 6, (1,))),
        (Scale(1, 4, ()),),
        (Scale(1, 4, (8, 4), shared=True),),
    ],
    ids=["halve", "end at 1", "even", "nest", "iterations", "equal K if shared"],
)
def test_rules_of_grids(scales: tuple[Scale, ...]):
    with pytest.raises(ValueError):
        check_scales(scales)


def test_tables(random_pack):
    """Every array of tables.npz is named, with its type and its shape, and no other is."""
    pack, _ = random_pack
    t, rows = pack.tables, table("Tables")
    numbers = sorted((str(s.scale) for s in pack.scales), reverse=True)
    pattern = re.compile(rf"^([a-z]+?)({'|'.join(numbers)})(_\d+)?$")
    found = {name: pattern.sub(lambda m: m[1] + "{s}" + ("_{i}" if m[3] else ""), name) for name in t}
    assert sorted({*found.values()}) == sorted(row[0] for row in rows)
    described = {row[0]: row[1:3] for row in rows}
    for name, general in found.items():
        dtype, shape = described[general]
        sizes = {"S": len(pack.scales), "C": pack.channels, "bands": pack.bands, "R": pack.rank}
        sizes["H"] = len(t["smooth_b1"])
        if match := pattern.match(name):
            scale = next(s for s in pack.scales if s.scale == int(match[2]))
            sizes |= {"I": len(scale.codewords), "p": scale.patch, "rows": scale.rows}
            if match[3]:
                clusters = t[f"clusters{match[2]}{match[3]}"]
                sizes |= {"K": scale.codewords[int(match[3][1:])], "M": clusters.shape[1], "A": clusters.shape[2] - 1}
        assert (t[name].dtype.name, t[name].shape) == (dtype, eval(shape, {}, sizes)), name


def test_tables_that_training_makes():
    """Their shapes where the number of clusters is not that of their members, as it is in `random_pack`."""
    made = tables.context_tables({}, (8, 32), (2, 4), bands=3, limit=5)
    described = {row[0].replace("{s}", ""): row[1:3] for row in table("Tables")}
    for name, array in made.items():
        sizes = {"I": 2, "bands": 3, "M": 5}
        if name[-1].isdigit():
            sizes |= {"K": (8, 32)[int(name[-1])], "A": (2, 4)[int(name[-1])]}
        dtype, shape = described[re.sub(r"\d+$", "{i}", name)]
        assert (array.dtype.name, array.shape) == (dtype, eval(shape, {}, sizes)), name


def test_graphs_and_weights_of_smoothing(random_pack):
    pack, smoothing = random_pack
    assert set(re.findall(r"`(decoder-[a-z-]+\.onnx)`", words("Tables"))) == set(pack.graphs)
    for colour, c in ((container.GREY, 1), (container.RGB, 3)):
        graph = onnx.load_from_string(pack.graph(colour, True)).graph
        weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
        for name, whole in zip(("w1", "b1", "w2", "b2"), smoothing, strict=True):
            used = whole[: 4 * c] if name[1] == "2" else whole
            used = used[:, : 4 * c] if name == "w1" else used
            np.testing.assert_array_equal(weights[name], used / 512 if name[0] == "w" else used + 0.5)


def test_inputs_of_graphs(random_pack):
    pack, _ = random_pack
    types = {"int8": onnx.TensorProto.INT8, "int16": onnx.TensorProto.INT16, "int64": onnx.TensorProto.INT64}
    told = re.findall(r"`(\w+\{s\}\w*(?:\{d\})?)` (int\d+) \(([^)]*)\)", section("Graphs"))
    expected = {
        name.format(s=scale.scale, d=d): (types[kind], len(shape.split(",")))
        for scale in pack.scales
        for d in range(1, len(scale.codewords) + 1)
        for name, kind, shape in told
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
    features = re.findall(r"^(\d)\. ", section("Context classes"), flags=re.M)
    assert [int(f) for f in features] == list(range(entropy.FEATURES))
    digits = re.findall(
        r"level_0 \+ (\d+) \* level_1 \+ (\d+) \* level_2 \+ (\d+) \* level_3", words("Context classes")
    )
    assert [int(d) for d in digits[0]] == [entropy.LEVELS**f for f in range(1, entropy.FEATURES)]
    assert number(r"the number of the (\d+) edges", "Context classes") == entropy.LEVELS - 1
    assert f"`edges{{s}}` | uint8 | (I, 2, {entropy.FEATURES}, {entropy.LEVELS - 1})" in SPEC
    assert f"`classes{{s}}` | uint8 | (I, 2, {entropy.LEVELS**entropy.FEATURES})" in SPEC


def test_features_are_clipped(random_pack, random_planes):
    pack, _ = random_pack
    limit = number(r"replaced by `min\(feature, (\d+)\)`", "Context classes")
    highest = 0
    planes = random_planes(pack, replace(HEADER, width=200, height=100), 1)

    def coder(group: entropy.Group) -> np.ndarray:
        nonlocal highest
        highest = max(highest, *(int(f.max()) for f in group.features))
        return entropy.known(planes, group)

    entropy.walk(pack.scales, [np.full(s.rows, 200, np.uint8) for s in pack.scales], (100, 200), 3, 1, coder)
    assert highest == limit


def test_frequencies():
    eighths, formulas = literals("Frequencies")
    values = integers(eighths)
    assert values == entropy._EIGHTHS.tolist() == reference.EIGHTHS
    assert values == [round(2**24 * 2 ** (-j / 8)) for j in range(8)]
    assert 2 ** int(re.findall(r"w_j \* \(2\^(\d+) - n\)", formulas)[0]) == entropy.TOTAL
    assert number(r"whose sum is 2\^(\d+)\.", "Frequencies") == 24
    costs, freq = example_of_frequencies()
    assert entropy.frequencies(np.array(costs, np.uint8)).tolist() == reference.frequencies(costs) == freq


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
    if symbols:
        parameters = np.tile(np.array(freq) - 1, (len(symbols), 1)).astype(np.float32)
        queue.encode(np.array(symbols, np.int32), constriction.stream.model.Categorical(perfect=False), parameters)
    return entropy._finish(queue)


def by_reference(payload: bytes, freq: list[int], count: int) -> list[int] | None:
    """The symbols, or None if the payload is not valid."""
    coder = reference.RangeDecoder(payload)
    try:
        return [coder.symbol(freq) for _ in range(count)]
    except ValueError:
        return None


@settings(max_examples=500, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=3, max_size=3), st.lists(st.integers(0, 2), max_size=40))
def test_range_coder_writes_what_the_spec_says(costs: list[int], symbols: list[int]):
    freq = reference.frequencies(costs)
    payload = encode(symbols, freq)
    assert by_constriction(symbols, freq) == payload
    assert by_reference(payload, freq, len(symbols)) == symbols
    assert not payload or payload[-1] and by_reference(payload[:-1], freq, len(symbols)) != symbols


def test_range_coder_reads_what_the_spec_says():
    """The same symbols, or the same refusal, from whatever bytes."""
    assert 2 ** number(r"if quantile >= 2\^(\d+): the file is not valid", "Range coder") == entropy.TOTAL
    family = constriction.stream.model.Categorical(perfect=False)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        freq = reference.frequencies(random.integers(0, 200, 4).tolist())
        symbols = random.integers(0, 4, random.integers(1, 12)).tolist()
        payload = encode(symbols, freq)
        for data in (payload, payload[:-1], payload + b"\1", payload + bytes(9), payload[1:], b"\xff" * 8):
            words = np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype(np.uint32)
            parameters = np.tile(np.array(freq) - 1, (len(symbols), 1)).astype(np.float32)
            try:
                got = constriction.stream.queue.RangeDecoder(words).decode(family, parameters).tolist()
            except AssertionError:
                got = None
                refused += 1
            assert got == by_reference(data, freq, len(symbols))
    assert refused


# Reconstruction


def test_number_formats():
    told = {name: int(value.replace(",", "")) for name, value, _ in table("Number formats")}
    assert told == {name: value for name, value in vars(fixed).items() if name.isupper()}
    # The formulas hold these numbers as literals.
    planes = "".join(literals("Planes"))
    shift = fixed.FACTOR_BITS - fixed.PLANE_BITS
    limit = fixed.PLANE_LIMIT
    assert planes.count(f"+ {1 << shift - 1}) >> {shift}, -{limit}, {limit})") == 2
    assert f"+ {1 << shift - fixed.ENLARGE_BITS} * enlarged" in planes
    assert f"+ {1 << fixed.ENLARGE_BITS - 1}) >> {fixed.ENLARGE_BITS}" in literals("Enlargement")[1]
    bits = fixed.WEIGHT_BITS
    hidden = "".join(literals("Smoothing"))
    assert hidden.count(f"<< {bits}) + {1 << bits - 1}) >> {bits}") == 2
    assert f"0, {limit})" in hidden and f"-{limit}, {limit})" in hidden
    assert all(f"/ {1 << bits}" in row[2] for row in table("Smoothing") if row[0][0] == "w")
    assert f">> {fixed.COLOUR_BITS + fixed.PLANE_BITS}, 0, 255)" in literals("Colour")[1]


def test_order_of_rows_and_columns(random_pack):
    """A patch alone: its pixels lie where "Low-rank sums" says."""
    pack, _ = random_pack
    side, *example = integers(words("Low-rank sums").split("*Note*")[1].split(".")[0])
    h = side // 2
    assert example[:side] == list(range(side)) and example[side:] == [2 * (a % h) + a // h for a in range(side)]
    scale = pack.scales[-1]
    p, c = scale.patch, 3
    planes = [np.zeros((1, *s.grid(p, p), len(s.codewords)), np.int64) for s in pack.scales]
    planes[-1][0, 0, 0, 0] = 5
    u, v = (pack.tables[f"{name}1"][4, :2].astype(np.int64) for name in "uv")
    patch = np.einsum("ra,rb->ab", u, v)
    drawn = np.zeros((c, p, p), np.int64)
    for a in range(p):
        for b in range(c * p):
            t = b % p
            drawn[b // p, 2 * (a % (p // 2)) + a // (p // 2), 2 * (t % (p // 2)) + t // (p // 2)] = patch[a, b]
    plane = np.clip(drawn + 256 >> 9, -2047, 2047)
    expected = np.clip(np.einsum("jc,cyx->yxj", export.colour_matrix(3), plane) + (257 << 12) >> 13, 0, 255)
    got = decoder.Graph(pack, container.RGB, smoothing=False, threads=1).run(planes, 2, p, p)
    np.testing.assert_array_equal(got, expected[None])


def test_taps():
    taps = [integers(line) for line in literals("Enlargement")[0].splitlines()]
    assert taps == export.ENLARGE_TAPS.tolist() == reference.TAPS.tolist()


def test_colour_matrix():
    matrix = [integers(line) for line in literals("Colour")[0].splitlines()]
    assert matrix == export.colour_matrix(3).tolist()
    assert matrix[0][:1] == export.colour_matrix(1).ravel().tolist()
    shift, add = fixed.COLOUR_BITS + fixed.PLANE_BITS, re.findall(r"\((\d+) << (\d+)\)", literals("Colour")[1])[0]
    assert int(add[0]) << int(add[1]) == 128.5 * 2**shift


def test_bounds_of_exactness():
    """The fixed parts of the sums; with them, a scale's largest product is refused from 2^24 on."""
    gain = np.abs(export.ENLARGE_TAPS).sum(1).max()
    assert f"g = {gain} / {2**fixed.ENLARGE_BITS}:" in words("Exactness")
    g = gain / 2**fixed.ENLARGE_BITS
    enlarged = ((fixed.PLANE_LIMIT * g + 1) * g + 1) * 2 ** (fixed.FACTOR_BITS - fixed.PLANE_BITS)
    assert number(r"which is ([\d,]+);", "Exactness") == enlarged
    colour = np.abs(export.colour_matrix(3)).sum(1).max() * fixed.PLANE_LIMIT + 128.5 * 2**13
    assert number(r"which is ([\d,]+) in all", "Exactness") == colour < fixed.EXACT
    scale = Scale(1, 2, (1, 1))
    room = fixed.EXACT - int(enlarged)

    def check(product: int) -> None:
        """Two iterations whose largest sums over four ranks add up to `product`."""
        u, v = np.zeros((2, 4, 2), np.int8), np.zeros((2, 4, 6), np.int16)
        u[:, :, 0], u[1, 3, 0] = 127, 1
        rest = product
        for k in range(2):
            for r in range(4):
                v[k, r, 0] = min(rest // int(u[k, r, 0]), 32767)
                rest -= int(u[k, r, 0]) * int(v[k, r, 0])
        assert rest == 0
        export.check_exact((scale,), {1: (-u, v)}, None)

    check(room - 1)
    with pytest.raises(ValueError, match="not exact"):
        check(room)
