"""`lrq train`: a folder of images in, a model pack out.

Four stages, each with a checkpoint in the work folder, so that an interrupted run goes on where it was:
codebooks scale by scale; bits of each rate band; transformer and smoothing, end to end; tables and export.
"""

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save, save_file

from .. import entropy, pixels, zoo
from ..bench import find_images
from ..errors import LrqError, UsageError
from ..fixed import PLANE_BITS, WEIGHT_BITS
from . import codebooks, export, tables
from .codebooks import Progress
from .config import PRESETS, Config
from .end_to_end import optimise
from .pyramid import enlarge, from_patches, pad, shrink, to_patches, to_planes
from .quantizer import Quantizer
from .search import beam_search, plain_costs, reconstruct
from .transformer import Smoothing, Transformer

CHANNELS = 3
CODEBOOKS, BAND_BITS, NETWORKS, TABLES = (0.0, 0.45), (0.45, 0.5), (0.5, 0.85), (0.85, 1.0)
"""Where in a whole run each stage starts and ends: measured, roughly, with the preset photo."""
TABLE_RANK = 2
"""Rank that the bits and tables are made at: the default of `lrq encode`."""


def train(
    folder: Path,
    out: Path,
    *,
    preset: str,
    work: Path,
    seed: int = 0,
    steps: int | None = None,
    progress: Progress,
) -> None:
    """Train a model pack on the images in `folder` and write it to the folder `out`.

    preset: a key of config.PRESETS. work: folder for checkpoints; a run with the same work folder goes on
    where the last one stopped. steps: optimiser steps instead of the preset's. progress is told the share
    that is done and a line about it, many times. Sets torch's matmul precision and seed for the process.
    Raises UsageError.
    """
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset}: choose from {', '.join(PRESETS)}")
    if out.exists() and not (out.is_dir() and ((out / "tables.npz").exists() or not any(out.iterdir()))):
        raise UsageError(f"{out} exists and is not a model pack")
    config = PRESETS[preset] if steps is None else replace(PRESETS[preset], steps=steps)
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("medium")
    images = _read_images(folder, config, seed)
    _claim(work, {"config": asdict(config), "seed": seed, "pixels": sum(image.size for image in images)})
    run = _Run(config, images, work, seed, progress)
    run.fit_codebooks()
    run.fit_band_bits()
    run.fit_networks()
    # Whole or not at all: the pack takes its name once it is complete.
    partial_pack = work / "pack"
    shutil.rmtree(partial_pack, ignore_errors=True)
    run.write_pack(partial_pack)
    _write_card(partial_pack, out.name, config, preset, run, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(partial_pack, out)
    progress(1.0, f"{out}: SHA-256 {zoo.fingerprint(zoo.Entry(out.name, out).blobs).hex()}")


def _claim(work: Path, settings: dict) -> None:
    """Make the work folder, or raise UsageError if its checkpoints are of another run."""
    work.mkdir(parents=True, exist_ok=True)
    path, text = work / "settings.json", json.dumps(settings)
    if path.exists() and path.read_text() != text:
        raise UsageError(f"{work} holds checkpoints of other images or settings: name another with --work")
    path.write_text(text)


def _read_images(folder: Path, config: Config, seed: int) -> list[np.ndarray]:
    """RGB images, uint8 (h, w, 3), cut to whole patches of the coarsest scale, small ones padded to a window.

    Large ones lose up to eight rows and columns at random: the grid of a JPEG must not fall on ours.
    """
    random = np.random.default_rng(seed)
    span = config.scales[0].span
    least = math.lcm(span, config.scales[-1].span * config.window)
    images = []
    for path in find_images([folder]):
        try:
            image = pixels.read_image(path.read_bytes())
        except LrqError as error:
            raise UsageError(f"{path}: {error}") from None
        if image.ndim == 2:
            image = image[:, :, None].repeat(3, 2)
        y, x = random.integers(1, 9, 2) if min(image.shape[:2]) >= 4 * span else (0, 0)
        image = image[y:, x:]
        h, w = (max(least, n // span * span) for n in image.shape[:2])
        image = np.pad(image, [(0, max(0, h - image.shape[0])), (0, max(0, w - image.shape[1])), (0, 0)], mode="edge")
        images.append(np.ascontiguousarray(image[:h, :w]))
    return images


class _Run:
    """One training run: its images, and what its stages have made so far."""

    def __init__(self, config: Config, images: list[np.ndarray], work: Path, seed: int, progress: Progress):
        self.config, self.images, self.work, self.seed, self.progress = config, images, work, seed, progress
        self.books: dict[int, list[torch.Tensor]] = {}
        self.fit_bits: dict[int, list[torch.Tensor]] = {}

    def _checkpoint(self, name: str, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        path = self.work / f"{name}.safetensors"
        if path.exists():
            return load_file(path)
        start = time.perf_counter()
        tensors = {key: value.contiguous() for key, value in make().items()}
        save_file(tensors, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
        path.with_suffix(".seconds").write_text(f"{time.perf_counter() - start:.1f}\n")
        return tensors

    @property
    def seconds(self) -> float:
        """What the stages took, over all runs that shared the work folder."""
        return sum(float(path.read_text()) for path in self.work.glob("*.seconds"))

    def _report(self, stage: tuple[float, float], part: float, line: str) -> None:
        """Tell that a part of a stage is done; a stage is the share of the whole run that it starts and ends at."""
        self.progress(stage[0] + part * (stage[1] - stage[0]), line)

    # Stage 1

    def fit_codebooks(self) -> None:
        """Codebooks of every scale, coarse to fine, codewords in the order of their clusters."""
        for position, scale in enumerate(self.config.scales):
            made = self._checkpoint(f"codebooks-{scale.scale}", partial(self._fit_scale, position))
            self.books[scale.scale] = [made[f"book{i}"] for i in range(len(scale.codewords))]
            self.fit_bits[scale.scale] = [made[f"bits{i}"] for i in range(len(scale.codewords))]
        self.factors: dict[str, np.ndarray] = {}
        for scale in self.config.scales:
            pairs = [codebooks.factorise(b, scale.patch, self.config.rank) for b in self.books[scale.scale]]
            self.factors |= {f"{f}{scale.scale}": np.concatenate([p[j] for p in pairs]) for j, f in enumerate("uv")}

    def _fit_scale(self, position: int) -> dict[str, torch.Tensor]:
        scale, config = self.config.scales[position], self.config
        patches = self._patches(position)

        def report(part: float, line: str) -> None:
            done = (position + part) / len(config.scales)
            self._report(CODEBOOKS, done, f"codebooks of scale {scale.scale}, {len(patches)} patches, {line}")

        lam = config.fit_lambda / scale.scale**2
        rank = min(config.rank, scale.patch)
        books, bits = codebooks.fit(
            patches, scale.codewords, lam, scale.patch, rank, config.fit_beams, self.seed, report
        )
        made = {}
        for i, (book, bit) in enumerate(zip(books, bits, strict=True)):
            order = codebooks.balanced_clusters(book, clusters(len(book)))
            made[f"book{i}"] = book[order]
            made[f"bits{i}"] = torch.cat([bit[:1], bit[1:][order]])
        return made

    def _patches(self, position: int) -> torch.Tensor:
        """What the codebooks of a scale have to draw: a sample of its patches, float32 (n, d)."""
        scale, span = self.config.scales[position], self.config.scales[0].span
        random = np.random.default_rng(self.seed + scale.scale)
        views = [v for v in range(min(4, scale.scale))]
        whole = sum(i.shape[0] * i.shape[1] for i in self.images) * len(views) / scale.span**2
        share = min(1.0, self.config.fit_patches / whole)
        out = []
        for view in views:
            for image in self.images:
                y, x = random.integers(0, span, 2) if view and min(image.shape[:2]) > span else (0, 0)
                h, w = (image.shape[0] - y) // span * span, (image.shape[1] - x) // span * span
                planes = to_planes(image[y : y + h, x : x + w])
                decoded = None
                for coarse in self.config.scales[: position + 1]:
                    target = shrink(planes, coarse.scale)
                    guess = torch.zeros_like(target) if decoded is None else enlarge(decoded)
                    patches = to_patches(target - guess, coarse.patch)
                    if coarse == scale:
                        break
                    books, bits = self.books[coarse.scale], self.fit_bits[coarse.scale]
                    lam = self.config.fit_lambda / coarse.scale**2
                    indices, _ = beam_search(patches, books, plain_costs(bits, len(patches)), lam, 1)
                    drawn = reconstruct(indices, books)
                    decoded = guess + from_patches(drawn, coarse.patch, CHANNELS, *target.shape[1:])
                keep = random.random(len(patches)) < share
                out.append(patches[torch.from_numpy(keep)])
        return torch.cat(out)

    # Stage 2

    def fit_band_bits(self) -> None:
        """Bits of the indices in every rate band, without contexts: band_bits[band][position][iteration]."""
        self.quantizer = Quantizer.of_factors(self.config.scales, self._cut(TABLE_RANK, CHANNELS))
        made = self._checkpoint("band-bits", self._fit_band_bits)
        self.band_bits = self._unpack_bits(made)

    def _cut(self, rank: int, channels: int) -> dict[str, np.ndarray]:
        sides = {f"v{s.scale}": channels * s.patch for s in self.config.scales}
        return {key: value[:, :rank, : sides.get(key)] for key, value in self.factors.items()}

    def _unpack_bits(self, made: dict[str, torch.Tensor]) -> list[list[list[torch.Tensor]]]:
        return [
            [[made[f"bits{s.scale}_{i}"][band][None] for i in range(len(s.codewords))] for s in self.config.scales]
            for band in range(self.config.bands)
        ]

    def _fit_band_bits(self) -> dict[str, torch.Tensor]:
        made: dict[str, list[torch.Tensor]] = {}
        for band in range(self.config.bands):
            lam = self.config.lam(self.config.middle(band))
            bits = [[b[None] for b in self.fit_bits[s.scale]] for s in self.config.scales]
            for _ in range(2):
                planes = [self._encode(image, lam, bits, None, beam=1) for image in self._sample(40)]
                bits = self._bits_of(planes)
            self._report(BAND_BITS, (band + 1) / self.config.bands, f"bits of band {band}, lambda {lam:.0f}")
            for scale, own in zip(self.config.scales, bits, strict=True):
                for i, b in enumerate(own):
                    made.setdefault(f"bits{scale.scale}_{i}", []).append(b[0])
        return {key: torch.stack(value) for key, value in made.items()}

    def _bits_of(self, planes: list[list[np.ndarray]]) -> list[list[torch.Tensor]]:
        out = []
        for j, scale in enumerate(self.config.scales):
            indices = torch.from_numpy(np.concatenate([p[j].reshape(-1, p[j].shape[2]) for p in planes]))
            out.append([b[None] for b in codebooks.bits_of(indices, scale.codewords)])
        return out

    def _sample(self, count: int) -> list[np.ndarray]:
        """At most `count` of the images, evenly spread."""
        return self.images[:: max(1, math.ceil(len(self.images) / count))]

    def _encode(
        self, image: np.ndarray, lam: float, bits: list[list[torch.Tensor]], transformer: Transformer | None, beam: int
    ) -> list[np.ndarray]:
        """Index planes of one image, searched without contexts."""
        planes = to_planes(image)
        if transformer is None:
            latents = [shrink(planes, s.scale) for s in self.config.scales]
        else:
            latents = transformer.latents(pad(planes, transformer.multiple), lam)
        return self.quantizer(latents, (image.shape[0], image.shape[1]), lam, bits, beam)

    # Stage 3

    def fit_networks(self) -> None:
        """Transformer and smoothing, end to end through quantization."""
        self.transformer = Transformer(self.config, CHANNELS)
        self.smoothing = Smoothing(CHANNELS, self.config.smoothing)

        def make() -> dict[str, torch.Tensor]:
            optimise(
                self.transformer,
                self.smoothing,
                self.quantizer,
                self.images,
                self.band_bits,
                self.config,
                self.work / "optimiser.pt",
                self.seed,
                lambda part, line: self._report(NETWORKS, part, line),
            )
            return {f"transformer.{k}": v for k, v in self.transformer.state_dict().items()} | {
                f"smoothing.{k}": v for k, v in self.smoothing.state_dict().items()
            }

        made = self._checkpoint("networks", make)
        for name, module in (("transformer", self.transformer), ("smoothing", self.smoothing)):
            module.load_state_dict({k.removeprefix(f"{name}."): v for k, v in made.items() if k.startswith(f"{name}.")})
            module.eval()

    # Stage 4

    def write_pack(self, out: Path) -> None:
        """Tables of every rate band, the decoder's graphs, and the encoder's weights."""
        config, scales = self.config, self.config.scales
        smoothing = _integer_smoothing(self.smoothing)
        export.check_exact(
            scales, {s.scale: (self.factors[f"u{s.scale}"], self.factors[f"v{s.scale}"]) for s in scales}, smoothing
        )
        arrays: dict[str, np.ndarray] = {
            "scales": np.array([(s.scale, s.patch) for s in scales], np.int32),
            "channels": np.array(CHANNELS, np.int32),
            "bands": np.array(config.bands, np.int32),
        } | self.factors
        arrays |= {f"smooth_{n}": w.astype(np.int32) for n, w in zip(("w1", "b1", "w2", "b2"), smoothing, strict=True)}
        energies = []
        for scale in scales:
            s = scale.scale
            arrays[f"codewords{s}"] = np.array(scale.codewords, np.int32)
            books = [book.numpy() for book in self.quantizer.books[scales.index(scale)]]
            arrays[f"energy{s}"] = tables.energy_levels(books)
            energies.append(arrays[f"energy{s}"])
        made = self._checkpoint("tables", lambda: self._tables(energies))
        weights = {f"transformer.{k}": v for k, v in self.transformer.state_dict().items()}
        weights |= {k: v for k, v in made.items() if k.startswith("bits")}
        arrays |= {k: v.numpy() for k, v in made.items() if not k.startswith("bits")}
        out.mkdir(parents=True)
        for channels, name in ((1, "grey"), (3, "rgb")):
            inside = 4 * channels
            w1, b1, w2, b2 = smoothing
            cut = w1[:, :inside], b1, w2[:inside], b2[:inside]
            (out / f"decoder-{name}.onnx").write_bytes(export.build_graph(scales, channels, None))
            (out / f"decoder-{name}-smooth.onnx").write_bytes(export.build_graph(scales, channels, cut))
        np.savez_compressed(out / "tables.npz", allow_pickle=False, **arrays)
        weights = {key: value.contiguous() for key, value in weights.items()}
        (out / "encoder.safetensors").write_bytes(save(weights, {"config": json.dumps(asdict(config))}))

    def _tables(self, energies: list[np.ndarray]) -> dict[str, torch.Tensor]:
        scales, config = self.config.scales, self.config
        random = np.random.default_rng(self.seed)
        groups: list[tables.Groups] = [{} for _ in scales]
        bits: dict[str, list[torch.Tensor]] = {}
        for band in range(config.bands):
            encoded = []
            for image in self._sample(config.table_images):
                lam = config.lam(config.middle(band) + random.uniform(-0.5, 0.5) / config.bands)
                indices = self._encode(image, lam, self.band_bits[band], self.transformer, beam=2)

                def collect(group: entropy.Group, indices=indices, band=band) -> np.ndarray:
                    index = entropy.known(indices, group)
                    features = np.stack(group.features, 1).astype(np.uint8)
                    entries = groups[group.position].setdefault((group.iteration, group.phase), [])
                    entries.append((features, index, band))
                    return index

                entropy.walk(scales, energies, image.shape[:2], 32, collect)
                encoded.append(indices)
            for scale, own in zip(scales, self._bits_of(encoded), strict=True):
                for i, b in enumerate(own):
                    bits.setdefault(f"bits{scale.scale}_{i}", []).append(b[0])
            self._report(TABLES, (band + 1) / config.bands, f"tables of band {band}")
        made = {key: torch.stack(value) for key, value in bits.items()}
        for scale, group in zip(scales, groups, strict=True):
            counts = tuple(clusters(k) for k in scale.codewords)
            made_here = tables.context_tables(group, scale.codewords, counts, config.bands, config.classes)
            for name, table in made_here.items():
                kind, _, iteration = name.partition("_")
                key = f"{kind}{scale.scale}_{iteration}" if iteration else f"{kind}{scale.scale}"
                made[key] = torch.from_numpy(table)
        return made


def clusters(codewords: int) -> int:
    """Number of clusters that K codewords are sorted into: the power of two at or below the square root of K."""
    return 2 ** int(math.log2(codewords) / 2)


def _integer_smoothing(smoothing: Smoothing) -> tuple[np.ndarray, ...]:
    """The graph's integer weights and biases, see `export.build_graph`."""
    out: list[np.ndarray] = []
    for conv in (smoothing.first, smoothing.second):
        out.append(np.rint(conv.weight.detach().double().numpy() * 2**WEIGHT_BITS))
        out.append(np.rint(conv.bias.detach().double().numpy() * 2**PLANE_BITS))  # type: ignore[union-attr]
    return tuple(out)


def _write_card(out: Path, name: str, config: Config, preset: str, run: _Run, seed: int) -> None:
    pixels_seen = sum(i.shape[0] * i.shape[1] for i in run.images)
    sizes = ", ".join(f"scale {s.scale}: {len(s.codewords)} iterations of patches of {s.patch}" for s in config.scales)
    (out / "card.md").write_text(
        f"# {name}\n\n"
        f"Trained on {len(run.images)} images ({pixels_seen / 1e6:.1f} megapixels) with "
        f"`lrq train FOLDER -o {name} --preset {preset} --seed {seed}`.\n\n"
        f"- duration: {run.seconds / 60:.0f} minutes on {os.cpu_count()} cores ({platform.machine()}, "
        f"torch {torch.__version__})\n"
        f"- {sizes}\n"
        f"- transformer: width {config.width}, {config.blocks} blocks, {config.steps} steps\n",
        encoding="utf-8",
    )
