"""Grids: every pixel is covered, nothing more than needed, and only nested scales are accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrcodec.grid import Scale, check_scales

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


def test_places_of_codewords():
    own, shared = Scale(1, 8, (4, 2, 8)), Scale(1, 8, (4, 4, 4), shared=True)
    assert (own.starts, own.rows) == ((0, 4, 6), 14)
    assert (shared.starts, shared.rows) == ((0, 0, 0), 4)


@pytest.mark.parametrize(
    "scales",
    [
        (scale(1, 8),),
        (scale(4, 4), scale(2, 8), scale(1, 8)),
        (Scale(2, 8, (4, 4), shared=True), Scale(1, 8, (8,), shared=True)),
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
    ],
)
def test_other_scales_are_refused(scales: tuple[Scale, ...]):
    with pytest.raises(ValueError):
        check_scales(scales)
