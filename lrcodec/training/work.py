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
from . import ranks

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
        if not claim.exists() and ranks.first():
            write_file(claim, text.encode())
        ranks.wait()
        if claim.read_text() != text:
            raise UsageError(f"{path} holds checkpoints of other images or settings: name another with --work")

    def keep(
        self, name: str, make: Callable[[], Kept], load: Callable[[Tensors], Kept], together: bool = False
    ) -> Kept:
        """The result of a stage: loaded if an earlier run has kept it, else made and kept.

        Of several processes, see `ranks`, the first makes it, or with `together` all do. The first keeps it.
        """
        kept = self.has(name)
        ranks.wait()  # until all have looked
        if not kept and (together or ranks.first()):
            start = time.perf_counter()
            tensors = make().to_tensors()
            if ranks.first():
                # The time comes first, so that a checkpoint never lacks it.
                (self.path / f"{name}.seconds").write_text(f"{time.perf_counter() - start:.1f}\n")
                self.save(name, tensors)
        ranks.wait()
        return load(self.load(name))

    def has(self, name: str) -> bool:
        """Whether tensors were saved under a name."""
        return self._file(name).exists()

    def load(self, name: str) -> Tensors:
        """The tensors that were saved under a name. Raises OSError if there are none."""
        return load_file(self._file(name))

    def save(self, name: str, tensors: Tensors) -> None:
        """Save tensors under a name, whole or not at all."""
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        path = self._file(name)
        save_file(tensors, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.safetensors"

    @property
    def seconds(self) -> float:
        """What the stages took, over all runs that shared the folder."""
        return sum(float(path.read_text()) for path in self.path.glob("*.seconds"))
