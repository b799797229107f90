"""Mosaics of tiles and folders of them: what goes in comes out in order, and what is wrong is said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lrcodec import image_files
from lrcodec.errors import UsageError
from lrcodec.paper import datasets


def images(count: int, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    shape = (count, height, width, channels) if channels > 1 else (count, height, width)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def mosaic(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Row by row, as it would be drawn."""
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
)
def test_tiles_of_a_mosaic(rows, columns, height, width, channels):
    tiles = images(rows * columns, height, width, channels)
    np.testing.assert_array_equal(image_files.tiles(mosaic(tiles, columns), height, width), tiles, strict=True)


@pytest.mark.parametrize("size", [(5, 4), (4, 5), (12, 4)])
def test_tiles_must_be_whole(size):
    with pytest.raises(UsageError, match="no whole tiles"):
        image_files.tiles(np.zeros((8, 8, 3), np.uint8), *size)


def test_read(tmp_path):
    colour, grey = images(6, 4, 5, 3), images(2, 4, 5, 1)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    Image.fromarray(mosaic(colour, 3)).save(paths[0])
    Image.fromarray(mosaic(grey, 2)).save(paths[1])
    for got, want in zip(image_files.read(paths), (mosaic(colour, 3), mosaic(grey, 2)), strict=True):
        np.testing.assert_array_equal(got, want, strict=True)
    for got, want in zip(image_files.read(paths, "5x4"), [*colour, *grey], strict=True):
        np.testing.assert_array_equal(got, want, strict=True)
    assert len(list(image_files.read(paths, "5X2"))) == 16
    assert [image.ndim for image in image_files.read(paths, "5x4", grey=True)] == [2] * 8


def test_empty_tiles_at_the_end_are_left_out(tmp_path):
    used = images(7, 4, 5, 3)
    used[2] = 9  # an empty tile in the middle is an image
    empty = np.broadcast_to(np.array([200, 100, 50], np.uint8), (2, 4, 5, 3))
    Image.fromarray(mosaic(np.concatenate([used, empty]), 3)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.stack(list(image_files.read([tmp_path / "a.png"], "5x4"))), used)


@pytest.mark.parametrize("tile", ["5", "5x", "x4", "5x4x3", "0x4", "-5x4", "5.0x4", "axb", "5 x 4"])
def test_tiles_are_given_as_width_and_height(tile, tmp_path):
    Image.fromarray(images(1, 4, 5, 3)[0]).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
        list(image_files.read([tmp_path / "a.png"], tile))


def test_read_names_the_file_that_is_wrong(tmp_path):
    Image.fromarray(images(1, 4, 5, 3)[0]).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"a\.png: .*4x5"):
        list(image_files.read([tmp_path / "a.png"], "4x5"))
    (tmp_path / "b.png").write_bytes(b"hello")
    with pytest.raises(UsageError, match=r"b\.png: not an image"):
        list(image_files.read([tmp_path / "a.png", tmp_path / "b.png"]))


@pytest.mark.parametrize("name", datasets.SIZES)
def test_load(name, tmp_path):
    """Splits apart, files in order, COUNT cuts off the empty tiles at the end of a mosaic."""
    height, width, channels = datasets.SIZES[name]
    want = {"train": images(9, height, width, channels, 1), "test": images(2, height, width, channels, 2)}
    (tmp_path / name).mkdir()
    for split, file, part, columns, suffix in (
        ("train", "01-3", want["train"][6:], 2, "png"),
        ("train", "00-6", want["train"][:6], 3, "webp"),
        ("test", "00-2", want["test"], 2, "png"),
    ):
        empty = np.zeros((-len(part) % columns, *part.shape[1:]), np.uint8)
        picture = Image.fromarray(mosaic(np.concatenate([part, empty]), columns))
        picture.save(tmp_path / name / f"{split}-{file}.{suffix}", lossless=True)
    (tmp_path / name / "train-00-6.txt").write_text("about the images")
    for split in ("train", "test"):
        np.testing.assert_array_equal(datasets.load(tmp_path, name, split), want[split], strict=True)


def test_load_says_what_is_needed(tmp_path):
    with pytest.raises(UsageError, match=r"no train images of mnist .*train-NN-COUNT\.webp.* 28x28"):
        datasets.load(tmp_path, "mnist", "train")


@pytest.mark.parametrize("wrong", ["size", "bytes", "count"])
def test_load_refuses_what_is_no_mosaic(wrong, tmp_path):
    (tmp_path / "mnist").mkdir()
    path = tmp_path / "mnist" / f"test-00-{'many' if wrong == 'count' else 1}.png"
    Image.fromarray(images(1, 28, 27 if wrong == "size" else 28, 1)[0]).save(path)
    if wrong == "bytes":
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UsageError, match=rf"^{path}: "):
        datasets.load(tmp_path, "mnist", "test")


def test_load_turns_a_mosaic_upright(tmp_path):
    (tmp_path / "mnist").mkdir()
    exif, want = Image.Exif(), images(2, 28, 28, 1)
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    picture = Image.fromarray(np.rot90(mosaic(want, 1)).copy())
    picture.save(tmp_path / "mnist" / "test-00-2.png", exif=exif)
    np.testing.assert_array_equal(datasets.load(tmp_path, "mnist", "test"), want)
