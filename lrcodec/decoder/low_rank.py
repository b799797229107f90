"""Low-rank sums: index planes -> what the codewords draw. SPEC.md, "Low-rank sums", is the normative text.

A codeword is the product of two thin matrices, and a patch is a sum of codewords. So a patch is one product too: the
left matrices of its codewords side by side, times the right ones one below the other. ONNX Runtime multiplies them.
"""

import numpy as np
import onnxruntime as ort

from ..format import symmetry
from ..format.fixed import FACTOR_BITS, PLANE_BITS
from ..format.grid import Scale
from ..packs.pack import Pack
from .session import fetch, open_session, session_options

NUMBERS = 2**18
"""Of factors so many are multiplied at a time: what they take fits into the caches of most processors."""
UNITS = symmetry.SIGNS * np.float32(2.0 ** (PLANE_BITS - FACTOR_BITS))
"""What the left matrix of a codeword is multiplied by, for each symmetry."""


class Factors:
    """The thin matrices of the codewords of a scale. Any number of threads may use one."""

    def __init__(self, pack: Pack, scale: Scale):
        u, v = (pack.tables[f"{name}{scale.scale}"] for name in "uv")
        self.shapes, self.symmetries, self.patch = len(u), scale.symmetries, scale.patch
        left, right = symmetry.factors(u, v, scale.symmetries)
        self.left, self.right = left.reshape(-1, *u.shape[1:]), right.reshape(-1, *v.shape[1:])

    def take(self, rows: np.ndarray, there: np.ndarray, rank: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """The matrices of codewords, up to a rank and for the first channels.

        rows: int64 (n, k), of the codewords of all iterations: all symmetries of a shape before the next shape.
        there: bool (n, k); the product of the others is 0.
        Returns float32 left (n, k * rank, p), over 2^(FACTOR_BITS - PLANE_BITS), and right (n, k * rank, channels * p).
        """
        shapes = rows // self.symmetries
        symmetries = rows - shapes * self.symmetries
        left = self.left.take(shapes + symmetry.LEFT.take(symmetries) * self.shapes, 0)
        right = self.right.take(shapes + symmetry.RIGHT.take(symmetries) * self.shapes, 0)
        left = left[:, :, :rank].astype(np.float32)
        left *= (UNITS.take(symmetries) * there)[..., None, None]
        right = right[:, :, :rank, : channels * self.patch].astype(np.float32)
        n, k = rows.shape
        return left.reshape(n, k * rank, -1), right.reshape(n, k * rank, -1)


def factors(pack: Pack, scale: Scale) -> Factors:
    """Those of a pack, which keeps them."""
    if scale.scale not in pack.factors:
        pack.factors[scale.scale] = Factors(pack, scale)
    return pack.factors[scale.scale]


def multiplier(pack: Pack) -> ort.InferenceSession:
    """The session that multiplies codewords of a pack, opened once."""
    if pack.multiplier is None:
        pack.multiplier = open_session(pack, pack.codewords_graph, session_options(1))
    return pack.multiplier


def draw(pack: Pack, scale: Scale, plane: np.ndarray, rank: int, channels: int) -> np.ndarray:
    """The sums of the codewords of all patches, over 2^(FACTOR_BITS - PLANE_BITS), polyphase.

    plane: int64 (count, rows, columns, iterations); zeros follow the indices of a patch. channels: of the image.
    Returns float32 (count, 4 * F, rows * p / 2, columns * p / 2): channel 4 * c + 2 * phase in y + phase in x.
    """
    *grids, iterations = plane.shape
    p, half, channels = scale.patch, scale.patch // 2, scale.channels(channels)
    thin, indices = factors(pack, scale), plane.reshape(-1, iterations)
    depths = (indices > 0).view(np.uint8).sum(1, dtype=np.uint8)
    order = np.argsort(iterations - depths, kind="stable")[: np.count_nonzero(depths)]
    sums = np.zeros((len(indices), p, channels * p), np.float32)
    # Index 1 is the first codeword of its iteration.
    firsts = np.array(scale.starts) * scale.symmetries - 1
    at = 0
    while at < len(order):
        # The deepest patches first: those that are multiplied together are about as deep as the first of them.
        depth = int(depths[order[at]])
        some = order[at : at + max(1, NUMBERS // (depth * rank * (1 + channels) * p))]
        at += len(some)
        deep = indices.take(some, 0)[:, :depth]
        left, right = thin.take(deep + firsts[:depth], deep > 0, rank, channels)
        inputs, shape = {"left": left, "right": right}, (len(some), *sums.shape[1:])
        sums[some] = fetch(multiplier(pack), pack, "codewords", inputs, np.float32, shape)
    run = np.dtype((np.void, half * sums.itemsize))  # copied whole, several times faster than number by number
    patches = sums.reshape(len(sums), -1).view(run).reshape(*grids, 2, half, channels, 2)
    out = np.ascontiguousarray(patches.transpose(0, 5, 3, 6, 1, 4, 2)).view(np.float32)
    return out.reshape(grids[0], 4 * channels, grids[1] * half, grids[2] * half)
