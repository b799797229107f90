"""Entropy coding: integer tables, round trips, and agreement with the reference range decoder of SPEC.md."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoder import header

from lrcodec import entropy
from lrcodec.errors import FormatError, LrqError


@given(st.lists(st.integers(0, 255), min_size=2, max_size=300))
def test_frequencies_are_positive_and_sum_to_2_24(costs):
    freq = entropy.frequencies(np.array(costs, np.uint8))
    assert freq.min() >= 1 and freq.sum() == 2**24
    assert freq.tolist() == reference.frequencies(costs)


def test_eight_more_is_half_as_likely():
    freq = entropy.frequencies(np.array([8, 16, 16], np.uint8))
    assert freq.tolist() == [2**23, 2**22, 2**22]


@settings(deadline=None, max_examples=25)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    iterations=st.integers(1, 3),
    band=st.integers(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip(random_pack, random_planes, width, height, iterations, band, seed):
    pack, _ = random_pack
    head = header(width, height, iterations=iterations, band=band)
    planes = random_planes(pack, head, seed)
    payload = entropy.encode(planes, pack, head)
    for got, want in zip(entropy.decode(payload, pack, head), planes, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", [(1, 1), (97, 61), (16, 130)])
def test_reference_decoder_agrees(random_pack, random_planes, size):
    pack, _ = random_pack
    head = header(*size, band=1)
    planes = random_planes(pack, head, 3)
    payload = entropy.encode(planes, pack, head)
    for got, want in zip(reference.indices(payload, pack.tables, head), planes, strict=True):
        np.testing.assert_array_equal(got, want)


def test_payload_bytes_are_pinned(random_pack, random_planes):
    """The coding is frozen: other versions of constriction must write these very bytes."""
    pack, _ = random_pack
    head = header(24, 24)
    payload = entropy.encode(random_planes(pack, head, 0), pack, head)
    assert payload[:8].hex() == "374ec13648d63db2" and len(payload) == 52


def test_cost_of_payload_is_what_the_tables_say(random_pack, random_planes):
    """`Tables.bits`, which the search minimises, add up to the size of the payload."""
    pack, _ = random_pack
    head = header(300, 200)
    planes = random_planes(pack, head, 5)
    total = 0.0
    for plane, classes, tables in zip(
        planes, entropy.contexts(planes, pack, head), entropy.tables(pack, head), strict=True
    ):
        for i, bits in enumerate(tables.bits):
            coded = plane[:, :, i - 1] > 0 if i else np.ones(plane.shape[:2], bool)
            total += bits[classes[:, :, i][coded], plane[:, :, i][coded]].sum()
    assert len(entropy.encode(planes, pack, head)) == pytest.approx(total / 8, rel=0.002, abs=8)


def test_damaged_payloads_raise_or_give_valid_indices(random_pack, random_planes):
    """CRCs catch damage before this; behind them, whatever the bytes, indices stay in range or LrqError is raised."""
    pack, _ = random_pack
    head = header(80, 80)
    payload = entropy.encode(random_planes(pack, head, 9), pack, head)
    random = np.random.default_rng(0)
    for _ in range(100):
        hurt = bytearray(payload)
        hurt[random.integers(len(hurt))] ^= 1 << random.integers(8)
        try:
            planes = entropy.decode(bytes(hurt), pack, head)
        except LrqError:
            continue
        for plane, scale in zip(planes, pack.scales, strict=True):
            assert plane.min() >= 0 and (plane.max((0, 1)) <= scale.codewords).all()


def test_odd_and_surplus_bytes_are_refused(random_pack, random_planes):
    pack, _ = random_pack
    head = header(16, 16)
    payload = entropy.encode(random_planes(pack, head, 1), pack, head)
    with pytest.raises(FormatError, match="32-bit"):
        entropy.decode(payload + b"x", pack, head)
    with pytest.raises(FormatError, match="end where"):
        entropy.decode(payload + bytes(range(1, 41)), pack, head)
