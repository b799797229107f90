"""Processes killed at chosen moments: the output is whole or as it was. tests/fuzz/kills.py picks any moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lrcodec.decoder import Decoder
from lrcodec.files import write_file
from lrcodec.image_io import write_image

if sys.platform == "win32":
    pytest.skip("needs the signals of a POSIX system", allow_module_level=True)

ROOT = Path(__file__).parent.parent
# Runs lrq in a process that sends itself a signal before or after a call that writes.
PROGRAM = """
import os, sys
from lrcodec import files
from lrcodec.cli.main import main
name, number, after = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "after"
module = os if name == "replace" else files
call = getattr(module, name)
def killed(*arguments):
    if not after:
        os.kill(os.getpid(), number)
    result = call(*arguments)
    if after:
        os.kill(os.getpid(), number)
    return result
setattr(module, name, killed)
main(sys.argv[4:])
"""
MOMENTS = [("_write_pieces", "before"), ("replace", "before"), ("replace", "after")]


@pytest.mark.parametrize(("call", "when"), MOMENTS, ids=lambda value: str(value))
@pytest.mark.parametrize(("number", "old"), [(signal.SIGKILL, b"an older file"), (signal.SIGTERM, None)])
def test_killed(call: str, when: str, number: signal.Signals, old: bytes | None, photo_file: Path, tmp_path: Path):
    target = tmp_path / "out.png"
    if old:
        target.write_bytes(old)
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        call,
        str(int(number)),
        when,
        "decode",
        str(photo_file),
        "-o",
        str(target),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    killed = number == signal.SIGKILL
    assert (result.returncode, result.stderr) == ((-number, "") if killed else (130, "lrq: error: interrupted\n"))
    new = write_image(Decoder().decode(photo_file.read_bytes()))
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left.pop(target.name, None) == (new if when == "after" else old)
    if call == "replace" and when == "before" and killed:
        ((name, data),) = left.items()
        assert name.startswith(".lrq-") and name.endswith(".tmp") and data == new
    else:
        assert left == {}


def test_a_left_temporary_file_is_in_nobodys_way(tmp_path: Path):
    """Not even as a link to a precious file, of a process that had the same number."""
    precious, target = tmp_path / "precious", tmp_path / "out"
    precious.write_bytes(b"precious")
    temporary = tmp_path / f".lrq-{os.getpid()}.tmp"
    temporary.symlink_to(precious)
    write_file(target, b"new")
    assert precious.read_bytes() == b"precious"
    assert target.read_bytes() == b"new" and not target.is_symlink()
    assert sorted(tmp_path.iterdir()) == [target, precious]
