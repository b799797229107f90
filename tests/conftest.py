"""Fixtures that several test modules share."""

import os
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import browser
import numpy as np
import pytest
from hypothesis import settings

import lrcodec  # before any test imports onnxruntime, which would else write into the user's folders

collect_ignore = ["fuzz/guided.py"]  # needs atheris
if sys.platform == "win32":
    collect_ignore.append("fuzz/kills.py")  # needs the signals of a POSIX system
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of PyTorch: there is a process for each core already
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

# No model of this user may change what is tested; set before any test is collected.
os.environ["LRCODEC_MODELS"] = str(Path(__file__).parent / "no-such-folder")


HIGHEST_FEATURES = np.array([3, 9, 50, 200, 24, 9, 9, 32, 33, 9, 9, 3, 3])
"""About the highest value of each feature of an index: edges lie below."""


@pytest.fixture
def user_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of installed models."""
    path = tmp_path_factory.mktemp("installed")
    monkeypatch.setenv("LRCODEC_MODELS", str(path))
    return path


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    """A headless browser; skips where there is none."""
    with browser.browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A 97 x 61 crop of a photograph: uint8, (61, 97, 3). Neither side is a multiple of a patch."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[80:141, 150:247])


@pytest.fixture(scope="session")
def photo_file(photo: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photo`, encoded with the shipped model in one pass of its transformer."""
    path = tmp_path_factory.mktemp("photo") / "photo.lrq"
    path.write_bytes(lrcodec.encode(photo, effort=0))
    return path


@pytest.fixture(scope="module")
def few_crops() -> Iterator[None]:
    """Trainings fit the prediction on one megapixel of crops instead of 24."""
    from lrcodec.training import prediction

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "CROP_PIXELS", 1_000_000)
        yield


@pytest.fixture(scope="session", params=["luma", "separate", "shared"])
def random_pack(request: pytest.FixtureRequest):
    """A small model with random tables, and its integer smoothing weights: what the decoder must do exactly.

    In three forms: with a finest scale without chroma, as the shipped photo model; with chroma in every scale; and
    that with one codebook for all iterations of a scale. The first two have symmetries, of other numbers. The last two
    have a scale whose prediction is enlargement alone.
    """
    from lrcodec.format.grid import Scale
    from lrcodec.packs import tablefile
    from lrcodec.packs.pack import CODEWORDS, Pack
    from lrcodec.training.exactness import check_exact
    from lrcodec.training.export import (
        build_codewords_graph,
        build_graph,
        grey_predictions,
        grey_smoothing,
    )

    random = np.random.default_rng(7)
    luma_only, shared = request.param == "luma", request.param == "shared"
    finest = (16, 16, 16) if shared else (64, 16, 16)
    symmetries = {"luma": (8, 2, 16), "separate": (1, 8, 2), "shared": (1, 1, 1)}[request.param]
    scales = (
        Scale(4, 4, (16, 16), shared, symmetries=symmetries[0]),
        Scale(2, 8, (64,), shared, symmetries=symmetries[1]),
        Scale(1, 8, finest, shared, luma_only, symmetries[2]),
    )
    bands, depth_classes, classes = 2, 4, 3
    in_turn = cycle(random.permutation(len(HIGHEST_FEATURES)))
    arrays = tablefile.describe(scales, 3, bands)
    for s in scales:
        rows, p, c, depth = s.rows, s.patch, s.channels(3), len(s.shapes)
        # One that always varies, and three in turn: no feature is left out.
        features = np.array([[random.integers(4), *(next(in_turn) for _ in range(3))] for _ in range(depth + 1)])
        depth_edges = random.integers(0, [[[9], [50], [200]]], (2, 3, 7))
        edges = random.integers(0, HIGHEST_FEATURES[features][:, :, None], (depth + 1, 4, 7))
        arrays |= {
            f"u{s.scale}": random.integers(-127, 128, (rows, 4, p), np.int8),
            f"v{s.scale}": random.integers(-2500, 2500, (rows, 4, c * p), np.int16),
            f"energy{s.scale}": random.integers(1, 25, rows).astype(np.uint8),
            f"orientation{s.scale}": random.integers(0, 9, rows).astype(np.uint8),
            f"frequency{s.scale}": random.integers(1, 9, rows).astype(np.uint8),
            f"symmetries{s.scale}": random.integers(0, 60, (rows, s.symmetries)).astype(np.uint8),
            f"depth_edges{s.scale}": np.sort(depth_edges).astype(np.uint8),
            f"depth_classes{s.scale}": random.integers(0, depth_classes, (2, 512)).astype(np.uint8),
            f"depths{s.scale}": random.integers(0, 100, (bands, 2, depth_classes, depth + 1)).astype(np.uint8),
            f"features{s.scale}": features.astype(np.uint8),
            f"edges{s.scale}": np.sort(edges).astype(np.uint8),
            f"classes{s.scale}": random.integers(0, classes, (depth + 1, 4096)).astype(np.uint8),
        }
        for i, count in enumerate(s.shapes):
            clusters = {16: 4, 64: 8}[count]
            arrays[f"clusters{s.scale}_{i}"] = random.integers(0, 256, (bands, classes, clusters)).astype(np.uint8)
            arrays[f"members{s.scale}_{i}"] = random.integers(0, 256, (bands, clusters, count // clusters)).astype(
                np.uint8
            )
    inputs = 6 if luma_only else 12
    smoothing = (
        random.integers(-70, 71, (6, inputs, 3, 3)),
        random.integers(-9, 10, 6),
        random.integers(-150, 151, (inputs, 6, 3, 3)),
        random.integers(-9, 10, inputs),
    )
    arrays |= {f"smooth_{n}": w for n, w in zip(("w1", "b1", "w2", "b2"), smoothing, strict=True)}
    hidden = {"luma": (4, 3), "separate": (0, 4), "shared": (3, 0)}[request.param]
    predictions = [None]
    for s, count in zip(scales[1:], hidden, strict=True):
        c, names = s.channels(3), ("first", "first_bias", "second", "second_bias")
        prediction = (
            random.integers(-250, 251, (count, c, 3, 3)),
            random.integers(-900, 901, count),
            random.integers(-60, 61, (4 * c, count, 3, 3)),
            random.integers(-50, 51, 4 * c),
        )
        predictions.append(prediction)
        arrays |= {f"{name}{s.scale}": weights for name, weights in zip(names, prediction, strict=True)}
    check_exact(scales, 3, arrays, predictions, smoothing)
    blobs = {"tables.npz": tablefile.save(arrays), CODEWORDS: build_codewords_graph()}
    grey, rgb = (grey_predictions(predictions), grey_smoothing(smoothing)), (predictions, smoothing)
    for channels, name, weights in ((1, "grey", grey), (3, "rgb", rgb)):
        blobs[f"decoder-{name}.onnx"] = build_graph(scales, channels, weights[0], None)
        blobs[f"decoder-{name}-smooth.onnx"] = build_graph(scales, channels, *weights)
    return Pack("random", blobs), smoothing


@pytest.fixture(scope="session")
def random_planes():
    """random_planes(pack, header, seed, count=1): index planes of all depths of `count` images."""

    def make(pack, header, seed: int, count: int = 1) -> list[np.ndarray]:
        random = np.random.default_rng(seed)
        planes = []
        for scale in pack.scales:
            grid = count, *scale.grid(header.height, header.width)
            depth = random.integers(0, min(len(scale.codewords), header.iterations) + 1, grid)
            plane = np.stack([random.integers(1, k + 1, grid) for k in scale.codewords], 3)
            planes.append(plane * (np.arange(len(scale.codewords)) < depth[..., None]))
        return planes

    return make
