"""What outputs are called, and that none replaces what it must not."""

import os
from pathlib import Path

import numpy as np
import pytest
from commands import fails, lrq
from PIL import Image

import lrcodec

pytestmark = pytest.mark.usefixtures("user_folder")


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray, photo_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: s.png and other.png, s.lrq, and three links to s.png, one of them hard."""
    monkeypatch.chdir(tmp_path)
    for name in ("s.png", "other.png"):
        Image.fromarray(photo[:24, :32]).save(name)
    Path("s.lrq").write_bytes(photo_file.read_bytes())
    Path("link").symlink_to("s.png")
    Path("link.png").symlink_to("s.png")
    os.link("s.png", "hard.lrq")
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- outputs that are inputs


@pytest.mark.parametrize(
    "line",
    [
        "encode s.png -o s.png",
        "encode s.png -o ./x/../s.png",
        "encode s.png -o link",
        "encode s.png -o hard.lrq",
        "encode link -o s.png",
        "encode s.png -o new.lrq --preview s.png",
        "encode link -o new.lrq --preview link.png",
        "decode s.lrq -o s.lrq",
        "decode s.lrq -o s.lrq --format png",
        "compare s.png other.png -o other.png",
        "compare hard.lrq other.png -o link.png",
        "compare s.png s.lrq -o link.png",
    ],
)
def test_no_output_replaces_an_input(line: str, folder: Path):
    (folder / "x").mkdir()
    before = sorted(folder.rglob("*")), Path("s.png").read_bytes(), Path("s.lrq").read_bytes()
    message = fails(2, *line.split())
    assert "would replace" in message or "format" in message
    assert (sorted(folder.rglob("*")), Path("s.png").read_bytes(), Path("s.lrq").read_bytes()) == before


def test_the_message_names_both(folder: Path):
    assert "link would replace a file of this command (s.png): name another output" in fails(
        2, "encode", "s.png", "-o", "link"
    )


@pytest.mark.parametrize("name", ["new.png", "new.JPG", "new.webp", "new.gif", "new.jp2", "new.pdf"])
def test_no_encoded_file_takes_the_name_of_another_format(name: str, folder: Path):
    before = content(folder)
    assert "an .lrq file under the name of another format" in fails(2, "encode", "s.png", "-o", name)
    assert content(folder) == before


@pytest.mark.parametrize("name", ["new", "new.lrq", "new.LRQ", "new.bin"])
def test_encoded_files_take_other_names(name: str, folder: Path):
    assert lrq("encode", "s.png", "-o", name, "--effort", 0).exit_code == 0
    assert Path(name).read_bytes().startswith(b"LRQ\x81")


def test_no_decoded_image_takes_the_name_of_an_encoded_file(folder: Path):
    before = content(folder)
    for options in ([], ["--format", "png"]):
        assert ".lrq" in fails(2, "decode", "s.lrq", "-o", "new.lrq", *options)
    assert content(folder) == before


# ---- two names


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("encode s.png new.lrq --effort 0", "encode s.png -o same.lrq --effort 0"),
        ("decode s.lrq new.ppm", "decode s.lrq -o same.ppm"),
        ("decode s.lrq new.ppm --region 1,2,3,4", "decode s.lrq -o same.ppm --region 1,2,3,4"),
    ],
)
def test_two_names_are_an_input_and_an_output(line: str, same: str, folder: Path):
    before = {*content(folder)}
    assert lrq(*line.split()).exit_code == lrq(*same.split()).exit_code == 0
    one, other = sorted({*content(folder)} - before)
    assert (Path(one).stem, Path(other).stem) == ("new", "same")
    assert Path(one).read_bytes() == Path(other).read_bytes()


@pytest.mark.parametrize("line", ["encode s.png s.lrq", "decode s.lrq other.png", "encode s.png hard.lrq"])
def test_the_second_of_two_names_must_be_new(line: str, folder: Path):
    before = content(folder)
    assert "if it is the output, which is replaced, name it with -o" in fails(2, *line.split())
    assert content(folder) == before


def test_two_names_for_which_there_is_a_folder_are_inputs(folder: Path):
    result = lrq("encode", "s.png", "new.lrq", "--effort", 0, "--out-dir", "out")
    assert (result.exit_code, os.listdir("out")) == (1, ["s.lrq"])


def test_quality_of_a_decoded_file(photo_file: Path, tmp_path: Path):
    low, high = tmp_path / "low.jpg", tmp_path / "high.jpg"
    assert lrq("decode", photo_file, "-o", low, "--output-quality", 10).exit_code == 0
    assert lrq("decode", photo_file, "-o", high, "--output-quality", 95).exit_code == 0
    assert lrq("decode", photo_file, "-o", tmp_path / "default.jpg").exit_code == 0
    assert low.stat().st_size < high.stat().st_size
    assert high.read_bytes() == (tmp_path / "default.jpg").read_bytes()


@pytest.mark.parametrize("options", [[], ["-o", "out.png"], ["--format", "ppm"], ["-o", "out.jpg", "--format", "tif"]])
def test_quality_where_there_is_none(options: list[str], photo_file: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "files are lossless: only" in fails(2, "decode", photo_file, *options, "--output-quality", 90)
    assert [*tmp_path.iterdir()] == []


def test_one_frame_is_encoded(photo: np.ndarray, tmp_path: Path):
    source, out = tmp_path / "moving.gif", tmp_path / "still.lrq"
    Image.fromarray(photo).save(source, save_all=True, append_images=[Image.fromarray(photo[::-1])])
    line = fails(2, "encode", source, "-o", out)
    assert "the file has 2 frames" in line and "--frame N" in line and not out.exists()
    assert lrq("encode", source, "-o", out, "--frame", 2, "--effort", 0).exit_code == 0
    decoded = lrcodec.decode(out.read_bytes()).astype(int)
    assert np.abs(decoded - photo[::-1]).mean() < np.abs(decoded - photo).mean() / 2
    assert "no frame 3" in fails(2, "encode", source, "-o", out, "--frame", 3)
