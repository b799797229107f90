"""Trains the baseline until it gets no better, and codes images with it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..training.descent import Descent
from ..training.presets import BATCH
from .baseline import Vqvae

RATE = 1e-3
"""Peak of the learning rate, of which the training is one cycle."""
CROP, CROPPED = 32, 0.9
"""In this share of the epochs, the first ones, images are cropped to so many pixels of a side at most, elsewhere in
every step: large ones take less time. The last epochs see them whole, with their edges."""
RESTARTED = 0.8
"""Share of the epochs, the first ones, that put codewords elsewhere which hardly anything chooses."""
RESTART_STEPS = 20
"""Steps from one such time to the next."""
WATCHED = 512
"""Test images that each epoch is measured on, at most: for the curve alone, nothing is chosen by it."""


@dataclass(frozen=True)
class Epoch:
    """One row of a loss curve.

    loss: of the training, mean squared error / variance of the pixels + commitment. mse: on test images, pixels in
    [0, 1]. usage: share of the codewords that these take.
    """

    epoch: int
    loss: float
    mse: float
    usage: float


class Trained(NamedTuple):
    """A baseline that was trained, and its curve."""

    model: Vqvae
    curve: list[Epoch]


def train_baseline(
    images: np.ndarray,
    test: np.ndarray,
    *,
    stride: int,
    codewords: int,
    epochs: int,
    seed: int,
    work: Path,
    progress: Callable[[float, str], None],
) -> Trained:
    """Train on uint8 images (n, h, w[, 3]), or go on from where an earlier run with the folder `work` stopped.

    test: images that the curve is measured on.
    """
    torch.manual_seed(seed)
    work.mkdir(parents=True, exist_ok=True)
    weights, curve_file, state_file = work / "weights.safetensors", work / "curve.json", work / "state.pt"
    model = Vqvae(1 if images.ndim == 3 else 3, stride, codewords)
    if weights.exists():
        model.load_state_dict(load_file(weights))
        return Trained(model.eval(), [Epoch(**row) for row in json.loads(curve_file.read_text())])
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = -(-len(images) // BATCH)
    descent = Descent(list(model.parameters()), RATE, epochs * steps)
    curve: list[Epoch] = []
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        descent.load(state["descent"])
        curve = [Epoch(**row) for row in state["curve"]]
    variance = (images[:: max(1, len(images) // 2000)] / 255.0).var()
    for epoch in range(len(curve), epochs):
        model.train()
        restart = epoch < RESTARTED * epochs
        crop = CROP if epoch < CROPPED * epochs else max(images.shape[1:3])
        loss = _train_epoch(model, descent, images, variance, restart, crop, np.random.default_rng((seed, epoch)))
        chosen, decoded = code(model, test[:WATCHED])
        error = float(np.mean(((decoded.astype(np.float32) - test[:WATCHED]) / 255) ** 2))
        curve.append(Epoch(epoch + 1, loss, error, len(np.unique(chosen)) / codewords))
        rows = [asdict(row) for row in curve]
        state = {"model": model.state_dict(), "descent": descent.state(), "curve": rows}
        torch.save(state, state_file.with_suffix(".tmp"))
        state_file.with_suffix(".tmp").replace(state_file)
        progress((epoch + 1) / epochs, f"epoch {epoch + 1}/{epochs}: loss {loss:.4f}, test MSE {error:.2e}")
    curve_file.write_text(json.dumps([asdict(row) for row in curve]))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights.with_suffix(".tmp"))
    weights.with_suffix(".tmp").replace(weights)
    state_file.unlink(missing_ok=True)
    return Trained(model.eval(), curve)


def _train_epoch(
    model: Vqvae,
    descent: Descent,
    images: np.ndarray,
    variance: float,
    restart: bool,
    crop: int,
    random: np.random.Generator,
) -> float:
    """One pass over all images, in random order, of `crop` x `crop` pixels at most. Returns the mean loss."""
    losses = []
    picks = torch.Generator().manual_seed(int(random.integers(2**31)))
    order = random.permutation(len(images))
    for number, start in enumerate(range(0, len(order), BATCH)):
        top, left = (int(random.integers(max(0, side - crop) + 1)) for side in images.shape[1:3])
        pixels = _pixels(images[order[start : start + BATCH], top : top + crop, left : left + crop])
        decoded, commitment = model(pixels)
        loss = (decoded - pixels).square().mean() / variance + commitment
        descent.step(loss)
        losses.append(loss.item())
        if restart and number % RESTART_STEPS == RESTART_STEPS - 1:
            model.restart(pixels, picks)
    return float(np.mean(losses))


def code_lengths(model: Vqvae, images: np.ndarray) -> np.ndarray:
    """Bits of every index, float64 (codewords,): the ideal code length under their frequencies in uint8 images."""
    counts = np.full(model.codewords, 0.5)
    np.add.at(counts, code(model, images)[0].ravel(), 1)
    return -np.log2(counts / counts.sum())


def _pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w[, 3]) -> float32 (n, C, h, w) in [-0.5, 0.5]."""
    pixels = torch.tensor(images.reshape(*images.shape[:3], -1)).permute(0, 3, 1, 2).float() / 255 - 0.5
    return pixels.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def code(model: Vqvae, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices int64 (n, h, w) and decoded images, of uint8 images (n, h, w[, 3])."""
    model.eval()
    indices, decoded = [], []
    for start in range(0, len(images), 128):
        chosen = model.indices(model.encoder(_pixels(images[start : start + 128])))
        pixels = model.decoder(model.embeddings[chosen].movedim(-1, 1))
        indices.append(chosen.numpy())
        decoded.append(((pixels + 0.5) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(indices), np.concatenate(decoded).reshape(images.shape)
