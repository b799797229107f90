"""The baseline of the paper, for measurement only: the VQ-VAE of Sonnet's example, in torch.

Architecture and settings are those of the example (van den Oord et al. 2017; 128 hiddens, 2 residual layers of 32,
embedding 64, exponential moving averages with decay 0.99, commitment 0.25). Its latent grid has a stride of 4;
`stride` 2 leaves out the second convolution that halves, and the one that doubles.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

HIDDEN, RESIDUAL, EMBEDDING = 128, 32, 64
DECAY, COMMITMENT = 0.99, 0.25
LEAST_COUNT = 0.2
"""Latents of a batch, on average, from which a codeword counts as used."""


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
    """Encoder, vector quantization with moving averages, decoder. Pixels are in [-0.5, 0.5].

    stride: pixels of a side for each latent, a power of two from 2 on. codewords: how many.
    """

    def __init__(self, channels: int, stride: int = 4, codewords: int = 512):
        super().__init__()
        self.stride, self.codewords = stride, codewords
        widths = [channels, 64, *[HIDDEN] * 8][: int(math.log2(stride)) + 1]
        halve: list[nn.Module] = []
        double: list[nn.Module] = []
        for outer, inner in zip(widths, widths[1:], strict=False):
            halve += [nn.Conv2d(outer, inner, 4, 2, 1), nn.ReLU()]
            double = [nn.ConvTranspose2d(inner, outer, 4, 2, 1), nn.ReLU(), *double]
        self.encoder = nn.Sequential(
            *halve, nn.Conv2d(widths[-1], HIDDEN, 3, padding=1), nn.ReLU(), Residuals(), nn.Conv2d(HIDDEN, EMBEDDING, 1)
        )
        double[0] = nn.ConvTranspose2d(HIDDEN, widths[-2], 4, 2, 1)
        self.decoder = nn.Sequential(nn.Conv2d(EMBEDDING, HIDDEN, 3, padding=1), Residuals(), *double[:-1])
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
        """(b, C, h, w) -> what is decoded, float32 of the same shape, and the commitment loss ().

        In training, codewords move too.
        """
        latents = self.encoder(pixels)
        with torch.no_grad():
            chosen = self.indices(latents)
        drawn = self.embeddings[chosen].movedim(-1, 1)
        if self.training:
            self._move(latents.detach().movedim(1, -1).flatten(0, 2), chosen.flatten())
        commitment = COMMITMENT * (latents - drawn).square().mean()
        return self.decoder(latents + (drawn - latents).detach()), commitment

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

    @torch.no_grad()
    def restart(self, pixels: torch.Tensor, random: torch.Generator) -> None:
        """Put the codewords that hardly any latent chooses where random latents of pixels (b, C, h, w) are."""
        dead = (self.counts < LEAST_COUNT).nonzero()[:, 0]
        latents = self.encoder(pixels).movedim(1, -1).flatten(0, 2)
        picked = latents[torch.randint(len(latents), (len(dead),), generator=random)]
        self.embeddings[dead], self.sums[dead], self.counts[dead] = picked, picked, 1.0

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
        with torch.no_grad():
            self.decoder(torch.zeros(1, EMBEDDING, height // self.stride, width // self.stride))
        for hook in hooks:
            hook.remove()
        return total / (height * width)
