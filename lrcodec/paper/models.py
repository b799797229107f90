"""The models that the suite trains: what is turned, and where each is kept, so that a training can go on."""

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..training.images import digest
from ..training.presets import paper
from ..training.run import train
from ..training.work import WorkFolder
from .baseline_training import Trained, train_baseline

EPOCHS, SHORT = 50, 10
"""How often each image is seen: by the baselines and the base of the paper's form, and while a knob is turned."""
BASE = {"patch": 8, "iterations": 4, "codewords": 512, "rank": 2, "smoothing": 16}
KNOBS = {
    "rank": (1, 2, 4),
    "iterations": (1, 2, 4),
    "patch": (4, 8, 16),
    "smoothing": (0, 4, 16),
    "codewords": (128, 512, 2048),
}
"""Values of the settings of the paper's model. Each setting is varied alone, the others stay as in `BASE`, which is
trained for as short beside them."""
BASELINES = ((4, 512), (4, 64), (2, 512))
"""Stride and codewords of the baseline: two rates, and a deeper latent grid."""

Progress = Callable[[str], None]


class Data(NamedTuple):
    """A data set: its name, and its images, uint8 (n, h, w, 3), or (n, h, w) if they are grey."""

    name: str
    training: np.ndarray
    test: np.ndarray

    @property
    def side(self) -> int:
        """Pixels of a side."""
        return self.test.shape[1]


class Setting(NamedTuple):
    """A model to train. model: paper or vq-vae. name: of the setting. knobs: their values. epochs: of the training."""

    model: str
    name: str
    knobs: dict[str, int]
    epochs: int

    @property
    def folder(self) -> str:
        """Name of the folder that the model is kept in, such as vq-vae-stride-4-K-512."""
        return f"{self.model} {self.name}".replace(",", "").replace(" ", "-")


def settings(dataset: str) -> Iterator[Setting]:
    """All models to train on a data set: the paper's base, every knob's other values, and the baselines."""
    largest = 14 if dataset == "mnist" else 16
    yield Setting("paper", "base", BASE, EPOCHS)
    yield Setting("paper", f"base, {SHORT} epochs", BASE, SHORT)
    for knob, values in KNOBS.items():
        for value in values:
            value = min(value, largest) if knob == "patch" else value
            if value != BASE[knob]:
                yield Setting("paper", f"{knob} {value}", BASE | {knob: value}, SHORT)
    for stride, codewords in BASELINES:
        yield Setting("vq-vae", f"stride {stride}, K {codewords}", {"stride": stride, "codewords": codewords}, EPOCHS)


def train_matching(pattern: str, sets: Sequence[Data], work: Path, seed: int, progress: Progress) -> None:
    """Train the models whose folders match a pattern of the shell. Raises UsageError if none does."""
    wanted = [(one, s) for one in sets for s in settings(one.name) if fnmatchcase(s.folder, pattern)]
    if not wanted:
        names = dict.fromkeys(s.folder for one in sets for s in settings(one.name))
        raise UsageError(f"no model is called {pattern}: there are {', '.join(names)}")
    for data, setting in wanted:
        (paper_pack if setting.model == "paper" else baseline)(data, setting, work, seed, progress)


def paper_pack(data: Data, setting: Setting, work: Path, seed: int, progress: Progress) -> Path:
    """The pack of a model of the paper's form, trained unless `work` holds it. Raises UsageError as `WorkFolder`."""
    folder = _claimed(data, setting, work, seed)
    pack = folder / "pack"
    if not (pack / "tables.npz").exists():
        config = paper(data.side, len(data.training), setting.epochs, **setting.knobs, mirror=data.name != "mnist")
        line = _line(data, setting, progress)
        train(data.training, pack, config=config, work=folder / "checkpoints", seed=seed, progress=line)
    return pack


def baseline(data: Data, setting: Setting, work: Path, seed: int, progress: Progress) -> Trained:
    """A baseline, trained unless `work` holds it. Raises UsageError as `WorkFolder`."""
    folder = _claimed(data, setting, work, seed)
    line = _line(data, setting, progress)
    return train_baseline(
        data.training, data.test, **setting.knobs, epochs=setting.epochs, seed=seed, work=folder, progress=line
    )


def folder_of(data: Data, setting: Setting, work: Path) -> Path:
    """Where a model is kept."""
    return work / data.name / setting.folder


def _claimed(data: Data, setting: Setting, work: Path, seed: int) -> Path:
    """The folder of a model, which holds that of no other images, such as fewer, or settings."""
    claim = {"knobs": setting.knobs, "epochs": setting.epochs, "seed": seed, "images": digest([data.training])}
    return WorkFolder(folder_of(data, setting, work), claim).path


def _line(data: Data, setting: Setting, progress: Progress) -> Callable[[float, str], None]:
    return lambda share, line: progress(f"{data.name} {setting.folder} {share:.0%} {line}")
