"""Trains the baseline until it gets no better, and codes images with it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..training import ranks
from ..training.descent import Descent
from ..training.presets import BATCH
from .baseline import Vqvae

RATE = 1e-3
"""Peak of the learning rate, of which the training is one cycle."""
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
    device = ranks.device()
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = -(-len(images) // BATCH)
    descent = Descent(list(model.parameters()), RATE, epochs * steps)
    curve: list[Epoch] = []
    if state_file.exists():
        state = torch.load(state_file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        descent.load(state["descent"])
        curve = [Epoch(**row) for row in state["curve"]]
    variance = (images[:: max(1, len(images) // 2000)] / 255.0).var()
    pixels = torch.tensor(images, device=device)
    for epoch in range(len(curve), epochs):
        model.train()
        restart = epoch < RESTARTED * epochs
        loss = _train_epoch(model, descent, pixels, variance, restart, torch.Generator().manual_seed(seed + epoch))
        chosen, decoded = code(model, test[:WATCHED])
        error = float(np.mean(((decoded.astype(np.float32) - test[:WATCHED]) / 255) ** 2))
        curve.append(Epoch(epoch + 1, loss, error, len(np.unique(chosen)) / codewords))
        rows = [asdict(row) for row in curve]
        state = {"model": model.state_dict(), "descent": descent.state(), "curve": rows}
        torch.save(state, state_file.with_suffix(".tmp"))
        state_file.with_suffix(".tmp").replace(state_file)
        progress((epoch + 1) / epochs, f"epoch {epoch + 1}/{epochs}: loss {loss:.4f}, test MSE {error:.2e}")
    curve_file.write_text(json.dumps([asdict(row) for row in curve]))
    model.to(torch.device("cpu"))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights.with_suffix(".tmp"))
    weights.with_suffix(".tmp").replace(weights)
    state_file.unlink(missing_ok=True)
    return Trained(model.eval(), curve)


def _train_epoch(
    model: Vqvae, descent: Descent, images: torch.Tensor, variance: float, restart: bool, random: torch.Generator
) -> float:
    """One pass over all images, uint8 (n, h, w[, 3]), in random order. Returns the mean loss."""
    losses = []
    order = torch.randperm(len(images), generator=random).to(images.device)
    for number, batch in enumerate(order.split(BATCH)):
        pixels = _pixels(images[batch])
        decoded, commitment = model(pixels)
        loss = (decoded - pixels).square().mean() / variance + commitment
        descent.step(loss)
        losses.append(loss.detach())
        if restart and number % RESTART_STEPS == RESTART_STEPS - 1:
            model.restart(pixels, random)
    return torch.stack(losses).mean().item()


def code_lengths(model: Vqvae, images: np.ndarray) -> np.ndarray:
    """Bits of every index, float64 (codewords,): the ideal code length under their frequencies in uint8 images."""
    counts = np.full(model.codewords, 0.5)
    np.add.at(counts, code(model, images)[0].ravel(), 1)
    return -np.log2(counts / counts.sum())


def _pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 (n, h, w[, 3]) -> float32 (n, C, h, w) in [-0.5, 0.5]."""
    pixels = images.reshape(*images.shape[:3], -1).permute(0, 3, 1, 2).float() / 255 - 0.5
    return pixels.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def code(model: Vqvae, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices int64 (n, h, w) and decoded images, of uint8 images (n, h, w[, 3])."""
    model.eval()
    indices, decoded = [], []
    for start in range(0, len(images), 128):
        pixels = torch.tensor(images[start : start + 128], device=model.embeddings.device)
        chosen = model.indices(model.encoder(_pixels(pixels)))
        pixels = model.decoder(model.embeddings[chosen].movedim(-1, 1))
        indices.append(chosen.cpu().numpy())
        decoded.append(((pixels + 0.5) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(indices), np.concatenate(decoded).reshape(images.shape)
