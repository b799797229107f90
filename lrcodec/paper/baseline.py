"""The baseline of the paper, for measurement only: the VQ-VAE of Sonnet's example, in torch.

Architecture and settings are those of the example (van den Oord et al. 2017; 128 hiddens, 2 residual layers of 32,
embedding 64, exponential moving averages with decay 0.99, commitment 0.25, Adam at 3e-4, loss = MSE / data
variance). `stride` 8 halves the latent once more, with one more convolution on either side.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

HIDDEN, RESIDUAL, EMBEDDING = 128, 32, 64
DECAY, COMMITMENT, LEARNING_RATE = 0.99, 0.25, 3e-4


class Residuals(nn.Module):
    """Two residual layers: ReLU, 3x3, ReLU, 1x1, added; then a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.ModuleList(nn.Conv2d(HIDDEN, RESIDUAL, 3, padding=1) for _ in range(2))
        self.back = nn.ModuleList(nn.Conv2d(RESIDUAL, HIDDEN, 1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for wide, back in zip(self.wide, self.back, strict=True):
            x = x + back(F.relu(wide(F.relu(x))))
        return F.relu(x)


class Vqvae(nn.Module):
    """Encoder, vector quantization with moving averages, decoder. Pixels are in [-0.5, 0.5]."""

    def __init__(self, channels: int, stride: int = 4, codewords: int = 512):
        super().__init__()
        self.stride, self.codewords = stride, codewords
        halve = [nn.Conv2d(channels, 64, 4, 2, 1), nn.ReLU(), nn.Conv2d(64, HIDDEN, 4, 2, 1), nn.ReLU()]
        double: list[nn.Module] = [nn.ConvTranspose2d(HIDDEN, 64, 4, 2, 1), nn.ReLU()]
        for _ in range(int(math.log2(stride)) - 2):
            halve += [nn.Conv2d(HIDDEN, HIDDEN, 4, 2, 1), nn.ReLU()]
            double = [nn.ConvTranspose2d(HIDDEN, HIDDEN, 4, 2, 1), nn.ReLU(), *double]
        self.encoder = nn.Sequential(
            *halve, nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1), nn.ReLU(), Residuals(), nn.Conv2d(HIDDEN, EMBEDDING, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(EMBEDDING, HIDDEN, 3, padding=1), Residuals(), *double, nn.ConvTranspose2d(64, channels, 4, 2, 1)
        )
        embeddings = torch.empty(codewords, EMBEDDING).uniform_(-1, 1) * math.sqrt(3 / EMBEDDING)
        self.embeddings: torch.Tensor
        self.counts: torch.Tensor
        self.sums: torch.Tensor
        self.register_buffer("embeddings", embeddings)
        self.register_buffer("counts", torch.ones(codewords))
        self.register_buffer("sums", embeddings.clone())

    def indices(self, latents: torch.Tensor) -> torch.Tensor:
        """Nearest codewords: (b, EMBEDDING, h, w) -> int64 (b, h, w)."""
        flat = latents.movedim(1, -1)
        scores = flat @ (-2 * self.embeddings.T) + self.embeddings.square().sum(1)
        return scores.argmin(-1)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, C, h, w) -> what is decoded, float32 of the same shape, and the commitment loss ()."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training):
            latents = self.encoder(pixels)
        latents = latents.float()
        with torch.no_grad():
            chosen = self.indices(latents)
        drawn = self.embeddings[chosen].movedim(-1, 1)
        if self.training:
            self._move(latents.detach().movedim(1, -1).flatten(0, 2), chosen.flatten())
        commitment = COMMITMENT * (latents - drawn).square().mean()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training):
            decoded = self.decoder(latents + (drawn - latents).detach())
        return decoded.float(), commitment

    @torch.no_grad()
    def _move(self, latents: torch.Tensor, chosen: torch.Tensor) -> None:
        """Codewords follow the moving average of the latents that chose them, with Laplace smoothing of the counts."""
        counts = torch.bincount(chosen, minlength=self.codewords).float()
        sums = torch.zeros_like(self.sums).index_add_(0, chosen, latents)
        self.counts.lerp_(counts, 1 - DECAY)
        self.sums.lerp_(sums, 1 - DECAY)
        total = self.counts.sum()
        smoothed = (self.counts + 1e-5) / (total + self.codewords * 1e-5) * total
        self.embeddings.copy_(self.sums / smoothed[:, None])

    def decoder_macs(self, height: int, width: int) -> float:
        """Multiply-accumulates per pixel of the decoder."""
        total = 0

        def count(module: nn.Module, _, output: torch.Tensor) -> None:
            nonlocal total
            if isinstance(module, nn.ConvTranspose2d):
                # Each input meets every weight once.
                total += module.weight.numel() * output[0, 0].numel() // module.stride[0] ** 2
            elif isinstance(module, nn.Conv2d):
                total += module.weight.numel() * output[0, 0].numel()

        hooks = [module.register_forward_hook(count) for module in self.decoder.modules()]
        self.decoder(torch.zeros(1, EMBEDDING, height // self.stride, width // self.stride))
        for hook in hooks:
            hook.remove()
        return total / (height * width)


@dataclass(frozen=True)
class Measured:
    """What the baseline does on test images.

    indices: int64 (n, h, w). decoded: uint8 images. macs: per pixel. bits: mean over the images of the ideal code
    length of their indices under the training images' frequencies.
    """

    indices: np.ndarray
    decoded: np.ndarray
    macs: float
    bits: float


def train_and_measure(
    images: np.ndarray,
    test: np.ndarray,
    *,
    stride: int,
    codewords: int,
    steps: int,
    batch: int,
    seed: int,
    checkpoint: Path,
    progress: Callable[[float, str], None],
) -> Measured:
    """Train on uint8 images (n, h, w[, 3]), or load `checkpoint`, and measure on `test`."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = Vqvae(1 if images.ndim == 3 else 3, stride, codewords)
    if checkpoint.exists():
        model.load_state_dict(load_file(checkpoint))
    else:
        optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        variance = (images[:: max(1, len(images) // 2000)] / 255.0).var()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for step in range(steps):
            pixels = _pixels(images[random.integers(0, len(images), batch)])
            decoded, commitment = model(pixels)
            loss = (decoded - pixels).square().mean() / variance + commitment
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if (step + 1) % 100 == 0:
                progress((step + 1) / steps, f"step {step + 1}/{steps}: loss {loss.item():.4f}")
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, checkpoint)
    model.eval()
    counts = np.full(codewords, 0.5)
    np.add.at(counts, _code(model, images[:: max(1, len(images) // 2048)])[0].ravel(), 1)
    indices, decoded = _code(model, test)
    bits = -np.log2(counts / counts.sum())[indices].sum() / len(test)
    return Measured(indices, decoded, model.decoder_macs(*test.shape[1:3]), float(bits))


def _pixels(images: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(images.reshape(*images.shape[:3], -1)).permute(0, 3, 1, 2).float() / 255 - 0.5
    return pixels.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _code(model: Vqvae, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices int64 (n, h, w) and decoded images, of uint8 images (n, h, w[, 3])."""
    indices, decoded = [], []
    for start in range(0, len(images), 128):
        chosen = model.indices(model.encoder(_pixels(images[start : start + 128])))
        pixels = model.decoder(model.embeddings[chosen].movedim(-1, 1))
        indices.append(chosen.numpy())
        decoded.append(((pixels + 0.5) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(indices), np.concatenate(decoded).reshape(images.shape)
