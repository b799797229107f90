"""What a file announces costs nothing before it is checked, and its size in pixels bounds the rest."""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lrcodec.decoder import Decoder
from lrcodec.errors import FormatError, LimitError
from lrcodec.format import grid
from lrcodec.format.container import MAX_PIXELS, Chunk, pack, unpack

MEBIBYTE = 2**20


@contextmanager
def cheap() -> Iterator[None]:
    """Less than a second and a mebibyte."""
    tracemalloc.start()
    start = time.process_time()
    try:
        yield
        assert time.process_time() - start < 1
        assert tracemalloc.get_traced_memory()[1] < MEBIBYTE
    finally:
        tracemalloc.stop()


@pytest.fixture
def reader(photo_file: Path) -> Decoder:
    """A decoder that has its model loaded."""
    decoder = Decoder(threads=1)
    decoder.decode(photo_file.read_bytes())
    return decoder


@pytest.mark.parametrize(("width", "height"), [(65535, 65535), (65535, 4097), (16385, 16384)])
def test_images_over_the_limit(width: int, height: int, photo_file: Path, reader: Decoder):
    header = replace(unpack(photo_file.read_bytes())[0], width=width, height=height)
    data = pack(header, [Chunk(b"I", bytes(25))])
    assert len(data) <= 64 and width * height > MAX_PIXELS
    for use in (reader.decode, reader.strips, reader.indices, reader.macs):
        with cheap(), pytest.raises(LimitError):
            use(data)


def test_a_small_file_that_announces_a_large_image(photo_file: Path, reader: Decoder):
    """Just within the limit, with indices for one strip of many."""
    header = replace(unpack(photo_file.read_bytes())[0], width=65535, height=4096)
    data = pack(header, [Chunk(b"I", bytes(25))])
    assert len(data) <= 64 and header.width * header.height <= MAX_PIXELS
    for use in (reader.decode, reader.strips, reader.indices, reader.macs):
        with cheap(), pytest.raises(FormatError, match="1 chunks of indices instead of"):
            use(data)


def test_an_image_without_indices_is_drawn_in_bounded_memory(photo_file: Path, reader: Decoder):
    """Empty payloads are valid: such an image takes time by its pixels, but memory by its strips."""
    header = replace(unpack(photo_file.read_bytes())[0], width=1000, height=5000)
    bounds = grid.strips(reader.pack(header).scales, header.height, header.width)
    data = pack(header, [Chunk(b"I", b"")] * len(bounds))
    tracemalloc.start()
    try:
        rows = sum(len(strip) for strip in reader.strips(data))
        assert tracemalloc.get_traced_memory()[1] < 40 * MEBIBYTE
    finally:
        tracemalloc.stop()
    assert rows == 5000
