"""The end of a training: the folder of a new pack, with the decoder's tables and graphs, the encoder, and a card."""

import json
import platform
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from ..encoder.config import Config
from ..encoder.convolutions import tables_of
from ..packs import tablefile
from ..packs.pack import CARD, CODEWORDS, ENCODER
from . import export
from .end_to_end import Model
from .tables import Tables

TABLES = "tables.npz"


def write_pack(folder: Path, config: Config, model: Model, tables: Tables) -> None:
    """Write a pack but for its card. folder: must not exist."""
    folder.mkdir(parents=True)
    _write_graphs(folder, config, model)
    (folder / TABLES).write_bytes(_tables_file(config, model, tables))
    weights = {f"transformer.{key}": value for key, value in model.networks.transformer.state_dict().items()}
    weights = {key: value.contiguous() for key, value in (weights | tables.plain).items()}
    (folder / ENCODER).write_bytes(save(weights, {"config": json.dumps(asdict(config))}))


def _tables_file(config: Config, model: Model, tables: Tables) -> bytes:
    """tables.npz."""
    arrays = tablefile.describe(config.scales, model.networks.transformer.channels, config.bands)
    arrays |= model.codebooks.factors | model.codebooks.traits
    smoothing = zip(("w1", "b1", "w2", "b2"), model.smoothing_weights, strict=True)
    arrays |= {f"smooth_{name}": weights for name, weights in smoothing}
    arrays |= tables_of(model.codebooks.predictors, config.scales, model.networks.transformer.channels)
    return tablefile.save(arrays | tables.contexts)


def _write_graphs(folder: Path, config: Config, model: Model) -> None:
    """The decoder's graphs: grey and, if the model has it, in colour, each with and without smoothing; codewords."""
    (folder / CODEWORDS).write_bytes(export.build_codewords_graph())
    for channels, name in ((1, "grey"), (3, "rgb")):
        if channels > model.networks.transformer.channels:
            continue
        smoothing, predictions = model.smoothing_weights, model.codebooks.integer_predictors
        if channels < model.networks.transformer.channels:
            predictions, smoothing = export.grey_predictions(predictions), export.grey_smoothing(smoothing)
        (folder / f"decoder-{name}.onnx").write_bytes(export.build_graph(config.scales, channels, predictions, None))
        if config.smoothing:
            graph = export.build_graph(config.scales, channels, predictions, smoothing)
            (folder / f"decoder-{name}-smooth.onnx").write_bytes(graph)


def write_card(folder: Path, name: str, config: Config, images: list[np.ndarray], seconds: float, command: str) -> None:
    """Write the card of a pack: what it was trained on, how, and in which time."""
    megapixels = sum(image.shape[0] * image.shape[1] for image in images) / 1e6
    sizes = ", ".join(f"scale {s.scale}: {len(s.codewords)} iterations of patches of {s.patch}" for s in config.scales)
    (folder / CARD).write_text(
        f"# {name}\n\n"
        f"Trained on {len(images)} images ({megapixels:.1f} megapixels) with `{command}`.\n\n"
        "Licence: not stated: write here what the training images allow.\n\n"
        "Data: not stated: write here what the training images are.\n\n"
        f"- duration: {seconds / 60:.0f} minutes with {torch.get_num_threads()} threads ({platform.machine()}, "
        f"torch {torch.__version__})\n"
        f"- {sizes}\n"
        f"- transformer: width {config.width}, {config.blocks} blocks, {config.steps} steps\n",
        encoding="utf-8",
    )
