"""SPEC.md and the code say the same of entropy coding."""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown import Document, evaluate, hexadecimal, numbers

from lrcodec import entropy
from lrcodec.entropy import cost_tables, features, order, plain_range_coder, range_coder
from lrcodec.entropy.features import DEPTH_FEATURES, INDEX_FEATURES, Traits
from lrcodec.format.container import Header
from lrcodec.format.grid import Scale
from lrcodec.packs import tablefile

SPEC = Document(Path(__file__).parent.parent / "SPEC.md")
CODERS = range_coder, plain_range_coder
"""The one that this machine uses, constriction where it is installed, and the one of machines without."""
both_coders = pytest.mark.parametrize("coder", CODERS, ids=["in use", "in Python"])
HEADER = Header(width=64, height=64, colour=1, rank=2, iterations=8, band=0, smoothing=1, model=bytes(4))


def test_features():
    depths, indices = (SPEC.table("Context classes", f"feature of {what}") for what in ("a depth", "an index"))
    assert [row["feature of a depth"] for row in depths] == [str(f) for f in range(DEPTH_FEATURES)]
    assert [row["feature of an index"] for row in indices] == [str(f) for f in range(len(features.FEATURES))]
    (limits,) = (field.limits for field in tablefile.FIELDS if field.name == "features{s}")
    assert limits == (0, len(features.FEATURES) - 1)


def test_cells(random_pack):
    """Cells of levels, as the formulas and the code work them out, and the sizes of the tables that they pick from."""
    formulas = SPEC.formulas("Context classes")
    shapes = {row["name"]: row["shape"] for row in SPEC.table("Tables", "name")}
    levels, edges = cost_tables.LEVELS, cost_tables.LEVELS - 1
    for name, count in (("depth_cell", DEPTH_FEATURES), ("index_cell", INDEX_FEATURES)):
        digits = cost_tables._levels(np.tile(np.arange(1, 8), (count, 1)))
        for values in np.random.default_rng(0).integers(0, levels, (50, count)):
            named = {f"level_{f}": int(level) for f, level in enumerate(values)}
            # With edges 1 to 7, the level of n is n - 1.
            code = sum(int(digits[f, level + 1]) for f, level in enumerate(values))
            assert evaluate(formulas[name], **named) == code
        highest = evaluate(formulas[name], **{f"level_{f}": levels - 1 for f in range(count)})
        assert highest == levels**count - 1
    assert shapes["depth_edges{s}"] == f"(2, {DEPTH_FEATURES}, {edges})"
    assert shapes["depth_classes{s}"] == f"(2, {levels**DEPTH_FEATURES})"
    assert shapes["features{s}"] == f"(D + 1, {INDEX_FEATURES})"
    assert shapes["edges{s}"] == f"(D + 1, {INDEX_FEATURES}, {edges})"
    assert shapes["classes{s}"] == f"(D + 1, {levels**INDEX_FEATURES})"


def traits_of(scale: Scale, energy, orientation, frequency) -> Traits:
    """Of a scale whose groups all pick all features."""
    s, every = scale.scale, range(len(features.FEATURES))
    arrays = {"energy": energy, "orientation": orientation, "frequency": frequency}
    arrays["features"] = np.tile(every, (len(scale.shapes) + 1, 1))
    return Traits.of(scale, {f"{name}{s}": np.array(values, np.uint8) for name, values in arrays.items()})


def test_features_are_clipped(random_pack, random_planes):
    pack, _ = random_pack
    limit = evaluate(SPEC.formulas("Context classes")["capped"], feature=10**6)
    highest: dict[tuple[bool, int], int] = {}
    planes = random_planes(pack, replace(HEADER, width=200, height=100), 1)

    def coder(group: order.Group) -> np.ndarray:
        for f, feature in enumerate(group.features):
            key = group.iteration is None, f
            highest[key] = max(highest.get(key, 0), int(feature.max()))
            assert feature.min() >= 0
        return order.symbols_of(planes, group)

    traits = [traits_of(s, [200] * s.rows, [8] * s.rows, [8] * s.rows) for s in pack.scales]
    order.walk(pack.scales, traits, [plane.shape[1:3] for plane in planes], 1, coder)
    # Parents and what is around them reach the limit, the others cannot.
    assert [highest[True, f] for f in (1, 2)] == [highest[False, f] for f in (2, 3)] == [limit] * 2
    assert highest[False, 0] == 3 and highest[True, 0] == highest[False, 1] <= 12
    assert [highest[False, f] for f in range(4, 11)] == [200, 8, 8, 32, 32, 8, 8]


def test_order_of_groups_and_features():
    """A grid of three patches by three, worked out by hand, under one of two patches by two with symmetries."""
    scales = (Scale(2, 8, (1,), symmetries=16), Scale(1, 8, (9, 9)))
    coarse = np.array([[1, 0], [3, 9]])[None, :, :, None]  # the last is transposed
    fine = np.array([[[1, 2], [0, 0], [3, 0]], [[4, 5], [6, 7], [0, 0]], [[0, 0], [8, 0], [9, 9]]])[None]
    seen = {}

    def coder(group: order.Group) -> np.ndarray:
        columns = [np.asarray(f).tolist() for f in group.features]
        seen[group.position, group.iteration, group.phase] = group.at.tolist(), *columns
        return order.symbols_of([coarse, fine], group)

    traits = [
        traits_of(scales[0], [10], [1], [5]),
        traits_of(scales[1], range(100, 118), [*range(9)] * 2, [1, 2, 3, 4, 5, 6, 7, 8, 8] * 2),
    ]
    order.walk(scales, traits, [(2, 2), (3, 3)], 1, coder)
    # Depths: places, sum of the neighbours' depths in phase 1, row, column; below, totals in place of the latter.
    depths = {key: value for key, value in seen.items() if key[1] is None}
    assert depths == {
        (0, None, 0): ([0, 3], [0, 0], [0, 1], [0, 1]),
        (0, None, 1): ([1, 2], [2, 2], [0, 1], [1, 0]),
        # totals of the coarse patches: 10, 0, 10, 10
        (1, None, 0): ([0, 2, 4, 6, 8], [0] * 5, [10, 0, 10, 10, 10], [10, 20, 10, 20, 10]),
        (1, None, 1): ([1, 3, 5, 7], [5, 4, 5, 4], [10, 10, 0, 10], [10, 10, 20, 20]),
    }
    # Indices, in the order of the file: places, then by patch: depth left, depths around; totals above; energy,
    # orientation and frequency of the index before; orientations and frequencies beside; those of the parent; last
    # row and column, which are those of the place.
    indices = [(key, [*zip(*value, strict=True)]) for key, value in seen.items() if key[1] is not None]
    for (position, *_), patches in indices:
        assert [patch[-2:] for patch in patches] == [divmod(patch[0], 2 + position) for patch in patches]
    indices = [(key, [patch[:-2] for patch in patches]) for key, patches in indices]
    assert indices == [
        ((0, 0, 0), [(0, 1, 1, 0, 0, 0, 4, 0, 16, 0, 4, 0), (3, 1, 1, 1, 1, 0, 4, 0, 16, 0, 4, 0)]),
        ((0, 0, 1), [(2, 1, 2, 1, 0, 0, 4, 0, 16, 10, 4, 0)]),
        (
            (1, 0, 0),
            [
                (0, 2, 2, 10, 10, 0, 4, 0, 16, 0, 1, 5),
                (2, 1, 0, 0, 20, 0, 4, 0, 16, 0, 4, 0),
                (4, 2, 3, 10, 10, 0, 4, 0, 16, 0, 1, 5),
                (8, 2, 1, 10, 10, 0, 4, 0, 16, 0, 7, 5),
            ],
        ),
        ((1, 0, 1), [(3, 2, 4, 10, 10, 0, 4, 0, 13, 7, 1, 5), (7, 1, 4, 10, 20, 0, 4, 0, 21, 14, 1, 5)]),
        (
            (1, 1, 0),
            [
                (0, 1, 2, 10, 10, 100, 0, 1, 15, 4, 1, 5),
                (3, 1, 4, 10, 10, 103, 3, 4, 13, 7, 1, 5),
                (4, 1, 3, 10, 10, 105, 5, 6, 18, 12, 1, 5),
                (8, 1, 1, 10, 10, 108, 8, 8, 19, 8, 7, 5),
            ],
        ),
    ]


def test_features_that_no_group_picks_are_not_computed(random_pack, random_planes, monkeypatch):
    pack, _ = random_pack
    planes = random_planes(pack, HEADER, 2)
    traits = [
        table.contexts.traits._replace(picked=np.tile([0, 1, 2, 3], (len(scale.shapes) + 1, 1)))
        for scale, table in zip(pack.scales, entropy.tables(pack, 0), strict=True)
    ]
    for name in ("latest", "orientations_beside", "frequencies_beside", "parent_orientation", "parent_frequency"):
        monkeypatch.setattr(features.Surroundings, name, property(lambda known: pytest.fail("not picked")))
    grids = [plane.shape[1:3] for plane in planes]
    order.walk(pack.scales, traits, grids, 1, lambda group: order.symbols_of(planes, group))


def test_costs_of_shapes(random_pack):
    """Summed over cluster and member, in the order of the shapes."""
    pack, _ = random_pack
    finest = entropy.tables(pack, HEADER.band)[-1]
    clusters, members = (pack.tables[f"{name}1_0"][0].astype(int) for name in ("clusters", "members"))
    b = members.shape[1]
    costs = [int(clusters[2, j // b] + members[j // b, j % b]) for j in range(members.size)]
    assert max(costs) > 255
    assert finest.frequencies(0, 0, 2).tolist() == reference.frequencies(costs)
    depths = pack.tables["depths1"][0, 1, 3]
    assert finest.frequencies(None, 1, 3).tolist() == reference.frequencies(depths)
    bits = -np.log2(np.array(reference.frequencies(costs)) / 2**24)
    np.testing.assert_allclose(finest.bits.shapes[0][2], bits, rtol=1e-6)


@both_coders
@pytest.mark.parametrize("count", [2, 8, 16])
def test_each_symmetry_has_the_frequencies_of_its_shape(count: int, coder: ModuleType):
    """What a range coder makes of a table of many rows is what it makes of each alone."""
    random = np.random.default_rng(count)
    costs = random.integers(0, 256, (100, count))
    freq = cost_tables.frequencies(costs)
    assert freq.tolist() == [reference.frequencies(row) for row in costs]
    symbols = random.integers(0, count, 100)
    together, alone = (coder.RangeEncoder() for _ in range(2))
    together.encode(symbols.astype(np.int32), cost_tables.SYMMETRY_MODELS, cost_tables._parameters(freq))
    for symbol, row in zip(symbols, freq, strict=True):
        alone.encode(np.array([symbol], np.int32), model_of(coder, row.tolist()))
    payload = entropy._finish(together)
    assert payload == entropy._finish(alone)
    by_spec = reference.RangeDecoder(payload)
    assert [by_spec.symbol(row) for row in freq.tolist()] == symbols.tolist()
    decoder = coder.RangeDecoder(words_of(payload))
    got = decoder.decode(coder.Categorical(perfect=False), cost_tables._parameters(freq))
    np.testing.assert_array_equal(got, symbols.astype(np.int32), strict=True)


def test_indices_of_shapes_and_symmetries():
    made = SPEC.formulas("Order")["index"]
    split = SPEC.formulas("Symmetries")
    for k in range(1, 50):
        parts = {name: evaluate(split[name], k=k, G=16) for name in ("shape", "symmetry")}
        assert evaluate(made, **parts, G=16) == k


def test_frequencies():
    eighths = numbers(SPEC.blocks("Frequencies")[0])
    assert eighths == cost_tables._EIGHTHS.tolist() == reference.EIGHTHS
    assert eighths == [round(2**24 * 2 ** (-j / 8)) for j in range(8)]
    assert evaluate(SPEC.formulas("Frequencies")["missing"].replace("(f_0 + ... + f_(n-1))", "0")) == cost_tables.TOTAL


@pytest.mark.parametrize("example", SPEC.table("Frequencies"), ids=lambda example: example["costs"])
def test_example_of_frequencies(example: dict[str, str]):
    costs, freq = numbers(example["costs"]), numbers(example["frequencies"])
    assert by_formulas(costs) == freq == reference.frequencies(costs)
    assert cost_tables.frequencies(np.array(costs)).tolist() == freq


def test_highest_cost_is_among_the_examples():
    highest = max(cost for example in SPEC.table("Frequencies") for cost in numbers(example["costs"]))
    assert highest == 2 * np.iinfo(np.uint8).max


def by_formulas(costs: list[int]) -> list[int]:
    """What the formulas of SPEC.md, "Frequencies", give."""
    formulas = SPEC.formulas("Frequencies")
    w = [evaluate(formulas["w_j"], E=numbers(SPEC.blocks("Frequencies")[0]), c_j=cost) for cost in costs]
    share = formulas["f_j"].replace("(w_0 + ... + w_(n-1))", "total")
    f = [evaluate(share, w_j=weight, n=len(costs), total=sum(w)) for weight in w]
    f[f.index(max(f))] += evaluate(formulas["missing"].replace("(f_0 + ... + f_(n-1))", "total"), total=sum(f))
    return f


def test_range_coder_example():
    example = SPEC.row("Range coder", "symbols")
    symbols, costs, payload = numbers(example["symbols"]), numbers(example["costs"]), hexadecimal(example["payload"])
    assert example["costs"] in {row["costs"] for row in SPEC.table("Frequencies")}
    freq = reference.frequencies(costs)
    assert by_reference(payload, freq, len(symbols)) == symbols
    assert [by_program(coder, symbols, freq) for coder in CODERS] == [payload] * 2
    assert encode(symbols, freq) == payload


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


def by_program(coder: ModuleType, symbols: list[int], freq: list[int]) -> bytes:
    """What the program writes for these symbols."""
    queue = coder.RangeEncoder()
    queue.encode(np.array(symbols, np.int32), model_of(coder, freq))
    return entropy._finish(queue)


def model_of(coder: ModuleType, freq: list[int]) -> object:
    """What the program codes symbols of these frequencies with, as `cost_tables.Models` makes it."""
    return coder.Categorical(np.array(freq, np.float64) - 1, perfect=False)


def words_of(payload: bytes) -> np.ndarray:
    """As the program hands them to a decoder."""
    return np.frombuffer(payload + bytes(-len(payload) % 4), ">u4").astype(np.uint32)


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
    assert [by_program(coder, symbols, freq) for coder in CODERS] == [payload] * 2
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
    assert [by_program(coder, symbols, freq) for coder in CODERS] == [payload] * 2
    assert by_reference(payload, freq, len(symbols)) == symbols


def test_range_coder_carries():
    """An interval that holds one half begins just below it, with words of ones behind the first, until its end."""
    freq = reference.frequencies([0, 3, 255])
    symbols = by_reference(b"\x80", freq, 100)
    settled = plain_range_coder.RangeEncoder()
    settled.encode(np.array(symbols, np.int32), model_of(plain_range_coder, freq))
    assert settled.get_compressed()[:3].tolist() == [2**31 - 1, 2**32 - 1, 2**32 - 1]
    symbols += [2] * 4
    payload = encode(symbols, freq)
    assert payload[:12] == b"\x80" + bytes(11)
    assert [by_program(coder, symbols, freq) for coder in CODERS] == [payload] * 2


@both_coders
def test_range_coder_reads_what_the_spec_says(coder: ModuleType):
    """The same symbols, or the same refusal, from whatever bytes."""
    (total,) = re.findall(r"if quantile >= (.+): the file is not valid", SPEC.blocks("Range coder")[1])
    assert evaluate(total) == cost_tables.TOTAL
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        freq = reference.frequencies(random.integers(0, 200, 4).tolist())
        symbols = random.integers(0, 4, random.integers(1, 12)).tolist()
        payload = encode(symbols, freq)
        for data in (payload, payload[:-1], payload + b"\1", payload + bytes(9), payload[1:], b"\xff" * 8):
            try:
                got = coder.RangeDecoder(words_of(data)).decode(model_of(coder, freq), len(symbols)).tolist()
            except entropy.UNFIT:
                got = None
                refused += 1
            assert got == by_reference(data, freq, len(symbols))
    assert refused


def test_absent_bytes():
    """The fillings, and how many bytes of them suffice: the last that a known symbol depends on is the eighth."""
    text = SPEC.sections["Cut payloads"]
    fillings = [hexadecimal(byte) for byte in re.findall(r"`([0-9A-F]{2})`", text)[:2]]
    assert (fillings, entropy.FILLED) == ([b"\x00", b"\xff"], 16) and f"As many as {entropy.FILLED} of them" in text
    random = np.random.default_rng(0)
    freq = cost_tables.frequencies(random.integers(0, 60, 9)).tolist()
    for size in range(24):
        payload = random.bytes(size)
        counts = set()
        for absent in (8, 9, 16, 40):
            coders = [reference.RangeDecoder(payload + filling * absent) for filling in fillings]
            known = []
            with suppress(reference.NotValid):
                while (symbol := coders[0].symbol(freq)) == coders[1].symbol(freq):
                    known.append(symbol)
            counts.add(tuple(known))
        assert len(counts) == 1
