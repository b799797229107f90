"""Whole files to start fuzzing from: `python tests/fuzz/seeds.py FOLDER` writes them into a folder.

The images are made here, and encoded with shipped models: grey and RGB, with and without alpha, with metadata, all
ranks, rate bands from lowest to highest, with and without smoothing, capped depths, sides of one pixel, several strips.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np

from lrcodec import entropy
from lrcodec.format import container, grid
from lrcodec.format.container import INDICES, Chunk, Header
from lrcodec.format.metadata import Metadata
from lrcodec.packs.pack import Pack

STRIP_PIXELS = 2**13
"""Size of a strip while fuzzing, so that small images have several."""


@contextmanager
def small_strips() -> Iterator[None]:
    """Encode and decode with strips of `STRIP_PIXELS`."""
    with patch.object(grid, "STRIP_PIXELS", STRIP_PIXELS):
        yield


def picture(height: int, width: int, grey: bool = False) -> np.ndarray:
    """An image of smooth colours, edges and noise: uint8 (height, width, 3), or (height, width)."""
    random = np.random.default_rng(height * 65536 + width)
    y, x = np.mgrid[:height, :width] / 32
    waves = np.stack([np.sin(a * x + b * y + c) for a, b, c in random.uniform(-2, 2, (3, 3))], 2)
    edges = ((x * random.uniform(-1, 1) + y) % 1 < 0.5)[:, :, None] * random.uniform(-50, 50, 3)
    image = 128 + 60 * waves + edges + random.normal(0, 6, (height, width, 3))
    image = image.clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(image[:, :, 1]) if grey else image


def with_random_indices(pack: Pack, header: Header, random: np.random.Generator) -> bytes:
    """A valid file of this header, shallow as real ones are. It needs no encoder."""
    chunks = []
    for top, bottom in grid.strips(pack.scales, header.height, header.width):
        planes = []
        for scale in pack.scales:
            cells = 1, *scale.grid(bottom - top, header.width)
            depth = random.integers(-2, len(scale.codewords) + 1, cells).clip(0)
            plane = np.stack([random.integers(1, k + 1, cells) for k in scale.codewords], 3)
            planes.append(plane * (np.arange(len(scale.codewords)) < depth[..., None]))
        chunks.append(Chunk(INDICES, *entropy.encode(planes, pack, header)))
    return container.pack(header, chunks)


def make() -> list[bytes]:
    """The seeds. Needs the encoder."""
    from lrcodec.encoder import Encoder

    files = []
    with small_strips():
        for model in ("photo", "faces64", "mnist"):
            encoder, grey = Encoder(model, "cpu"), model == "mnist"
            for quality in (0, 20, 40, 60, 80, 100):
                files.append(encoder.encode(picture(48, 64, grey), quality, effort=0))
            for rank in range(1, encoder.pack.rank + 1):
                files.append(encoder.encode(picture(37, 29, grey), 90, rank=rank, effort=0))
            for height, width in ((1, 1), (1, 70), (70, 1), (61, 97), (170, 64)):
                files.append(encoder.encode(picture(height, width, grey), effort=0))
            files.append(encoder.encode(picture(150, 64, True), 30, smoothing=False, effort=0))
            files.append(encoder.encode(picture(32, 32, True), 95, iterations=2, effort=0))
            files.append(encoder.encode(np.full((64, 64), 128, np.uint8), 0, effort=0))
            for height, width in ((1, 1), (45, 61), (170, 64)):
                image = np.dstack([picture(height, width, grey), picture(height, width, True)])
                metadata = Metadata(bytes(range(256)) * 4, b"II*\0" + bytes(30), b"<x:xmpmeta/>")
                files.append(encoder.encode(image, 30, effort=0, metadata=metadata))
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(make()):
        (folder / f"{number}.lrq").write_bytes(data)


if __name__ == "__main__":
    main()
