"""Makes the entropy coder's tables (SPEC.md, "Tables") from index planes of training images."""

import numpy as np

from ..entropy import COST_STEP, FEATURES, LEVELS

Groups = dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray, int]]]
"""(iteration, phase) -> features uint8 (n, FEATURES), indices (n,), band: one entry an encoded image."""


def energy_levels(books: list[np.ndarray]) -> np.ndarray:
    """uint8 (rows,), 1..24: quarter-octaves of the codewords' norms, 10 at their root mean square."""
    norms = np.concatenate([np.linalg.norm(book, axis=1) for book in books])
    levels = np.round(4 * np.log2(np.maximum(norms, 1e-6) / np.sqrt(np.mean(norms**2)))) + 10
    return np.clip(levels, 1, 24).astype(np.uint8)


def level_edges(features: np.ndarray) -> np.ndarray:
    """uint8 (FEATURES, LEVELS - 1): quantiles that cut each feature (n, FEATURES) into LEVELS."""
    ranks = np.linspace(0, 1, LEVELS + 1)[1:-1]
    edges = np.zeros((FEATURES, LEVELS - 1), np.uint8)
    if len(features):
        for f in range(FEATURES):
            # Zero (nothing there) is common and means much: it gets a level of its own.
            positive = features[:, f][features[:, f] > 0]
            if len(positive):
                edges[f, 1:] = np.quantile(positive, ranks[1:])
    return edges


def grow_classes(cells: np.ndarray, symbols: np.ndarray, symbol_count: int, limit: int) -> np.ndarray:
    """uint8 (LEVELS^FEATURES,): the class of every cell, by a greedy tree that splits on one feature at a time.

    cells (n,): cell of each sample, features as digits in base LEVELS, the first the lowest. symbols (n,) in
    [0, symbol_count). A split is kept while it saves more bits than its table costs.
    """
    digits = np.arange(LEVELS**FEATURES)[:, None] // LEVELS ** np.arange(FEATURES) % LEVELS
    # Most cells are empty: count the others only.
    used, dense = np.unique(cells, return_inverse=True)
    counts = np.zeros((len(used), symbol_count))
    np.add.at(counts, (dense, symbols), 1)
    classes = np.zeros(LEVELS**FEATURES, np.uint8)

    def best_split(label: int) -> tuple[float, int, int]:
        rows = classes[used] == label
        own, where = counts[rows], digits[used[rows]]
        best = (symbol_count / 2, -1, 0)
        for f in range(FEATURES):
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
    """edges, classes, clusters_{i} and members_{i} of one scale, as tables.npz holds them."""
    edges = np.zeros((len(codewords), 2, FEATURES, LEVELS - 1), np.uint8)
    classes = np.zeros((len(codewords), 2, LEVELS**FEATURES), np.uint8)
    out = {}
    for i, (k, a) in enumerate(zip(codewords, clusters, strict=True)):
        b = k // a
        cluster_counts = np.zeros((bands, limit, a + 1))
        member_counts = np.zeros((bands, a, b))
        for phase in (0, 1):
            entries = groups.get((i, phase), [])
            features = np.concatenate([e[0] for e in entries]) if entries else np.zeros((0, FEATURES), np.uint8)
            index = np.concatenate([e[1] for e in entries]) if entries else np.zeros(0, np.int64)
            band = np.concatenate([np.full(len(e[1]), e[2]) for e in entries]) if entries else index
            edges[i, phase] = level_edges(features)
            digits = (edges[i, phase][None] < features[:, :, None]).sum(-1)
            cells = digits @ LEVELS ** np.arange(FEATURES)
            cluster = -(-index // b)
            # Classes are shared by the bands: split for what helps within each of them.
            classes[i, phase] = grow_classes(cells, band * (a + 1) + cluster, bands * (a + 1), limit)
            np.add.at(cluster_counts, (band, classes[i, phase][cells], cluster), 1)
            inside = index > 0
            np.add.at(member_counts, (band[inside], cluster[inside] - 1, (index[inside] - 1) % b), 1)
        # Each table leans on a broader one in proportion to how little it has seen.
        whole = cluster_counts.sum((0, 1)) + 0.3
        by_band = cluster_counts.sum(1) + 20 * whole / whole.sum()
        parent = by_band / by_band.sum(-1, keepdims=True)
        leaf = cluster_counts + 20 * parent[:, None]
        out[f"clusters_{i}"] = to_costs(leaf / leaf.sum(-1, keepdims=True))
        whole = member_counts.sum(0) + 0.3
        member = member_counts + b * whole / whole.sum(-1, keepdims=True)
        out[f"members_{i}"] = to_costs(member / member.sum(-1, keepdims=True))
    return {"edges": edges, "classes": classes} | out
