"""The encode path: transformer, vector quantization, rate-distortion search. The only part that imports torch."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load

from .. import entropy
from ..errors import LimitError, LrqError, UnsupportedError, UsageError
from ..format import container
from ..format.alpha import pack_alpha
from ..format.container import GREY, RGB, Chunk, Header
from ..format.grid import Scale
from ..format.metadata import NO_METADATA, Metadata, pack_metadata
from ..packs import store
from ..packs.kept import Kept
from ..runtime import give_back, large_arrays_apart
from . import visibility
from .config import Config
from .convolutions import on_device, predictors_of
from .limits import memory_errors, torch_threads
from .mending import importance
from .pyramid import block_means, pad, to_planes
from .quantizer import Quantizer
from .rates import Rates
from .search import Labels
from .transformer import Transformer
from .windows import windows_of

EFFORTS = {0: ((1, 1),), 1: ((1, 1), (8, 4)), 2: ((2, 1), (16, 16))}
"""Of each search pass the beam width, and how many codings of a patch are tried on the next finer scale.

The first pass knows no contexts, each later one those of the pass before it. All try every codeword at every step.
"""
DEVICES = ("auto", "cpu", "cuda")
TUNINGS = ("eye", "psnr")
"""What the search aims at: little error where it is seen (see visibility.py), or little squared error everywhere."""
BATCH_PIXELS = 2**20
"""Images of one shape are encoded together, up to this many pixels."""
QUANTIZER_BYTES = 2**28
"""So many bytes of codebooks are kept, whatever ranks and colours images ask for: enough for any shipped pack."""

Progress = Callable[[float], object]
"""Told what share of an image is done, 0..1."""


class Search(NamedTuple):
    """How indices are chosen. quality: 0..100. passes: see `EFFORTS`. tune, use_transformer: as in `encode`."""

    quality: float
    passes: tuple[tuple[int, int], ...]
    tune: str
    use_transformer: bool


class Encoder:
    """Encodes images with one model, kept loaded.

    model: name of a shipped or installed pack, or folder of another.
    device: auto (CUDA where there is one), cpu or cuda.
    threads: of PyTorch while it encodes. 0: as many as it has anyway, as a rule one for each processor.
    Raises UnsupportedError if the model cannot be used, UsageError if the device is unknown or not available.
    """

    def __init__(self, model: str | Path = "photo", device: str = "auto", threads: int = 0):
        if device not in DEVICES:
            raise UsageError(f"device {device} is not known: use one of {', '.join(DEVICES)}")
        if threads < 0:
            raise UsageError(f"threads must be 0 or more, not {threads}")
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("device cuda is not available")
        self.threads = threads
        self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
        entry = store.find(model)
        self.pack = entry.load()
        self._quantizers = Kept(QUANTIZER_BYTES)
        try:
            weights = load(entry.encoder)
            config = _metadata(entry.encoder)
            config["scales"] = tuple(Scale(**s | {"shapes": tuple(s["shapes"])}) for s in config["scales"])
            # Settings of training alone come and go between versions of this program.
            self.config = Config(**{field.name: config[field.name] for field in fields(Config) if field.name in config})
            described = self.config.scales, self.config.bands, self.config.smoothing
            if described != (self.pack.scales, self.pack.bands, len(self.pack.tables["smooth_w1"])):
                raise ValueError("encoder and decoder differ in their scales, rate bands or smoothing")
            prefix = "transformer."
            self.transformer = Transformer(self.config, self.pack.channels)
            self.transformer.load_state_dict({k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)})
            self.rates = Rates(self.pack, self.config, weights, self.device)
        except (LrqError, MemoryError):
            raise
        except Exception as error:  # a damaged file can raise nearly any kind, from torch and safetensors too
            raise UnsupportedError(f"model {entry.name} has no usable encoder: {error}") from None
        self.transformer.to(self.device).eval()

    def encode(
        self,
        image: np.ndarray,
        quality: float = 50,
        rank: int | None = None,
        iterations: int | None = None,
        effort: int = 1,
        tune: str = "eye",
        smoothing: bool = True,
        use_transformer: bool = True,
        metadata: Metadata = NO_METADATA,
    ) -> bytes:
        """The bytes of a .lrq file.

        image: uint8 (height, width) grey or (height, width, 3) RGB; or, with alpha as the last channel,
        (height, width, 2) or (height, width, 4). Its sides are 1..65535 pixels. Alpha is kept without loss.
        quality: 0..100, also fractions. rank: 1 to the model's; None for the model's default. iterations: cap on the
        depth of every scale; None for no cap. effort: 0 for one greedy pass, 1 or 2 for a search after it, see
        `EFFORTS`. tune: eye or psnr, see `TUNINGS`.
        smoothing: False leaves it out. A model without smoothing ignores this.
        use_transformer: False starts from block means instead of latents (for the ablation in the card).
        metadata: what the file carries beside the pixels.
        Raises UsageError or LimitError; MemoryError, also for that of the GPU.
        """
        return self.encode_batch(
            [image], quality, rank, iterations, effort, tune, smoothing, use_transformer, [metadata]
        )[0]

    def encode_batch(
        self,
        images: Sequence[np.ndarray],
        quality: float = 50,
        rank: int | None = None,
        iterations: int | None = None,
        effort: int = 1,
        tune: str = "eye",
        smoothing: bool = True,
        use_transformer: bool = True,
        metadata: Sequence[Metadata] | None = None,
        progress: Progress = lambda share: None,
    ) -> list[bytes]:
        """The bytes of a .lrq file for every image, see `encode`. Small images of one shape are faster together.

        metadata: of every image; None for none. progress: told several times what share of a large image is done.
        """
        if tune not in TUNINGS:
            raise UsageError(f"tune must be {' or '.join(TUNINGS)}, not {tune!r}")
        out = [b""] * len(images)
        alike: dict[Header, list[int]] = {}
        extras: list[list[Chunk]] = []
        for number, (image, given) in enumerate(zip(images, metadata or [NO_METADATA] * len(images), strict=True)):
            header = self._header(image, quality, rank, iterations, effort, smoothing)
            alike.setdefault(header, []).append(number)
            alpha = [Chunk(container.ALPHA, pack_alpha(image[..., -1]))] if header.alpha else []
            extras.append(pack_metadata(given) + alpha)
        # Where the band changes, the two of them code about as well: always the one that takes fewer bytes.
        bands = sorted(set(self.config.bands_around(quality / 100)[:2]))
        for header, numbers in alike.items():
            headers = [replace(header, band=band) for band in bands]
            count = max(1, BATCH_PIXELS // (header.width * header.height))
            for start in range(0, len(numbers), count):
                batch = numbers[start : start + count]
                pictures = [_colours(images[number]) for number in batch]
                stack = np.stack(pictures) if len(batch) > 1 else pictures[0][None]
                with memory_errors(), torch_threads(self.threads):
                    search = Search(quality, EFFORTS[effort], tune, use_transformer)
                    strips = self._strips(stack, header, search, progress)
                    coded = [[entropy.encode(planes, self.pack, one) for one in headers] for planes in strips]
                for at, number in enumerate(batch):
                    files = []
                    for one, payloads in zip(headers, zip(*coded, strict=True), strict=True):
                        indices = [Chunk(container.INDICES, payload[at]) for payload in payloads]
                        files.append(container.pack(one, extras[number] + indices))
                    out[number] = min(files, key=len)
        return out

    def _strips(
        self, stack: np.ndarray, header: Header, search: Search, progress: Progress
    ) -> Iterator[list[np.ndarray]]:
        """The index planes of every strip of images uint8 (n, h, w[, 3]).

        Large images are searched some strips at a time, with a margin above and below: memory stays bounded.
        """
        scales = self.pack.scales
        windows = windows_of(scales, header.height, header.width)
        large = len(windows) > 1
        for number, (first, last, strips) in enumerate(windows):
            if large and not number:
                progress(0.0)
            with large_arrays_apart() if large else nullcontext():
                planes = self._indices(stack[:, first:last], header, search)
            for top, bottom in strips:
                yield [
                    plane[:, (top - first) // scale.span : -(-(bottom - first) // scale.span)]
                    for scale, plane in zip(scales, planes, strict=True)
                ]
            if large:
                give_back()
                progress((number + 1) / len(windows))

    def lam(self, quality: float) -> float:
        """Squared error, in 8-bit levels of all channels, that one bit is worth at a quality of 0..100."""
        return self.config.lam(quality / 100)

    def _header(
        self, image: np.ndarray, quality: float, rank: int | None, iterations: int | None, effort: int, smoothing: bool
    ) -> Header:
        if getattr(image, "dtype", None) != np.uint8 or image.ndim < 2 or image.shape[2:] not in ((), (2,), (3,), (4,)):
            raise UsageError(f"images are uint8 (height, width[, 2 to 4]), not {_kind(image)}")
        channels = (*image.shape, 1)[2]
        colour = RGB if channels > 2 else GREY
        if not 0 < min(image.shape[:2]) <= max(image.shape[:2]) <= 65535:
            raise LimitError(f"sides must be 1 to 65535 pixels, not {image.shape[1]} x {image.shape[0]}")
        if colour == RGB and self.pack.channels == 1:
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
            kind = Real if name == "quality" else Integral
            if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
                raise UsageError(f"{name} must be {low} to {high}, not {value!r}")
        return Header(
            width=image.shape[1],
            height=image.shape[0],
            colour=colour,
            rank=rank,
            iterations=min(iterations, deepest),
            band=self.config.bands_around(quality / 100)[0],
            smoothing=int(smoothing and self.config.smoothing > 0),
            model=self.pack.fingerprint,
            alpha=int(channels in (2, 4)),
        )

    @torch.no_grad()
    def _indices(self, stack: np.ndarray, header: Header, search: Search) -> list[np.ndarray]:
        """Index planes of images uint8 (n, h, w[, 3]), for the rate bands on both sides of the quality."""
        lam = self.lam(search.quality)
        padded = pad(to_planes(stack.reshape(*stack.shape[:3], -1), self.device), self.transformer.multiple)
        channels = padded.shape[1]
        if search.use_transformer:
            # A grey image has luma alone; the network may have been trained on three channels.
            colour = F.pad(padded, (0, 0, 0, 0, 0, self.pack.channels - channels))
            latents = [latent[:, :channels] for latent in self.transformer.latents(colour, lam)]
            del colour
        else:
            latents = block_means(padded, self.pack.scales)
        quantizer = self._quantizer(header, channels)
        chroma = visibility.CHROMA if search.tune == "eye" else 1.0
        minded = importance(self.config, search.quality / 100, channels, chroma, self.device)
        size = stack.shape[1], stack.shape[2]
        weights = visibility.weights(padded, self.pack.scales, size) if search.tune == "eye" else None
        del padded  # of large images it is most of the memory
        (beam, tried), *later = search.passes
        indices = quantizer(latents, size, lam, self.rates.plain(search.quality), beam, minded, None, weights, tried)
        for beam, tried in later:
            labels = [
                Labels(*(torch.from_numpy(a.astype(np.int64)).to(self.device).flatten(0, 2) for a in classes))
                for classes in entropy.contexts(indices, self.pack, header)
            ]
            bits = self.rates.with_contexts(search.quality)
            indices = quantizer(latents, size, lam, bits, beam, minded, labels, weights, tried)
        return indices

    def _quantizer(self, header: Header, channels: int) -> Quantizer:
        def make() -> Quantizer:
            predictors = on_device(predictors_of(self.pack.tables, self.pack.scales, channels), self.device)
            return Quantizer.of_factors(
                self.pack.scales, self.pack.tables, predictors, header.rank, channels, self.device
            )

        quantizer: Quantizer = self._quantizers.get((header.rank, channels), make)
        return quantizer.capped(header.iterations)


def _metadata(data: bytes) -> dict[str, Any]:
    """The config in the header of a safetensors file: 8 bytes that tell its length, then JSON."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["config"])


def _kind(image: object) -> str:
    return f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__


def _colours(image: np.ndarray) -> np.ndarray:
    """An image without its alpha, uint8 (h, w) or (h, w, 3)."""
    return image[..., 0] if image.shape[2:] == (2,) else image[..., :3] if image.ndim == 3 else image
