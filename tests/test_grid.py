"""Grids and strips: every pixel is covered, nothing more than needed, and only nested scales are accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrcodec.format import grid
from lrcodec.format.grid import Scale, check_scales

SIDES = st.integers(1, 65535)


def scale(side: int, patch: int) -> Scale:
    return Scale(side, patch, (8,))


def test_examples():
    assert scale(4, 8).span == 32
    assert scale(4, 8).grid(height=64, width=65) == (2, 3)
    assert scale(1, 8).grid(height=1, width=1) == (1, 1)


@given(SIDES, SIDES, st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([2, 4, 8]))
def test_patches_cover_the_image_and_no_row_is_idle(height: int, width: int, side: int, patch: int):
    rows, columns = scale(side, patch).grid(height, width)
    span = side * patch
    assert (rows - 1) * span < height <= rows * span
    assert (columns - 1) * span < width <= columns * span


def test_places_of_shapes():
    separate, shared = Scale(1, 8, (4, 2, 8)), Scale(1, 8, (4, 4, 4), shared=True)
    assert (separate.starts, separate.rows) == ((0, 4, 6), 14)
    assert (shared.starts, shared.rows) == ((0, 0, 0), 4)
    symmetric = Scale(1, 8, (4, 2), symmetries=8)
    assert (symmetric.starts, symmetric.rows, symmetric.codewords) == ((0, 4), 6, (32, 16))


@pytest.mark.parametrize(
    "scales",
    [
        (scale(1, 8),),
        (scale(4, 4), scale(2, 8), scale(1, 8)),
        (Scale(2, 8, (4, 4), shared=True), Scale(1, 8, (8,), shared=True)),
        (scale(2, 8), Scale(1, 8, (8,), luma_only=True)),
    ],
)
def test_nested_scales(scales: tuple[Scale, ...]):
    check_scales(scales)


@pytest.mark.parametrize(
    "scales",
    [
        pytest.param((), id="none"),
        pytest.param((scale(2, 8),), id="does not end at 1"),
        pytest.param((scale(4, 8), scale(1, 8)), id="skips a scale"),
        pytest.param((scale(2, 2), scale(1, 8)), id="a fine patch wider than a coarse one"),
        pytest.param((scale(1, 3),), id="odd patch"),
        pytest.param((Scale(1, 8, ()),), id="no iteration"),
        pytest.param((Scale(1, 8, (8, 4), shared=True),), id="a shared codebook of two sizes"),
        pytest.param((Scale(1, 8, (8,), luma_only=True),), id="no chroma at all"),
        pytest.param((Scale(1, 8, (8,), symmetries=4),), id="four symmetries"),
        pytest.param((Scale(2, 8, (8,), luma_only=True), scale(1, 8)), id="chroma in the finest scale alone"),
    ],
)
def test_other_scales_are_refused(scales: tuple[Scale, ...]):
    with pytest.raises(ValueError):
        check_scales(scales)


def test_channels():
    assert [scale(2, 8).channels(c) for c in (1, 3)] == [1, 3]
    assert [Scale(1, 8, (8,), luma_only=True).channels(c) for c in (1, 3)] == [1, 1]


SCALES = (scale(16, 4), scale(8, 4), scale(4, 4), scale(2, 8), scale(1, 8))


def test_examples_of_strips():
    assert grid.strips(SCALES, height=4000, width=6000)[-2:] == [(3840, 3968), (3968, 4000)]
    assert grid.strips(SCALES, height=1, width=1) == [(0, 1)]
    assert grid.strips(SCALES, height=512, width=768) == [(0, 512)]
    assert grid.strips(SCALES, height=65, width=65535) == [(0, 64), (64, 65)]


@given(SIDES, SIDES, st.sampled_from([SCALES, SCALES[3:], SCALES[4:], (scale(2, 64), scale(1, 128))]))
def test_strips_are_whole_rows_of_patches_and_as_large_as_may_be(height: int, width: int, scales: tuple[Scale, ...]):
    bounds, span = grid.strips(scales, height, width), scales[0].span
    assert [0, *(bottom for _, bottom in bounds)] == [*(top for top, _ in bounds), height]
    high = bounds[0][1]
    assert {bottom - top for top, bottom in bounds[:-1]} <= {high} and 0 < height - bounds[-1][0] <= high
    wide = span * -(-width // span)
    if len(bounds) > 1:
        assert high % span == 0 and (high + span) * wide > 2**20
        assert high * wide <= 2**20 or high == span
    # The patches of the strips, at every scale, are those of the image.
    for scale in scales:
        assert sum(scale.grid(bottom - top, width)[0] for top, bottom in bounds) == scale.grid(height, width)[0]


@given(st.integers(1, 3000), st.data(), st.sampled_from([SCALES, SCALES[3:], SCALES[4:]]))
def test_windows_reach_as_far_as_pixels_depend(height: int, data: st.DataObject, scales: tuple[Scale, ...]):
    top = data.draw(st.integers(0, height - 1))
    bottom = data.draw(st.integers(top + 1, height))
    # Row y of pixels, in blocks of two rows, needs three blocks beside its own: one for chroma, two for smoothing.
    # Row y of a plane needs two of the coarser one.
    low, high = 2 * (top // 2 - 3), 2 * ((bottom - 1) // 2 + 4)
    for scale, (first, last) in zip(scales[::-1], grid.window(scales, height, top, bottom)[::-1], strict=True):
        rows = scale.grid(height, 1)[0]
        assert 0 <= first < last <= rows
        assert first * scale.patch <= max(0, low) and last * scale.patch >= min(rows * scale.patch, high)
        # And no patch further.
        assert first == 0 or first * scale.patch > low - scale.patch - 2
        assert last == rows or last * scale.patch < high + scale.patch + 2
        low, high = first * scale.patch // 2 - 2, (last * scale.patch - 1) // 2 + 3


def test_the_window_of_all_rows_is_all():
    for height in (1, 63, 64, 65, 1000):
        assert grid.window(SCALES, height, 0, height) == [(0, s.grid(height, 1)[0]) for s in SCALES]
