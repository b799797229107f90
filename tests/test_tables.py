"""Tables as text and as Markdown: cells stay as they are, columns are aligned."""

from types import SimpleNamespace

import pytest

from lrcodec.measure.tables import Column, Table, table_of

TABLE = Table(["codec", "setting", "MSE"], [["lrq", "007", "1.0e-03"], ["webp", "-", "22,000"]], 2)


def test_text():
    assert TABLE.text().splitlines() == [
        "codec  setting      MSE",
        "lrq    007      1.0e-03",
        "webp   -         22,000",
    ]


def test_markdown():
    heading, rule, *lines = ([cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.markdown().splitlines())
    assert heading == TABLE.headings and lines == TABLE.lines
    assert [(cell[0], cell[-1]) for cell in rule] == [(":", "-"), (":", "-"), ("-", ":")]


@pytest.mark.parametrize("words", [0, 1])
def test_no_lines(words: int):
    table = Table(["codec", "bytes"], [], words)
    assert table.text() == "codec  bytes"
    assert len(table.markdown().splitlines()) == 2


def test_cells_of_rows():
    rows = [SimpleNamespace(name="a", size=1234.5, level=float("nan")), SimpleNamespace(name="b", size=None, level=1.0)]
    table = table_of(rows, [Column("file", "name"), Column("bytes", "size", ",.0f"), Column("dB", "level", ".1f")])
    assert table == Table(["file", "bytes", "dB"], [["a", "1,234", "-"], ["b", "-", "1.0"]], 1)
