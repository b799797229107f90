"""The commands of docs/integration.md that join lrq and ffmpeg by a pipe."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lrcodec
from lrcodec.measure.metrics import psnr

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/integration.md").read_text(encoding="utf-8").split("## ffmpeg", 1)[1]
COMMANDS = (re.findall(r"^```sh\n(.+?)^```$", TEXT, re.MULTILINE | re.DOTALL) or [""])[0].splitlines()

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not (shutil.which("ffmpeg") and shutil.which("bash")),
    reason="needs ffmpeg and the shell of a POSIX system",
)


def sh(command: str, folder: Path) -> None:
    lrq = f'set -o pipefail; lrq() {{ "{sys.executable}" "{ROOT / "cli.py"}" "$@"; }}; '
    result = subprocess.run(["bash", "-c", lrq + command], cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def test_commands(photo_file: Path, tmp_path: Path):
    shutil.copy(photo_file, tmp_path / "photo.lrq")
    sh("ffmpeg -v error -f lavfi -i testsrc=size=64x48:rate=5 -t 1 -c:v ffv1 film.mkv", tmp_path)
    assert len(COMMANDS) == 3
    for command in COMMANDS:
        sh(command, tmp_path)
    pixels = lrcodec.decode(photo_file.read_bytes())
    assert psnr(pixels, np.asarray(Image.open(tmp_path / "photo.jpg"))) > 25
    assert Image.open(tmp_path / "scaled.png").size == (48, 30)
    sh("ffmpeg -v error -i film.mkv -frames:v 1 frame.png", tmp_path)
    with Image.open(tmp_path / "frame.png") as frame:
        assert (tmp_path / "frame.lrq").read_bytes() == lrcodec.encode(np.asarray(frame))


@pytest.mark.parametrize("vector", ["rgb", "rgba", "grey", "grey-alpha"])
def test_the_pixels_are_those_of_the_file(vector: str, tmp_path: Path):
    source = ROOT / "formats" / "vectors" / vector
    sh(f'lrq decode "{source / "image.lrq"}" -o - | ffmpeg -v error -f png_pipe -i - out.png', tmp_path)
    with Image.open(source / "reference.png") as want, Image.open(tmp_path / "out.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(want), strict=True)
