"""Tuning for the eye: what errors are multiplied with, and that it pays where structure is measured."""

import numpy as np
import pytest
import torch

from lrcodec import decode
from lrcodec.cli.options import TUNING
from lrcodec.encoder import TUNINGS, Encoder
from lrcodec.encoder.codebook import Codebook
from lrcodec.encoder.config import Config
from lrcodec.encoder.mending import MENDED_FROM, MENDED_MORE, importance
from lrcodec.encoder.pyramid import pad, to_patches, to_planes
from lrcodec.encoder.quantizer import Quantizer
from lrcodec.encoder.search import Bits
from lrcodec.encoder.visibility import CEILING, FLOOR, POWER, USUAL, weights
from lrcodec.format.grid import Scale
from lrcodec.measure.curves import bd_rate
from lrcodec.measure.metrics import ms_ssim, ms_ssim_db, psnr, ssimulacra2

SCALES = Scale(4, 4, (1,), False), Scale(2, 8, (1,), False), Scale(1, 8, (1,), False, True)
"""Of 16, 16 and 8 pixels a patch."""


def maps(image: np.ndarray, scales: tuple[Scale, ...] = SCALES) -> list[torch.Tensor]:
    """Weights of an image uint8 (h, w, C), or of several of one size: for each scale (images, rows, columns)."""
    stack = image.reshape(-1, *image.shape[-3:])
    size = stack.shape[1], stack.shape[2]
    found = weights(pad(to_planes(stack), scales[0].span), scales, size)
    return [flat.reshape(len(stack), *scale.grid(*size)) for flat, scale in zip(found, scales, strict=True)]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(data.coffee()[100:340, 150:407])


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(device="cpu")


def test_texture_weighs_more_than_smooth_areas_within_bounds():
    image = np.full((64, 96, 3), 90, np.uint8)
    image[:, 48:] = np.random.default_rng(1).integers(0, 2, (64, 48, 1)) * 255
    for weight in maps(image):
        assert weight.shape[0] == 1 and weight.dtype == torch.float32
        smooth, busy = weight[0, :, 0], weight[0, :, -1]
        torch.testing.assert_close(smooth, torch.full_like(smooth, (FLOOR / USUAL) ** POWER))
        assert (busy > 1).all() and (busy < (CEILING / USUAL) ** POWER).all()


@pytest.mark.parametrize("scales", [SCALES, (Scale(2, 8, (1,), False), Scale(1, 4, (1,), False))])
@pytest.mark.parametrize("shape", [(1, 1), (7, 40), (97, 131)])
def test_every_patch_has_a_weight(shape: tuple[int, int], scales: tuple[Scale, ...]):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    for weight, scale in zip(maps(image, scales), scales, strict=True):
        assert weight.shape == (1, *scale.grid(*shape)) and weight.isfinite().all() and (weight > 0).all()


def test_grey_images_weigh_as_much_as_equal_channels(picture: np.ndarray):
    grey = picture[..., 1:2]
    for one, three in zip(maps(grey), maps(grey.repeat(3, 2)), strict=True):
        torch.testing.assert_close(one, three, rtol=1e-3, atol=0)


def test_each_image_of_a_batch_stands_alone(picture: np.ndarray):
    stack = np.stack([picture, picture[::-1], np.full_like(picture, 7)])
    for together, *alone in zip(maps(stack), *map(maps, stack), strict=True):
        torch.testing.assert_close(together, torch.cat(alone))


def test_windows_of_an_image_agree(picture: np.ndarray):
    """Beyond a patch from where they are cut: the margin of windows is wider."""
    for whole, window, scale in zip(maps(picture), maps(picture[64:192]), SCALES, strict=True):
        top, rows = 64 // scale.span, 128 // scale.span
        torch.testing.assert_close(window[:, 1:-1], whole[:, top + 1 : top + rows - 1])


@pytest.mark.parametrize("tune", ["eye", "psnr"])
def test_sizes_and_quality_rise(tune: str, encoder: Encoder, picture: np.ndarray):
    files = [encoder.encode(picture, quality, effort=0, tune=tune) for quality in range(0, 101, 10)]
    sizes = [len(data) for data in files]
    metric = ms_ssim if tune == "eye" else psnr
    values = [metric(picture, decode(data)) for data in files]
    assert sizes == sorted(set(sizes)) and values == sorted(set(values))


def test_it_pays_at_equal_bits(encoder: Encoder, picture: np.ndarray):
    """By MS-SSIM and SSIMULACRA2; and PSNR pays for it."""
    rates: dict[str, list[float]] = {"eye": [], "psnr": []}
    levels: dict[str, list[tuple[float, ...]]] = {"eye": [], "psnr": []}
    for tune in rates:
        for quality in (20, 40, 60, 80):
            data = encoder.encode(picture, quality, effort=0, tune=tune)
            image = decode(data)
            rates[tune].append(len(data))
            levels[tune].append(
                (ms_ssim_db(ms_ssim(picture, image)), ssimulacra2(picture, image), psnr(picture, image))
            )
    curves = [[list(values) for values in zip(*levels[tune], strict=True)] for tune in ("psnr", "eye")]
    by_ms_ssim, by_ssimulacra2, by_psnr = (
        bd_rate(rates["psnr"], plain, rates["eye"], tuned) for plain, tuned in zip(*curves, strict=True)
    )
    assert by_ms_ssim < -3 and by_ssimulacra2 < -3 and 0 < by_psnr < 10


def test_the_eye_is_the_default(encoder: Encoder, picture: np.ndarray):
    part = np.ascontiguousarray(picture[:64, :96])
    default, eye, plain = (
        encoder.encode(part, effort=0, **options) for options in ({}, {"tune": "eye"}, {"tune": "psnr"})
    )
    assert default == eye != plain
    assert tuple(TUNING.choices) == TUNINGS


@pytest.mark.parametrize("quality", [0.0, 0.5, 0.8, 1.0])
def test_errors_that_finer_scales_mend_count_less(quality: float):
    """Luma of all scales but the finest, and chroma of those before the last that has it."""
    config = Config(SCALES, coarse=1.25)
    more = MENDED_MORE ** max(0.0, quality - MENDED_FROM)
    wanted = [(0.8, 0.8 * 3), (0.8 / more, 3), (1, None)]
    for scale, weight, (luma, chroma) in zip(SCALES, importance(config, quality, 3, 3.0), wanted, strict=True):
        assert weight.shape == (scale.patch**2 * scale.channels(3),)
        planes = weight.reshape(scale.patch, -1, scale.patch)
        np.testing.assert_allclose(planes[:, 0], luma, rtol=1e-6)
        if chroma:
            np.testing.assert_allclose(planes[:, 1:], chroma, rtol=1e-6)


def test_all_channels_of_the_finest_scale_count_in_full():
    coarse, fine = (Scale(s, 8, (1,)) for s in (2, 1))
    for channels in (1, 3):
        before, last = importance(Config((coarse, fine), coarse=2.0), 1.0, channels)
        assert before.eq(0.5).all() and last.eq(1).all() and last.shape == (64 * channels,)


def test_errors_of_chroma_count_as_often_as_they_should():
    """The search takes the codeword of the least weighted error, and what it draws is the codeword itself."""
    torch.manual_seed(0)
    scale = Scale(1, 4, (16,), symmetries=8)
    book = Codebook(torch.randn(16, 48), 4, 8)
    planes, free = torch.randn(1, 3, 24, 24), Bits(torch.zeros(1, 2), [torch.zeros(1, 16)], [torch.zeros(16, 8)])
    apart = to_patches(planes, 4)[0][:, None] - book.codewords
    for chroma in (1.0, 2.0, 30.0):
        minded = importance(Config((scale,)), 0.5, 3, chroma)
        (indices,) = Quantizer((scale,), [[book]], [None])([planes], (24, 24), 1.0, [free], 1, minded)
        squared = apart.square().unflatten(2, (4, 3, 4)).sum((2, 4))
        errors = squared[..., 0] + chroma * squared[..., 1:].sum(2)
        drawn = to_patches(planes, 4)[0].square().unflatten(1, (4, 3, 4)).sum((1, 3))
        nothing = drawn[:, 0] + chroma * drawn[:, 1:].sum(1)
        wanted = torch.where(errors.amin(1) < nothing, errors.argmin(1) + 1, 0)
        np.testing.assert_array_equal(indices.flatten(), wanted)
