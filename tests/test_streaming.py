"""Images that are decoded, cut and written strip by strip: the same files as in one piece, whole or not at all."""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import fails, lrq
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lrcodec import entropy
from lrcodec.cli.options import Region
from lrcodec.decoder import Decoder
from lrcodec.errors import FormatError, UsageError
from lrcodec.files import write_file
from lrcodec.format import grid
from lrcodec.format.container import GREY, INDICES, RGB, Chunk, Header, pack
from lrcodec.image_io import WRITERS, read_image, write_image, write_strips
from lrcodec.packs import store

WIDTH = 97


def pixels_of(path: Path) -> np.ndarray:
    return read_image(path.read_bytes())


# ---- image files in pieces


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    width=st.integers(1, 20),
    grey=st.booleans(),
    smooth=st.booleans(),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("suffix", [".png", ".ppm", ".bmp"])
def test_files_in_pieces(suffix: str, sizes: list[int], width: int, grey: bool, smooth: bool, seed: int):
    """Strips of any sizes, also columns cut out of them, of noise or of what compresses to almost nothing."""
    shape = (sum(sizes), width + 2) + (() if grey else (3,))
    image = np.random.default_rng(seed).integers(0, 3 if smooth else 256, shape, np.uint8)
    strips = np.split(image[:, 1:-1], np.cumsum(sizes)[:-1])
    data = b"".join(write_strips(iter(strips), len(image), suffix))
    with Image.open(io.BytesIO(data)) as read:
        read.load()
        assert (read.format, read.mode) == (WRITERS[suffix][0], "L" if grey else "RGB")
        np.testing.assert_array_equal(np.array(read), image[:, 1:-1])


@pytest.mark.parametrize("suffix", WRITERS)
def test_strips_and_the_whole_image_give_the_same_pixels(suffix: str, photo: np.ndarray):
    data = b"".join(write_strips(np.split(photo, [1, 30]), len(photo), suffix))
    np.testing.assert_array_equal(read_image(data), read_image(write_image(photo, suffix)))


@pytest.mark.parametrize("suffix", [".png", ".ppm"])
def test_a_strip_is_written_before_the_next_is_asked_for(suffix: str):
    taken = []

    def strips() -> Iterator[np.ndarray]:
        for number in range(3):
            taken.append(number)
            yield np.random.default_rng(number).integers(0, 256, (500, 40, 3), np.uint8)

    written = 0
    for piece in write_strips(strips(), 1500, suffix):
        written += len(piece)
        assert written > 60000 * (len(taken) - 1.5)  # zlib keeps a little back
    assert taken == [0, 1, 2]


def test_an_unknown_suffix_is_refused_before_anything_is_decoded():
    def strips() -> Iterator[np.ndarray]:
        raise AssertionError
        yield

    for suffix in (".xyz", ""):
        with pytest.raises(UsageError, match="suffix"):
            write_strips(strips(), 10, suffix)


# ---- files that are whole or absent


def pieces_until(error: Exception | None) -> Iterator[bytes]:
    yield b"one"
    yield b"two"
    if error:
        raise error


def test_pieces_replace_the_whole_file(tmp_path: Path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    assert write_file(target, pieces_until(None)) == 6
    assert write_file(tmp_path / "other", b"three") == 5
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": b"onetwo", "other": b"three"}


@pytest.mark.parametrize(
    "error",
    [FormatError("damaged"), FileNotFoundError(2, "No such file or directory", "tables.npz"), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_what_goes_wrong_between_pieces_leaves_things_as_they_were(error: Exception, tmp_path: Path):
    target = tmp_path / "out"
    for before in ([], [b"old"]):
        with pytest.raises(type(error)) as caught:
            write_file(target, pieces_until(error))
        assert caught.value is error
        assert [path.read_bytes() for path in tmp_path.iterdir()] == before
        target.write_bytes(b"old")


def test_a_full_disk_is_named_by_the_target(tmp_path: Path):
    target = tmp_path / "out"
    with pytest.raises(OSError, match="No space") as caught:
        write_file(target, pieces_until(OSError(28, "No space left on device")))
    assert caught.value.filename == str(target)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs a name of standard output")
def test_pieces_into_a_pipe():
    code = (
        "from lrcodec.files import write_file; from pathlib import Path; write_file(Path('/dev/stdout'), [b'a', b'b'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"ab", b"")


# ---- regions


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1, 2,3,4", "-1,2,3,4", "1.5,2,3,4", "1,2,3,\u0664"]
)
def test_malformed_regions_are_2(text: str, tmp_path: Path):
    assert "X,Y,W,H" in fails(2, "decode", tmp_path / "a.lrq", f"--region={text}")


@given(*[st.integers(0, 40)] * 6)
def test_regions_are_inside_the_image(x: int, y: int, width: int, height: int, image_width: int, image_height: int):
    region = Region.parse(f"{x},{y},{width},{height}")
    assert region == (x, y, width, height)
    image = np.zeros((image_height, image_width), np.uint8)
    if image[y : y + height, x : x + width].shape == (height, width) and width and height:
        region.check(Region(0, 0, image_width, image_height))
    else:
        with pytest.raises(UsageError, match=f"{x},{y},{width},{height} "):
            region.check(Region(0, 0, image_width, image_height))


# ---- the command


Make = Callable[..., tuple[Path, np.ndarray]]


@pytest.fixture
def make(random_pack, random_planes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """make(name, colour=RGB, height=61): a .lrq file, and its pixels as they are drawn in one piece.

    Here a strip is a row of coarsest patches, and an image of at most two such rows counts as small.
    """
    model = random_pack[0]
    span = model.scales[0].span
    monkeypatch.setattr(grid, "STRIP_PIXELS", 2 * span * WIDTH)
    monkeypatch.setattr(store, "by_fingerprint", lambda wanted, extra=(): SimpleNamespace(load=lambda: model))

    def make(name: str, colour: int = RGB, height: int = 61) -> tuple[Path, np.ndarray]:
        header = Header(WIDTH, height, colour, rank=2, iterations=3, band=0, smoothing=1, model=model.fingerprint)
        planes = random_planes(model, header, seed=1)
        chunks = []
        for top, bottom in grid.strips(model.scales, height, WIDTH):
            part = [p[:, top // s.span : -(-bottom // s.span)] for p, s in zip(planes, model.scales, strict=True)]
            chunks.append(Chunk(INDICES, *entropy.encode(part, model, header)))
        assert len(chunks) == -(-height // span)
        path = tmp_path / name
        path.write_bytes(pack(header, chunks))
        return path, Decoder().graph(header).run(planes, header.rank, height, WIDTH)[0]

    return make


@pytest.mark.parametrize("colour", [RGB, GREY])
@pytest.mark.parametrize("suffix", [".png", ".ppm", ".tif"])
def test_decoding_strip_by_strip(suffix: str, colour: int, make: Make, tmp_path: Path):
    source, expected = make("a.lrq", colour)
    target = tmp_path / f"out{suffix}"
    assert lrq("decode", source, "-o", target).output == ""
    np.testing.assert_array_equal(pixels_of(target), expected)


def test_only_small_images_are_decoded_in_one_piece(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, _ = make("a.lrq")
    small, _ = make("b.lrq", height=10)
    monkeypatch.setattr(Decoder, "decode", None)
    assert lrq("decode", source, small, "--out-dir", tmp_path / "out").exit_code == 0
    assert pixels_of(tmp_path / "out" / "b.png").shape == (10, WIDTH, 3)


@pytest.mark.parametrize("height", [61, 10], ids=["strips", "one strip"])
def test_decoding_regions(height: int, make: Make, tmp_path: Path):
    source, pixels = make("a.lrq", height=height)
    for x, y, w, h in ((0, 0, WIDTH, height), (96, height - 1, 1, 1), (13, 5, 50, height - 8)):
        assert lrq("decode", source, "-o", tmp_path / "out.png", "--region", f"{x},{y},{w},{h}").output == ""
        np.testing.assert_array_equal(pixels_of(tmp_path / "out.png"), pixels[y : y + h, x : x + w])


def test_a_region_outside_the_image_is_2(make: Make, tmp_path: Path):
    source, _ = make("a.lrq")
    for region in ("0,0,98,61", "97,0,1,1", "0,61,1,1", "0,0,0,1", "1,1,1,61"):
        message = fails(2, "decode", source, "--region", region)
        assert f"region {region} is empty or not inside the image of 97 x 61 pixels" in message
    assert list(tmp_path.iterdir()) == [source]


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Files to be added here turn out to be damaged after their first strip."""
    files: list[bytes] = []
    intact = Decoder.strips

    def strips(self: Decoder, data: bytes, *arguments: object) -> Iterator[np.ndarray]:
        for strip in intact(self, data, *arguments):
            yield strip
            if data in files:
                raise FormatError("the indices are damaged")

    monkeypatch.setattr(Decoder, "strips", strips)
    return files


@pytest.mark.parametrize("suffix", [".png", ".ppm", ".tif"])
def test_a_damaged_strip_leaves_no_file(suffix: str, make: Make, damaged: list[bytes], tmp_path: Path):
    source, _ = make("a.lrq")
    damaged.append(source.read_bytes())
    assert "damaged" in fails(3, "decode", source, "-o", tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == [source]


def test_a_damaged_strip_does_not_stop_the_others(make: Make, damaged: list[bytes], tmp_path: Path):
    """Small images, one of two strips, and large ones, one of them damaged, in one group."""
    out = tmp_path / "out"
    inputs = [make("0.lrq", height=20), make("1.lrq"), make("2.lrq", GREY), make("3.lrq", height=10)]
    damaged.append(inputs[1][0].read_bytes())
    result = lrq("decode", *(path for path, _ in inputs), "--out-dir", out)
    error, summary, end = result.stderr.splitlines()
    assert error == f"lrq: error: {inputs[1][0]}: the indices are damaged"
    assert summary.startswith("3 of 4 files written: ")
    assert (end, result.exit_code) == ("lrq: error: 1 of 4 files failed", 3)
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "2.png", "3.png"]
    for number in (0, 2, 3):
        np.testing.assert_array_equal(pixels_of(out / f"{number}.png"), inputs[number][1])


def test_a_region_of_many_files(make: Make, tmp_path: Path):
    (large, pixels), (small, _) = make("0.lrq"), make("1.lrq", height=10)
    result = lrq("decode", large, small, "--out-dir", tmp_path / "out", "--region", "1,20,3,4")
    error, *_ = result.stderr.splitlines()
    assert error.startswith(f"lrq: error: {small}: region 1,20,3,4 is empty or not inside")
    assert result.exit_code == 2
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "0.png"), pixels[20:24, 1:4])
