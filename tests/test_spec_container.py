"""SPEC.md and the code say the same of a file: container, limits, errors."""

import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import reference
from markdown import Document, anchor, evaluate, hexadecimal, number, numbers

from lrcodec import errors
from lrcodec.cli.main import main
from lrcodec.errors import FormatError, UnsupportedError
from lrcodec.format import container, grid, metadata
from lrcodec.format.alpha import AXES, AlphaReader
from lrcodec.format.container import Chunk, Header
from lrcodec.format.numbers import Reader, varint
from lrcodec.packs import tablefile

ROOT = Path(__file__).parent.parent
SPEC = Document(ROOT / "SPEC.md")
HEADER = Header(width=64, height=64, colour=1, rank=2, iterations=8, band=0, smoothing=1, model=bytes(4))


def limits() -> dict[str, int]:
    return {row["name"]: number(row["value"]) for rows in SPEC.tables("Limits") for row in rows}


def test_code_refers_to_headings_that_exist():
    code = [*(ROOT / "lrcodec").rglob("*.py"), *(ROOT / "tests").glob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in code]
    references = [names for text in texts for names in re.findall(r'SPEC\.md, ((?:"[^"]+"|, | and )+)', text)]
    named = {name for names in references for name in re.findall(r'"([^"]+)"', names)}
    assert len(named) > 5 and named <= {*SPEC.headings}


def test_links_lead_to_headings():
    links = set(re.findall(r"\]\((#[^)]+)\)", (ROOT / "SPEC.md").read_text(encoding="utf-8")))
    assert len(links) >= 10 and links <= {anchor(heading) for heading in SPEC.headings}


def test_glossary_has_every_term():
    terms = [row["term"] for row in SPEC.table("Glossary")]
    assert len(terms) == len(set(terms))
    needed = (
        "scale patch span iteration codeword depth index plane strip rank cluster member group phase pack fingerprint"
    )
    assert {*needed.split(), "rate band", "energy level", "context class"} <= set(terms)


def test_signature_and_version():
    content = {row["part"]: row["content"] for row in SPEC.table("Container")}
    assert hexadecimal(content["signature"]) == container.SIGNATURE
    assert hexadecimal(content["version"]) == bytes([container.VERSION_BIT + container.VERSION])
    assert [*content] == ["signature", "version", "header fields", "chunks"]


def test_header_fields():
    rows = SPEC.table("Header fields")
    assert [[*row] for row in rows] == [["name", "kind", "range", "meaning"]] * len(rows)
    described = [(field.name, field.kind, field.meaning) for field in container.FIELDS]
    assert [(row["name"], row["kind"], row["meaning"]) for row in rows] == described
    for field, row in zip(container.FIELDS, rows, strict=True):
        assert field.kind == "bytes4" or numbers(row["range"]) == [field.low, field.high], field.name


def test_options():
    """The table of bits is what the fields make, and what they leave is reserved."""
    expected, at = [], 0
    for field in container.OPTIONS:
        bits = str(at) if field.bits == 1 else f"{at}..{at + field.bits - 1}"
        expected.append([bits, field.name + (f" - {field.low}" if field.low else "")])
        assert field.high - field.low + 1 == 2**field.bits
        at += field.bits
    assert [[*row.values()] for row in SPEC.table("Options", "bits")] == [*expected, [f"{at}..15", "reserved"]]


def test_examples_of_options():
    examples = SPEC.table("Options", "colour")
    for row in examples:
        fields = {name: int(value) for name, value in row.items() if name != "options"}
        assert [*fields] == [field.name for field in container.OPTIONS]
        assert container.pack(replace(HEADER, **fields), [])[6:8] == hexadecimal(row["options"])
    assert {row["alpha"] for row in examples} == {"0", "1"}


def test_varints():
    examples = SPEC.table("Varint")
    assert len(examples) == 3
    for row in examples:
        assert varint(int(row["number"])) == hexadecimal(row["varint"])
        assert Reader(hexadecimal(row["varint"])).varint("it") == int(row["number"])
    longest, largest = limits()["MAX_VARINT"], limits()["MAX_PAYLOAD"]
    assert Reader(b"\xff" * (longest - 1) + b"\x7f").varint("it") == 2 ** (7 * longest) - 1 == largest
    with pytest.raises(FormatError, match="too large"):
        Reader(b"\xff" * longest + b"\x01").varint("it")


def test_crc():
    """A bitwise CRC-32 of SPEC.md's parameters, and its check value, are what zlib computes."""
    polynomial, initial, final, check = (number(row["value"]) for row in SPEC.table("CRC-32"))
    value = initial
    for byte in b"123456789":
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ polynomial * (value & 1)
    assert value ^ final == check == zlib.crc32(b"123456789")
    assert "123456789" in SPEC.table("CRC-32")[3]["parameter"]


def test_chunk_tags():
    rows, rule = SPEC.table("Chunks", "tag"), SPEC.formulas("Chunks")["ancillary"]
    assert [row["tag"].encode() for row in rows] == [*container.CONTENTS]
    bits = [bit for bit in range(8) if evaluate(rule, tag=1 << bit)]
    assert [1 << bit for bit in bits] == [container.ANCILLARY_BIT]
    for row in rows:
        assert row["kind"] == ("ancillary" if evaluate(rule, tag=ord(row["tag"])) else "critical")
        assert row["content"].startswith(container.CONTENTS[row["tag"].encode()])
    indices = Chunk(container.INDICES, b"")
    letters = {*"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"}
    for tag in letters - {row["tag"] for row in rows}:
        data = container.pack(HEADER, [Chunk(tag.encode(), b"later"), indices])
        if evaluate(rule, tag=ord(tag)):
            assert container.unpack(data)[1][-1] == indices
        else:
            with pytest.raises(UnsupportedError):
                container.unpack(data)


def test_container_example():
    rows = SPEC.table("Chunks", "field")
    header, (chunk,) = container.unpack(hexadecimal(" ".join(row["bytes"] for row in rows)))
    content = {row["field"]: hexadecimal(row["bytes"]) for row in rows}
    told = {row["field"]: row["value"] for row in rows}
    assert header == replace(HEADER, width=640, height=480, band=3, model=b"\x01" * 4)
    assert (header.width, header.height) == (int(told["width"]), int(told["height"]))
    assert content["options"] == hexadecimal(SPEC.table("Options", "colour")[0]["options"])
    assert chunk == Chunk(b"I", b"indices") == Chunk(told["tag"].encode(), told["payload"].encode())
    assert (content["tag"], content["payload"]) == (*chunk,) and content["length"] == bytes([int(told["length"])])


def test_overhead():
    rows = SPEC.table("Chunks", "bytes of the payload")
    for row in rows:
        for size in numbers(row["bytes of the payload"]):
            assert len(container.pack(HEADER, [Chunk(b"I", bytes(size))])) - size == int(row["bytes around it"])
    low, high = (numbers(row["bytes of the payload"]) for row in rows)
    assert low[0] == 0 and low[1] + 1 == high[0]
    more = len(container.pack(HEADER, [Chunk(b"I", bytes(high[1] + 1))])) - high[1] - 1
    assert more == int(rows[1]["bytes around it"]) + 1


def test_filters_of_alpha():
    formulas = {int(row["filter"]): row["alpha(y, x)"] for row in SPEC.table("Alpha", "filter")}
    assert [*formulas] == [*range(len(AXES))]
    random = np.random.default_rng(0)
    z = random.integers(0, 256, (3, 4), np.uint8)
    for kind, formula in formulas.items():

        def alpha(y: int, x: int, formula: str = formula) -> int:
            return evaluate(formula, x=x, y=y, alpha=alpha, z=lambda y, x: int(z[y, x])) if min(y, x) >= 0 else 0

        expected = [[alpha(y, x) for x in range(4)] for y in range(3)]
        payload = bytes([kind]) + zlib.compress(z.tobytes())
        assert AlphaReader(payload, 3, 4).read(3).tolist() == expected
        assert reference.alpha(payload, replace(HEADER, width=4, height=3)).tolist() == expected


def test_example_of_alpha():
    example = SPEC.row("Alpha", "alpha, row 0")
    alpha = np.array([numbers(example[f"alpha, row {y}"]) for y in (0, 1)], np.uint8)
    payload = hexadecimal(example["payload"])
    assert payload[0] == int(example["filter"])
    np.testing.assert_array_equal(AlphaReader(payload, *alpha.shape).read(len(alpha)), alpha)
    header = replace(HEADER, width=alpha.shape[1], height=len(alpha))
    np.testing.assert_array_equal(reference.alpha(payload, header), alpha)


def test_metadata():
    described = {row["tag"].encode(): row["content"] for row in SPEC.table("Metadata")}
    assert described == {tag: container.CONTENTS[tag] for tag in metadata.TAGS.values()}


def test_limits():
    """But for the two of varints, which test_varints compares, each has its name in the code."""
    modules = (container, metadata, grid, tablefile)
    in_code = {name: getattr(module, name) for module in modules for name in limits() if hasattr(module, name)}
    assert in_code | {"MAX_VARINT": 5, "MAX_PAYLOAD": 2**35 - 1} == limits()
    assert grid.STRIP_PIXELS == reference.STRIP_PIXELS
    assert {field.high for field in container.FIELDS if field.name in ("width", "height")} == {container.MAX_SIDE}
    named = {name for module in modules for name in vars(module) if name.startswith("MAX_")}
    assert named <= {*limits()}


def test_exit_codes():
    rows = SPEC.table("Errors", "code")
    kinds = {kind.__name__: kind.exit_code for kind in (errors.LrqError, *errors.LrqError.__subclasses__())}
    assert {row["error"]: int(row["code"]) for row in rows if row["error"] != "none"} == kinds
    (incomplete,) = (row for row in rows if "incomplete file" in row["condition"])
    assert int(incomplete["code"]) == errors.INCOMPLETE
    assert isinstance(main, click.Group) and main.help
    documented = re.findall(r"^ *(\d+)  +\w", main.help.split("Exit codes:")[1], flags=re.M)
    assert [row["code"] for row in rows] == documented


def test_checks_of_incomplete_files():
    """They are checks of other files too, and each fails somewhere in formats/corrupt, also of previews."""
    corrupt = json.loads((ROOT / "formats" / "corrupt" / "cases.json").read_text(encoding="utf-8"))
    changed = [int(row["check"]) for row in SPEC.table("Incomplete files")]
    assert changed == sorted({*changed}) and {*changed} < {int(row["check"]) for row in SPEC.table("Errors", "check")}
    drawn = {case["check"] for case in corrupt.values() if case["partial"] == errors.INCOMPLETE}
    assert drawn <= {*changed}
    for check in {case["check"] for case in corrupt.values()}:
        cases = [case for case in corrupt.values() if case["check"] == check]
        assert any(case["partial"] == case["exit"] for case in cases), check
