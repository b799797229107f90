"""The workflows of GitHub Actions run what `make test` and `python tests/emulated.py` are documented to need."""

import re
from pathlib import Path

import emulated

ROOT = Path(__file__).parent.parent
WORKFLOWS = ROOT / ".github" / "workflows"


def test_each_command_of_make_test():
    rules = re.findall(
        r"^(?:test|lint|\.venv/\.installed):.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    lines = [line.replace(" --quiet --no-compile", "") for rule in rules for line in rule.splitlines()]
    commands = {line.removeprefix("\t@.venv/bin/") for line in lines if line.startswith("\t@.venv/bin/")}
    assert len(rules) == 3 and len(commands) == 6
    assert commands <= {*re.findall(r"^ +- run: (.+)$", (WORKFLOWS / "tests.yml").read_text(), re.MULTILINE)}


def test_the_packages_of_emulated_machines():
    install = re.compile(r"apt-get install (?:--yes )?(.+)")
    (installed,) = install.findall((WORKFLOWS / "processors.yml").read_text())
    (needed,) = install.findall(emulated.manual())
    assert {*needed.split()} <= {*installed.split()}
