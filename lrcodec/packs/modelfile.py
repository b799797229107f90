"""A pack's tables -> .lrqm, one flat file for decoders without NumPy. SPEC.md, "Model file", is the normative text."""

import hashlib
import struct
from collections.abc import Iterator

import numpy as np

from ..format.container import VERSION_BIT
from .pack import Pack
from .tablefile import CLUSTERS, MEMBERS, MODEL, PREDICTION, SCALE, SHAPES, SMOOTHING

SIGNATURE = b"LRM"
VERSION = 1
ALIGNMENT = 4
"""Arrays begin at multiples of so many bytes."""


def save(pack: Pack) -> bytes:
    """The .lrqm file of a pack. The same pack gives the same bytes."""
    out = bytearray(SIGNATURE + bytes([VERSION_BIT | VERSION]) + pack.fingerprint)
    for name in _order(pack):
        out += bytes(-len(out) % ALIGNMENT)
        array = pack.tables[name]
        out += struct.pack(f"<{array.ndim}I", *array.shape)
        out += np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    out += bytes(-len(out) % ALIGNMENT)
    return bytes(out + hashlib.sha256(out).digest())


def _order(pack: Pack) -> Iterator[str]:
    """The names of all arrays in the order of the file."""
    yield from (field.name for field in (*MODEL, *SMOOTHING))
    for scale in pack.scales:
        of_scale = (SHAPES, *(PREDICTION if scale != pack.scales[0] else ()), *SCALE)
        yield from (field.name.format(s=scale.scale) for field in of_scale)
        for i in range(len(scale.shapes)):
            yield from (field.name.format(s=scale.scale, i=i) for field in (CLUSTERS, MEMBERS))
