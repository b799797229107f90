"""`lrq train`: images in, a model pack out.

Four stages, each with a checkpoint in the work folder, so that an interrupted run goes on where it was: codebooks
scale by scale; codebooks and bits of each rate band, all scales together; transformer and smoothing, end to end;
tables and export.
"""

import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save, save_file

from ..encoder.config import Config
from ..encoder.limits import memory_errors
from ..encoder.pyramid import block_means, guess_from, pad, to_patches, to_planes
from ..encoder.quantizer import Quantizer, closed_loop, pack_bits, unpack_bits
from ..encoder.search import Bits, beam_search, clusters
from ..encoder.transformer import LEVELS, Smoothing, Transformer
from ..entropy import order
from ..errors import LrqError, UsageError
from ..files import write_file
from ..format.fixed import PLANE_BITS, WEIGHT_BITS
from ..format.grid import Scale
from ..packs.pack import PackFolder, fingerprint
from . import codebooks, export, tables
from .check import check_pack
from .codebooks import Progress
from .end_to_end import Codebook, optimise
from .refine import Refinement, View

START, REFINE, NETWORKS, TABLES = (0.0, 0.1), (0.1, 0.7), (0.7, 0.95), (0.95, 1.0)
"""Where in a whole run each stage starts and ends: measured, roughly, with the preset photo."""
LARGE = 256
"""Images with sides from this on count as large: photographs, not icons."""
STACK_PIXELS = 2**18
"""Images of one size are worked on together, up to this many pixels."""
SHIFT = 3
"""Pixels that small images, which may be aligned, are shifted by, at most: enough to make them new to codebooks."""
KEEP_ROUNDS = 5
"""Rounds of the refinement between two checkpoints."""


def train(
    images: Iterable[np.ndarray],
    out: Path,
    *,
    config: Config,
    work: Path,
    seed: int = 0,
    progress: Progress,
    command: str = "lrcodec.training.train.train",
) -> None:
    """Train a model pack on images and write it to the folder `out`.

    images: uint8 (h, w) or (h, w, 3); if all are grey, so is the model. work: folder for checkpoints; a run with the
    same work folder goes on where the last one stopped. progress is told the share that is done and a line about it,
    many times. command: what the card says that the pack was made with. Sets torch's matmul precision and seed for
    the process. Raises UsageError; LrqError if the weights are not exact in the decoder's arithmetic, or if the pack
    does not do what it was trained to: then it stays in the work folder; MemoryError, also where PyTorch has another.
    """
    if out.exists() and not (out.is_dir() and ((out / "tables.npz").exists() or not any(out.iterdir()))):
        raise UsageError(f"{out} exists and is not a model pack")
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("medium")
    images = list(images)
    config = config.fitted_to(max((max(image.shape[:2]) for image in images), default=0))
    prepared = _prepare(images, config, seed)
    _claim(work, {"config": asdict(config), "seed": seed, "images": _digest(prepared)})
    run = _Run(config, prepared, work, seed, progress)
    new = work / "unchecked"
    if new.exists():
        shutil.rmtree(new)  # of a run that was interrupted, or whose pack was refused
    with memory_errors():
        run.start_codebooks()
        run.refine_codebooks()
        run.fit_networks()
        run.write_pack(new)
        _write_card(new, out.name, config, run, command)
        try:
            check_pack(new, run.images[len(run.images) // 2], run.smoothing)
        except LrqError as error:
            raise LrqError(f"the pack is finished but does not work, so it stays in {new}: {error}") from error
    # Whole or not at all: the pack takes its name once it is complete, and an older one leaves it in one step.
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".lrq-", dir=out.parent) as temporary:
        moved = shutil.move(new, Path(temporary, "new"))  # from another file system, perhaps
        if out.exists():
            os.replace(out, Path(temporary, "old"))
        os.replace(moved, out)
    progress(1.0, f"{out}: SHA-256 {fingerprint(PackFolder(out.name, out).blobs).hex()}")


def _digest(images: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr(image.shape).encode() + image.tobytes())
    return digest.hexdigest()


def _claim(work: Path, settings: dict) -> None:
    """Make the work folder, or raise UsageError if its checkpoints are of another run."""
    work.mkdir(parents=True, exist_ok=True)
    path, text = work / "settings.json", json.dumps(settings)
    if not path.exists():
        write_file(path, text.encode())
    elif path.read_text() != text:
        raise UsageError(f"{work} holds checkpoints of other images or settings: name another with --work")


def _prepare(images: list[np.ndarray], config: Config, seed: int) -> list[np.ndarray]:
    """Images uint8 (h, w, C), cut to whole patches of the coarsest scale, small ones padded to a window.

    C is 1 if all of them are grey. Large ones lose up to eight rows and columns at random: the grid of a JPEG must
    not fall on ours.
    """
    random = np.random.default_rng(seed)
    span = config.scales[0].span
    least = math.lcm(span, config.scales[-1].span * config.window)
    prepared = []
    for image in images:
        image = image.reshape(*image.shape[:2], -1)
        y, x = random.integers(1, 9, 2) if min(image.shape[:2]) >= LARGE else (0, 0)
        image = image[y:, x:]
        h, w = (max(least, n // span * span) for n in image.shape[:2])
        image = np.pad(image, [(0, max(0, h - image.shape[0])), (0, max(0, w - image.shape[1])), (0, 0)], mode="edge")
        prepared.append(np.ascontiguousarray(image[:h, :w]))
    if not prepared:
        raise UsageError("no images to train on")
    channels = max(image.shape[2] for image in prepared)
    return [image if image.shape[2] == channels else image.repeat(channels, 2) for image in prepared]


def _stacks(images: list[np.ndarray]) -> Iterator[np.ndarray]:
    """uint8 (n, h, w, C): runs of images of one size, at most STACK_PIXELS or one image each."""
    start = 0
    for at in range(1, len(images) + 1):
        size = images[start].shape
        full = (at - start + 1) * size[0] * size[1] > STACK_PIXELS
        if at == len(images) or full or images[at].shape != size:
            yield np.stack(images[start:at])
            start = at


class _Run:
    """One training run: its images, and what its stages have made so far."""

    def __init__(self, config: Config, images: list[np.ndarray], work: Path, seed: int, progress: Progress):
        self.config, self.images, self.work, self.seed, self.progress = config, images, work, seed, progress
        self.channels = images[0].shape[2]
        self.books: dict[int, list[torch.Tensor]] = {}
        self.start_bits: dict[int, Bits] = {}

    def _checkpoint(self, name: str, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        path = self.work / f"{name}.safetensors"
        if path.exists():
            return load_file(path)
        start = time.perf_counter()
        tensors = {key: value.contiguous() for key, value in make().items()}
        save_file(tensors, path.with_suffix(".tmp"))
        # First, so that where there is a checkpoint its time is whole.
        path.with_suffix(".seconds").write_text(f"{time.perf_counter() - start:.1f}\n")
        os.replace(path.with_suffix(".tmp"), path)
        return tensors

    @property
    def seconds(self) -> float:
        """What the stages took, over all runs that shared the work folder."""
        return sum(float(path.read_text()) for path in self.work.glob("*.seconds"))

    def _report(self, stage: tuple[float, float], part: float, line: str) -> None:
        """Tell that a part of a stage is done; a stage is the share of the whole run that it starts and ends at."""
        self.progress(stage[0] + part * (stage[1] - stage[0]), line)

    # Stage 1

    def start_codebooks(self) -> None:
        """Codebooks of every scale, coarse to fine, and the averages that they come from."""
        self.averages: list[codebooks.Averages] = []
        for position, scale in enumerate(self.config.scales):
            made = self._checkpoint(f"start-{scale.scale}", partial(self._start_scale, position))
            depths = range(len(scale.codewords))
            books = [made[f"book{i}"] for i in depths]
            self.books[scale.scale] = books
            self.start_bits[scale.scale] = Bits(made["depths"], [made[f"bits{i}"] for i in depths])
            averages = codebooks.Averages(books, scale.patch, self._rank(scale), self.config.memory)
            averages.weights, averages.means = ([made[f"{name}{i}"] for i in depths] for name in ("weight", "mean"))
            self.averages.append(averages)

    def _rank(self, scale: Scale) -> int:
        return min(self.config.rank, scale.patch)

    def _start_scale(self, position: int) -> dict[str, torch.Tensor]:
        scale, config = self.config.scales[position], self.config
        patches = self._patches(position)

        def report(part: float, line: str) -> None:
            done = (position + part) / len(config.scales)
            self._report(START, done, f"codebooks of scale {scale.scale}, {len(patches)} patches, {line}")

        lam = config.start_lambda / scale.scale**2
        counts = scale.codewords
        if scale.shared:
            # To start with, each iteration has a part of the codebook, and nothing stops.
            lam, counts = (
                1e-6,
                tuple(scale.rows * (i + 1) // len(counts) - scale.rows * i // len(counts) for i in range(len(counts))),
            )
        books, bits, averages = codebooks.fit(
            patches, counts, lam, scale.patch, self._rank(scale), config.start_rounds, self.seed, report
        )
        weights, means = averages.weights, averages.means
        if scale.shared:
            times = len(scale.codewords)
            books, weights, means = ([torch.cat(parts)] * times for parts in (books, weights, means))
            bits = _never_stop(scale)
        made = {"depths": bits.depths}
        for i, parts in enumerate(zip(books, bits.indices, weights, means, strict=True)):
            names = (f"{name}{i}" for name in ("book", "bits", "weight", "mean"))
            made |= {name: part.clone() for name, part in zip(names, parts, strict=True)}
        return made

    def _patches(self, position: int) -> torch.Tensor:
        """What the codebooks of a scale have to draw: a sample of its patches, float32 (n, d)."""
        scale, span = self.config.scales[position], self.config.scales[0].span
        random = np.random.default_rng(self.seed + scale.scale)
        # More views of the images than one: large ones shifted, small ones, which may be aligned, mirrored.
        small = max(min(i.shape[:2]) for i in self.images) < LARGE
        views = (2 if self.config.mirror else 1) if small else min(4, scale.scale)
        coarser = self.config.scales[:position]
        books = [self.books[s.scale] for s in coarser]

        def search(at: int, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            s = coarser[at].scale
            return beam_search(flat, books[at], self.start_bits[s], self.config.start_lambda / s**2, 1)

        whole = sum(i.shape[0] * i.shape[1] for i in self.images) * views / scale.span**2
        share = self.config.start_patches / whole
        out = []
        for view in range(views):
            for stack in _stacks(self.images):
                if random.random() >= share:
                    continue
                y, x = random.integers(0, span, 2) if view and min(stack.shape[1:3]) >= LARGE else (0, 0)
                h, w = (stack.shape[1] - y) // span * span, (stack.shape[2] - x) // span * span
                if small and view:
                    stack = stack[:, :, ::-1]
                planes = to_planes(np.ascontiguousarray(stack[:, y : y + h, x : x + w]))
                decoded = None
                for step in closed_loop(block_means(planes, coarser), coarser, books, search):
                    decoded = step.decoded
                (target,) = block_means(planes, [scale])
                out.append(to_patches(target - guess_from(decoded, target), scale.patch).flatten(0, 1))
        return torch.cat(out)

    def _factorise(self) -> None:
        """The decoder's factors, and the quantizer that draws with them as the decoder does."""
        self.factors: dict[str, np.ndarray] = {}
        for scale in self.config.scales:
            books = self.books[scale.scale][:1] if scale.shared else self.books[scale.scale]
            pairs = [codebooks.factorise(book, scale.patch, self.config.rank) for book in books]
            self.factors |= {f"{f}{scale.scale}": np.concatenate([p[j] for p in pairs]) for j, f in enumerate("uv")}
        cut = {key: value[:, : self.config.default_rank] for key, value in self.factors.items()}
        self.quantizer = Quantizer.of_factors(self.config.scales, cut, coarse=self.config.coarse)

    # Stage 2

    def refine_codebooks(self) -> None:
        """Codebooks, codewords in the order of their clusters, and bits of every rate band without contexts."""
        made = self._checkpoint("codebooks", self._refine)
        config = self.config
        for scale in config.scales:
            self.books[scale.scale] = [made[f"book{scale.scale}_{i}"] for i in range(len(scale.codewords))]
        self.band_bits = [unpack_bits(made, config.scales, band) for band in range(config.bands)]
        self._factorise()
        if not config.shared:  # one that is shared is trained further
            self._check_exact(None)

    def _refine(self) -> dict[str, torch.Tensor]:
        config, scales = self.config, self.config.scales
        start = [(self.books[s.scale], averages) for s, averages in zip(scales, self.averages, strict=True)]
        bits = [self.start_bits[s.scale] for s in scales]
        refinement = Refinement(scales, start, bits, config.bands)
        kept, first = self.work / "refinement.safetensors", 0
        if kept.exists():
            state = load_file(kept)
            first = int(state.pop("rounds"))
            refinement.load(state)
        stacks = list(_stacks(self.images))
        for number in range(first, config.rounds):
            # At the end, no codeword is replaced: each has time to become an average.
            random = torch.Generator().manual_seed(self.seed + number) if number < 0.6 * config.rounds else None
            cost = refinement.round(self._views(stacks, number), config.beam, random)
            done = number + 1
            if done % KEEP_ROUNDS == 0:
                save_file(refinement.state() | {"rounds": torch.tensor(done)}, kept.with_suffix(".tmp"))
                os.replace(kept.with_suffix(".tmp"), kept)
            self._report(REFINE, done / config.rounds, f"codebooks, round {done}/{config.rounds}: J {cost:.2f} a pixel")
        # What never stops (see `_never_stop`) is not counted.
        bands = [bits if config.shared else refinement.bits(band) for band in range(config.bands)]
        return _in_clusters(scales, refinement.books, bands)

    def _views(self, stacks: list[np.ndarray], number: int) -> Iterator[View]:
        """What a round looks at: random images, shifted, large ones turned as well, each at a lambda of a random band.

        The low bands are picked less often: few patches go deep there.
        """
        config, span = self.config, self.config.scales[0].span
        random = np.random.default_rng((self.seed, number))
        shares = np.arange(1, config.bands + 1) / (config.bands * (config.bands + 1) / 2)
        pixels = 0
        for at in random.permutation(len(stacks)):
            stack = stacks[at]
            if min(stack.shape[1:3]) >= LARGE:
                y, x = random.integers(0, span, 2)
                h, w = (stack.shape[1] - y) // span * span, (stack.shape[2] - x) // span * span
                stack = stack[:, y : y + h, x : x + w]
                if config.mirror and random.random() < 0.3:
                    stack = stack.swapaxes(1, 2)
            else:
                y, x = random.integers(-SHIFT, SHIFT + 1, 2)
                sides = [(max(0, n), max(0, -n)) for n in (y, x)]
                padded = np.pad(stack, [(0, 0), *sides, (0, 0)], mode="edge")
                stack = padded[:, max(0, -y) :, max(0, -x) :][:, : stack.shape[1], : stack.shape[2]]
            if config.mirror and random.random() < 0.5:
                stack = stack[:, :, ::-1]
            band = int(random.choice(config.bands, p=shares))
            lam = config.lam(config.middle(band) + random.uniform(-0.5, 0.5) / config.bands)
            yield View(to_planes(np.ascontiguousarray(stack)), band, lam)
            pixels += stack.shape[0] * stack.shape[1] * stack.shape[2]
            if pixels >= config.round_pixels:
                return

    def _bits_of(self, planes: list[list[np.ndarray]]) -> list[Bits]:
        out = []
        for j, scale in enumerate(self.config.scales):
            indices = torch.from_numpy(np.concatenate([p[j].reshape(-1, p[j].shape[3]) for p in planes]))
            out.append(codebooks.bits_of(indices, scale.codewords))
        return out

    def _sample(self, count: int) -> list[np.ndarray]:
        """At most `count` of the images, evenly spread."""
        return self.images[:: max(1, math.ceil(len(self.images) / count))]

    def _encode(self, stack: np.ndarray, lam: float, bits: list[Bits], beam: int) -> list[np.ndarray]:
        """Index planes of images (n, h, w, C), searched without contexts."""
        latents = self.transformer.latents(pad(to_planes(stack), self.transformer.multiple), lam)
        return self.quantizer(latents, (stack.shape[1], stack.shape[2]), lam, bits, beam)

    # Stage 3

    def fit_networks(self) -> None:
        """Transformer and smoothing, and a shared codebook, end to end through quantization."""
        config, scale = self.config, self.config.scales[0]
        self.transformer = Transformer(config, self.channels)
        self.smoothing = Smoothing(config.scales, self.channels, config.smoothing)
        networks: dict[str, torch.nn.Module] = {"transformer": self.transformer, "smoothing": self.smoothing}
        codebook = None
        if config.shared:
            codebook = Codebook(self.books[scale.scale][0], scale.patch, min(config.rank, scale.patch))
            networks["codebook"] = codebook

        def make() -> dict[str, torch.Tensor]:
            optimise(
                self.transformer,
                self.smoothing,
                codebook,
                self.quantizer,
                self.images,
                self.band_bits,
                config,
                self.work / "optimiser.pt",
                self.seed,
                lambda part, line: self._report(NETWORKS, part, line),
            )
            return {f"{name}.{k}": v for name, network in networks.items() for k, v in network.state_dict().items()}

        made = self._checkpoint("networks", make)
        for name, network in networks.items():
            network.load_state_dict(
                {k.removeprefix(f"{name}."): v for k, v in made.items() if k.startswith(f"{name}.")}
            )
            network.eval()
        if codebook:
            book = codebook().detach()
            ordered = book[codebooks.balanced_clusters(book, clusters(len(book)))]
            self.books[scale.scale] = [ordered] * len(scale.codewords)
            self._factorise()
        self.smoothing_weights = _integer_smoothing(self.smoothing)
        self._check_exact(self.smoothing_weights)

    def _check_exact(self, smoothing: tuple[np.ndarray, ...] | None) -> None:
        """Raise LrqError as soon as it is known that the decoder could not be exact, not at the end."""
        factors = {s.scale: (self.factors[f"u{s.scale}"], self.factors[f"v{s.scale}"]) for s in self.config.scales}
        export.check_exact(self.config.scales, self.channels, factors, smoothing)

    # Stage 4

    def write_pack(self, out: Path) -> None:
        """Tables of every rate band, the decoder's graphs, and the encoder's weights."""
        config, scales = self.config, self.config.scales
        smoothing = self.smoothing_weights
        arrays: dict[str, np.ndarray] = {
            "scales": np.array([(s.scale, s.patch) for s in scales], np.int32),
            "channels": np.array(self.channels, np.int32),
            "shared": np.array(config.shared, np.int32),
            "luma_only": np.array(scales[-1].luma_only, np.int32),
            "bands": np.array(config.bands, np.int32),
        } | self.factors
        arrays |= {f"smooth_{n}": w.astype(np.int32) for n, w in zip(("w1", "b1", "w2", "b2"), smoothing, strict=True)}
        energies = []
        for scale in scales:
            s = scale.scale
            arrays[f"codewords{s}"] = np.array(scale.codewords, np.int32)
            books = self.quantizer.books[scales.index(scale)]
            arrays[f"energy{s}"] = tables.energy_levels([b.numpy() for b in (books[:1] if scale.shared else books)])
            energies.append(arrays[f"energy{s}"])
        made = self._checkpoint("tables", lambda: self._tables(energies))
        weights = {f"transformer.{k}": v for k, v in self.transformer.state_dict().items()}
        weights |= {k: v for k, v in made.items() if k.startswith("plain")}
        arrays |= {k: v.numpy() for k, v in made.items() if not k.startswith("plain")}
        out.mkdir(parents=True)
        for channels, name in ((1, "grey"), (3, "rgb")):
            if channels > self.channels:
                continue
            own = smoothing if channels == self.channels else export.grey_smoothing(smoothing)
            (out / f"decoder-{name}.onnx").write_bytes(export.build_graph(scales, channels, None))
            if config.smoothing:
                (out / f"decoder-{name}-smooth.onnx").write_bytes(export.build_graph(scales, channels, own))
        np.savez(out / "tables.npz", allow_pickle=False, **dict(sorted(arrays.items())))
        weights = {key: value.contiguous() for key, value in weights.items()}
        (out / "encoder.safetensors").write_bytes(save(weights, {"config": json.dumps(asdict(config))}))

    def _tables(self, energies: list[np.ndarray]) -> dict[str, torch.Tensor]:
        scales, config = self.config.scales, self.config
        random = np.random.default_rng(self.seed)
        groups: list[tables.Groups] = [{} for _ in scales]
        plain: dict[str, list[torch.Tensor]] = {}
        for band in range(config.bands):
            encoded = []
            for stack in _stacks(self._sample(config.table_images)):
                lam = config.lam(config.middle(band) + random.uniform(-0.5, 0.5) / config.bands)
                beam = 1 if config.shared else 2
                indices = self._encode(stack, lam, self.band_bits[band], beam)

                def collect(group: order.Group, indices=indices, band=band) -> np.ndarray:
                    index = order.symbols_of(indices, group)
                    features = np.stack(group.features, 1).astype(np.uint8)
                    entries = groups[group.position].setdefault((group.iteration, group.phase), [])
                    entries.append((features, index, band))
                    return index

                order.walk(scales, energies, [plane.shape[1:3] for plane in indices], len(stack), collect)
                encoded.append(indices)
            own_bits = self.band_bits[band] if config.shared else self._bits_of(encoded)
            for key, value in pack_bits(own_bits, scales).items():
                plain.setdefault(key, []).append(value)
            self._report(TABLES, (band + 1) / config.bands, f"tables of band {band}")
        made = {key: torch.stack(value) for key, value in plain.items()}
        for scale, group in zip(scales, groups, strict=True):
            counts = tuple(clusters(k) for k in scale.codewords)
            made_here = tables.context_tables(group, scale.codewords, counts, config.bands, config.classes)
            for name, table in made_here.items():
                kind, _, iteration = name.partition("_") if name[-1].isdigit() else (name, "", "")
                key = f"{kind}{scale.scale}_{iteration}" if iteration else f"{kind}{scale.scale}"
                made[key] = torch.from_numpy(table)
        return made


def _in_clusters(
    scales: tuple[Scale, ...], books: list[list[torch.Tensor]], bands: list[list[Bits]]
) -> dict[str, torch.Tensor]:
    """Codebooks, and bits of every band, with the codewords in the order of their clusters, by name."""
    made = {}
    ordered = [[Bits(own.depths, list(own.indices)) for own in bits] for bits in bands]
    for j, scale in enumerate(scales):
        for i, book in enumerate(books[j]):
            # A shared codebook is put into order once it is trained.
            order = slice(None) if scale.shared else codebooks.balanced_clusters(book, clusters(len(book)))
            made[f"book{scale.scale}_{i}"] = book[order]
            for bits in ordered:
                bits[j].indices[i] = bits[j].indices[i][:, order]
    named = [pack_bits(bits, scales) for bits in ordered]
    return made | {name: torch.stack([own[name] for own in named]) for name in named[0]}


def _never_stop(scale: Scale) -> Bits:
    """With these the search takes the nearest codeword, and never stops."""
    depths = torch.full((1, len(scale.codewords) + 1), math.inf)
    depths[0, -1] = 0
    return Bits(depths, [torch.zeros(1, k) for k in scale.codewords])


def _integer_smoothing(smoothing: Smoothing) -> tuple[np.ndarray, ...]:
    """The graph's integer weights and biases, see `export.build_graph`."""
    inputs = smoothing.inputs
    if not smoothing.hidden:
        return np.zeros((0, inputs, 3, 3)), np.zeros(0), np.zeros((inputs, 0, 3, 3)), np.zeros(inputs)
    first, second = smoothing.first, smoothing.second
    exact = (
        first.weight * 2**WEIGHT_BITS,
        first.bias * LEVELS * 2**PLANE_BITS,  # type: ignore[operator]
        second.weight * 2**WEIGHT_BITS,
        second.bias * LEVELS * 2**PLANE_BITS,  # type: ignore[operator]
    )
    return tuple(np.rint(tensor.detach().double().numpy()).astype(np.int64) for tensor in exact)


def _write_card(out: Path, name: str, config: Config, run: _Run, command: str) -> None:
    pixels_seen = sum(i.shape[0] * i.shape[1] for i in run.images)
    sizes = ", ".join(f"scale {s.scale}: {len(s.codewords)} iterations of patches of {s.patch}" for s in config.scales)
    (out / "card.md").write_text(
        f"# {name}\n\n"
        f"Trained on {len(run.images)} images ({pixels_seen / 1e6:.1f} megapixels) with `{command}`.\n\n"
        "Licence: not stated: write here what the training images allow.\n\n"
        f"- duration: {run.seconds / 60:.0f} minutes with {torch.get_num_threads()} threads ({platform.machine()}, "
        f"torch {torch.__version__})\n"
        f"- {sizes}\n"
        f"- transformer: width {config.width}, {config.blocks} blocks, {config.steps} steps\n",
        encoding="utf-8",
    )
