"""Tables of figures: one description of columns for text, Markdown and HTML."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import extra


class Column(NamedTuple):
    """A heading, the field of a row that stands under it, and its format as `format` takes it: "" for words."""

    heading: str
    field: str
    form: str = ""


@dataclass(frozen=True)
class Table:
    """Cells as text, a list for each line. The first `words` columns hold words, all others figures."""

    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    words: int = 1

    def text(self) -> str:
        """For a terminal, every column as wide as its widest cell: words to the left, figures to the right.

        Raises EncoderMissingError if the package tabulate is missing.

        >>> print(Table(["codec", "bytes"], [["webp", "1,234"], ["lrq", "987"]]).text())
        codec  bytes
        webp   1,234
        lrq      987
        """
        # The headings are a line like the others: tabulate makes columns under headings wider than they need to be.
        return self._print([self.headings, *self.lines], "plain")

    def markdown(self) -> str:
        """The same in the syntax of Markdown."""
        return self._print(self.lines, "pipe", headers=self.headings)

    def _print(self, lines: Sequence[Sequence[str]], style: str, headers: Sequence[str] = ()) -> str:
        with extra("bench"):
            from tabulate import tabulate
        sides = ["left"] * self.words + ["right"] * (len(self.headings) - self.words)
        return tabulate(lines, headers, tablefmt=style, disable_numparse=True, colalign=sides)


def table_of(rows: Iterable[object], columns: Sequence[Column]) -> Table:
    """A line for each row, by its attributes. Columns of words come first."""
    lines = [[cell(getattr(row, column.field), column.form) for column in columns] for row in rows]
    return Table([column.heading for column in columns], lines, sum(not column.form for column in columns))


def cell(value: Any, form: str) -> str:
    """A value in the format of its column; a dash for None and nan.

    >>> cell(1234.5, ",.0f"), cell(None, "d"), cell(float("nan"), ".2f")
    ('1,234', '-', '-')
    """
    return "-" if value is None or value != value else format(value, form)
