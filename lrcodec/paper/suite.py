"""`lrq paper`: the paper's experiments, beside its baseline, our packs and classic codecs.

Every point is a model at one setting, measured on all test images of a data set. Models of the paper's form and
baselines are trained on the training images where the work folder does not hold them yet.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..decoder import Decoder
from ..files import write_file
from ..format import container
from ..format.container import Header
from ..measure import classic
from ..measure.metrics import mse, psnr
from ..packs import store
from . import datasets
from .cost import BASELINE, PACK, Cost, measure_cost

BASE = {"patch": 8, "iterations": 4, "codewords": 512, "rank": 2, "smoothing": 16}
KNOBS = {
    "rank": (1, 2, 4),
    "iterations": (1, 2, 4),
    "patch": (4, 8, 16),
    "smoothing": (0, 4, 16),
    "codewords": (128, 512, 2048),
}
"""Values of the settings of the paper's model. Each setting is varied alone, the others stay as in `BASE`."""
BASELINES = ((4, 512), (4, 64), (2, 512))
"""Stride and codewords of the baseline: two rates, and a deeper latent grid."""
PACKS = {"celeba64": "faces64", "cifar10": "cifar10", "mnist": "mnist"}
QUALITIES = tuple(range(0, 101, 10))
EFFORT = 2

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Point:
    """One model at one setting: means over the test images of a data set.

    model: paper, vq-vae, lrq, or a classic codec. setting: what was turned, or the quality.
    bytes, bpp, ratio: whole files; ratio is raw 8-bit bytes / bytes. The baseline has no file format: its bytes are
    the ideal code length of its indices in our container.
    raw_bpp, raw_ratio: indices x log2 K alone, as the paper counts; None where there is no such count.
    mse: on [0, 1] pixels. psnr: dB, the mean over the images; None if one of them is exact.
    macs: multiply-accumulates of the decoder per pixel; None for a classic codec.
    usage: share of the codewords of a shared codebook that the test images use.
    """

    dataset: str
    model: str
    setting: str
    bytes: float
    bpp: float
    ratio: float
    raw_bpp: float | None
    raw_ratio: float | None
    mse: float
    psnr: float | None
    macs: float | None
    usage: float | None


@dataclass(frozen=True)
class Suite:
    """All that is measured.

    shown: images for the pictures, of each data set, uint8 (h, w[, 3]). pictures: for each point, in the same order,
    that image as it decodes it. images: how many of each set were trained on, and tested. curves: of the baselines, by
    data set and setting: rows of `baseline_training.Epoch`.
    """

    points: list[Point]
    costs: list[Cost]
    curves: dict[str, list[dict]]
    shown: dict[str, np.ndarray]
    pictures: list[np.ndarray]
    images: dict[str, tuple[int, int]]
