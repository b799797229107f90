"""Makes the context tables of a scale (SPEC.md, "Tables") from what is coded of training images."""

import numpy as np

from ..encoder.search import clusters
from ..entropy.cost_tables import COST_STEP, LEVELS
from ..entropy.features import DEPTH_FEATURES, INDEX_FEATURES
from ..format.grid import Scale

LEAN = 20
"""Uses, by an average over more contexts or bands, that the costs of a context class start from."""
MEMBERS_LEAN = 400
"""The same for the members of a cluster in a band, by the uses in all bands."""
Groups = dict[tuple[int | None, int], list[tuple[np.ndarray, np.ndarray, int]]]
"""What is coded of a scale, by iteration (None: depths) and phase: features uint8 (n, F), depths or indices (n,), and
the rate band. One entry for each stack of images."""


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


def grow_classes(cells: np.ndarray, features: int, symbols: np.ndarray, symbol_count: int, limit: int) -> np.ndarray:
    """The class of every cell, uint8 (LEVELS^features,), by a greedy tree that splits on one feature at a time.

    cells (n,): of each sample, a number whose digits in base LEVELS are its features, the first the lowest. symbols
    (n,): in [0, symbol_count). limit: of classes. A split is kept while it saves more bits than its table costs.
    """
    digits = np.arange(LEVELS**features)[:, None] // LEVELS ** np.arange(features) % LEVELS
    # Most cells are empty: count the others only.
    used, dense = np.unique(cells, return_inverse=True)
    counts = np.zeros((len(used), symbol_count))
    np.add.at(counts, (dense, symbols), 1)
    classes = np.zeros(LEVELS**features, np.uint8)

    def best_split(label: int) -> tuple[float, int, int]:
        rows = classes[used] == label
        here, where = counts[rows], digits[used[rows]]
        best = (symbol_count / 2, -1, 0)
        for f in range(features):
            by_level = np.zeros((LEVELS, symbol_count))
            np.add.at(by_level, where[:, f], here)
            below = by_level.cumsum(0)
            gains = _bits(below[-1]) - _bits(below[:-1]) - _bits(below[-1] - below[:-1])
            if gains.max() > best[0]:
                best = (float(gains.max()), f, int(gains.argmax()))
        return best

    splits = {0: best_split(0)} if len(used) else {}
    while len(splits) and len(splits) < limit:
        label = max(splits, key=lambda key: splits[key][0])
        _, feature, level = splits[label]
        if feature < 0:
            break
        new = len(splits)
        classes[(classes == label) & (digits[:, feature] > level)] = new
        splits[label], splits[new] = best_split(label), best_split(new)
    return classes


def _bits(counts: np.ndarray) -> np.ndarray:
    """Ideal code length, in bits, of all symbols that are counted: (..., symbols) -> (...)."""
    total = counts.sum(-1)
    return total * np.log2(np.maximum(total, 1)) - (counts * np.log2(np.maximum(counts, 1))).sum(-1)


def to_costs(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (..., symbols) -> their costs, uint8, in eighths of a bit."""
    return np.clip(np.round(-COST_STEP * np.log2(np.maximum(probabilities, 1e-9))), 0, 255).astype(np.uint8)


def context_tables(groups: Groups, scale: Scale, bands: int, limit: int) -> dict[str, np.ndarray]:
    """The context tables of a scale, uint8, by their names in tables.npz. limit: of context classes.

    They are depth_edges{s}, depth_classes{s}, depths{s}, edges{s}, classes{s}, clusters{s}_{i} and members{s}_{i}.
    """
    return _depth_tables(groups, scale, bands, limit) | _index_tables(groups, scale, bands, limit)


def _depth_tables(groups: Groups, scale: Scale, bands: int, limit: int) -> dict[str, np.ndarray]:
    """Edges, classes and costs of depths."""
    s, depths = scale.scale, len(scale.codewords) + 1
    edges, classes, counts = [], [], []
    for phase in (0, 1):
        features, depth, band = _joined(groups.get((None, phase), []), DEPTH_FEATURES)
        edges.append(level_edges(features))
        cells = _cells(features, edges[-1])
        classes.append(grow_classes(cells, DEPTH_FEATURES, band * depths + depth, bands * depths, limit))
        counts.append(_count(band, classes[-1][cells], depth, (bands, limit, depths)))
    return {
        f"depth_edges{s}": np.stack(edges),
        f"depth_classes{s}": np.stack(classes),
        f"depths{s}": to_costs(np.stack([_leaning(c) for c in counts], 1)),
    }


def _index_tables(groups: Groups, scale: Scale, bands: int, limit: int) -> dict[str, np.ndarray]:
    """Edges, which all iterations share, classes, and costs of clusters and their members."""
    s = scale.scale
    by_iteration = [_joined(groups.get((i, 0), []), INDEX_FEATURES) for i in range(len(scale.codewords))]
    edges = level_edges(np.concatenate([features for features, _, _ in by_iteration]))
    classes, costs = [], {}
    for i, ((features, index, band), k) in enumerate(zip(by_iteration, scale.codewords, strict=True)):
        a = clusters(k)
        cluster, member = np.divmod(index - 1, k // a)
        cells = _cells(features, edges)
        # Classes are shared by the bands: split for what helps within each of them.
        classes.append(grow_classes(cells, INDEX_FEATURES, band * a + cluster, bands * a, limit))
        label = classes[-1][cells]
        costs[f"clusters{s}_{i}"] = to_costs(_leaning(_count(band, label, cluster, (bands, limit, a))))
        members = _count(band, cluster, member, (bands, a, k // a))
        whole = members.sum(0) + 0.3
        members += MEMBERS_LEAN * whole / whole.sum(-1, keepdims=True)
        costs[f"members{s}_{i}"] = to_costs(members / members.sum(-1, keepdims=True))
    return {f"edges{s}": edges, f"classes{s}": np.stack(classes)} | costs


def _joined(entries: list[tuple[np.ndarray, np.ndarray, int]], features: int) -> tuple[np.ndarray, ...]:
    """Features uint8 (n, features), symbols (n,) and bands (n,) of all entries of a group."""
    if not entries:
        return np.zeros((0, features), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64)
    bands = [np.full(len(symbols), band) for _, symbols, band in entries]
    return np.concatenate([e[0] for e in entries]), np.concatenate([e[1] for e in entries]), np.concatenate(bands)


def _cells(features: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The cell (n,) of features (n, F): the levels that edges (F, LEVELS - 1) cut them into, as digits."""
    levels = (edges[None] < features[:, :, None]).sum(-1)
    return levels @ LEVELS ** np.arange(len(edges))


def _count(band: np.ndarray, row: np.ndarray, symbol: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """How often each symbol occurs in each row of each band: float64 of `shape`, (bands, rows, symbols)."""
    counts = np.zeros(shape)
    np.add.at(counts, (band, row, symbol), 1)
    return counts


def _leaning(counts: np.ndarray) -> np.ndarray:
    """Probabilities from counts, both (bands, classes, symbols): a table that has seen little leans on broader ones."""
    whole = counts.sum((0, 1)) + 0.3
    by_band = counts.sum(1) + LEAN * whole / whole.sum()
    leaf = counts + LEAN * (by_band / by_band.sum(-1, keepdims=True))[:, None]
    return leaf / leaf.sum(-1, keepdims=True)
