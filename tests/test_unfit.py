"""The notes on images that another format keeps better."""

from pathlib import Path

import numpy as np
import pytest
from commands import lrq
from PIL import Image, ImageDraw

from lrcodec.cli import unfit
from lrcodec.cli.unfit import DRAWN, LARGER

pytestmark = pytest.mark.usefixtures("user_folder")


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: photo.png; text.png, and text.bmp, which is larger; poor.jpg, a small file."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.png")
    text = Image.new("RGB", (120, 60), "white")
    for row in range(0, 60, 12):
        ImageDraw.Draw(text).text((2, row), "The quick brown fox 0123", fill="black")
    text.save("text.png")
    text.save("text.bmp")
    Image.fromarray(photo).save("poor.jpg", quality=1)
    return tmp_path


def notes(*arguments: object) -> list[str]:
    result = lrq("encode", *arguments, "--effort", 0)
    assert result.exit_code == 0, result.output
    return [line for line in result.stderr.splitlines() if line.startswith("note: ")]


def test_one_file(folder: Path):
    assert notes("photo.png", "-f", "-q", 75) == []
    assert notes("text.bmp", "-f", "-q", 75) == [f"note: text.bmp: {DRAWN}"]
    assert notes("text.bmp", "-f", "-q", 74) == []
    assert notes("text.bmp", "-f", "-q", 100, "--quiet") == []
    assert notes("poor.jpg", "-f", "-q", 100) == [f"note: poor.jpg: {LARGER}"]
    assert notes("text.bmp", "-f", "--target-psnr", 10) == []
    assert notes("text.bmp", "-f", "--target-size", "1M") == [f"note: text.bmp: {DRAWN}"]


def test_standard_input(folder: Path):
    result = lrq("encode", "-", "--effort", 0, "-q", 100, stdin=Path("poor.jpg").read_bytes())
    assert result.stderr.splitlines()[1:] == [f"note: standard input: {LARGER}"]


def test_a_batch_counts_them(folder: Path):
    sources = ["photo.png", "text.bmp", "text.png", "poor.jpg"]
    assert notes(*sources, "--out-dir", "out", "-q", 100) == [
        f"note: 2 of 4 files (text.bmp, text.png): {DRAWN}",
        f"note: 1 of 4 files (poor.jpg): {LARGER}",
    ]


def test_photographs_are_not_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lrcodec.decoder.Decoder", None)
    assert notes("photo.png", "-q", 100) == []


def test_drawings(photo: np.ndarray):
    assert not unfit.is_drawn(photo) and not unfit.is_drawn(photo[..., 0])
    flat = np.zeros((8, 10, 2), np.uint8)
    assert unfit.is_drawn(flat) and unfit.is_drawn(flat[..., 0])
    flat[:, ::2, 1] = 1  # alpha too
    assert not unfit.is_drawn(flat)
    assert not unfit.is_drawn(flat[:, :1])


def test_few_names_are_told():
    many = [(Path(f"{number}.png"), LARGER) for number in range(1234)]
    assert unfit.notes(many, 2000) == [f"note: 1,234 of 2,000 files (0.png, 1.png, 2.png and 1,231 more): {LARGER}"]
    assert unfit.notes([], 7) == []
