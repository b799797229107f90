"""Files of images, kept in the work folder: with the search of our encoder the data sets take hours."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..encoder import Encoder
from ..format import container
from ..packs.pack import PackFolder, fingerprint
from ..training.images import digest
from ..training.work import Tensors, WorkFolder


@dataclass(frozen=True)
class Files:
    """The bytes of .lrq files."""

    files: list[bytes]

    def to_tensors(self) -> Tensors:
        """All of it, by name."""
        joined = np.frombuffer(b"".join(self.files), np.uint8)
        return {"sizes": torch.tensor([len(file) for file in self.files]), "bytes": torch.tensor(joined)}

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> "Files":
        """The inverse of `to_tensors`."""
        parts = tensors["bytes"].split(tensors["sizes"].tolist())
        return cls([part.numpy().tobytes() for part in parts])


def kept_files(
    folder: Path, pack: PackFolder, encoder: Encoder, images: list[np.ndarray], quality: int, effort: int
) -> list[bytes]:
    """Files of images at a quality and an effort, tuned for PSNR, from an earlier run if there was one.

    folder: of a data set, in the work folder. encoder: of the pack. Raises UsageError as `WorkFolder`.
    """
    claim = {"images": digest(images), "version": container.VERSION}
    work = WorkFolder(folder / f"{pack.name}-{fingerprint(pack.blobs).hex()[:8]}-effort-{effort}", claim)

    def encode() -> Files:
        return Files(encoder.encode_batch(images, quality, effort=effort, tune="psnr"))

    return work.keep(f"quality-{quality}", encode, Files.from_tensors).files
