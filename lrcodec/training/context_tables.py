"""Makes the context tables of a scale (SPEC.md, "Tables") from what is coded of training images."""

from typing import NamedTuple

import numpy as np

from ..encoder.search import clusters
from ..entropy.cost_tables import COST_STEP, LEVELS
from ..entropy.features import DEPTH_FEATURES, FEATURES, INDEX_FEATURES, MAX_FEATURE
from ..format.grid import Scale

LEAN = 20
"""Uses, by an average over more contexts or bands, that the costs of a context class start from."""
MEMBERS_LEAN = 400
"""The same for the members of a cluster in a band, by the uses in all bands."""
SYMMETRY_PRIOR = 4.0
"""Uses that are added to those of each shape, spread evenly over its symmetries."""
TREE_SAMPLES = 500_000
"""Samples that a tree of contexts is grown from, about."""
Groups = dict[tuple[int | None, int], list[tuple[np.ndarray, np.ndarray, int]]]
"""What is coded of a scale, by iteration (None: depths) and phase: all features uint8 (n, F), depths or shapes (n,),
and the rate band. One entry for each stack of images."""


def level_edges(features: np.ndarray) -> np.ndarray:
    """The edges uint8 (F, LEVELS - 1) that cut features uint8 (n, F) into LEVELS each: their quantiles."""
    ranks = np.linspace(0, 1, LEVELS + 1)[1:-1]
    edges = np.zeros((features.shape[1], LEVELS - 1), np.uint8)
    if len(features):
        for f in range(features.shape[1]):
            values = np.unique(features[:, f])
            if len(values) <= LEVELS:
                edges[f] = np.pad(values[:-1], (0, LEVELS - len(values)), constant_values=255)
                continue
            # Zero (nothing there) is common and means much: it gets a level of its own.
            positive = features[:, f][features[:, f] > 0]
            if len(positive):
                edges[f, 1:] = np.quantile(positive, ranks[1:])
    return edges


class Split(NamedTuple):
    """One step of a tree: the samples of a class whose level of a feature is larger than `level` become a new class.

    gain: the bits that this saves.
    """

    label: int
    feature: int
    level: int
    gain: float


def grow_tree(levels: np.ndarray, symbols: np.ndarray, symbol_count: int, limit: int) -> list[Split]:
    """A greedy tree of contexts that splits on one feature at a time, from the class 0 of all samples.

    levels: uint8 (n, F), of each sample and feature, below LEVELS. symbols (n,): in [0, symbol_count). limit: of
    classes. A split is kept while it saves more bits than its table costs. The k-th split makes the class k + 1.
    """
    members = [np.arange(len(symbols))]

    def best_split(label: int) -> Split:
        rows = members[label]
        best = Split(label, -1, 0, symbol_count / 2)
        for feature in range(levels.shape[1]):
            places = levels[rows, feature].astype(np.int64) * symbol_count + symbols[rows]
            by_level = np.bincount(places, minlength=LEVELS * symbol_count).reshape(LEVELS, symbol_count)
            below = by_level.cumsum(0)
            gains = _bits(below[-1]) - _bits(below[:-1]) - _bits(below[-1] - below[:-1])
            if gains.max() > best.gain:
                best = Split(label, feature, int(gains.argmax()), float(gains.max()))
        return best

    candidates, tree = [best_split(0)], []
    while len(members) < limit:
        split = max(candidates, key=lambda candidate: candidate.gain if candidate.feature >= 0 else -1.0)
        if split.feature < 0:
            break
        rows = members[split.label]
        larger = levels[rows, split.feature] > split.level
        members[split.label] = rows[~larger]
        members.append(rows[larger])
        tree.append(split)
        candidates[split.label] = best_split(split.label)
        candidates.append(best_split(len(members) - 1))
    return tree


def classes_of_cells(tree: list[Split], features: int) -> np.ndarray:
    """The class of every cell, uint8 (LEVELS^features,). The digits of a cell in base LEVELS are levels of features."""
    digits = np.arange(LEVELS**features)[:, None] // LEVELS ** np.arange(features) % LEVELS
    classes = np.zeros(LEVELS**features, np.uint8)
    for number, split in enumerate(tree):
        classes[(classes == split.label) & (digits[:, split.feature] > split.level)] = number + 1
    return classes


def pick_features(tree: list[Split], features: int, count: int) -> np.ndarray:
    """The numbers of the `count` features, of so many, whose splits save most bits: uint8 (count,), ascending."""
    gains = np.zeros(features)
    for split in tree:
        gains[split.feature] += split.gain
    return np.sort(gains.argsort(kind="stable")[::-1][:count]).astype(np.uint8)


def _bits(counts: np.ndarray) -> np.ndarray:
    """Ideal code length, in bits, of all symbols that are counted: (..., symbols) -> (...)."""
    total = counts.sum(-1)
    return total * np.log2(np.maximum(total, 1)) - (counts * np.log2(np.maximum(counts, 1))).sum(-1)


def to_costs(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (..., symbols) -> their costs, uint8, in eighths of a bit."""
    return np.clip(np.round(-COST_STEP * np.log2(np.maximum(probabilities, 1e-9))), 0, 255).astype(np.uint8)


def context_tables(groups: Groups, scale: Scale, bands: int, limit: int) -> dict[str, np.ndarray]:
    """The context tables of a scale, uint8, by their names in tables.npz. limit: of context classes of a group.

    They are depth_edges{s}, depth_classes{s}, depths{s}, features{s}, edges{s}, classes{s}, clusters{s}_{i} and
    members{s}_{i}.
    """
    return _depth_tables(groups, scale, bands, limit) | _index_tables(groups, scale, bands, limit)


def _depth_tables(groups: Groups, scale: Scale, bands: int, limit: int) -> dict[str, np.ndarray]:
    """Edges, classes and costs of depths."""
    s, depths = scale.scale, len(scale.shapes) + 1
    edges, classes, counts = [], [], []
    for phase in (0, 1):
        features, depth, band = _joined(groups.get((None, phase), []), DEPTH_FEATURES)
        edges.append(level_edges(features))
        levels = _levels(features, edges[-1])
        classes.append(_grow(levels, band * depths + depth, bands * depths, limit))
        counts.append(_count(band, classes[-1][_cells(levels)], depth, (bands, limit, depths)))
    return {
        f"depth_edges{s}": np.stack(edges),
        f"depth_classes{s}": np.stack(classes),
        f"depths{s}": to_costs(np.stack([_leaning(c) for c in counts], 1)),
    }


def _index_tables(groups: Groups, scale: Scale, bands: int, limit: int) -> dict[str, np.ndarray]:
    """Features, edges and classes of all groups of indices, and costs of the clusters of shapes and their members."""
    s, parts, costs = scale.scale, [], {}
    for i, count in enumerate(scale.shapes):
        a = clusters(count)
        of_clusters, of_members = [], np.zeros((bands, a, count // a))
        for phase in (0, 1) if i == 0 else (0,):
            features, shape, band = _joined(groups.get((i, phase), []), len(FEATURES))
            cluster, member = np.divmod(shape, count // a)
            # Classes are shared by the bands: split for what helps within each of them.
            picked, edges, classes = _contexts(features, band * a + cluster, bands * a, limit)
            label = classes[_cells(_levels(features[:, picked], edges))]
            # The phases of the first iteration have classes of their own in the same table.
            parts.append((picked, edges, classes + phase * limit))
            of_clusters.append(_leaning(_count(band, label, cluster, (bands, limit, a))))
            of_members += _count(band, cluster, member, of_members.shape)
        costs[f"clusters{s}_{i}"] = to_costs(np.concatenate(of_clusters, 1))
        pooled = of_members.sum(0) + 0.3
        of_members += MEMBERS_LEAN * pooled / pooled.sum(-1, keepdims=True)
        costs[f"members{s}_{i}"] = to_costs(of_members / of_members.sum(-1, keepdims=True))
    names = (f"features{s}", f"edges{s}", f"classes{s}")
    return costs | {name: np.stack(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)}


def _contexts(
    features: np.ndarray, symbols: np.ndarray, symbol_count: int, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For a group with features uint8 (n, F): which ones it picks, their edges, and the class of every cell."""
    every = level_edges(features)
    rows = slice(None, None, -(-len(features) // TREE_SAMPLES) or 1)
    tree = grow_tree(_levels(features[rows], every), symbols[rows], symbol_count, limit)
    picked = pick_features(tree, features.shape[1], INDEX_FEATURES)
    edges = every[picked]
    return picked, edges, _grow(_levels(features[rows][:, picked], edges), symbols[rows], symbol_count, limit)


def _grow(levels: np.ndarray, symbols: np.ndarray, symbol_count: int, limit: int) -> np.ndarray:
    """The class of every cell, uint8 (LEVELS^F,), from samples with levels uint8 (n, F)."""
    return classes_of_cells(grow_tree(levels, symbols, symbol_count, limit), levels.shape[1])


def symmetry_costs(planes: list[np.ndarray], scale: Scale) -> np.ndarray:
    """What every symmetry of every shape costs, uint8 (rows, G), from index planes (n, rows, columns, D)."""
    uses = np.full((scale.rows, scale.symmetries), SYMMETRY_PRIOR / scale.symmetries)
    for plane in planes:
        for i, start in enumerate(scale.starts):
            index = plane[..., i][plane[..., i] > 0] - 1
            counts = np.bincount(index, minlength=scale.codewords[i]).reshape(-1, scale.symmetries)
            uses[start : start + len(counts)] += counts
    return to_costs(uses / uses.sum(1, keepdims=True))


def _joined(entries: list[tuple[np.ndarray, np.ndarray, int]], features: int) -> tuple[np.ndarray, ...]:
    """Features uint8 (n, features), symbols (n,) and bands (n,) of all entries of a group."""
    if not entries:
        return np.zeros((0, features), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64)
    bands = [np.full(len(symbols), band) for _, symbols, band in entries]
    return np.concatenate([e[0] for e in entries]), np.concatenate([e[1] for e in entries]), np.concatenate(bands)


def _levels(features: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The levels uint8 (n, F) that edges (F, LEVELS - 1) cut features (n, F) into."""
    levels = np.zeros(features.shape, np.uint8)
    for feature, of_feature in enumerate(edges):
        table = (of_feature[:, None] < np.arange(MAX_FEATURE + 1)).sum(0).astype(np.uint8)
        levels[:, feature] = table[features[:, feature]]
    return levels


def _cells(levels: np.ndarray) -> np.ndarray:
    """The cells (n,) of levels (n, F), which are their digits."""
    return levels.astype(np.int64) @ LEVELS ** np.arange(levels.shape[1])


def _count(band: np.ndarray, row: np.ndarray, symbol: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """How often each symbol occurs in each row of each band: float64 of `shape`, (bands, rows, symbols)."""
    counts = np.zeros(shape)
    np.add.at(counts, (band, row, symbol), 1)
    return counts


def _leaning(counts: np.ndarray) -> np.ndarray:
    """Probabilities from counts, both (bands, classes, symbols): a table that has seen little leans on broader ones."""
    pooled = counts.sum((0, 1)) + 0.3
    by_band = counts.sum(1) + LEAN * pooled / pooled.sum()
    leaf = counts + LEAN * (by_band / by_band.sum(-1, keepdims=True))[:, None]
    return leaf / leaf.sum(-1, keepdims=True)
