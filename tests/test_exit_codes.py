"""Every exit code of the table in docs/cli.md, from a process as a user starts it."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrcodec.format.container import pack, unpack

ROOT = Path(__file__).parent.parent
TABLE = (ROOT / "docs/cli.md").read_text(encoding="utf-8").split("## Exit codes", 1)[1]
CODES = {int(code) for code in re.findall(r"^\| (\d+) \|", TABLE.split("\n#", 1)[0], re.MULTILINE)}
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from lrcodec.cli.main import main; main()"

# Code -> the interpreter's arguments before those of lrq, those of lrq, and what the message says.
COMMANDS: dict[int, tuple[list[str], list[str], str]] = {
    0: (["cli.py"], ["info", "PHOTO"], ""),
    1: (["cli.py"], ["decode", "missing.lrq"], "missing.lrq: No such file or directory"),
    2: (["cli.py"], ["encode", "README.md", "-o", "NEW"], "not an image that Pillow can read"),
    3: (["cli.py"], ["decode", "README.md", "-o", "OUT"], "not an .lrq file"),
    4: (["cli.py"], ["decode", "OTHER", "-o", "OUT"], f"the file needs model {bytes(4).hex()}, which is not here"),
    5: (["cli.py"], ["decode", "PHOTO", "-o", "OUT", "--max-pixels", "5916"], "97 x 61 is more than 5916 pixels"),
    6: (["-c", WITHOUT_TORCH], ["encode", "PNG", "-o", "NEW"], 'pip install "lrcodec[encode]"'),
}
INCOMPLETE, INTERRUPTED = 7, 130


def test_every_code_is_tested():
    assert {*COMMANDS, INCOMPLETE, INTERRUPTED} == CODES


@pytest.mark.parametrize("code", COMMANDS)
def test_exit_code(code: int, photo_file: Path, photo: np.ndarray, tmp_path: Path):
    picture, other = tmp_path / "photo.png", tmp_path / "other.lrq"
    Image.fromarray(photo).save(picture)
    header, chunks = unpack(photo_file.read_bytes())
    other.write_bytes(pack(replace(header, model=bytes(4)), chunks))
    start, arguments, message = COMMANDS[code]
    places = {
        "PHOTO": photo_file,
        "PNG": picture,
        "OTHER": other,
        "OUT": tmp_path / "out.png",
        "NEW": tmp_path / "new.lrq",
    }
    command = [sys.executable, *start, *(str(places.get(word, word)) for word in arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == code, result.stderr
    if code:
        assert (result.stdout, result.stderr.count("\n")) == ("", 1)
        assert result.stderr.startswith("lrq: error: ") and message in result.stderr
    assert sorted(tmp_path.iterdir()) == [other, picture]


def test_incomplete(photo_file: Path, tmp_path: Path):
    cut, out = tmp_path / "cut.lrq", tmp_path / "out.png"
    cut.write_bytes(photo_file.read_bytes()[:-30])
    command = [sys.executable, "cli.py", "decode", str(cut), "-o", str(out), "--partial"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (INCOMPLETE, "", 1)
    assert result.stderr.startswith(f"lrq: incomplete: {cut}: ") and Image.open(out).size == (97, 61)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted(number: signal.Signals, tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and all they start
    command = [sys.executable, "cli.py", "decode", str(pipe), "-o", str(tmp_path / "out.png")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with pipe.open("wb"):  # returns once the process has opened it too: then it waits for content
        process.send_signal(number)
        assert process.communicate(timeout=120) == ("", "lrq: error: interrupted\n")
    assert process.returncode == INTERRUPTED
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(sys.platform == "win32", reason="there os.kill ends a process without a signal")
@pytest.mark.parametrize(("command", "module"), [("encode", "torch"), ("decode", "onnxruntime")])
def test_interrupted_while_a_module_is_loaded(command: str, module: str, photo_file: Path, tmp_path: Path):
    """Native modules do not let KeyboardInterrupt through: they cannot be imported then, as if they were not there."""
    source = tmp_path / "in.png"
    Image.new("L", (8, 8)).save(source)
    (tmp_path / f"{module}.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except KeyboardInterrupt:\n    raise ImportError('initialization failed') from None\n"
    )
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from lrcodec.cli.main import main; main()"
    file, out = (source, tmp_path / "out.lrq") if command == "encode" else (photo_file, tmp_path / "out.png")
    arguments = [sys.executable, "-c", start, command, str(file), "-o", str(out)]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (INTERRUPTED, "", "lrq: error: interrupted\n")
    assert not out.exists()
