"""The work folder of a training: whose it is, and what its stages have kept there."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from safetensors.torch import load_file, save_file

from ..errors import UsageError
from ..files import write_file

Tensors = dict[str, torch.Tensor]


class Result(Protocol):
    """What a stage returns. A function beside it makes it of its tensors again."""

    def to_tensors(self) -> Tensors:
        """All of it, by name."""


Kept = TypeVar("Kept", bound=Result)


class WorkFolder:
    """A folder of checkpoints, made if it is not there.

    settings: whatever the checkpoints depend on, as JSON can hold it.
    Raises UsageError if the folder has the checkpoints of other settings, OSError if it cannot be written.
    """

    def __init__(self, path: Path, settings: dict):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        claim, text = path / "settings.json", json.dumps(settings)
        if not claim.exists():
            write_file(claim, text.encode())
        elif claim.read_text() != text:
            raise UsageError(f"{path} holds checkpoints of other images or settings: name another with --work")

    def keep(self, name: str, make: Callable[[], Kept], load: Callable[[Tensors], Kept]) -> Kept:
        """The result of a stage: loaded if an earlier run has kept it, else made and kept."""
        tensors = self.load(name)
        if tensors is None:
            start = time.perf_counter()
            tensors = make().to_tensors()
            # The time comes first, so that a checkpoint never lacks it.
            (self.path / f"{name}.seconds").write_text(f"{time.perf_counter() - start:.1f}\n")
            tensors = self.save(name, tensors)
        return load(tensors)

    def load(self, name: str) -> Tensors | None:
        """The tensors that were saved under a name, or None."""
        path = self.path / f"{name}.safetensors"
        return load_file(path) if path.exists() else None

    def save(self, name: str, tensors: Tensors) -> Tensors:
        """Save tensors under a name, whole or not at all. Returns them, contiguous."""
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        path = self.path / f"{name}.safetensors"
        save_file(tensors, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
        return tensors

    @property
    def seconds(self) -> float:
        """What the stages took, over all runs that shared the folder."""
        return sum(float(path.read_text()) for path in self.path.glob("*.seconds"))
