"""Makes the entropy coder's tables (SPEC.md, "Tables") from index planes of training images."""

import numpy as np

from ..entropy.cost_tables import COST_STEP, LEVELS
from ..entropy.order import DEPTH_FEATURES, INDEX_FEATURES

MEMBERS_LEAN = 400
"""Uses of a cluster, in all bands, that the costs of its members in a band start from."""
Groups = dict[tuple[int | None, int], list[tuple[np.ndarray, np.ndarray, int]]]
"""(iteration or None, phase) -> features uint8 (n, F), depths or indices (n,), band: one entry an encoded image."""


def energy_levels(books: list[np.ndarray]) -> np.ndarray:
    """uint8 (rows,), 1..24: quarter-octaves of the codewords' norms, 10 at their root mean square."""
    norms = np.concatenate([np.linalg.norm(book, axis=1) for book in books])
    levels = np.round(4 * np.log2(np.maximum(norms, 1e-6) / np.sqrt(np.mean(norms**2)))) + 10
    return np.clip(levels, 1, 24).astype(np.uint8)


def level_edges(features: np.ndarray) -> np.ndarray:
    """uint8 (F, LEVELS - 1): quantiles that cut each feature (n, F) into LEVELS."""
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
    """uint8 (LEVELS^features,): the class of every cell, by a greedy tree that splits on one feature at a time.

    cells (n,): cell of each sample, features as digits in base LEVELS, the first the lowest. symbols (n,) in
    [0, symbol_count). A split is kept while it saves more bits than its table costs.
    """
    digits = np.arange(LEVELS**features)[:, None] // LEVELS ** np.arange(features) % LEVELS
    # Most cells are empty: count the others only.
    used, dense = np.unique(cells, return_inverse=True)
    counts = np.zeros((len(used), symbol_count))
    np.add.at(counts, (dense, symbols), 1)
    classes = np.zeros(LEVELS**features, np.uint8)

    def best_split(label: int) -> tuple[float, int, int]:
        rows = classes[used] == label
        own, where = counts[rows], digits[used[rows]]
        best = (symbol_count / 2, -1, 0)
        for f in range(features):
            by_level = np.zeros((LEVELS, symbol_count))
            np.add.at(by_level, where[:, f], own)
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
    """Ideal code length of symbols with these counts (..., symbols)."""
    total = counts.sum(-1)
    return total * np.log2(np.maximum(total, 1)) - (counts * np.log2(np.maximum(counts, 1))).sum(-1)


def to_costs(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (..., symbols) -> uint8 costs in eighths of a bit."""
    return np.clip(np.round(-COST_STEP * np.log2(np.maximum(probabilities, 1e-9))), 0, 255).astype(np.uint8)


def context_tables(
    groups: Groups, codewords: tuple[int, ...], clusters: tuple[int, ...], bands: int, limit: int
) -> dict[str, np.ndarray]:
    """What tables.npz holds of one scale's contexts: depth_edges, depth_classes, depths, edges, classes, and for each
    iteration clusters_{i} and members_{i}.
    """
    depths = len(codewords)
    edges, classes, counts = [], [], []
    for phase in (0, 1):
        features, depth, band = _joined(groups.get((None, phase), []), DEPTH_FEATURES)
        edges.append(level_edges(features))
        cells = _cells(features, edges[-1])
        classes.append(grow_classes(cells, DEPTH_FEATURES, band * (depths + 1) + depth, bands * (depths + 1), limit))
        counts.append(_count(band, classes[-1][cells], depth, (bands, limit, depths + 1)))
    out = {
        "depth_edges": np.stack(edges),
        "depth_classes": np.stack(classes),
        "depths": to_costs(np.stack([_leaning(c) for c in counts], 1)),
    }
    by_iteration = [_joined(groups.get((i, 0), []), INDEX_FEATURES) for i in range(depths)]
    # The same edges for all iterations.
    out["edges"] = level_edges(np.concatenate([features for features, _, _ in by_iteration]))
    index_classes = []
    for i, ((features, index, band), k, a) in enumerate(zip(by_iteration, codewords, clusters, strict=True)):
        cluster, member = np.divmod(index - 1, k // a)
        cells = _cells(features, out["edges"])
        # Classes are shared by the bands: split for what helps within each of them.
        label = grow_classes(cells, INDEX_FEATURES, band * a + cluster, bands * a, limit)
        index_classes.append(label)
        out[f"clusters_{i}"] = to_costs(_leaning(_count(band, label[cells], cluster, (bands, limit, a))))
        members = _count(band, cluster, member, (bands, a, k // a))
        whole = members.sum(0) + 0.3
        members += MEMBERS_LEAN * whole / whole.sum(-1, keepdims=True)
        out[f"members_{i}"] = to_costs(members / members.sum(-1, keepdims=True))
    out["classes"] = np.stack(index_classes)
    return out


def _joined(entries: list[tuple[np.ndarray, np.ndarray, int]], features: int) -> tuple[np.ndarray, ...]:
    """Features (n, features), symbols (n,) and bands (n,) of all entries of a group."""
    if not entries:
        return np.zeros((0, features), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64)
    bands = [np.full(len(symbols), band) for _, symbols, band in entries]
    return np.concatenate([e[0] for e in entries]), np.concatenate([e[1] for e in entries]), np.concatenate(bands)


def _cells(features: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The cell (n,) of features (n, F): the levels that edges (F, LEVELS - 1) cut them into, as digits."""
    levels = (edges[None] < features[:, :, None]).sum(-1)
    return levels @ LEVELS ** np.arange(len(edges))


def _count(band: np.ndarray, row: np.ndarray, symbol: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    counts = np.zeros(shape)
    np.add.at(counts, (band, row, symbol), 1)
    return counts


def _leaning(counts: np.ndarray) -> np.ndarray:
    """Probabilities from counts (bands, classes, symbols): a table that has seen little leans on broader ones."""
    whole = counts.sum((0, 1)) + 0.3
    by_band = counts.sum(1) + 20 * whole / whole.sum()
    leaf = counts + 20 * (by_band / by_band.sum(-1, keepdims=True))[:, None]
    return leaf / leaf.sum(-1, keepdims=True)
