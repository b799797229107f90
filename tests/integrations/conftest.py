"""What all engines are given: image files and .lrq files, of which some are no images."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lrcodec
from lrcodec.image_io import write_image


@pytest.fixture(scope="session")
def pixels(photo: np.ndarray) -> list[np.ndarray]:
    """Six images: RGB of two sizes, grey, with alpha."""
    colours = [photo[:24, x : x + 24] for x in (0, 20, 40)]
    alpha = np.dstack([photo[:16, :20], photo[:16, :20, 0]])
    return [np.ascontiguousarray(image) for image in (*colours, photo[:16, :20], photo[:16, :20, 1], alpha)]


@pytest.fixture(scope="session")
def png(pixels: list[np.ndarray]) -> list[bytes]:
    """`pixels` as image files."""
    return [write_image(image) for image in pixels]


@pytest.fixture(scope="session")
def lrq(pixels: list[np.ndarray]) -> list[bytes]:
    """`pixels`, encoded at effort 0, each by itself."""
    return [lrcodec.encode(image, effort=0) for image in pixels]


@pytest.fixture
def folder(png: list[bytes], tmp_path: Path) -> Path:
    """Image files 0.png to 5.png, and 6.png, which is none."""
    path = tmp_path / "images"
    path.mkdir()
    for number, data in enumerate([*png, b"no image"]):
        (path / f"{number}.png").write_bytes(data)
    return path


@pytest.fixture(scope="session")
def example() -> Callable[..., dict]:
    """example(heading, **names): runs the Python code of a section of docs/pipelines.md, and returns all its names."""
    page = Path(__file__).parents[2] / "docs/pipelines.md"
    sections = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.M)

    def run(heading: str, **names: object) -> dict:
        section = sections[sections.index(heading) + 1]
        (code,) = re.findall(r"^```python\n(.+?)^```$", section, re.M | re.S)
        exec(code, names)
        return names

    return run
