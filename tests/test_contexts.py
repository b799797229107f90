"""What training makes contexts of: spectra of shapes, trees over features, costs of symmetries."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lrcodec.encoder.codebook import Codebook
from lrcodec.encoder.pyramid import to_patches
from lrcodec.entropy.features import FEATURES
from lrcodec.format.grid import Scale
from lrcodec.format.symmetry import MIRRORED, SYMMETRIES, TRANSPOSED
from lrcodec.training.codebooks import bits_of
from lrcodec.training.context_tables import (
    LEVELS,
    classes_of_cells,
    context_tables,
    grow_tree,
    pick_features,
    symmetry_costs,
)
from lrcodec.training.places import clusters_by_place, uses_at_places
from lrcodec.training.presets import PRESETS
from lrcodec.training.spectra import balanced_clusters, spectra, traits_of

P = 8


def waves(down: int, across: int, channels: int = 1) -> torch.Tensor:
    """A patch float32 (d,) that is one function of the cosine transform, the same in each channel."""
    at = (torch.arange(P) + 0.5) * math.pi / P
    plane = torch.cos(down * at)[:, None] * torch.cos(across * at)
    return to_patches(100 * plane.expand(1, channels, P, P), P)[0, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_orientation_and_frequency_are_those_of_waves(channels: int):
    places = [(0, 0), (0, 1), (0, 6), (1, 0), (6, 0), (1, 1), (6, 6)]
    book = Codebook(torch.stack([waves(*place, channels) for place in places]), P)
    traits = traits_of([book])
    assert traits["orientation"].tolist() == [4, 8, 8, 0, 0, 4, 4]
    frequency = traits["frequency"].tolist()
    assert frequency[0] == 1 and frequency[1] == frequency[3] == frequency[5] < frequency[2] == frequency[4] == 8
    assert {name: levels.dtype for name, levels in traits.items()} == dict.fromkeys(traits, np.dtype(np.uint8))


def test_energy_levels_are_quarter_octaves():
    shapes = torch.eye(64)[:3] * torch.tensor([1.0, 2.0, 2.0])[:, None]
    low, high, same = traits_of([Codebook(shapes, P)])["energy"].tolist()
    assert high == same == low + 4


@pytest.mark.parametrize("symmetries", SYMMETRIES)
def test_spectra_do_not_see_symmetries(symmetries: int):
    """But that transposing exchanges what changes across and down."""
    channels = 1 if symmetries == TRANSPOSED else 3
    torch.manual_seed(symmetries)
    book = Codebook(torch.randn(4, P * P * channels), P, symmetries)
    turned = spectra(Codebook(book.codewords, P)).reshape(4, symmetries, -1)
    wanted = spectra(book)
    exchanged = [0, *(1 + 3 * ring + kind for ring in range(4) for kind in (1, 0, 2))]
    for number in range(symmetries):
        torch.testing.assert_close(turned[:, number], wanted[:, exchanged] if number >= MIRRORED else wanted)


def test_clusters_hold_similar_spectra():
    torch.manual_seed(0)
    kinds = [waves(0, 2), waves(2, 0)]
    signs = torch.randint(0, 2, (32, 1)) * 2.0 - 1
    shapes = signs * torch.stack([kinds[i % 2] for i in range(32)]) * (1 + 0.02 * torch.randn(32, 1))
    order = balanced_clusters(Codebook(shapes, P), 2)
    assert sorted(order.tolist()) == [*range(32)]
    for cluster in order.reshape(2, 16):
        assert len({i % 2 for i in cluster.tolist()}) == 1


def test_clusters_by_place_hold_shapes_of_one_place():
    torch.manual_seed(0)
    home = torch.randperm(32) % 2  # of each shape
    uses = torch.poisson(torch.where(torch.arange(9) == home[:, None], 40.0, 2.0)).double()
    order = clusters_by_place(uses, 2)
    assert sorted(order.tolist()) == [*range(32)]
    assert all(len({*home[cluster].tolist()}) == 1 for cluster in order.reshape(2, 16))


def test_uses_are_counted_at_every_place():
    """Images that are grey but for one patch, whose place is the same in all."""
    config = replace(PRESETS["tiny"], table_images=8, bands=1, prediction=())
    images = [np.full((32, 32, 1), 128, np.uint8) for _ in range(8)]
    for number, image in enumerate(images):
        image[8:16, 16:24, 0] = 30 * number
    shapes = [torch.randn(count, s.patch**2, generator=torch.Generator().manual_seed(0)) for s in config.scales
              for count in s.shapes]  # fmt: skip
    books = [[Codebook(60 * shapes.pop(0), s.patch) for _ in s.shapes] for s in config.scales]
    bits = [[bits_of(torch.zeros(1, len(s.shapes), dtype=torch.int64), s) for s in config.scales]]
    uses = uses_at_places(config, images, books, bits, [None, None], 0)
    assert [u.shape for u in uses[1]] == [(64, 16)] * 3
    taken = uses[1][0].sum(0)
    assert taken.argmax() == 1 * 4 + 2 and taken.sum() <= 8 * 16


def test_trees_split_where_it_tells_symbols_apart():
    random = np.random.default_rng(1)
    levels = random.integers(0, LEVELS, (4000, 6), np.uint8)
    symbols = (levels[:, 4] > 2).astype(np.int64) + 2 * (levels[:, 1] > 5)
    tree = grow_tree(levels, symbols, 4, 24)
    assert {(split.feature, split.level) for split in tree} == {(4, 2), (1, 5)}
    assert pick_features(tree, 6, 2).tolist() == [1, 4]
    classes = classes_of_cells(grow_tree(levels[:, [1, 4]], symbols, 4, 24), 2)
    label = classes[levels[:, [1, 4]] @ LEVELS ** np.arange(2)]
    for number in range(classes.max() + 1):
        assert len(set(symbols[label == number])) == 1
    by_chance = grow_tree(levels, random.integers(0, 4, 4000), 4, 24)
    assert all(4 / 2 < split.gain < tree[-1].gain / 10 for split in by_chance)
    assert grow_tree(levels, np.zeros(4000, np.int64), 4, 24) == []


def test_groups_pick_the_feature_that_tells():
    """In each group another one decides the cluster; the file's costs follow."""
    scale, random = Scale(1, 8, (16, 16)), np.random.default_rng(2)
    deciding = {(0, 0): 2, (0, 1): 7, (1, 0): 10}
    groups = {}
    for group, feature in deciding.items():
        features = random.integers(0, 9, (5000, len(FEATURES)), np.uint8)
        cluster = np.where(features[:, feature] > 4, 3, 0)
        groups[group] = [(features, cluster * 4 + random.integers(0, 4, 5000), 0)]
    tables = context_tables(groups, scale, bands=1, limit=4)
    for row, feature in enumerate(deciding.values()):
        assert feature in tables["features1"][row]
    assert tables["classes1"][0].max() < 4 <= tables["classes1"][1].min()
    likely = tables["clusters1_1"][0][np.unique(tables["classes1"][2])].argmin(1)
    assert {*likely} == {0, 3}


def test_costs_of_symmetries_are_those_of_their_uses():
    scale = Scale(1, 8, (2, 1), symmetries=MIRRORED)
    plane = np.zeros((1, 100, 8, 2), np.int64)
    plane[..., 0] = 1 + np.arange(8)  # the first shape in all symmetries alike
    plane[:, :50, 0, 1] = 1 + 5  # the third in one alone
    costs = symmetry_costs([plane], scale)
    assert costs.shape == (3, 8)
    assert costs[0].tolist() == costs[1].tolist() == [24] * 8  # three bits each; the second was never used
    assert costs[2, 5] < 3 and costs[2].tolist().count(costs[2].max()) == 7
