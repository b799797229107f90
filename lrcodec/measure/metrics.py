"""How far two images are apart.

Images are uint8 arrays (H, W) or (H, W, 3) as a viewer would show them, so every figure includes the rounding.
"""

import io
import math
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError, extra

# Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", 2003: the exponents
# of the five scales, finest first; window and constants are those of single-scale SSIM (Wang et al., 2004).
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_MIN_SIDE = 161  # below it the 11-tap window does not fit into the coarsest scale
_RADIUS, _SIGMA = 5, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
SSIMULACRA2_MIN_SIDE = 225  # below it the coarsest of six scales has less than 8 pixels, and the weights fit no more
# Cb and Cr of RGB in 0..255, but for their offset: ITU-T T.871 (JFIF), 2011, clause 7.
_CHROMA = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def colours(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image without its alpha: uint8 (H, W[, 1 to 4]) of grey, grey and alpha, RGB or RGBA -> (H, W) or (H, W, 3).

    >>> [colours(np.zeros((5, 7, channels), np.uint8)).shape for channels in (1, 2, 3, 4)]
    [(5, 7), (5, 7), (5, 7, 3), (5, 7, 3)]
    """
    return image if image.ndim == 2 else image[..., 0] if image.shape[2] < 3 else image[..., :3]


def mse(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean squared error over all samples of two uint8 images, pixels taken on [0, 1]. In [0, 1].

    Raises UsageError unless both are uint8 and of one shape.

    >>> mse(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    1.0
    """
    _check_pair(a, b)
    return float(np.mean(np.square(np.subtract(a, b, dtype=np.int32)))) / 255**2


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, -10 log10(mse); inf for equal images. RGB: one MSE over all channels.

    Raises UsageError unless both are uint8 and of one shape.
    """
    error = mse(a, b)
    return -10 * math.log10(error) if error else math.inf


def chroma_psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[float, float]:
    """PSNR in dB of Cb and of Cr of two uint8 images, not rounded; nan for grey ones, inf where they are equal.

    Raises UsageError unless both are uint8 and of one shape.
    """
    _check_pair(a, b)
    if a.ndim == 2:
        return math.nan, math.nan
    errors = [float(np.mean(np.square(np.subtract(a, b, dtype=np.int32) @ weights))) / 255**2 for weights in _CHROMA]
    cb, cr = (-10 * math.log10(error) if error else math.inf for error in errors)
    return cb, cr


def ms_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Multi-scale structural similarity of two uint8 images, in [0, 1]; RGB: the mean over the three channels.

    Five scales (`MS_SSIM_WEIGHTS`), each the 2 x 2 means of the finer one (an odd side repeats its last line);
    Gaussian window of 11 x 11, sigma 1.5, only where it fits whole. Negative contrast-structure terms count as 0.
    nan where a side is below `MS_SSIM_MIN_SIDE`. Raises UsageError unless both are uint8 and of one shape.
    """
    _check_pair(a, b)
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return math.nan
    pairs = zip(*(np.moveaxis(np.atleast_3d(image), 2, 0) for image in (a, b)), strict=True)
    return fmean(_ms_ssim(x.astype(np.float64), y.astype(np.float64)) for x, y in pairs)


def ms_ssim_db(value: float) -> float:
    """MS-SSIM in dB, -10 log10(1 - MS-SSIM), which tells values close to 1 apart; inf for 1, nan for nan.

    >>> round(ms_ssim_db(0.99), 3)
    20.0
    """
    return math.inf if value >= 1 else -10 * math.log10(1 - value)


def ms_ssim_of_db(level: float) -> float:
    """The inverse of `ms_ssim_db`."""
    return 1 - 10 ** (-level / 10)


def ssimulacra2(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """SSIMULACRA 2.1 of an image `a` and what became of it, as the package `ssimulacra2` computes it: at most 100.

    About 90 cannot be told from the original, 70 is high quality, 50 medium, 30 low; very bad images are below 0.
    Grey counts as RGB of three equal channels. nan where a side is below `SSIMULACRA2_MIN_SIDE`.
    Raises UsageError unless both are uint8 and of one shape, EncoderMissingError if the package is missing.
    """
    _check_pair(a, b)
    with extra("bench"):
        from PIL import Image
        from ssimulacra2 import compute_ssimulacra2
    if min(a.shape[:2]) < SSIMULACRA2_MIN_SIDE:
        return math.nan
    files = io.BytesIO(), io.BytesIO()  # it takes files alone
    for file, image in zip(files, (a, b), strict=True):
        Image.fromarray(image).save(file, "PPM")
    return float(compute_ssimulacra2(*files))


def _ms_ssim(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of one channel (H, W)."""
    product = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            x, y = _halve(x), _halve(y)
        luminance, contrast = _ssim_terms(x, y)
        coarsest = scale == len(MS_SSIM_WEIGHTS) - 1
        product *= max(float(np.mean(luminance * contrast if coarsest else contrast)), 0) ** weight
    return product


def _check_pair(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> None:
    if a.dtype != np.uint8 or b.dtype != np.uint8 or a.shape != b.shape:
        raise UsageError(f"cannot compare {a.dtype} {a.shape} with {b.dtype} {b.shape}: need uint8 of one shape")


def _ssim_terms(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Luminance and contrast-structure maps of SSIM, (H, W) -> (H - 10, W - 10) each."""
    mean_x, mean_y = _blur(x), _blur(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance, variances = _blur(x * y) - product, _blur(x**2 + y**2) - squares
    return (2 * product + _C1) / (squares + _C1), (2 * covariance + _C2) / (variances + _C2)


def _blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Separable Gaussian where the window fits whole: (H, W) -> (H - 10, W - 10)."""
    taps = np.exp(-(np.arange(_RADIUS + 1) ** 2) / (2 * _SIGMA**2))  # centre first
    taps /= taps[0] + 2 * taps[1:].sum()
    for _ in range(2):  # filters the rows' axis and swaps: the second turn does the columns
        count = len(x) - 2 * _RADIUS
        out = taps[0] * x[_RADIUS : _RADIUS + count]
        for k in range(1, _RADIUS + 1):
            before, after = _RADIUS - k, _RADIUS + k
            out += taps[k] * (x[before : before + count] + x[after : after + count])
        x = out.T
    return x


def _halve(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 x 2 means: (H, W) -> (ceil(H / 2), ceil(W / 2))."""
    x = np.pad(x, ((0, x.shape[0] % 2), (0, x.shape[1] % 2)), mode="edge")
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4
