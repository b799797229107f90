"""Entropy coding: integer tables, round trips, and agreement with the reference range decoder of SPEC.md."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoder import header

from lrcodec import entropy
from lrcodec.entropy import cost_tables, features, order
from lrcodec.errors import FormatError, LrqError


@given(st.lists(st.integers(0, 510), min_size=2, max_size=300))
def test_frequencies_are_positive_and_sum_to_2_24(costs):
    freq = cost_tables.frequencies(np.array(costs))
    assert freq.min() >= 1 and freq.sum() == 2**24
    assert freq.tolist() == reference.frequencies(costs)


def test_eight_more_is_half_as_likely():
    freq = cost_tables.frequencies(np.array([8, 16, 16], np.uint8))
    assert freq.tolist() == [2**23, 2**22, 2**22]


@settings(deadline=None, max_examples=25)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    iterations=st.integers(1, 3),
    band=st.integers(0, 1),
    count=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip(random_pack, random_planes, width, height, iterations, band, count, seed):
    pack, _ = random_pack
    head = header(width, height, iterations=iterations, band=band)
    planes = random_planes(pack, head, seed, count)
    payloads = entropy.encode(planes, pack, head)
    for got, want in zip(entropy.decode(payloads, pack, head, height), planes, strict=True):
        np.testing.assert_array_equal(got, want)


def test_random_packs_pick_every_feature(random_pack):
    """So that the tests here see them all."""
    picked = [random_pack[0].tables[f"features{s.scale}"] for s in random_pack[0].scales]
    assert {*np.concatenate(picked).flat} == {*range(len(features.FEATURES))}


@pytest.mark.parametrize("size", [(1, 1), (97, 61), (16, 130)])
def test_reference_decoder_agrees(random_pack, random_planes, size):
    pack, _ = random_pack
    head = header(*size, band=1)
    planes = random_planes(pack, head, 3, count=3)
    for payload, *one in zip(entropy.encode(planes, pack, head), *planes, strict=True):
        for got, want in zip(reference.strip(payload, 0, head.height, pack.tables, head), one, strict=True):
            np.testing.assert_array_equal(got, want)


def test_images_of_a_batch_do_not_see_each_other(random_pack, random_planes):
    pack, _ = random_pack
    head = header(50, 40)
    planes = random_planes(pack, head, 4, count=3)
    alone = [entropy.encode([plane[n : n + 1] for plane in planes], pack, head) for n in range(3)]
    assert entropy.encode(planes, pack, head) == [payload for payloads in alone for payload in payloads]


def test_payload_bytes_are_pinned(random_pack, random_planes):
    """The coding is frozen: other versions of constriction, and the coder in Python, must write these very bytes."""
    pack, _ = random_pack
    head = header(24, 24)
    (payload,) = entropy.encode(random_planes(pack, head, 0), pack, head)
    pinned = {
        "luma": ("eda7129576cdd18d", 67),
        "separate": ("ac5268b5121fe8e0", 48),
        "shared": ("fd1e796be8412c99", 38),
    }
    form = "shared" if pack.scales[0].shared else "luma" if pack.scales[-1].luma_only else "separate"
    assert (payload[:8].hex(), len(payload)) == pinned[form]


def test_cost_of_payload_is_what_the_tables_say(random_pack, random_planes):
    """`Tables.bits`, which the search minimises, add up to the size of the payload."""
    pack, _ = random_pack
    head = header(300, 200)
    planes = random_planes(pack, head, 5)
    total = 0.0
    for scale, plane, classes, tables in zip(
        pack.scales, planes, entropy.contexts(planes, pack, head), entropy.tables(pack, head.band), strict=True
    ):
        label, phase = np.divmod(classes.depths, 2)
        total += tables.bits.depths[phase, label, np.count_nonzero(plane, axis=3)].sum()
        for i, (start, bits) in enumerate(zip(scale.starts, tables.bits.shapes, strict=True)):
            coded = plane[..., i] > 0
            shape, symmetry = np.divmod(plane[..., i][coded] - 1, scale.symmetries)
            total += bits[classes.indices[..., i][coded], shape].sum()
            total += tables.bits.symmetries[start + shape, symmetry].sum()
    (payload,) = entropy.encode(planes, pack, head)
    assert total / 8 - 1 < len(payload) < 1.002 * total / 8 + 2


def test_contexts_are_those_of_the_coder(random_pack, random_planes, monkeypatch):
    pack, _ = random_pack
    head = header(130, 70)
    planes = random_planes(pack, head, 11, count=2)
    used: list[tuple[order.Group, np.ndarray]] = []
    classes = cost_tables.Contexts.classes

    def spy(self: cost_tables.Contexts, group: order.Group) -> np.ndarray:
        used.append((group, classes(self, group)))
        return used[-1][1]

    with monkeypatch.context() as patch:
        patch.setattr(cost_tables.Contexts, "classes", spy)
        payloads = entropy.encode(planes, pack, head)
        coded = len(used)
        entropy.decode(payloads, pack, head, 70)
    assert coded == len(used) - coded == sum(3 + len(s.shapes) for s in pack.scales)
    assert np.mean([len(np.unique(label)) > 1 for _, label in used]) > 0.8
    contexts = entropy.contexts(planes, pack, head)
    for group, label in used:
        labels = contexts[group.position]
        if group.iteration is None:
            np.testing.assert_array_equal(labels.depths.reshape(-1)[group.at], 2 * label + group.phase)
        else:
            np.testing.assert_array_equal(labels.indices[..., group.iteration].reshape(-1)[group.at], label)
            assert (planes[group.position][..., group.iteration].reshape(-1)[group.at] > 0).all()
    for labels, plane in zip(contexts, planes, strict=True):
        assert labels.depths.shape == plane.shape[:3] and labels.indices.shape == plane.shape


def test_a_depth_above_the_cap_is_refused(random_pack, random_planes):
    pack, _ = random_pack
    head = header(60, 40)
    planes = random_planes(pack, head, 12)
    (payload,) = entropy.encode(planes, pack, head)
    deepest = max(np.count_nonzero(plane, axis=3).max() for plane in planes)
    assert deepest == head.iterations == 3
    for cap in (1, 2):
        low = replace(head, iterations=cap)
        with pytest.raises(FormatError, match=f"{cap} is the cap"):
            entropy.decode([payload], pack, low, 40)
        with pytest.raises(reference.NotValid):
            reference.strip(payload, 0, 40, pack.tables, low)
    for got, want in zip(entropy.decode([payload], pack, replace(head, iterations=32), 40), planes, strict=True):
        np.testing.assert_array_equal(got, want)


@settings(deadline=None, max_examples=50)
@given(width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_payloads_are_as_short_as_possible(random_pack, random_planes, width, height, seed):
    """Zero bytes at the end are idle, so none is written; every byte that is written counts."""
    pack, _ = random_pack
    head = header(width, height)

    def decoded(payload: bytes) -> list[bytes] | None:
        try:
            return [plane.tobytes() for plane in entropy.decode([payload], pack, head, height)]
        except FormatError:
            return None

    planes = random_planes(pack, head, seed)
    (payload,) = entropy.encode(planes, pack, head)
    want = [plane.tobytes() for plane in planes]
    for surplus in range(10):
        assert decoded(payload + bytes(surplus)) == want
    assert not payload or payload[-1] and decoded(payload[:-1]) != want


def test_an_image_without_depth_takes_no_bytes(random_pack):
    """Depth 0 is the first symbol of every table, so it leaves the low end of the interval at zero."""
    pack, _ = random_pack
    head = header(100, 100)
    planes = [np.zeros((2, *s.grid(100, 100), len(s.codewords)), np.int64) for s in pack.scales]
    assert entropy.encode(planes, pack, head) == [b"", b""]
    assert not any(plane.any() for plane in entropy.decode([b"", bytes(3)], pack, head, 100))


def test_a_large_payload(random_pack, random_planes):
    """What ends a payload must not take time in proportion to more than its size."""
    pack, _ = random_pack
    head = header(2000, 1000)
    planes = random_planes(pack, head, 6)
    (payload,) = entropy.encode(planes, pack, head)
    assert len(payload) > 50_000
    for got, want in zip(entropy.decode([payload], pack, head, 1000), planes, strict=True):
        np.testing.assert_array_equal(got, want)


def test_damaged_payloads_raise_or_give_valid_indices(random_pack, random_planes):
    """CRCs catch damage before this; behind them, whatever the bytes, indices stay in range or LrqError is raised."""
    pack, _ = random_pack
    head = header(80, 80)
    (payload,) = entropy.encode(random_planes(pack, head, 9), pack, head)
    random = np.random.default_rng(0)
    for _ in range(100):
        hurt = bytearray(payload)
        hurt[random.integers(len(hurt))] ^= 1 << random.integers(8)
        try:
            planes = entropy.decode([payload, bytes(hurt)], pack, head, 80)
        except LrqError:
            continue
        for plane, scale in zip(planes, pack.scales, strict=True):
            assert plane.min() >= 0 and (plane.max((0, 1, 2)) <= scale.codewords).all()
