"""torch.utils.data: .lrq files as a dataset of tensors, decoded by the workers of a DataLoader.

loader = DataLoader(LrqFiles(sorted(folder.glob("*.lrq"))), batch_size=64, num_workers=2)
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LrqError
from ..files import naming
from .items import DecodeItems

if TYPE_CHECKING:
    import torch


def to_tensor(pixels: np.ndarray) -> "torch.Tensor":
    """The tensor of an image: uint8 (channels, height, width), as torchvision has it.

    pixels: uint8 (height, width[, 2 to 4]), as `lrcodec.decode` gives them.
    """
    import torch

    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).contiguous()


class LrqFiles:
    """A map-style dataset of .lrq files: uint8 tensors (channels, height, width), or what `transform` makes of them.

    A DataLoader asks for all images of a batch at once, and small ones of one size are decoded together, several times
    faster than one by one. settings: those of `items.DecodeItems`. A file that cannot be read or decoded raises OSError
    or LrqError with its name.
    """

    def __init__(
        self, paths: Sequence[Path], transform: Callable[["torch.Tensor"], Any] | None = None, **settings: Any
    ):
        self.paths, self.transform, self.items = paths, transform, DecodeItems(**settings)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The images of these indices, in their order."""
        paths = [self.paths[index] for index in indices]
        files = [path.read_bytes() for path in paths]
        tensors = map(to_tensor, self._decode(paths, files))
        return [self.transform(tensor) if self.transform else tensor for tensor in tensors]

    def _decode(self, paths: Sequence[Path], files: Sequence[bytes]) -> list[np.ndarray]:
        decoder, shrink = self.items.decoder, self.items.shrink
        try:
            return decoder.decode_batch(files, shrink)
        except LrqError:  # of one of them
            images = []
            for path, file in zip(paths, files, strict=True):
                with naming(str(path)):
                    images.append(decoder.decode(file, shrink))
            return images
