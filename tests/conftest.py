"""Fixtures that several test modules share."""

from pathlib import Path

import numpy as np
import pytest


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
