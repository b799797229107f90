"""Qualities that meet a target: of any encoder by the rules of targets.py, and of the command on real images."""

import math
import re
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from commands import fails, lrq
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import lrcodec
from lrcodec import targets
from lrcodec.cli.options import byte_count
from lrcodec.errors import UsageError
from lrcodec.measure.metrics import ms_ssim, psnr

LEVELS = st.lists(st.integers(9, 3000), min_size=101, max_size=101)
GROWTH = st.lists(st.floats(0.01, 0.06), min_size=100, max_size=100)
"""Of the size, from each quality to the next."""


class Sizes:
    """An encoder whose file of quality q starts with q, and has the size of whole qualities, with lines between them.

    Its dB are a tenth of the size.
    """

    def __init__(self, sizes: Sequence[float]):
        self.sizes, self.asked = sizes, []

    def size(self, quality: float) -> int:
        return int(np.interp(quality, range(101), self.sizes))

    def encode(self, quality: float) -> bytes:
        assert quality == round(quality, 2) and 0 <= quality <= 100
        self.asked.append(quality)
        return struct.pack("d", quality).ljust(self.size(quality), b"\0")

    @property
    def metric(self) -> targets.Metric:
        return targets.Metric(lambda data: self.size(struct.unpack("d", data[:8])[0]) / 10, decibels)


def decibels(level: float) -> str:
    return f"{level:.2f} dB"


def test_the_number_of_encodes_that_is_documented():
    assert targets.MAX_ENCODES == 8
    for option in ("--target-size", "--target-psnr", "--target-ssim"):
        assert re.search(rf"{option} .*?up to\s+8\s+encodes", lrq("encode", "--help").stdout, re.DOTALL)


@given(GROWTH, st.floats(0, 1))
def test_a_size_is_missed_by_less_than_one_per_cent(growth: list[float], where: float):
    sizes = 2000 * np.exp(np.cumsum([0, *growth]))
    coder, size = Sizes(sizes), int(sizes[0] ** (1 - where) * sizes[100] ** where)
    found = targets.for_size(coder.encode, coder.metric, size)
    assert 0.99 * size <= len(found.data) <= size
    assert found == (found.quality, coder.encode(found.quality), coder.size(found.quality) / 10)
    assert len(coder.asked) <= targets.MAX_ENCODES + 1 and len(set(coder.asked)) == len(coder.asked) - 1


@given(GROWTH, st.floats(0, 1))
def test_a_psnr_is_missed_by_less_than_a_twentieth(growth: list[float], where: float):
    """PSNR of 20 to 45 dB, which grows where the size does."""
    levels = 10 * (20 + 25 * np.cumsum([0, *growth]) / sum(growth))
    coder, level = Sizes(levels), 20 + 25 * where
    coder.size = lambda quality: np.interp(quality, range(101), levels)
    coder.encode = lambda quality: coder.asked.append(quality) or struct.pack("d", quality)
    found = targets.for_level(coder.encode, coder.metric, level)
    assert level <= found.level <= level + 0.05
    assert struct.unpack("d", found.data)[0] == found.quality and coder.metric.of(found.data) == found.level
    assert len(set(coder.asked)) == len(coder.asked) <= targets.MAX_ENCODES


@given(LEVELS, st.integers(1, 3100))
def test_a_target_is_met_whatever_the_order_of_the_files(sizes: list[int], target: int):
    """By the best that was tried; or refused, and then rightly so for quality 0, or 100."""
    coder = Sizes(sizes)
    try:
        found = targets.for_size(coder.encode, coder.metric, target)
        assert found.quality == max(q for q in coder.asked if coder.size(q) <= target)
        assert len(found.data) == coder.size(found.quality)
    except UsageError as error:
        message = f"quality 0 takes {sizes[0]:,}, which is {sizes[0] - target:,} too many"
        assert sizes[0] > target and message in str(error)
    assert len(coder.asked) <= targets.MAX_ENCODES
    coder = Sizes(sizes)
    try:
        found = targets.for_level(coder.encode, coder.metric, target / 10)
        assert found.quality == min(q for q in coder.asked if coder.size(q) >= target)
        assert found.level == coder.size(found.quality) / 10
    except UsageError as error:
        assert sizes[100] < target and f"quality 100 reaches {sizes[100] / 10:.2f} dB" in str(error)
    assert len(coder.asked) <= targets.MAX_ENCODES


@pytest.mark.parametrize(("psnr_at", "level"), [(lambda q: math.inf if q > 60 else 30, 40), (lambda q: q, 55.55)])
def test_psnr_without_bounds_and_in_steps(psnr_at: Callable[[float], float], level: float):
    """Of an image that some quality codes without an error."""
    metric = targets.Metric(lambda data: psnr_at(struct.unpack("d", data)[0]), decibels)
    found = targets.for_level(lambda q: struct.pack("d", q), metric, level)
    assert level <= found.level == psnr_at(found.quality)


# ---- the command


Encode = Callable[[float], bytes]


@pytest.fixture(scope="session")
def encode(photo: np.ndarray) -> Encode:
    """encode(quality): the file of `photo`, by an encoder of its own."""
    from lrcodec.encoder import Encoder

    encoder = Encoder()
    return lambda quality: encoder.encode(photo, quality, effort=0)


@pytest.fixture
def picture(tmp_path: Path, photo: np.ndarray) -> Path:
    """`photo` as a PNG."""
    path = tmp_path / "picture.png"
    Image.fromarray(photo).save(path)
    return path


def reached(line: str) -> tuple[float, float, int]:
    """Quality, PSNR in dB and bytes, as the command says them."""
    match = re.search(r": quality ([\d.]+), ([\d.]+) dB PSNR, ([\d,]+) bytes, 97 x 61 pixels, ", line)
    assert match, line
    return float(match[1]), float(match[2]), int(match[3].replace(",", ""))


def test_target_size(picture: Path, photo: np.ndarray, encode: Encode):
    target = picture.with_suffix(".lrq")
    size = (len(encode(0)) + len(encode(100))) // 2
    result = lrq("encode", picture, "--effort", 0, "--target-size", size)
    assert (result.exit_code, result.stdout) == (0, "")
    quality, level, count = reached(result.stderr)
    data = target.read_bytes()
    assert len(data) == count <= size
    assert data == encode(quality)
    # A file of so few patches grows in steps: the next one is too large, or the target is nearly met.
    assert 0.99 * size <= len(data) or len(encode(quality + 0.5)) > size
    assert level == round(psnr(photo, lrcodec.decode(data)), 2)


def test_target_psnr(picture: Path, photo: np.ndarray, encode: Encode):
    target = picture.with_suffix(".lrq")
    low, high = (psnr(photo, lrcodec.decode(encode(quality))) for quality in (0, 100))
    level = round((low + high) / 2, 2)
    result = lrq("encode", picture, "--effort", 0, "--target-psnr", level)
    assert (result.exit_code, result.stdout) == (0, "")
    quality, achieved, count = reached(result.stderr)
    data = target.read_bytes()
    assert data == encode(quality) and len(data) == count
    assert level <= psnr(photo, lrcodec.decode(data)) <= level + 0.2  # few patches: it grows in steps
    assert achieved == round(psnr(photo, lrcodec.decode(data)), 2)


def test_target_ssim(tmp_path: Path):
    from skimage import data

    image = np.ascontiguousarray(data.coffee()[100:270, 150:330])
    source, target = tmp_path / "large.png", tmp_path / "large.lrq"
    Image.fromarray(image).save(source)
    result = lrq("encode", source, "--effort", 0, "--target-ssim", 0.95)
    assert (result.exit_code, result.stdout) == (0, "")
    achieved = ms_ssim(image, lrcodec.decode(target.read_bytes()))
    assert 0.95 <= achieved < 0.951
    assert re.search(rf": quality [\d.]+, MS-SSIM {achieved:.4f}, ", result.stderr)
    assert "MS-SSIM 0.9999: quality 100 reaches" in fails(
        2, "encode", source, "-f", "--effort", 0, "--target-ssim", 0.9999
    )


def test_target_ssim_of_a_small_image_is_2(picture: Path):
    message = fails(2, "encode", picture, "--target-ssim", 0.9)
    assert "--target-ssim needs 161 pixels a side, not 97 x 61" in message
    assert list(picture.parent.iterdir()) == [picture]


def test_ends_of_the_range_are_tried_first(picture: Path, monkeypatch: pytest.MonkeyPatch):
    from lrcodec.encoder import Encoder

    qualities = []
    intact = Encoder.encode_batch

    def encode_batch(self: Encoder, images: list[np.ndarray], quality: float, **others: object) -> list[bytes]:
        qualities.append(quality)
        return intact(self, images, quality, **others)

    monkeypatch.setattr(Encoder, "encode_batch", encode_batch)
    for option in ("--target-size=1M", "--target-psnr=1"):
        assert lrq("encode", picture, "--effort", 0, "-f", option).exit_code == 0
        assert qualities == ([0, 100] if "size" in option else [0])
        qualities.clear()


def test_targets_that_cannot_be_met_are_2(picture: Path, encode: Encode):
    least = len(encode(0))
    message = fails(2, "encode", picture, "--effort", 0, "--target-size", least - 1)
    assert f"quality 0 takes {least:,}, which is 1 too many" in message
    assert "quality 100 reaches" in fails(2, "encode", picture, "--effort", 0, "--target-psnr", 99)
    assert list(picture.parent.iterdir()) == [picture]


def test_each_of_many_files_meets_the_target(picture: Path, photo: np.ndarray, encode: Encode):
    """One of them cannot."""
    noise = np.random.default_rng(1).integers(0, 256, (61, 97, 3), np.uint8)
    folder, size = picture.parent, len(encode(60))
    Image.fromarray(photo[:, :40, 0]).save(folder / "grey.png")
    Image.fromarray(noise).save(folder / "noise.png")
    sources = [folder / f"{name}.png" for name in ("noise", "picture", "grey")]
    result = lrq("encode", *sources, "--effort", 0, "--target-psnr", 24, "--out-dir", folder / "out")
    error, picture_line, grey_line, summary, end = result.stderr.splitlines()
    assert error.startswith(f"lrq: error: {sources[0]}: no file of 24.00 dB PSNR: quality 100 reaches ")
    assert (result.exit_code, end) == (2, "lrq: error: 1 of 3 files failed")
    assert summary.startswith("2 of 3 files written: ")
    for name, line in (("picture", picture_line), ("grey", grey_line)):
        assert line.startswith(f"{folder / 'out' / name}.lrq: quality ")
        decoded = lrcodec.decode((folder / "out" / f"{name}.lrq").read_bytes())
        assert psnr(np.asarray(Image.open(folder / f"{name}.png")), decoded) >= 24
    result = lrq("encode", *sources, "--effort", 0, "--target-size", size, "--out-dir", folder / "out", "-f")
    assert all(path.stat().st_size <= size for path in (folder / "out").iterdir() if path.stem != "noise")


@pytest.mark.parametrize(
    "options",
    [
        ["-q", "50", "--target-size", "1000"],
        ["-q", "50", "--target-psnr", "30"],
        ["--target-size", "1000", "--target-psnr", "30"],
        ["--target-psnr", "30", "--target-ssim", "0.9"],
        *(["--target-size", text] for text in ("0", "-1", "", "1.5k", "1G", "1 k", "k", "1e3", "\u0663")),
        *(["--target-ssim", text] for text in ("0", "1", "-0.5", "97", "nan", "")),
        *(["--target-psnr", text] for text in ("0", "-1", "nan", "inf", "", "30dB")),
    ],
    ids=" ".join,
)
def test_odd_targets_are_2(options: list[str], picture: Path):
    assert "out.lrq" not in fails(2, "encode", picture, "-o", picture.parent / "out.lrq", *options)
    assert list(picture.parent.iterdir()) == [picture]


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("9500", 9500), ("20k", 20000), ("1M", 10**6)])
def test_sizes_in_words(text: str, size: int):
    assert byte_count(text) == size


# ---- previews


def test_a_preview_is_what_decoding_shows(picture: Path):
    folder = picture.parent
    for options in ([], ["--target-psnr", 20]):
        result = lrq("encode", picture, "-f", "--effort", 0, "--preview", folder / "seen.png", *options)
        assert (result.exit_code, result.stdout) == (0, ""), result.output
        assert lrq("decode", folder / "picture.lrq", "-o", folder / "decoded.png").exit_code == 0
        assert (folder / "seen.png").read_bytes() == (folder / "decoded.png").read_bytes()
        (folder / "decoded.png").unlink()


def test_a_preview_with_a_model_that_only_the_encoder_was_told(picture: Path, tmp_path: Path):
    model = tmp_path / "copy"
    shutil.copytree(Path(lrcodec.__file__).parent.parent / "models" / "photo", model)
    (model / "decoder-more.onnx").write_bytes(b"another fingerprint")
    out = tmp_path / "seen.ppm"
    result = lrq("encode", picture, "--effort", 0, "--model", model, "--preview", out)
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        assert (image.format, image.size) == ("PPM", (97, 61))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["picture.png", "--preview", "-"], "names a file"),
        (["picture.png", "--preview", "seen"], "unknown image format"),
        (["picture.png", "--preview", "seen.lrq"], "unknown image format"),
        (["picture.png", "--preview", "picture.png"], "would replace"),
        (["picture.png", "--preview", "./x/../picture.png"], "would replace"),
        (["picture.png", "-o", "out.png", "--preview", "out.png"], "the name of another format"),
        (["picture.png", "other.png", "--preview", "seen.png"], "single input"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_odd_previews_are_2(
    arguments: list[str], message: str, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    assert message in fails(2, "encode", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.png", "x"]
