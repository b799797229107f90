"""Many small images in one file: mosaics of tiles, and the paper's data sets stored as such.

A data set is a folder of files `SPLIT-NN-COUNT.webp` (or .png): COUNT images of one size, tiled row by row.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UsageError
from ..image_files import read_file, tiles

SIZES = {"celeba64": (64, 64, 3), "cifar10": (32, 32, 3), "mnist": (28, 28, 1)}
"""Data sets of the paper: height, width and channels of their images."""


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
