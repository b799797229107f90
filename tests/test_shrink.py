"""Images at a part of their size: the pixels are those of SPEC.md, whole, strip by strip and in part."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
from commands import fails, lrq
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_decoder import file_of, header, reader_of, strips_of

import lrcodec
from lrcodec import entropy
from lrcodec.errors import UsageError
from lrcodec.format import container, grid
from lrcodec.format.alpha import pack_alpha
from lrcodec.format.container import GREY, RGB, Chunk
from lrcodec.format.grid import Scale
from lrcodec.format.shrink import SHRINKS, means

SMALLER = SHRINKS[1:]


def with_alpha(data: bytes, seed: int) -> bytes:
    """A file, and noise as its alpha."""
    head, chunks = container.unpack(data)
    alpha = np.random.default_rng(seed).integers(0, 256, (head.height, head.width), np.uint8)
    return container.pack(replace(head, alpha=1), [Chunk(container.ALPHA, pack_alpha(alpha)), *chunks])


@pytest.mark.parametrize("colour", [GREY, RGB])
@pytest.mark.parametrize("shrink", SMALLER)
@pytest.mark.parametrize(("width", "height"), [(97, 61), (1, 1), (16, 33), (70, 139)])
def test_pixels_are_those_of_the_reference(
    width: int, height: int, shrink: int, colour: int, random_pack, random_planes
):
    """Of random models and indices, with alpha and without; `smoothing` changes nothing."""
    pack, _ = random_pack
    head = header(width, height, model=pack.fingerprint, colour=colour)
    plain = file_of(pack, random_planes(pack, head, 31), head)
    reader = reader_of(pack)
    want = reference.decode(plain, pack.tables, shrink)
    assert want.shape == head.shrunk(shrink).shape == (-(-height // shrink), -(-width // shrink), *[3] * colour)
    np.testing.assert_array_equal(reader.decode(plain, shrink), want, strict=True)
    rough = container.pack(replace(head, smoothing=0), container.unpack(plain)[1])
    np.testing.assert_array_equal(reader.decode(rough, shrink), want)
    data = with_alpha(plain, 32)
    want = reference.decode(data, pack.tables, shrink)
    got = reader.decode_batch([data, plain, data], shrink)
    np.testing.assert_array_equal(got[0], want, strict=True)
    np.testing.assert_array_equal(got[1].reshape(*want.shape[:2], -1), want[..., :-1])
    np.testing.assert_array_equal(got[2], want)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_strips_and_rows_are_those_of_the_whole(random_pack, random_planes, data):
    pack, _ = random_pack
    shrink = data.draw(st.sampled_from(SMALLER), "shrink")
    height = data.draw(st.integers(1, 200), "height")
    head = header(data.draw(st.integers(1, 50), "width"), height, model=pack.fingerprint)
    rows = -(-height // shrink)
    top = data.draw(st.integers(0, rows - 1), "top")
    bottom = data.draw(st.integers(top + 1, rows), "bottom")
    reader = reader_of(pack, data.draw(st.sampled_from([1, 2]), "threads"))
    planes = random_planes(pack, head, 33)
    want = reader.decode(with_alpha(file_of(pack, planes, head), 34), shrink)
    with strips_of(data.draw(st.sampled_from([1, 64 * 32, 64 * 48]), "pixels")):
        file = with_alpha(file_of(pack, planes, head), 34)
        np.testing.assert_array_equal(reader.decode(file, shrink), want)
        np.testing.assert_array_equal(np.concatenate([*reader.strips(file, shrink=shrink)]), want)
        np.testing.assert_array_equal(np.concatenate([*reader.strips(file, (top, bottom), shrink)]), want[top:bottom])
        for wrong in ((0, rows + 1), (rows, rows + 1)):
            with pytest.raises(UsageError, match=f"of an image with {rows}"):
                reader.strips(file, wrong, shrink)


@given(height=st.integers(1, 2000), width=st.integers(1, 300), shrink=st.sampled_from(SMALLER), data=st.data())
def test_windows_have_all_rows_that_pixels_depend_on(height: int, width: int, shrink: int, data):
    """Of models whose coarsest patches no shrink divides, too."""
    patches = data.draw(st.sampled_from([(2, 2, 2), (6, 6, 6), (6, 12, 8)]))
    scales = tuple(Scale(s, p, (1,)) for s, p in zip((4, 2, 1), patches, strict=True))
    drawn = grid.drawn(scales, shrink)
    assert [s.scale for s in drawn] == [s for s in (4, 2, 1) if s >= min(shrink, 4)]
    top = data.draw(st.integers(0, -(-height // shrink) - 1))
    ranges = grid.window(drawn, height, top, top + 1, shrink)
    low, high = (row * shrink // drawn[-1].scale for row in (top, top + 1))
    for scale, (first, last) in zip(drawn[::-1], ranges[::-1], strict=True):
        rows = scale.grid(height, width)[0]
        assert 0 <= first < last <= rows
        assert first * scale.patch <= max(low, 0) and (last == rows or high <= last * scale.patch)
        low, high = low // 2 - 2, -(-high // 2) + 2


def test_means():
    """Halves are rounded upwards, of negative numbers too."""
    values = np.array([[-1, -2, 5], [-1, -2, 6]])
    assert means(values, 2, 1, 2).tolist() == [[(-6 + 2) // 4, (22 + 2) // 4]]
    assert means(values, 1, 2, 2).tolist() == [[-1, -2], [-1, -2]]
    assert means(values, 16, 1, 1).tolist() == reference.means(values[None], 16, 1, 1)[0].tolist()


def test_finer_scales_are_not_decoded(random_pack, random_planes):
    """So damage there, behind a CRC-32 that matches, does not show."""
    pack, _ = random_pack
    head = header(97, 61, model=pack.fingerprint)
    planes = random_planes(pack, head, 35)
    (payload,) = entropy.encode(planes, pack, head)
    for count in (1, 2, 3):
        some = entropy.decode([payload], pack, head, 61, count)
        assert len(some) == count
        for got, want in zip(some, planes, strict=False):
            np.testing.assert_array_equal(got, want)
    damaged = container.pack(head, [Chunk(container.INDICES, payload[:-60] + bytes(60))])
    data, reader = file_of(pack, planes, head), reader_of(pack)
    np.testing.assert_array_equal(reader.decode(damaged, 4), reader.decode(data, 4))
    assert not np.array_equal(reader.decode(damaged), reader.decode(data))


@pytest.mark.parametrize("shrink", [0, -2, 3, 32, 2.5])
def test_other_sizes_are_refused(shrink, photo_file: Path):
    data = photo_file.read_bytes()
    decoder = lrcodec.Decoder()
    for decode in (decoder.decode, decoder.preview, lambda d, s: lrcodec.decode(d, shrink=s)):
        with pytest.raises(UsageError, match="shrink must be one of 1, 2, 4, 8, 16"):
            decode(data, shrink)
    with pytest.raises(UsageError, match="shrink"):
        decoder.strips(data, shrink=shrink)


def test_it_looks_like_the_image(photo: np.ndarray, photo_file: Path):
    """Within the rounding of a crude mean, and closer than a neighbouring pixel would be."""
    data = photo_file.read_bytes()
    for shrink in (2, 4, 8):
        got = lrcodec.decode(data, shrink=shrink)[:-1, :-1].astype(float)
        height, width = got.shape[:2]
        boxes = lrcodec.decode(data)[: height * shrink, : width * shrink].astype(float)
        boxes = boxes.reshape(height, shrink, width, shrink, 3).mean((1, 3))
        error = np.sqrt(((got - boxes) ** 2).mean())
        assert error < 12 and 2 * error < np.sqrt(((got[1:] - boxes[:-1]) ** 2).mean())


def test_the_command(photo_file: Path, tmp_path: Path):
    data, out = photo_file.read_bytes(), tmp_path / "out.png"
    for shrink in SHRINKS:
        assert lrq("decode", photo_file, "-o", out, "--shrink", shrink).output == ""
        np.testing.assert_array_equal(np.asarray(Image.open(out)), lrcodec.decode(data, shrink=shrink))
    assert lrq("decode", photo_file, "-o", out, "--shrink", 4, "--region", "3,2,20,13").output == ""
    np.testing.assert_array_equal(np.asarray(Image.open(out)), lrcodec.decode(data, shrink=4)[2:15, 3:23])
    line = fails(2, "decode", photo_file, "-o", out, "--shrink", 4, "--region", "0,0,25,17")
    assert "not inside the image of 25 x 16 pixels" in line
    for wrong in (0, 3, 32, "x"):
        assert "--shrink" in fails(2, "decode", photo_file, "-o", out, "--shrink", wrong)


def test_the_command_for_many_files(photo_file: Path, tmp_path: Path):
    other = tmp_path / "other.lrq"
    other.write_bytes(with_alpha(photo_file.read_bytes(), 36))
    assert lrq("decode", photo_file, other, "--out-dir", tmp_path / "out", "--shrink", 8).exit_code == 0
    for path in (photo_file, other):
        with Image.open(tmp_path / "out" / f"{path.stem}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), lrcodec.decode(path.read_bytes(), shrink=8))
