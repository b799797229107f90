"""`lrq train` and `lrq bench` as commands: what they refuse, in one line and before the work starts."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from commands import fails
from PIL import Image

from lrcodec import bench, suite


@pytest.fixture
def picture(tmp_path: Path, photo: np.ndarray) -> Path:
    """`photo` as a PNG, alone in its folder."""
    path = tmp_path / "images" / "picture.png"
    path.parent.mkdir()
    Image.fromarray(photo).save(path)
    return path


def bomb(path: Path) -> Path:
    """A PNG of a few bytes that announces 900 megapixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    size = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(99))))
    return path


@pytest.mark.parametrize("command", [["bench"], ["bench", "--speed"], ["train", "-o", "OUT", "--preset", "tiny"]])
def test_an_image_over_the_limit_is_5_and_named(command: list[str], picture: Path, tmp_path: Path):
    path, out = bomb(picture.with_name("z.png")), tmp_path / "out"
    arguments = [out if word == "OUT" else word for word in command]
    assert f"lrq: error: {path}: the image has more pixels" in fails(5, *arguments, picture, path)
    assert not out.exists()


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("bjontegaard", []),
        ("scipy", ["--bpp", "0.1:1"]),
        ("matplotlib", ["--plot", "OUT"]),
        ("matplotlib", ["--html", "OUT"]),
        ("matplotlib", ["--suite", "paper", "--plot", "OUT"]),
        ("matplotlib", ["--suite", "paper", "--pictures", "OUT"]),
    ],
)
def test_measuring_without_its_extra_is_6_before_it_starts(
    package: str, options: list[str], picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    for module, name in ((bench, "bench"), (suite, "run")):
        monkeypatch.setattr(module, name, lambda *arguments, **options: pytest.fail("measures"))
    words = [tmp_path / "out" if word == "OUT" else word for word in options]
    images = [] if "--suite" in options else [picture]
    line = fails(6, "bench", *images, *words)
    assert package in line and 'pip install "lrcodec[bench]"' in line
    assert not (tmp_path / "out").exists()


def test_the_default_images_need_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert 'pip install "lrcodec[bench]"' in fails(6, "bench")
