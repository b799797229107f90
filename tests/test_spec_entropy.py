"""SPEC.md and the code say the same of entropy coding."""

import re
from dataclasses import replace
from pathlib import Path

import constriction
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown import Document, evaluate, hexadecimal, numbers

from lrcodec import entropy
from lrcodec.entropy import cost_tables, order
from lrcodec.format.container import Header
from lrcodec.format.grid import Scale

SPEC = Document(Path(__file__).parent.parent / "SPEC.md")
HEADER = Header(width=64, height=64, colour=1, rank=2, iterations=8, band=0, smoothing=1, model=bytes(8))


def test_features():
    rows, count = SPEC.table("Context classes"), max(order.DEPTH_FEATURES, order.INDEX_FEATURES)
    assert [row["feature"] for row in rows] == [str(f) for f in range(count)]
    for column, features in (
        ("of a depth", order.DEPTH_FEATURES),
        ("of the index of iteration i", order.INDEX_FEATURES),
    ):
        assert [row[column] != "none" for row in rows] == [f < features for f in range(count)]


def test_cells(random_pack):
    """Cells of levels, as the formulas and the code work them out, and the sizes of the tables that they pick from."""
    formulas = SPEC.formulas("Context classes")
    shapes = {row["name"]: row["shape"] for row in SPEC.table("Tables", "name")}
    levels, edges = cost_tables.LEVELS, cost_tables.LEVELS - 1
    for name, features in (("depth_cell", order.DEPTH_FEATURES), ("index_cell", order.INDEX_FEATURES)):
        digits = cost_tables._levels(np.tile(np.arange(1, 8), (features, 1)))
        for values in np.random.default_rng(0).integers(0, levels, (50, features)):
            named = {f"level_{f}": int(level) for f, level in enumerate(values)}
            # With edges 1 to 7, the level of n is n - 1.
            code = sum(int(digits[f, level + 1]) for f, level in enumerate(values))
            assert evaluate(formulas[name], **named) == code
        highest = evaluate(formulas[name], **{f"level_{f}": levels - 1 for f in range(features)})
        assert highest == levels**features - 1
    assert shapes["depth_edges{s}"] == f"(2, {order.DEPTH_FEATURES}, {edges})"
    assert shapes["depth_classes{s}"] == f"(2, {levels**order.DEPTH_FEATURES})"
    assert shapes["edges{s}"] == f"({order.INDEX_FEATURES}, {edges})"
    assert shapes["classes{s}"] == f"(D, {levels**order.INDEX_FEATURES})"


def test_features_are_clipped(random_pack, random_planes):
    pack, _ = random_pack
    limit = evaluate(SPEC.formulas("Context classes")["capped"], feature=10**6)
    highest: dict[tuple[bool, int], int] = {}
    planes = random_planes(pack, replace(HEADER, width=200, height=100), 1)

    def coder(group: order.Group) -> np.ndarray:
        for f, feature in enumerate(group.features):
            key = group.iteration is None, f
            highest[key] = max(highest.get(key, 0), int(feature.max()))
        return order.symbols_of(planes, group)

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
        return order.symbols_of([coarse, fine], group)

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
    finest = entropy.tables(pack, HEADER.band)[-1]
    clusters, members = (pack.tables[f"{name}1_0"][0].astype(int) for name in ("clusters", "members"))
    b = members.shape[1]
    costs = [int(clusters[2, j // b] + members[j // b, j % b]) for j in range(members.size)]
    assert max(costs) > 255
    assert finest.frequencies(0, 0, 2).tolist() == reference.frequencies(costs)
    depths = pack.tables["depths1"][0, 1, 3]
    assert finest.frequencies(None, 1, 3).tolist() == reference.frequencies(depths)


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
    (total,) = re.findall(r"if quantile >= (.+): the file is not valid", SPEC.blocks("Range coder")[1])
    assert evaluate(total) == cost_tables.TOTAL
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
