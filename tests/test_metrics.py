import math
import sys

import numpy as np
import pytest

from lrcodec.errors import EncoderMissingError, UsageError
from lrcodec.measure.curves import bd_rate, overlap
from lrcodec.measure.metrics import (
    MS_SSIM_MIN_SIDE,
    SSIMULACRA2_MIN_SIDE,
    chroma_psnr,
    ms_ssim,
    mse,
    psnr,
    ssimulacra2,
)

RATES, LEVELS = [0.1, 0.2, 0.4, 0.8], [26.0, 29.0, 32.5, 35.0]

# Means over Kodak with Pillow 13: bpp of whole files, PSNR in dB.
KODAK_JPEG = (
    [0.1408, 0.25551, 0.35868, 0.44915, 0.6101, 0.74326, 0.86919, 1.00491, 1.21301, 1.54904],
    [23.8522, 26.6718, 28.1448, 29.1445, 30.4915, 31.422, 32.1738, 32.9076, 33.9167, 35.37],
)
KODAK_WEBP = (
    [0.10257, 0.21742, 0.27442, 0.37749, 0.47621, 0.57722, 0.67273, 0.76866, 0.87727, 1.15431],
    [25.6749, 28.1086, 28.9319, 30.1936, 31.2283, 32.2019, 33.0089, 33.7324, 34.4809, 36.1841],
)


def photograph(height, width, channels=3):
    """Smooth shapes with some texture, the same at every call."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(1)
    planes = [128 + 60 * np.sin(x / (9 + 4 * c)) * np.cos(y / 17) + rng.normal(0, 8, x.shape) for c in range(channels)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def noisy(image, sigma):
    noise = np.random.default_rng(2).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def test_mse_and_psnr_of_known_arrays():
    grey = np.zeros((4, 5), np.uint8)
    assert mse(grey, grey + np.uint8(255)) == 1
    assert psnr(grey, grey + np.uint8(255)) == 0
    assert mse(grey, grey + np.uint8(51)) == pytest.approx(0.04)
    rgb = np.full((2, 2, 3), 10, np.uint8)
    other = rgb.copy()
    other[0, 0, 1] = 0  # uint8 arithmetic would wrap round here
    assert mse(other, rgb) == pytest.approx(100 / 12 / 255**2)
    assert psnr(other, rgb) == pytest.approx(10 * math.log10(255**2 / (100 / 12)))
    assert psnr(rgb, rgb) == math.inf


@pytest.mark.parametrize("metric", [mse, psnr, chroma_psnr, ms_ssim, ssimulacra2])
def test_images_that_do_not_fit_together(metric):
    image = photograph(8, 8)
    for other in (image[:7], image[:, :, 0], image.astype(np.float32)):
        with pytest.raises(UsageError):
            metric(image, other)


def test_chroma_psnr_of_known_arrays():
    grey = np.full((4, 5, 3), 100, np.uint8)
    bluer = grey + np.array([0, 0, 2], np.uint8)  # Cb differs by 1, Cr by 0.16
    assert chroma_psnr(grey, bluer) == pytest.approx((20 * math.log10(255), 20 * math.log10(255 / 0.162624)))
    lighter = chroma_psnr(grey, grey + np.uint8(9))
    assert min(lighter) > 200
    assert chroma_psnr(grey, grey) == (math.inf, math.inf)
    assert all(map(math.isnan, chroma_psnr(grey[..., 0], grey[..., 0])))


def test_ssimulacra2_falls_with_noise():
    for image in (photograph(240, 260), photograph(240, 260, 1)[..., 0]):
        assert ssimulacra2(image, image) == 100
        scores = [ssimulacra2(image, noisy(image, sigma)) for sigma in (2, 5, 10, 20)]
        assert 100 > scores[0] > scores[1] > scores[2] > scores[3]
    grey = photograph(240, 260, 1)
    for other in (noisy(grey, 5), noisy(grey, 20)):
        assert ssimulacra2(grey[..., 0], other[..., 0]) == ssimulacra2(*(x.repeat(3, 2) for x in (grey, other)))


@pytest.mark.parametrize("shape", [(SSIMULACRA2_MIN_SIDE - 1, 300), (300, SSIMULACRA2_MIN_SIDE - 1), (1, 1)])
def test_ssimulacra2_of_small_images_is_undefined(shape: tuple[int, int]):
    image = photograph(*shape)
    assert math.isnan(ssimulacra2(image, image))
    enough = photograph(SSIMULACRA2_MIN_SIDE, SSIMULACRA2_MIN_SIDE)
    assert ssimulacra2(enough, enough) == 100


def test_ssimulacra2_without_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)
    with pytest.raises(EncoderMissingError, match="bench"):
        ssimulacra2(photograph(8, 8), photograph(8, 8))


def test_ms_ssim_of_equal_images_is_one_and_falls_with_noise():
    image = photograph(180, 200)
    assert ms_ssim(image, image) == pytest.approx(1, abs=1e-12)
    values = [ms_ssim(image, noisy(image, sigma)) for sigma in (0, 2, 5, 10, 20, 40)]
    assert all(a > b > 0 for a, b in zip(values, values[1:], strict=False))


def test_ms_ssim_smallest_side():
    assert MS_SSIM_MIN_SIDE == 161
    image = photograph(161, 161, 1)[:, :, 0]
    assert ms_ssim(image, image) == pytest.approx(1)
    assert math.isnan(ms_ssim(image[:160], image[:160]))
    assert math.isnan(ms_ssim(image[:, :160], image[:, :160]))


def plain_ms_ssim(x, y):
    """The formulas of Wang 2003 for one plane, with a two-dimensional window and sums written out."""
    g = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(g, g) / g.sum() ** 2

    def mean(z):
        return np.einsum("ijkl,kl->ij", np.lib.stride_tricks.sliding_window_view(z, (11, 11)), window)

    value = 1.0
    for exponent in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        mx, my = mean(x), mean(y)
        vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        structure = (2 * cov + 58.5225) / (vx + vy + 58.5225)
        ssim = structure * (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
        value *= np.mean(ssim if exponent == 0.1333 else structure) ** exponent
        height, width = x.shape
        if exponent != 0.1333:
            x, y = (z.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for z in (x, y))
    return value


def test_ms_ssim_agrees_with_plain_formulas():
    image = photograph(176, 192)
    other = noisy(image, 15)
    planes = [plain_ms_ssim(image[:, :, c].astype(float), other[:, :, c].astype(float)) for c in range(3)]
    assert max(planes) - min(planes) > 1e-4  # otherwise the mean over channels is not tested
    assert ms_ssim(image, other) == pytest.approx(np.mean(planes), abs=1e-10)
    assert ms_ssim(image[:, :, 1], other[:, :, 1]) == pytest.approx(planes[1], abs=1e-10)


def test_ms_ssim_of_odd_sides():
    image = photograph(165, 171)
    assert 0.5 < ms_ssim(image, noisy(image, 15)) < 1


def test_bd_rate_of_half_the_rate():
    half = [rate / 2 for rate in RATES]
    assert bd_rate(RATES, LEVELS, half, LEVELS) == pytest.approx(-50)
    assert bd_rate(half, LEVELS, RATES, LEVELS) == pytest.approx(100)
    assert bd_rate(RATES, LEVELS, RATES, LEVELS) == pytest.approx(0)


def test_bd_rate_is_taken_over_the_common_range():
    # One log-linear law for both, so a curve with other points and another range still needs 3/4 of the bits.
    def rate(level):
        return 0.1 * 2 ** ((level - 26) / 3)

    a, b = [26, 28, 30, 32, 34], [31, 33, 29, 35, 37, 39]
    assert bd_rate([rate(p) for p in a], a, [0.75 * rate(p) for p in b], b) == pytest.approx(-25)
    assert overlap(a, b) == (29, 34)


def test_bd_rate_of_measured_curves():
    """Against a plain mean of the log rates' difference, interpolated by straight lines."""
    levels = np.linspace(25.6749, 35.37, 2001)
    log_jpeg, log_webp = (np.interp(levels, p, np.log(r)) for r, p in (KODAK_JPEG, KODAK_WEBP))
    straight = 100 * (np.exp(np.mean(log_webp - log_jpeg)) - 1)
    value = bd_rate(*KODAK_JPEG, *KODAK_WEBP)
    assert value == pytest.approx(straight, abs=0.5)
    assert -37.5 < value < -36.5


def test_bd_rate_without_an_answer():
    higher = [level + 20 for level in LEVELS]
    assert bd_rate(RATES, LEVELS, RATES, higher) is None
    assert bd_rate(RATES, LEVELS, [0.3], [30]) is None
    assert bd_rate(RATES, LEVELS, [0.3, 0.5], [30, math.inf]) is None


def test_bd_rate_ignores_infinite_and_repeated_levels():
    half = [rate / 2 for rate in RATES]
    assert bd_rate(RATES, LEVELS, [*half, 9, 9], [*LEVELS, LEVELS[2], math.inf]) == pytest.approx(-50)


@pytest.mark.parametrize("rates", [[0.1], [0.1, 0.2, 0.0, 0.4]])
def test_bd_rate_of_a_broken_curve(rates):
    with pytest.raises(UsageError):
        bd_rate(RATES, LEVELS, rates, LEVELS)


def test_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    with pytest.raises(EncoderMissingError, match=r'^[^\n]*bjontegaard[^\n]*pip install "lrcodec\[bench\]"$'):
        bd_rate(RATES, LEVELS, RATES, LEVELS)
