"""What a user reads in a terminal: headings of `--help`, defaults, man pages that say the same."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click_man.core import write_man_pages
from commands import lrq

import lrcodec
from lrcodec.cli import help
from lrcodec.cli import main as cli

PAGES = Path(__file__).parent.parent / "man"


def commands(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The words of every command that has options, and the command."""
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            yield from commands(subcommand, *names, name)
    else:
        yield names, command


NOTHING = ("FILE", "OUT", "DIR", "N", "X,Y,W,H", "WxH")
"""What is asked for only where it is given: no default needs telling."""
COMMANDS = dict(commands(cli.main))
every_command = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


def text(*words: str) -> str:
    result = lrq(*words, "--help")
    assert result.exit_code == 0
    return result.stdout


def options(words: tuple[str, ...]) -> list[click.Option]:
    return [option for option in COMMANDS[words].params if isinstance(option, click.Option)]


def test_every_command_has_one_heading():
    grouped = [name for names in help.COMMANDS.values() for name in names]
    assert sorted(grouped) == sorted(cli.main.commands)
    headings = re.findall(r"^(\w[\w ]*):$", text(), re.MULTILINE)
    assert headings[-len(help.COMMANDS) :] == [*help.COMMANDS]
    assert all(re.search(rf"^  {name} +[A-Z]", text(), re.MULTILINE) for name in cli.main.commands)
    assert "..." not in text().split("\n\n", 2)[2]


@every_command
def test_every_option_is_shown_once_under_its_heading(words: tuple[str, ...]):
    shown = text(*words)
    for option in [*options(words), click.Option(["-h", "--help"])]:
        headings = [name for name, names in help.OPTIONS.items() if {*option.opts} & {*names}]
        assert len(headings) == 1, option.opts
        section = re.search(rf"^{headings[0]}:\n((?: .*\n|\n(?= ))+)", shown, re.MULTILINE)
        row = re.compile(rf"^ +(?:-\w, )?{option.opts[-1]}(?![\w-])", re.MULTILINE)
        assert section and row.search(section[1]), option.opts
        assert len(row.findall(shown)) == 1


@every_command
def test_every_option_tells_what_it_is_for_and_its_default(words: tuple[str, ...]):
    for option in options(words):
        assert option.help, option.opts
        if option.is_flag or option.required:
            continue
        default = option.show_default or "Default: " in option.help or "Instead of" in option.help
        assert default or option.metavar in NOTHING, option.opts


def test_man_pages_are_those_of_the_help(tmp_path: Path):
    """If not: `make man`."""
    date = re.search(r'^\.TH "LRQ" "1" "(\S+)"', (PAGES / "lrq.1").read_text(), re.MULTILINE)
    assert date
    write_man_pages("lrq", cli.main, version=lrcodec.__version__, target_dir=str(tmp_path), date=date[1])
    assert {page.name for page in PAGES.iterdir()} == {page.name for page in tmp_path.iterdir()}
    for page in tmp_path.iterdir():
        assert page.read_text() == (PAGES / page.name).read_text(), page.name


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("man"), reason="needs the man of Linux")
@pytest.mark.parametrize("page", sorted(PAGES.iterdir()), ids=lambda page: page.name)
def test_man_pages_can_be_read(page: Path):
    """Nothing of their text is taken for a command of the page, and lost."""
    result = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    macros = {".TH", ".SH", ".B", ".PP", ".TP"}
    lines = page.read_text().splitlines()
    assert {line.split()[0] for line in lines if line.startswith((".", "'"))} <= macros
