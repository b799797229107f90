"""Image files by name: one, folders of them, and mosaics of many small ones. Training and measuring read these."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import LrqError, UsageError, extra
from .image_io import read_image

SUFFIXES = frozenset(".png .jpg .jpeg .webp .avif .bmp .gif .jp2 .pgm .ppm .tif .tiff".split())
# The everyday colour photographs inside the scikit-image wheel: reading them needs no download.
SKIMAGE_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


def find_images(paths: Sequence[Path] = ()) -> list[Path]:
    """Files as given, folders as their image files (`SUFFIXES`, not recursive) by name; without paths the default.

    The default is the `SKIMAGE_PHOTOGRAPHS`. Raises FileNotFoundError for a path that does not exist, UsageError
    for a folder without images, EncoderMissingError if scikit-image is needed and missing.
    """
    if not paths:
        with extra("bench"):
            import skimage
        folder = Path(skimage.__file__).parent / "data"
        return [folder / name for name in SKIMAGE_PHOTOGRAPHS]
    found: list[Path] = []
    for path in map(Path, paths):
        path.stat()  # a missing file must not show only after hours of measuring
        if path.is_dir():
            chosen = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        else:
            chosen = [path]
        if not chosen:
            raise UsageError(f"no images in {path}")
        found += chosen
    return found


def read_file(path: Path) -> np.ndarray:
    """The pixels of an image file, turned upright, for training and measuring: uint8 (h, w) or (h, w, 3).

    Raises OSError and, as `image_io.read_image` does, UsageError and LimitError: each names the file.
    """
    try:
        return read_image(path.read_bytes())
    except LrqError as error:
        raise type(error)(f"{path}: {error}") from None


def tiles(mosaic: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (n, height, width[, 3]) from a mosaic (H, W[, 3]), row by row. Raises UsageError if they do not fit."""
    if mosaic.shape[0] % height or mosaic.shape[1] % width:
        raise UsageError(
            f"a mosaic of {mosaic.shape[1]} x {mosaic.shape[0]} pixels has no whole tiles {width}x{height}"
        )
    rows = mosaic.shape[0] // height
    split = mosaic.reshape(rows, height, mosaic.shape[1] // width, width, -1).swapaxes(1, 2)
    return split.reshape(-1, height, width, *mosaic.shape[2:])


def read(paths: Iterable[Path], tile: str | None = None, grey: bool = False) -> Iterator[np.ndarray]:
    """The images in files, or, with `tile` such as "64x48" (width x height), the tiles of the mosaics in them.

    Tiles of one colour at the end of a mosaic are left out: its last row need not be full. An image is uint8 (h, w) or
    (h, w, 3). grey: convert the latter. Raises as `read_file` does, and UsageError for a wrong `tile`.
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
