"""The headings, tables and code blocks of a Markdown document: what tests read. Its sentences are for people."""

import re
from math import ceil
from pathlib import Path


class Document:
    """One Markdown file. A section is what follows a heading, down to the next heading of any level."""

    def __init__(self, path: Path):
        parts = re.split(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.M)
        self.headings = parts[1::2]
        self.sections = dict(zip(self.headings, parts[2::2], strict=True))
        assert len(self.sections) == len(self.headings), "two headings are the same"

    def tables(self, heading: str) -> list[list[dict[str, str]]]:
        """The tables of a section, each a list of rows {head of the column: cell}, without the marks of code."""
        tables = []
        for lines in re.findall(r"(?:^\|.*\n)+", self.sections[heading], flags=re.M):
            head, _, *rows = (_cells(line) for line in lines.splitlines())
            assert len(set(head)) == len(head), head
            tables.append([dict(zip(head, row, strict=True)) for row in rows])
        return tables

    def table(self, heading: str, column: str | None = None) -> list[dict[str, str]]:
        """The only table of a section, or the only one whose first column has this head."""
        (table,) = (rows for rows in self.tables(heading) if column in (None, next(iter(rows[0]))))
        return table

    def row(self, heading: str, column: str) -> dict[str, str]:
        """The only row of such a table."""
        (row,) = self.table(heading, column)
        return row

    def blocks(self, heading: str) -> list[str]:
        """The indented blocks of a section, each as its text."""
        return re.findall(r"(?:^    .*\n)+", self.sections[heading], flags=re.M)

    def formulas(self, heading: str) -> dict[str, str]:
        """{what is on the left: what is on the right} of all the lines `left = right` in the blocks of a section."""
        lines = (line.strip() for block in self.blocks(heading) for line in block.splitlines())
        return dict(line.split(" = ", 1) for line in lines if " = " in line)


def _cells(line: str) -> list[str]:
    return [cell.replace("`", "").strip() for cell in line.strip("|").split("|")]


def evaluate(formula: str, **names):
    """The value of a formula in the notation of SPEC.md."""
    return eval(formula.replace("^", "**"), {"ceil": ceil} | names)


def number(cell: str) -> int:
    """Of a cell with one number: `65,535`, `0x20` or `2^20`."""
    return evaluate(cell.replace(",", ""))


def numbers(text: str) -> list[int]:
    """All the decimal numbers in a text."""
    return [int(digits) for digits in re.findall(r"(?<!\w)(?<!\d\.)-?\d+", re.sub(r"(?<=\d),(?=\d)", "", text))]


def hexadecimal(cell: str) -> bytes:
    """The bytes that a cell spells out."""
    return bytes.fromhex(cell)


def anchor(heading: str) -> str:
    """What a link to a heading ends in."""
    return "#" + re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))
