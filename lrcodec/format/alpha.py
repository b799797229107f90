"""Alpha <-> the payload of its chunk, a zlib stream of filtered rows. SPEC.md, "Alpha", is the normative text.

>>> alpha = np.arange(6, dtype=np.uint8).reshape(2, 3)
>>> bool((AlphaReader(pack_alpha(alpha), 2, 3).read(2) == alpha).all())
True
"""

import zlib

import numpy as np

from ..errors import FormatError
from .inflate import Inflater

AXES = (None, 1, 0)
"""For each filter the axis along which the bytes are differences: none, left and up."""
SKIP_PIXELS = 2**20
"""How many pixels are held at a time where rows are skipped."""


def pack_alpha(alpha: np.ndarray) -> bytes:
    """The payload of an `A` chunk for alpha uint8 (height, width): the shortest that a filter gives."""
    rows = (alpha if axis is None else np.diff(alpha, axis=axis, prepend=np.uint8(0)) for axis in AXES)
    payloads = (bytes([number]) + zlib.compress(filtered.tobytes(), 9) for number, filtered in enumerate(rows))
    return min(payloads, key=len)


class AlphaReader:
    """The rows of an `A` chunk's alpha from top to bottom, in memory that does not grow with the image.

    Raises FormatError for a payload that is not that of a height x width image, as soon as reading comes to it.
    """

    def __init__(self, payload: bytes, height: int, width: int):
        if not payload or payload[0] >= len(AXES):
            raise FormatError("the alpha has no known filter")
        self.axis = AXES[payload[0]]
        self.rows_left, self.above = height, np.zeros((1, width), np.uint8)
        self.stream = Inflater(memoryview(payload)[1:], "alpha")

    def read(self, rows: int) -> np.ndarray:
        """The next rows, uint8 (rows, width). They must not be more than are left."""
        width = self.above.shape[1]
        data = self.stream.read(rows * width)
        if len(data) < rows * width:
            raise FormatError("the alpha has fewer pixels than the image")
        out = np.frombuffer(data, np.uint8).reshape(rows, width)
        if self.axis == 1:
            out = np.cumsum(out, 1, np.uint8)
        elif self.axis == 0:
            out = np.cumsum(np.concatenate([self.above, out]), 0, np.uint8)[1:]
        self.above = out[-1:]
        self.rows_left -= rows
        if not self.rows_left:
            self.stream.end()
        return out

    def skip(self, rows: int) -> None:
        """Leave out the next rows."""
        step = max(1, SKIP_PIXELS // self.above.shape[1])
        for start in range(0, rows, step):
            self.read(min(step, rows - start))


class OpaqueReader:
    """Stands for the alpha that an incomplete file lacks: 255 everywhere."""

    def __init__(self, height: int, width: int):
        self.rows_left, self.width = height, width

    def read(self, rows: int) -> np.ndarray:
        """As `AlphaReader.read`."""
        self.rows_left -= rows
        return np.full((rows, self.width), 255, np.uint8)

    def skip(self, rows: int) -> None:
        """As `AlphaReader.skip`."""
        self.rows_left -= rows
