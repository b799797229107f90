"""Many small images in one file: mosaics of tiles, and the paper's data sets stored as such.

A data set is a folder of files `SPLIT-NN-COUNT.webp` (or .png): COUNT images of one size, tiled row by row.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from . import pixels
from .errors import LrqError, UsageError

SIZES = {"celeba64": (64, 64, 3), "cifar10": (32, 32, 3), "mnist": (28, 28, 1)}
"""Data sets of the paper: height, width and channels of their images."""


def tiles(mosaic: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (n, height, width[, 3]) from a mosaic (H, W[, 3]), row by row. Raises UsageError if they do not fit."""
    if mosaic.shape[0] % height or mosaic.shape[1] % width:
        raise UsageError(
            f"a mosaic of {mosaic.shape[1]} x {mosaic.shape[0]} pixels has no whole tiles {width}x{height}"
        )
    rows = mosaic.shape[0] // height
    split = mosaic.reshape(rows, height, mosaic.shape[1] // width, width, -1).swapaxes(1, 2)
    return split.reshape(-1, height, width, *mosaic.shape[2:])


def read_file(path: Path) -> np.ndarray:
    """The pixels of an image file, upright, as all that trains and measures reads them: uint8 (h, w) or (h, w, 3).

    Raises OSError and, as `pixels.read_image` does, UsageError and LimitError: each names the file.
    """
    try:
        return pixels.read_image(path.read_bytes())
    except LrqError as error:
        raise type(error)(f"{path}: {error}") from None


def read(paths: Iterable[Path], tile: str | None = None, grey: bool = False) -> Iterator[np.ndarray]:
    """The images in files, or, with `tile` such as "64x48" (width x height), the tiles of the mosaics in them.

    Tiles of one colour at the end of a mosaic are left out: its last row need not be full.

    Each is uint8 (h, w) or (h, w, 3); grey: convert the latter. Raises as `read_file` does, and UsageError for a wrong
    `tile`.
    """
    size = tile.lower().split("x") if tile else []
    if tile and not (len(size) == 2 and all(side.isdecimal() and int(side) for side in size)):
        raise UsageError(f"a tile is WIDTHxHEIGHT, such as 64x64, not {tile}")
    for path in paths:
        image = read_file(path)
        if grey:
            image = np.asarray(Image.fromarray(image).convert("L"))
        if not tile:
            yield image
            continue
        try:
            found = tiles(image, int(size[1]), int(size[0]))
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        used = np.flatnonzero((found != found[:, :1, :1]).reshape(len(found), -1).any(1))
        yield from found[: used[-1] + 1 if len(used) else 0]


def load(folder: Path, name: str, split: str) -> np.ndarray:
    """The images of a split ("train" or "test"): uint8 (n, h, w, 3), or (n, h, w) if they are grey.

    Raises UsageError, which says what is needed, if they are not in `folder`; as `read_file` does.
    """
    height, width, channels = SIZES[name]
    paths = sorted(path for path in (folder / name).glob(f"{split}-*-*.*") if path.suffix in (".webp", ".png"))
    if not paths:
        raise UsageError(
            f"no {split} images of {name} in {folder}: --data needs the folders {', '.join(SIZES)}, each with mosaics "
            f"train-NN-COUNT.webp and test-NN-COUNT.webp of {width}x{height} tiles"
        )
    sets = []
    for path in paths:
        mosaic = np.asarray(Image.fromarray(read_file(path)).convert("RGB" if channels == 3 else "L"))
        try:
            sets.append(tiles(mosaic, height, width)[: int(path.stem.rsplit("-", 1)[1])])
        except (UsageError, ValueError) as error:
            raise UsageError(f"{path}: not a mosaic of {name}: {error}") from None
    return np.concatenate(sets)
