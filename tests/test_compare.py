"""`lrq compare`: the figures of metrics.py, the picture, and what it refuses."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import fails, lrq
from PIL import Image

import lrcodec
from lrcodec.measure import compare
from lrcodec.measure.metrics import colours, ms_ssim, psnr

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def large() -> np.ndarray:
    """A 170 x 165 crop of a photograph, which MS-SSIM is defined for: uint8, (165, 170, 3)."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[40:205, 120:290])


@pytest.fixture(scope="session")
def large_file(large: np.ndarray) -> bytes:
    """`large`, encoded in one pass."""
    return lrcodec.encode(large, quality=30, effort=0)


@pytest.fixture
def folder(large: np.ndarray, large_file: bytes, photo: np.ndarray, photo_file: Path, tmp_path: Path) -> Path:
    """large.png, large.lrq, large.jpg; photo.png, photo.lrq; grey.png, half as bright as the photo's green."""
    Image.fromarray(large).save(tmp_path / "large.png")
    Image.fromarray(large).save(tmp_path / "large.jpg", quality=50)
    (tmp_path / "large.lrq").write_bytes(large_file)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    (tmp_path / "photo.lrq").write_bytes(photo_file.read_bytes())
    Image.fromarray(photo[..., 1] // 2).save(tmp_path / "grey.png")
    return tmp_path


def test_figures(folder: Path, large: np.ndarray):
    files = [folder / "large.lrq", folder / "large.jpg", folder / "large.png"]
    decoded = [lrcodec.decode(files[0].read_bytes()), *(np.asarray(Image.open(path)) for path in files[1:])]
    result = lrq("compare", folder / "large.png", *files, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    sizes = [path.stat().st_size for path in files]
    assert json.loads(result.stdout) == {
        "reference": str(folder / "large.png"),
        "files": [
            {
                "file": str(path),
                "bytes": size,
                "bpp": 8 * size / (165 * 170),
                "psnr": None if path.suffix == ".png" else psnr(large, image),
                "ms_ssim": ms_ssim(large, image),
                "ssimulacra2": None,
            }
            for path, size, image in zip(files, sizes, decoded, strict=True)
        ],
    }
    rows = [line.split() for line in lrq("compare", folder / "large.png", *files).stdout.splitlines()]
    assert rows[0] == ["bytes", "bpp", "PSNR", "dB", "MS-SSIM", "SSIMULACRA2", "file"]
    for row, path, size, image in zip(rows[1:], files, sizes, decoded, strict=True):
        level = "inf" if path.suffix == ".png" else f"{psnr(large, image):.2f}"
        assert row == [f"{size:,}", f"{8 * size / 28050:.3f}", level, f"{ms_ssim(large, image):.4f}", "-", str(path)]


def test_columns_are_aligned():
    rows = [
        compare.Comparison("a", 7, 0.5, math.inf, math.nan, math.nan),
        compare.Comparison("long.lrq", 12345, 1.5, 30.123, 0.9, -70.5),
    ]
    assert compare.table(rows).splitlines() == [
        "        bytes       bpp  PSNR dB  MS-SSIM  SSIMULACRA2  file",
        "            7     0.500      inf        -            -  a",
        "       12,345     1.500    30.12   0.9000       -70.50  long.lrq",
    ]


def test_small_images_have_no_ms_ssim(folder: Path):
    result = lrq("compare", folder / "photo.png", folder / "photo.lrq", "--json")
    assert json.loads(result.stdout)["files"][0]["ms_ssim"] is None
    assert lrq("compare", folder / "photo.png", folder / "photo.lrq").stdout.split()[-3:-1] == ["-", "-"]


def test_ssimulacra2_needs_its_package(large: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    """And 225 pixels a side; the other figures need neither."""
    image = np.tile(large, (2, 2, 1))
    assert compare.compare("a", 1, image, image).ssimulacra2 == 100
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)
    alone = compare.compare("a", 1, image, image)
    assert math.isnan(alone.ssimulacra2) and alone.ms_ssim == 1


def test_the_reference_may_be_any_file(folder: Path, photo_file: Path):
    """A .lrq file, whatever its name, and standard input."""
    renamed = folder / "renamed.png"
    renamed.write_bytes(photo_file.read_bytes())
    forth = lrq("compare", folder / "photo.png", renamed, "--json")
    back = lrq("compare", renamed, folder / "photo.png", "--json")
    levels = [json.loads(result.stdout)["files"][0]["psnr"] for result in (forth, back)]
    assert levels[0] == levels[1] > 20
    for paths, stdin in ((("-", renamed), folder / "photo.png"), ((folder / "photo.png", "-"), renamed)):
        result = lrq("compare", *paths, "--json", stdin=stdin.read_bytes())
        assert json.loads(result.stdout)["files"][0]["psnr"] == levels[0]


def test_alpha_and_orientation_are_left_out(photo: np.ndarray):
    """As they are when a file is encoded: pixels are compared in the order in which they are stored."""
    alpha = np.arange(61 * 97, dtype=np.uint8).reshape(61, 97, 1)
    turned = Image.Exif()
    turned[0x0112] = 6  # Orientation
    for image, mode in ((photo, "RGBA"), (photo[..., :1], "LA")):
        out = io.BytesIO()
        Image.fromarray(np.dstack([image, alpha]), mode).save(out, "PNG", exif=turned)
        read = compare.read(out.getvalue(), lambda data: np.empty(0))
        np.testing.assert_array_equal(read, colours(image))
        assert compare.compare("a", 1, read, colours(image)).psnr == math.inf


@pytest.mark.parametrize(("options", "factor"), [([], 8), (["--amplify", 1], 1), (["--amplify", 255], 255)])
def test_the_picture(options: list[object], factor: int, folder: Path, large: np.ndarray):
    names = ["large.lrq", "large.jpg"]
    out = folder / "out.png"
    out.write_bytes(b"old")
    result = lrq("compare", folder / "large.png", *(folder / name for name in names), "-o", out, *options)
    assert (result.exit_code, result.stderr, len(result.stdout.splitlines())) == (0, "", 3)
    image = np.asarray(Image.open(out))
    assert image.shape == (2 * 165, 3 * 170, 3)
    decoded = lrcodec.decode((folder / "large.lrq").read_bytes()), np.asarray(Image.open(folder / "large.jpg"))
    for row, other in zip(np.split(image, 2), decoded, strict=True):
        left, middle, right = np.split(row, 3, axis=1)
        np.testing.assert_array_equal(left, large)
        np.testing.assert_array_equal(middle, other)
        expected = np.clip(np.abs(large.astype(float) - other) * factor, 0, 255)
        np.testing.assert_array_equal(right, expected)
        assert right.any() and (factor < 255 or (right == 255).any())


def test_a_grey_picture(folder: Path):
    assert lrq("compare", folder / "grey.png", folder / "grey.png", "-o", folder / "out.ppm").exit_code == 0
    image = np.asarray(Image.open(folder / "out.ppm"))
    assert image.shape == (61, 3 * 97) and not image[:, 2 * 97 :].any()


def test_images_that_do_not_fit_together_are_2(folder: Path):
    message = fails(
        2, "compare", folder / "large.png", folder / "large.lrq", folder / "photo.lrq", "-o", folder / "o.png"
    )
    assert f"{folder / 'photo.lrq'}: 97 x 61 pixels RGB cannot be compared with 170 x 165 pixels RGB" in message
    message = fails(2, "compare", folder / "photo.png", folder / "grey.png")
    assert "97 x 61 pixels grey cannot be compared with 97 x 61 pixels RGB" in message
    assert not (folder / "o.png").exists()


def test_failures_name_the_file(folder: Path):
    cut, junk, missing = folder / "cut.lrq", folder / "junk.png", folder / "missing.png"
    cut.write_bytes((folder / "photo.lrq").read_bytes()[:-1])
    junk.write_bytes(b"hello")
    for bad, code in ((cut, 3), (junk, 2), (missing, 1)):
        for paths in ((folder / "photo.png", bad), (bad, folder / "photo.png")):
            assert fails(code, "compare", *paths, "-o", folder / "out.png").startswith(f"lrq: error: {bad}: ")
    assert fails(5, "compare", folder / "photo.png", folder / "photo.lrq", "--max-pixels", 100)
    assert not (folder / "out.png").exists()


def test_the_picture_replaces_no_input(folder: Path):
    before = (folder / "photo.png").read_bytes()
    for reference, other in (("photo.png", "photo.lrq"), ("photo.lrq", "photo.png")):
        assert "would replace" in fails(
            2, "compare", folder / reference, folder / other, "-o", folder / "." / "photo.png"
        )
    assert (folder / "photo.png").read_bytes() == before


def test_neither_encoder_nor_bench_is_needed(folder: Path):
    missing = "torch safetensors skimage scipy matplotlib bjontegaard tabulate jinja2 ssimulacra2".split()
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); from lrcodec.cli.main import main; main()"
    command = [sys.executable, "-c", code, "compare", folder / "large.png", folder / "large.lrq"]
    result = subprocess.run([*command, "-o", folder / "out.png"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split()[0] == "bytes" and (folder / "out.png").exists()
