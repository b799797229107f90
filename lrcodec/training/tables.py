"""Stage 4 of a training: codes images in every rate band, and makes the tables of the pack from what they take."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ..encoder.config import Config
from ..encoder.pyramid import pad, to_planes
from ..encoder.quantizer import pack_bits
from ..encoder.search import Bits
from ..entropy import order
from .codebooks import bits_of
from .context_tables import Groups, context_tables
from .end_to_end import Model
from .images import random_lambda, sample, stacks
from .progress import Progress
from .work import Tensors, WorkFolder

PLAIN = "plain"
"""What the names of bits without contexts begin with."""
TABLE_BEAM = 2
"""Beam width of the search, but for a shared codebook, where it is greedy."""


@dataclass(frozen=True)
class Tables:
    """What symbols cost.

    plain: bits without contexts, which the encoder's first pass takes: see `pack_bits`, with the rate band as first
    axis. contexts: the context tables of all scales, by their names in tables.npz.
    """

    plain: Tensors
    contexts: dict[str, np.ndarray]

    def to_tensors(self) -> Tensors:
        """All of it by name."""
        return self.plain | {name: torch.from_numpy(table) for name, table in self.contexts.items()}

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> "Tables":
        """The inverse of `to_tensors`."""
        plain = {name: tensor for name, tensor in tensors.items() if name.startswith(PLAIN)}
        return cls(plain, {name: tensor.numpy() for name, tensor in tensors.items() if name not in plain})


def make_tables(
    config: Config, images: list[np.ndarray], model: Model, work: WorkFolder, seed: int, progress: Progress
) -> Tables:
    """The costs of all that a model codes, from at most `config.table_images` of the images."""
    return work.keep("tables", partial(_make, config, images, model, seed, progress), Tables.from_tensors)


def _make(config: Config, images: list[np.ndarray], model: Model, seed: int, progress: Progress) -> Tables:
    """Code the images in one band after the other, and count."""
    scales = config.scales
    random = np.random.default_rng(seed)
    groups: list[Groups] = [{} for _ in scales]
    plain: list[Tensors] = []
    for band in range(config.bands):
        coded = []
        for stack in stacks(sample(images, config.table_images)):
            planes = _search(stack, config, model, band, random_lambda(config, band, random))
            _collect(planes, config, model, band, groups)
            coded.append(planes)
        bits = model.codebooks.bits[band] if config.shared else _bits_of(coded, config)
        plain.append(pack_bits(bits, scales))
        progress((band + 1) / config.bands, f"tables of band {band}")
    contexts: dict[str, np.ndarray] = {}
    for scale, of_scale in zip(scales, groups, strict=True):
        contexts |= context_tables(of_scale, scale, config.bands, config.classes)
    return Tables({name: torch.stack([bits[name] for bits in plain]) for name in plain[0]}, contexts)


def _search(stack: np.ndarray, config: Config, model: Model, band: int, lam: float) -> list[np.ndarray]:
    """Index planes int64 (n, rows, columns, iterations) of images uint8 (n, h, w, C), searched without contexts."""
    transformer, codebooks = model.networks.transformer, model.codebooks
    latents = transformer.latents(pad(to_planes(stack), transformer.multiple), lam)
    beam = 1 if config.shared else TABLE_BEAM
    return codebooks.quantizer(latents, (stack.shape[1], stack.shape[2]), lam, codebooks.bits[band], beam)


def _collect(planes: list[np.ndarray], config: Config, model: Model, band: int, groups: list[Groups]) -> None:
    """Add what the entropy coder codes of index planes, with its features, to the groups of every scale."""

    def collect(group: order.Group) -> np.ndarray:
        symbols = order.symbols_of(planes, group)
        features = np.stack(group.features, 1).astype(np.uint8)
        groups[group.position].setdefault((group.iteration, group.phase), []).append((features, symbols, band))
        return symbols

    grids = [plane.shape[1:3] for plane in planes]
    order.walk(config.scales, model.codebooks.energies, grids, len(planes[0]), collect)


def _bits_of(coded: list[list[np.ndarray]], config: Config) -> list[Bits]:
    """The bits of every scale without contexts, from the index planes of all stacks."""
    bits = []
    for scale, planes in zip(config.scales, zip(*coded, strict=True), strict=True):
        indices = np.concatenate([plane.reshape(-1, plane.shape[3]) for plane in planes])
        bits.append(bits_of(torch.from_numpy(indices), scale))
    return bits
