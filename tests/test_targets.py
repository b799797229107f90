"""Qualities that meet a target: of any encoder by the rules of targets.py, and of the command on real images."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import fails, lrq
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import lrcodec
from lrcodec import targets
from lrcodec.errors import UsageError
from lrcodec.metrics import psnr
from lrcodec.options import byte_count

LEVELS = st.lists(st.integers(1, 3000), min_size=101, max_size=101)


class Sizes:
    """An encoder whose file of quality q is q in a byte and zeros, `sizes[q]` bytes in all; PSNR is that over 10."""

    def __init__(self, sizes: list[int]):
        self.sizes, self.calls = sizes, 0

    def encode(self, quality: int) -> bytes:
        self.calls += 1
        return bytes([quality]).ljust(self.sizes[quality], b"\0")

    def psnr(self, data: bytes) -> float:
        return self.sizes[data[0]] / 10


def test_the_number_of_encodes_that_is_documented():
    assert targets.MAX_ENCODES == 7
    for option in ("--target-size", "--target-psnr"):
        assert re.search(rf"{option} .*?up to\s+7\s+encodes", lrq("encode", "--help").stdout, re.DOTALL)


@given(LEVELS.map(sorted), st.integers(1, 3100))
def test_the_best_quality_that_fits(sizes: list[int], size: int):
    coder = Sizes(sizes)
    fitting = [quality for quality in range(101) if sizes[quality] <= size]
    if fitting:
        found = targets.for_size(coder.encode, coder.psnr, size)
        assert found == (fitting[-1], coder.encode(fitting[-1]), sizes[fitting[-1]] / 10)
    else:
        with pytest.raises(UsageError, match=f"quality 0 takes {sizes[0]:,}, which is {sizes[0] - size:,} too many"):
            targets.for_size(coder.encode, coder.psnr, size)
    assert coder.calls <= targets.MAX_ENCODES + bool(fitting)


@given(LEVELS.map(sorted), st.integers(1, 3100))
def test_the_lowest_quality_that_is_enough(sizes: list[int], level: int):
    coder = Sizes(sizes)
    enough = [quality for quality in range(101) if sizes[quality] >= level]
    if enough:
        found = targets.for_psnr(coder.encode, coder.psnr, level / 10)
        assert found == (enough[0], coder.encode(enough[0]), sizes[enough[0]] / 10)
    else:
        with pytest.raises(UsageError, match=f"no file of .* dB PSNR: quality 100 reaches {sizes[100] / 10:.2f} dB"):
            targets.for_psnr(coder.encode, coder.psnr, level / 10)
    assert coder.calls <= targets.MAX_ENCODES + bool(enough)


@given(LEVELS, st.integers(1, 3100))
def test_a_target_is_met_whatever_the_order_of_the_files(sizes: list[int], target: int):
    """Or refused, and then rightly so for quality 0, or 100."""
    try:
        assert len(targets.for_size(Sizes(sizes).encode, lambda data: 0, target).data) <= target
    except UsageError:
        assert sizes[0] > target
    try:
        found = targets.for_psnr(Sizes(sizes).encode, Sizes(sizes).psnr, target / 10)
        assert found.psnr >= target / 10 and sizes[found.quality] / 10 == found.psnr
    except UsageError:
        assert sizes[100] < target


# ---- the command


Encode = Callable[[int], bytes]


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


def reached(line: str) -> tuple[int, float, int]:
    """Quality, PSNR in dB and bytes, as the command says them."""
    match = re.search(r": quality (\d+), ([\d.]+) dB PSNR, ([\d,]+) bytes, 97 x 61 pixels, ", line)
    assert match, line
    return int(match[1]), float(match[2]), int(match[3].replace(",", ""))


def test_target_size(picture: Path, photo: np.ndarray, encode: Encode):
    target = picture.with_suffix(".lrq")
    size = (len(encode(0)) + len(encode(100))) // 2
    result = lrq("encode", picture, "--effort", 0, "--target-size", size)
    assert (result.exit_code, result.stdout) == (0, "")
    quality, level, count = reached(result.stderr)
    data = target.read_bytes()
    assert len(data) == count <= size < len(encode(quality + 1))
    assert data == encode(quality)
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
    assert psnr(photo, lrcodec.decode(encode(quality - 1))) < level <= psnr(photo, lrcodec.decode(data))
    assert achieved == round(psnr(photo, lrcodec.decode(data)), 2)


def test_the_encoder_is_asked_at_most_seven_times(picture: Path, monkeypatch: pytest.MonkeyPatch):
    from lrcodec.encoder import Encoder

    qualities = []
    intact = Encoder.encode_batch

    def encode_batch(self: Encoder, images: list[np.ndarray], quality: int, **others: object) -> list[bytes]:
        qualities.append(quality)
        return intact(self, images, quality, **others)

    monkeypatch.setattr(Encoder, "encode_batch", encode_batch)
    for option in ("--target-size=1M", "--target-psnr=1"):
        assert lrq("encode", picture, "--effort", 0, "-f", option).exit_code == 0
        assert len(set(qualities)) == len(qualities) <= 7
        assert qualities[-1] == (100 if "size" in option else 0)
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
    assert error.startswith(f"lrq: error: {sources[0]}: no file of 24 dB PSNR: quality 100 reaches ")
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
        *(["--target-size", text] for text in ("0", "-1", "", "1.5k", "1G", "1 k", "k", "1e3", "\u0663")),
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
    model = tmp_path / "own"
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
