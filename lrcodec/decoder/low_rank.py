"""Low-rank sums: index planes -> what the codewords draw. SPEC.md, "Low-rank sums", is the normative text.

A codeword is the product of two thin matrices. ONNX Runtime multiplies them when the codeword is first drawn, and it is
kept: what is left of a patch are look-ups and additions.
"""

import numpy as np
import onnxruntime as ort

from ..format.fixed import FACTOR_BITS, PLANE_BITS
from ..format.grid import Scale
from ..format.symmetry import change
from ..packs.pack import Pack
from .session import fetch, open_session, session_options


class Products:
    """The codewords of a scale, multiplied: float32 (codewords, F * p * p), over 2^(FACTOR_BITS - PLANE_BITS).

    Each is a patch in polyphase order: channel, phase in y, phase in x, place in y, place in x.
    Any number of threads may use one.
    """

    def __init__(self, pack: Pack, scale: Scale, rank: int, channels: int):
        self.pack, self.rank = pack, rank
        self.symmetries, self.patch, self.channels = scale.symmetries, scale.patch, scale.channels(channels)
        width = self.channels * scale.patch
        self.u = pack.tables[f"u{scale.scale}"][:, :rank]
        self.v = pack.tables[f"v{scale.scale}"][:, :rank, :width]
        shape = scale.rows * scale.symmetries, width * scale.patch
        self.kept = None
        if 4 * shape[0] * shape[1] <= pack.kept.limit:
            self.kept = np.empty(shape, np.float32), np.zeros(shape[0], bool)  # takes no memory until it is written to

    @property
    def size(self) -> int:
        """The bytes that all codewords take, if they are kept."""
        return sum(array.nbytes for array in self.kept or ())

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The codewords in these rows, int64 (n,), with all symmetries of a shape before the next shape."""
        if self.kept is None:
            return self._multiply(rows)
        products, known = self.kept
        if not known.take(rows).all():
            missing = np.unique(rows[~known[rows]])
            products[missing] = self._multiply(missing)
            known[missing] = True
        return products.take(rows, 0)

    def _multiply(self, rows: np.ndarray) -> np.ndarray:
        shapes, symmetries = np.divmod(rows, self.symmetries)
        shapes, places = np.unique(shapes, return_inverse=True)
        p, half = self.patch, self.patch // 2
        left, right = (factor[shapes].astype(np.float32) for factor in (self.u, self.v))
        inputs = {"left": left * np.float32(2.0 ** (PLANE_BITS - FACTOR_BITS)), "right": right}
        shape = len(shapes), p, self.channels * p
        patches = fetch(multiplier(self.pack), self.pack, "codewords", inputs, np.float32, shape)
        patches = patches.reshape(len(shapes), p, self.channels, p)
        out = np.empty((len(rows), self.channels, 2, 2, half, half), np.float32)
        for symmetry in np.unique(symmetries):
            chosen = np.flatnonzero(symmetries == symmetry)
            turned = change(patches[places[chosen]], symmetry).reshape(len(chosen), 2, half, self.channels, 2, half)
            out[chosen] = turned.transpose(0, 3, 1, 4, 2, 5)
        return out.reshape(len(rows), self.channels * p * p)


def products(pack: Pack, scale: Scale, rank: int, channels: int) -> Products:
    """Those of a pack, which keeps them. channels: of the image."""
    key = pack.fingerprint, "products", scale.scale, rank, scale.channels(channels)
    return pack.kept.get(key, lambda: Products(pack, scale, rank, channels))


def multiplier(pack: Pack) -> ort.InferenceSession:
    """The session that multiplies codewords of a pack, opened once."""
    if pack.multiplier is None:
        pack.multiplier = open_session(pack, pack.codewords_graph, session_options(1))
    return pack.multiplier


def draw(plane: np.ndarray, scale: Scale, codewords: Products) -> np.ndarray:
    """The sums of the codewords of all patches, over 2^(FACTOR_BITS - PLANE_BITS), polyphase.

    plane: int64 (count, rows, columns, iterations); zeros follow the indices of a patch.
    Returns float32 (count, 4 * F, rows * p / 2, columns * p / 2): channel 4 * c + 2 * phase in y + phase in x.
    """
    *grids, depths = plane.shape
    by_iteration = np.moveaxis(plane, 3, 0).reshape(depths, -1)
    taken = by_iteration > 0
    # The deepest patches first: then those that take an iteration are the first ones.
    order = np.argsort(depths - taken.view(np.uint8).sum(0, dtype=np.uint8), kind="stable")
    half, phases = scale.patch // 2, 4 * codewords.channels
    sums = np.zeros((len(order), phases * half * half), np.float32)
    for indices, start, some in zip(by_iteration, scale.starts, taken, strict=True):
        count = np.count_nonzero(some)
        # Index 1 is the first row of its iteration.
        sums[:count] += codewords.take(indices.take(order[:count]) + (start * scale.symmetries - 1))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    run = np.dtype((np.void, half * sums.itemsize))  # copied whole, several times faster than number by number
    patches = sums.view(run).take(place, 0).reshape(*grids, phases, half)
    out = np.ascontiguousarray(patches.transpose(0, 3, 1, 4, 2)).view(np.float32)
    return out.reshape(grids[0], phases, grids[1] * half, grids[2] * half)
