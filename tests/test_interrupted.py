"""Processes killed at chosen moments: the output is whole or as it was. tests/fuzz/kills.py picks any moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrcodec.cli.progress import bar_of_shares
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


# Runs lrq on a terminal of its own, and is interrupted once the encoder is at work on the second part of an image.
LARGE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and all they start
import numpy as np
from lrcodec import encoder
from lrcodec.cli.main import main
from lrcodec.encoder import windows
windows.PIXELS = 1
search, searched = encoder.Encoder._indices, []
def interrupted(self, *arguments):
    searched.append(None)
    if len(searched) == 2 and sys.argv[1] == "interrupt":
        signal.raise_signal(signal.SIGINT)
    return search(self, *arguments)
encoder.Encoder._indices = interrupted
from lrcodec.format import grid
grid.STRIP_PIXELS = 1
main(sys.argv[2:])
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
@pytest.mark.parametrize("interrupt", ["interrupt", "go on"])
def test_a_long_encode_shows_how_far_it_is_and_can_be_interrupted(interrupt: str, tmp_path: Path):
    source, target = tmp_path / "in.png", tmp_path / "out.lrq"
    Image.fromarray(np.arange(192 * 64, dtype=np.uint8).reshape(192, 64)).save(source)
    controller, terminal = os.openpty()
    command = [sys.executable, "-c", LARGE, interrupt, "encode", source, "-o", target, "--effort", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(controller, 4096):
                shown += piece
        except OSError:  # how Linux tells that nobody has the terminal open any more
            pass
        code = process.wait(120)
    os.close(controller)
    assert b"  0%" in shown and b" 33%" in shown and b"Traceback" not in shown
    if interrupt == "interrupt":
        assert code == 130 and shown.rstrip().endswith(b"lrq: error: interrupted")
        assert [*tmp_path.iterdir()] == [source]
    else:
        assert code == 0 and b"100%" in shown and target.is_file()


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]):
    with bar_of_shares() as progress:
        progress(0.0)
        progress(0.5)
    assert capsys.readouterr() == ("", "")
