"""What a decoder keeps is bounded, and how much is drawn at once."""

import threading

import numpy as np
import pytest

from lrcodec import decoder, entropy
from lrcodec.decoder import room
from lrcodec.format import container, grid
from lrcodec.format.container import Header
from lrcodec.packs import store
from lrcodec.packs.kept import Kept


class Thing:
    """Something to keep."""

    def __init__(self, size: int):
        self.size = size


def test_the_longest_unused_is_given_up():
    kept = Kept(100)
    first = kept.get("a", lambda: Thing(40))
    kept.get("b", lambda: Thing(40))
    assert kept.get("a", lambda: Thing(1)) is first
    kept.get("c", lambda: Thing(40))
    assert kept.bytes == 80
    assert kept.get("a", lambda: Thing(1)) is first
    assert kept.get("b", lambda: Thing(2)).size == 2


def test_what_grows_makes_others_go():
    kept = Kept(100)
    kept.get("a", lambda: Thing(40))
    kept.get("b", lambda: Thing(0))
    kept.grow("b", 70)
    assert kept.bytes == 70
    kept.grow("a", 1000)  # which was given up
    assert kept.bytes == 70
    kept.grow("b", 31)  # larger than all that may be kept
    assert kept.bytes == 0


def files_of(name: str, count: int) -> list[bytes]:
    """Files of a shipped pack with random indices, of every rank and band in turn."""
    pack, random, files = store.find(name).load(), np.random.default_rng(0), []
    for number in range(count):
        rank, band = 1 + number % pack.rank, number % pack.bands
        head = Header(48, 48, pack.channels == 3, 0, rank, 32, band, pack.fingerprint)
        chunks = []
        for top, bottom in grid.strips(pack.scales, 48, 48):
            planes = [
                np.stack([random.integers(1, k + 1, (1, *scale.grid(bottom - top, 48))) for k in scale.codewords], 3)
                for scale in pack.scales
            ]
            chunks.append(container.Chunk(container.INDICES, *entropy.encode(planes, pack, head)))
        files.append(container.pack(head, chunks))
    return files


def test_the_pixels_do_not_depend_on_what_is_kept(monkeypatch: pytest.MonkeyPatch):
    files = [data for pair in zip(files_of("thumbs64", 12), files_of("mnist", 12), strict=True) for data in pair]
    plenty, little = decoder.Decoder(), decoder.Decoder()
    little._kept.limit = 2**22  # entropy models of all rate bands do not fit
    for data in files * 2:
        np.testing.assert_array_equal(little.decode(data), plenty.decode(data))
        assert little._kept.bytes <= 2**22
    assert plenty._kept.bytes > 2**22


@pytest.mark.parametrize("shrink", [1, 2, 4])
def test_wide_strips_are_drawn_in_parts(shrink: int, monkeypatch: pytest.MonkeyPatch):
    """Whatever part of a strip is drawn at a time, and whatever part of the image."""
    monkeypatch.setattr(grid, "STRIP_PIXELS", 48 * 16)
    reader = decoder.Decoder(threads=2)
    (data,) = files_of("conformance", 1)
    whole = reader.decode(data, shrink)
    monkeypatch.setattr(decoder, "DRAWN_PIXELS", 5 * 48)
    parts = [*reader.strips(data, shrink=shrink)]
    assert max(map(len, parts)) <= 5 * shrink
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    part = np.concatenate([*reader.strips(data, (3, len(whole) - 2), shrink)])
    np.testing.assert_array_equal(part, whole[3:-2])


def test_room_is_given_in_turn():
    """A large picture waits for those before it, and a smaller one that comes later waits for it."""
    place, order = room.Room(10), []

    def draw(name: str, pixels: int) -> None:
        with place.of(pixels):
            order.append(name)

    large, small = (threading.Thread(target=draw, args=of) for of in (("large", 1000), ("small", 1)))
    with place.of(6):
        large.start()
        large.join(0.1)
        small.start()
        small.join(0.1)
        assert large.is_alive() and small.is_alive()
    large.join(10)
    small.join(10)
    assert order == ["large", "small"] and place.free == 10
