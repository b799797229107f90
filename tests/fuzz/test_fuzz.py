"""The mutation fuzzer on models with random tables: a part of what `mutate.py` does at length, and that it can fail."""

from random import Random

import mutate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import Seed, repair
from test_decoder import file_of, header, reader_of

from lrcodec import entropy
from lrcodec.errors import FormatError, LrqError
from lrcodec.format import container
from lrcodec.format.container import GREY, RGB

NUMBERS = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def originals(random_pack, random_planes) -> list[Seed]:
    """Small files of both kinds, one and several chunks."""
    pack, files = random_pack[0], []
    for seed, (width, height, colour) in enumerate(((1, 1, RGB), (40, 33, RGB), (17, 50, GREY), (24, 70, RGB))):
        head = header(width, height, colour=colour, model=pack.fingerprint, smoothing=seed % 2)
        files.append(file_of(pack, random_planes(pack, head, seed), head))
    return [Seed.of(data) for data in files]


def outcome(check, number: int, originals: list[Seed]) -> str:
    try:
        return check(mutate.mutate(Random(number), originals))
    except LrqError as error:
        return type(error).__name__


@settings(deadline=None, max_examples=200)
@given(NUMBERS)
def test_damage_before_the_parser(originals, number):
    outcome(mutate.parser_target(originals), number, originals)


@pytest.fixture(scope="module")
def check(random_pack, originals):
    return mutate.decoder_target(originals, reader_of(random_pack[0]))


@pytest.fixture(scope="module")
def previewed(random_pack, originals):
    return mutate.preview_target(originals, reader_of(random_pack[0]))


@settings(deadline=None, max_examples=100)
@given(NUMBERS)
def test_damage_before_the_decoder(check, originals, number):
    outcome(check, number, originals)


def test_damage_is_of_all_kinds(check, originals):
    outcomes = {outcome(check, number, originals) for number in range(300)}
    assert outcomes >= {
        "FormatError",
        "UnsupportedError",
        "decoded, the pixels of a seed",
        "decoded, with checksums that were made to match",
    }


@settings(deadline=None, max_examples=100)
@given(NUMBERS)
def test_damage_before_the_preview(previewed, originals, number):
    outcome(previewed, number, originals)


def test_previews_are_of_all_kinds(previewed, originals):
    outcomes = {outcome(previewed, number, originals) for number in range(200)}
    assert outcomes >= {"FormatError", "UnsupportedError", "drawn", "drawn in part"}


def test_a_decoder_that_ignores_checksums_is_found_out(check, originals, monkeypatch):
    monkeypatch.setattr(container.Reader, "crc", lambda reader, what: reader.take(4, what))
    with pytest.raises(mutate.Wrong, match="a wrong picture"):
        for number in range(300):
            outcome(check, number, originals)


def test_repair_leaves_whole_files_alone(originals):
    for seed in originals:
        assert repair(seed.data) == seed.data
        damaged = bytearray(seed.data)
        damaged[-1] ^= 1
        assert repair(bytes(damaged)) == seed.data
    for length in range(60):
        assert len(repair(bytes(length))) == length


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200), st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.integers(0, 1))
def test_any_payload_is_refused_or_has_a_shortest_form(random_pack, payload, width, height, iterations, band):
    """What decodes at all encodes to a payload that is no longer, and has the same indices."""
    pack, _ = random_pack
    head = header(width, height, iterations=iterations, band=band)
    try:
        planes = entropy.decode([payload], pack, head, height)
    except FormatError:
        return
    for plane, scale in zip(planes, pack.scales, strict=True):
        assert plane.min() >= 0 and (plane.max((0, 1, 2)) <= scale.codewords).all()
        assert np.count_nonzero(plane, axis=3).max() <= iterations
    (shortest,) = entropy.encode(planes, pack, head)
    for got, want in zip(entropy.decode([shortest], pack, head, height), planes, strict=True):
        np.testing.assert_array_equal(got, want)
