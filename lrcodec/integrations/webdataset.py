"""webdataset: what `WebDataset.decode` calls for the .lrq files of a shard. This needs no PyTorch of its own.

    samples = webdataset.WebDataset("faces-{000..099}.tar").decode(Decode()).to_tuple("lrq", "cls")

To write shards takes nothing more: `webdataset.TarWriter` stores bytes as they are, {"__key__": "one", "lrq": data}.
"""

from typing import Any

import numpy as np

from .items import DecodeItems


class Decode:
    """A decode handler for members whose names end in .lrq, such as `0001.lrq` or `0001.left.lrq`.

    settings: those of `items.DecodeItems`. A file that cannot be decoded raises LrqError, which webdataset ends with,
    unless it is told otherwise: `.decode(Decode(), handler=webdataset.warn_and_continue)`.
    """

    def __init__(self, **settings: Any):
        self.items = DecodeItems(**settings)

    def __call__(self, name: str, data: bytes) -> np.ndarray | None:
        """The pixels, uint8 (height, width[, 2 to 4]); None for members that are no .lrq files."""
        return self.items.decoder.decode(data, self.items.shrink) if name.endswith(".lrq") else None
