"""Fixtures that several test modules share."""

import os
from pathlib import Path

import numpy as np
import pytest

# No model of this user may change what is tested; set before any test is collected.
os.environ["LRCODEC_MODELS"] = str(Path(__file__).parent / "no-such-folder")


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A 97 x 61 crop of a photograph: uint8, (61, 97, 3). Neither side is a multiple of a patch."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[80:141, 150:247])


@pytest.fixture(scope="session")
def photo_file(photo: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photo`, encoded with the shipped model in one pass of its transformer."""
    import lrcodec

    path = tmp_path_factory.mktemp("photo") / "photo.lrq"
    path.write_bytes(lrcodec.encode(photo, effort=0))
    return path


@pytest.fixture(scope="session", params=[False, True], ids=["own", "shared"])
def random_pack(request: pytest.FixtureRequest):
    """A small model with random tables, and its integer smoothing weights: what the decoder must do exactly.

    In two forms: each iteration with its own codebook, and one that the iterations of a scale share.
    """
    import io

    from lrcodec.encoder.export import build_graph, check_exact
    from lrcodec.grid import Scale
    from lrcodec.zoo import Pack

    random = np.random.default_rng(7)
    shared = request.param
    finest = (16, 16, 16) if shared else (64, 16, 16)
    scales = (Scale(4, 4, (16, 16), shared), Scale(2, 8, (64,), shared), Scale(1, 8, finest, shared))
    arrays = {
        "scales": np.array([(s.scale, s.patch) for s in scales], np.int32),
        "channels": np.array(3, np.int32),
        "shared": np.array(shared, np.int32),
        "bands": np.array(2, np.int32),
    }
    for s in scales:
        rows, p = s.rows, s.patch
        arrays |= {
            f"codewords{s.scale}": np.array(s.codewords, np.int32),
            f"u{s.scale}": random.integers(-127, 128, (rows, 4, p), np.int8),
            f"v{s.scale}": random.integers(-2500, 2500, (rows, 4, 3 * p), np.int16),
            f"energy{s.scale}": random.integers(1, 25, rows).astype(np.uint8),
            f"edges{s.scale}": np.sort(random.integers(0, 100, (len(s.codewords), 2, 4, 7)), -1).astype(np.uint8),
            f"classes{s.scale}": random.integers(0, 3, (len(s.codewords), 2, 4096)).astype(np.uint8),
        }
        for i, k in enumerate(s.codewords):
            clusters = {16: 4, 64: 8}[k]
            arrays[f"clusters{s.scale}_{i}"] = random.integers(0, 100, (2, 3, clusters + 1)).astype(np.uint8)
            arrays[f"members{s.scale}_{i}"] = random.integers(0, 256, (2, clusters, k // clusters)).astype(np.uint8)
    smoothing = (
        random.integers(-70, 71, (6, 12, 3, 3)),
        random.integers(-9, 10, 6),
        random.integers(-90, 91, (12, 6, 3, 3)),
        random.integers(-9, 10, 12),
    )
    arrays |= {f"smooth_{n}": w.astype(np.int32) for n, w in zip(("w1", "b1", "w2", "b2"), smoothing, strict=True)}
    factors = {s.scale: (arrays[f"u{s.scale}"], arrays[f"v{s.scale}"]) for s in scales}
    check_exact(scales, factors, smoothing)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    blobs = {"tables.npz": file.getvalue()}
    for channels, name in ((1, "grey"), (3, "rgb")):
        w1, b1, w2, b2 = smoothing
        cut = w1[:, : 4 * channels], b1, w2[: 4 * channels], b2[: 4 * channels]
        blobs[f"decoder-{name}.onnx"] = build_graph(scales, channels, None)
        blobs[f"decoder-{name}-smooth.onnx"] = build_graph(scales, channels, cut)
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
