"""The encoder's transformer: an image becomes, at every scale, the planes that quantization should aim at.

Its latents live in the space of the codewords, so that vector quantization compares them with codewords
directly. Where the last layer gives zeros the latents are the block means of the image; training moves
them to what decodes best after quantization, enlargement and smoothing (see training/end_to_end.py).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..format.grid import Scale
from .config import Config
from .convolutions import LEVELS, LIMIT, Convolutions, Integers, no_convolutions
from .pyramid import block_means, interpolate, shrink, to_pixels

CHANGE = 4.0
"""Levels that the head's unit stands for: small, so that the first steps of training do not overshoot."""


class Block(nn.Module):
    """Attention within windows of tokens, then an MLP, each added to its input (pre-norm)."""

    def __init__(self, width: int, heads: int, window: int, shift: bool):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, window // 2 if shift else 0
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        self.position = nn.Parameter(torch.zeros(heads, window * window, window * window))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, rows, columns, width) -> the same shape; rows and columns are multiples of the window."""
        x = x + self._attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        w, s = self.window, self.shift
        x = F.pad(x, (0, 0, s, s, s, s))
        b, rows, columns, width = x.shape
        tiles = x.reshape(b, rows // w, w, columns // w, w, width).transpose(2, 3)  # (b, r/w, c/w, w, w, width)
        qkv = self.qkv(tiles).reshape(-1, w * w, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (b * windows, heads, w * w, width / heads)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.position)
        y = self.out(y.transpose(1, 2).reshape(tiles.shape))
        y = y.transpose(2, 3).reshape(b, rows, columns, width)
        return y[:, s : rows - s, s : columns - s]


class Transformer(nn.Module):
    """Windowed vision transformer over tokens of one finest patch each."""

    def __init__(self, config: Config, channels: int):
        super().__init__()
        self.scales, self.channels = config.scales, channels
        self.token = config.scales[-1].span
        self.multiple = math.lcm(config.scales[0].span, self.token * config.window)
        self.sides = [max(1, self.token // s.scale) for s in config.scales]
        self.outputs = [s.channels(channels) * side**2 for s, side in zip(self.scales, self.sides, strict=True)]
        self.embed = nn.Linear(channels * self.token**2, config.width)
        self.quality = nn.Linear(2, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.window, shift=config.shift and i % 2 == 1)
            for i in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, sum(self.outputs))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, planes: torch.Tensor, lam: float) -> list[torch.Tensor]:
        """Latents of a batch of images.

        planes: float32 (b, C, h, w), sides multiples of `multiple`.
        Returns for each scale (b, its channels, h / s, w / s).
        """
        b, c, h, w = planes.shape
        t = self.token
        x = planes.reshape(b, c, h // t, t, w // t, t).permute(0, 2, 4, 1, 3, 5).reshape(b, h // t, w // t, -1)
        level = math.log(lam / 400.0) / 2
        x = self.embed(x / LEVELS) + self.quality(planes.new_tensor([level, level * level]))
        for block in self.blocks:
            x = block(x)
        changes = self.head(self.norm(x)).split(self.outputs, dim=-1)
        return [
            mean + CHANGE * self._place(change, scale, side)
            for scale, side, change, mean in zip(
                self.scales, self.sides, changes, block_means(planes, self.scales), strict=True
            )
        ]

    def _place(self, change: torch.Tensor, scale: Scale, side: int) -> torch.Tensor:
        """Make planes of a head's output: (b, rows, columns, channels * side^2) -> (b, channels, h / s, w / s)."""
        b, rows, columns, c = change.shape
        c //= side * side
        x = change.reshape(b, rows, columns, c, side, side).permute(0, 3, 1, 4, 2, 5)
        x = x.reshape(b, c, rows * side, columns * side)
        return shrink(x, max(1, scale.scale // self.token))

    @torch.no_grad()
    def latents(self, planes: torch.Tensor, lam: float, tile: int = 1024) -> list[torch.Tensor]:
        """`forward` for images (b, C, h, w) of any padded size, in tiles with a margin: memory stays bounded."""
        b, c, h, w = planes.shape
        out = [planes.new_empty(b, s.channels(c), h // s.scale, w // s.scale) for s in self.scales]
        for y in range(0, h, tile):
            for x in range(0, w, tile):
                top, left = max(0, y - self.multiple), max(0, x - self.multiple)
                part = planes[..., top : y + tile + self.multiple, left : x + tile + self.multiple]
                for scale, full, latent in zip(self.scales, out, self(part, lam), strict=True):
                    s = scale.scale
                    inner = latent[..., (y - top) // s :, (x - left) // s :]
                    place = full[..., y // s : (y + tile) // s, x // s : (x + tile) // s]
                    place.copy_(inner[..., : place.shape[-2], : place.shape[-1]])
        return out


class Smoothing(nn.Module):
    """Turns decoded planes into pixels: smooths them, interpolates chroma if needed, and converts colours.

    To smooth them, two convolutions compute what is added. They work at half
    resolution, on the four phases of the finest scale and, where that has no chroma, on the chroma of the scale before
    it. If hidden is 0 nothing is added.
    """

    def __init__(self, scales: tuple[Scale, ...], channels: int, hidden: int):
        super().__init__()
        self.channels, self.hidden = channels, hidden
        self.fine = scales[-1].channels(channels)
        self.inputs = scales[-1].smoothed(channels)
        self.change = Convolutions(self.inputs, hidden, self.inputs) if hidden else None

    def forward(self, finest: torch.Tensor, coarser: torch.Tensor | None) -> torch.Tensor:
        """Pixels - 128, float32 (b, C, h, w), of the finest scale (b, its channels, h, w).

        coarser: the scale before it, (b, C, h / 2, w / 2) or larger; needed if the finest has no chroma.
        """
        x = F.pixel_unshuffle(finest, 2)
        if coarser is not None and self.fine < self.channels:
            x = torch.cat([x, coarser[:, self.fine :, : x.shape[2], : x.shape[3]]], 1)
        x = x.clamp(-LIMIT, LIMIT)
        if self.change:
            x = (x + self.change(x)).clamp(-LIMIT, LIMIT)
        planes, chroma = F.pixel_shuffle(x[:, : 4 * self.fine], 2), x[:, 4 * self.fine :]
        return to_pixels(torch.cat([planes, interpolate(chroma)], 1) if chroma.shape[1] else planes)

    def integers(self) -> Integers:
        """The weights and biases, rounded to what the decoder has."""
        return self.change.integers() if self.change else no_convolutions(self.inputs, self.inputs)
