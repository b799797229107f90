"""No file and no function is longer than can be read at once."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lrcodec"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_OF_A_FILE, MOST_OF_A_FUNCTION = 300, 60
"""Lines."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def declares_options(function: Function) -> bool:
    """Whether it is a command of click: its decorators and parameters are the declarations of its options."""
    decorators = (node.func if isinstance(node, ast.Call) else node for node in function.decorator_list)
    return any(isinstance(node, ast.Attribute) and node.attr in ("command", "group") for node in decorators)


def lines(function: Function) -> int:
    """From its first line, without decorators, to its last; of a command, of its body alone."""
    first = function.body[0].lineno if declares_options(function) else function.lineno
    return (function.end_lineno or first) - first + 1


def test_what_counts():
    command = "@click.command(cls=Command)\n@option()\ndef f(\n    a,\n):\n    pass\n    pass\n"
    plain = "@cache\ndef f(\n    a,\n):\n    pass\n"
    for code, wanted in ((command, 2), (plain, 4)):
        (function,) = ast.parse(code).body
        assert isinstance(function, ast.FunctionDef) and lines(function) == wanted


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_OF_A_FILE
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, Function))
    assert {f.name: lines(f) for f in functions if lines(f) > MOST_OF_A_FUNCTION} == {}
