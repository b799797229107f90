"""`lrq train`: images in, a model pack out.

Six stages, each with checkpoints in the work folder, so that an interrupted run goes on where it was: codebooks scale
by scale; the prediction of each scale from the coarser one; codebooks and bits of each rate band, all scales together;
transformer and smoothing, end to end; all that the decoder draws with, on its final error; tables.
Then the pack is written, tried, and takes its name.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..encoder.config import Config
from ..encoder.limits import memory_errors
from ..errors import LrqError, UsageError
from ..packs.pack import PackFolder, fingerprint
from . import ranks
from .check import check_pack
from .end_to_end import Model, fit_networks
from .images import digest, prepare
from .pack import TABLES, write_card, write_pack
from .prediction import fit_prediction
from .progress import Progress, part_of
from .refine import refine_codebooks
from .start import start_codebooks
from .tables import Tables, make_tables
from .tuning import tune_decoder
from .work import WorkFolder

STARTED, PREDICTED, REFINED, FITTED, TUNED = 0.1, 0.13, 0.7, 0.85, 0.95
"""How much of a whole run is done after each of the first five stages: measured, roughly, with the preset photo."""


def train(
    images: Iterable[np.ndarray],
    out: Path,
    *,
    config: Config,
    work: Path,
    seed: int = 0,
    progress: Progress,
    command: str = "lrcodec.training.run.train",
) -> None:
    """Train a model pack on images and write it to the folder `out`.

    images: uint8 (h, w) or (h, w, 3). If all are grey, so is the model. work: folder of checkpoints. A run with the
    same folder goes on where the last one stopped. progress: told many times how far the training is. command: what the
    card says that the pack was made with. Sets PyTorch's matmul precision and seed for the process.
    Raises UsageError, OSError, and MemoryError, also where PyTorch has another. Raises LrqError if the weights are not
    exact in the decoder's arithmetic, or if the pack does not do what it was trained to: then it stays in the work
    folder.
    Several processes that torchrun has started, within `ranks.joined`, train together, with the same images and the
    same work folder; the first makes the pack.
    """
    if out.exists() and not (out.is_dir() and ((out / TABLES).exists() or not any(out.iterdir()))):
        raise UsageError(f"{out} exists and is not a model pack")
    if config.batch < ranks.count():
        raise UsageError(f"{ranks.count()} processes cannot share batches of {config.batch} images: use fewer")
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")  # with "medium", some CPUs round to bfloat16
    images = list(images)
    config = config.fitted_to(max((max(image.shape[:2]) for image in images), default=0))
    images = prepare(images, config, seed)
    checkpoints = WorkFolder(work, {"config": asdict(config), "seed": seed, "images": digest(images)})
    with memory_errors():
        model, tables = _stages(images, config, checkpoints, seed, progress)
        if not ranks.first():
            return
        new = _make_pack(images, out.name, config, checkpoints, model, tables, command)
    _replace(out, new)
    progress(1.0, f"{out}: SHA-256 {fingerprint(PackFolder(out.name, out).blobs).hex()}")


def _stages(
    images: list[np.ndarray], config: Config, work: WorkFolder, seed: int, progress: Progress
) -> tuple[Model, Tables]:
    """All stages."""
    start = start_codebooks(config, images, work, seed, part_of(progress, 0.0, STARTED))
    predictors = fit_prediction(config, images, start, work, seed, part_of(progress, STARTED, PREDICTED))
    codebooks = refine_codebooks(config, images, start, predictors, work, seed, part_of(progress, PREDICTED, REFINED))
    model = fit_networks(config, images, codebooks, work, seed, part_of(progress, REFINED, FITTED))
    model = tune_decoder(config, images, model, work, seed, part_of(progress, FITTED, TUNED))
    return model, make_tables(config, images, model, work, seed, part_of(progress, TUNED, 1.0))


def _make_pack(
    images: list[np.ndarray],
    name: str,
    config: Config,
    work: WorkFolder,
    model: Model,
    tables: Tables,
    command: str,
) -> Path:
    """The folder of the pack, which has been tried, in the work folder."""
    new = work.path / "unchecked"
    if new.exists():
        shutil.rmtree(new)  # of a run that was interrupted, or whose pack was refused
    write_pack(new, config, model, tables)
    write_card(new, name, config, images, work.seconds, command)
    try:
        check_pack(new, images[len(images) // 2], model.networks.smoothing)
    except LrqError as error:
        raise LrqError(f"the pack is finished but does not work, so it stays in {new}: {error}") from error
    return new


def _replace(out: Path, new: Path) -> None:
    """Move a finished pack to `out`, whole or not at all. An older pack leaves it in one step."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".lrq-", dir=out.parent) as temporary:
        moved = shutil.move(new, Path(temporary, "new"))  # from another file system, perhaps
        if out.exists():
            os.replace(out, Path(temporary, "old"))
        os.replace(moved, out)
