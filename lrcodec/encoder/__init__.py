"""The encode path: transformer, vector quantization, rate-distortion search. The only part that imports torch."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from .. import container, entropy, zoo
from ..container import GREY, RGB, Chunk, Header
from ..errors import LimitError, UnsupportedError, UsageError
from ..grid import Scale
from .config import Config
from .pyramid import pad, shrink, to_planes
from .quantizer import Quantizer
from .transformer import Transformer

EFFORTS = {0: (1,), 1: (1, 4), 2: (2, 8, 8)}
"""Beam width of each search pass: the first knows no contexts, each later one those of the pass before it.

Every pass tries every codeword at every step.
"""
BATCH_PIXELS = 2**20
"""Images of one shape are encoded together, up to this many pixels."""


class Encoder:
    """Encodes images with one model, kept loaded.

    model: name of a shipped or installed pack, or folder of another.
    device: auto (CUDA where there is one), cpu or cuda.
    Raises UnsupportedError if the model cannot be used, UsageError if the device is not there.
    """

    def __init__(self, model: str | Path = "photo", device: str = "auto"):
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("device cuda is not available")
        self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
        entry = zoo.find(model)
        self.pack = entry.load()
        self._quantizers: dict[tuple[int, int, int], Quantizer] = {}
        try:
            with safe_open(entry.path / "encoder.safetensors", "pt") as file:
                config = json.loads(file.metadata()["config"])
                weights = {key: file.get_tensor(key) for key in file.keys()}
            config["scales"] = tuple(
                Scale(s["scale"], s["patch"], tuple(s["codewords"]), s["shared"]) for s in config["scales"]
            )
            self.config = Config(**config)
            if self.config.scales != self.pack.scales:
                raise ValueError("encoder and decoder differ in their scales")
            prefix = "transformer."
            self.transformer = Transformer(self.config, self.pack.channels)
            self.transformer.load_state_dict({k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)})
            self.plain_bits = [
                [weights[f"bits{s.scale}_{i}"].to(self.device) for i in range(len(s.codewords))]
                for s in self.pack.scales
            ]
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise UnsupportedError(f"model {entry.name} has no usable encoder: {error}") from None
        self.transformer.to(self.device).eval()

    def encode(
        self,
        image: np.ndarray,
        quality: int = 50,
        rank: int | None = None,
        iterations: int | None = None,
        effort: int = 1,
        smoothing: bool = True,
        use_transformer: bool = True,
    ) -> bytes:
        """The bytes of a .lrq file.

        image: uint8 (height, width, 3) RGB or (height, width) grey, sides 1..65535.
        quality: 0..100. rank: 1 to the model's, None for the model's default. iterations: cap on the depth of
        every scale, None for none. effort: 0 transformer and one greedy pass, 1 and 2 with a search, see `EFFORTS`.
        smoothing: False leaves it out; a model without ignores this.
        use_transformer: False starts from block means instead of latents (for the ablation in the card).
        Raises UsageError or LimitError.
        """
        return self.encode_batch([image], quality, rank, iterations, effort, smoothing, use_transformer)[0]

    def encode_batch(
        self,
        images: Sequence[np.ndarray],
        quality: int = 50,
        rank: int | None = None,
        iterations: int | None = None,
        effort: int = 1,
        smoothing: bool = True,
        use_transformer: bool = True,
    ) -> list[bytes]:
        """`encode` of every image. Small images of one shape take a fraction of the time of one by one."""
        out = [b""] * len(images)
        alike: dict[Header, list[int]] = {}
        for number, image in enumerate(images):
            header = self._header(image, quality, rank, iterations, effort, smoothing)
            alike.setdefault(header, []).append(number)
        for header, numbers in alike.items():
            count = max(1, BATCH_PIXELS // (header.width * header.height))
            for start in range(0, len(numbers), count):
                batch = numbers[start : start + count]
                stack = np.stack([images[number] for number in batch])
                planes = self._search(stack, header, self.lam(quality), EFFORTS[effort], use_transformer)
                for number, payload in zip(batch, entropy.encode(planes, self.pack, header), strict=True):
                    out[number] = container.pack(header, [Chunk(container.INDICES, payload)])
        return out

    def lam(self, quality: int) -> float:
        """Squared error (8-bit levels, all channels) that one bit is worth at a quality."""
        return self.config.lam(quality / 100)

    def _header(
        self, image: np.ndarray, quality: int, rank: int | None, iterations: int | None, effort: int, smoothing: bool
    ) -> Header:
        if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3):
            raise UsageError(f"images are uint8 (height, width[, 3]), not {image.dtype} {image.shape}")
        if not 0 < min(image.shape[:2]) <= max(image.shape[:2]) <= 65535:
            raise LimitError(f"sides must be 1 to 65535 pixels, not {image.shape[1]} x {image.shape[0]}")
        if image.ndim == 3 and self.pack.channels == 1:
            raise UsageError(f"model {self.pack.name} knows grey images only")
        rank = self.config.default_rank if rank is None else rank
        deepest = max(len(s.codewords) for s in self.pack.scales)
        iterations = deepest if iterations is None else iterations
        for name, value, low, high in (
            ("quality", quality, 0, 100),
            ("rank", rank, 1, self.pack.rank),
            ("iterations", iterations, 1, 32),
            ("effort", effort, 0, max(EFFORTS)),
        ):
            if not low <= value <= high:
                raise UsageError(f"{name} must be {low} to {high}, not {value}")
        return Header(
            width=image.shape[1],
            height=image.shape[0],
            colour=GREY if image.ndim == 2 else RGB,
            rank=rank,
            iterations=min(iterations, deepest),
            band=self.config.band(quality / 100),
            smoothing=int(smoothing and self.config.smoothing > 0),
            model=self.pack.fingerprint,
        )

    @torch.no_grad()
    def _search(
        self, stack: np.ndarray, header: Header, lam: float, beams: tuple[int, ...], use_transformer: bool
    ) -> list[np.ndarray]:
        """Index planes of images uint8 (n, h, w[, 3]) of one shape."""
        planes = to_planes(stack.reshape(*stack.shape[:3], -1), self.device)
        padded = pad(planes, self.transformer.multiple)
        channels = planes.shape[1]
        if use_transformer:
            # A grey image has luma alone; the network may have been trained on three channels.
            colour = padded.new_zeros(len(padded), self.pack.channels, *padded.shape[2:])
            colour[:, :channels] = padded
            latents = [latent[:, :channels] for latent in self.transformer.latents(colour, lam)]
        else:
            latents = [shrink(padded, scale.scale) for scale in self.pack.scales]
        quantizer = self._quantizer(header, channels)
        size = header.height, header.width
        plain = [[b[header.band][None] for b in bits] for bits in self.plain_bits]
        indices = quantizer(latents, size, lam, plain, beams[0])
        by_class = [
            [torch.from_numpy(b).to(self.device) for b in tables.bits] for tables in entropy.tables(self.pack, header)
        ]
        for beam in beams[1:]:
            classes = entropy.contexts(indices, self.pack, header)
            indices = quantizer(latents, size, lam, by_class, beam, classes)
        return indices

    def _quantizer(self, header: Header, channels: int) -> Quantizer:
        key = header.rank, header.iterations, channels
        if key not in self._quantizers:
            factors = self.pack.factors(header.rank, channels)
            self._quantizers[key] = Quantizer.of_factors(self.pack.scales, factors, header.iterations, self.device)
        return self._quantizers[key]
