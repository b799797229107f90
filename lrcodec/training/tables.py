"""Stage 6 of a training: codes images in every rate band, and makes the tables of the pack from what they take."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ..encoder.config import Config
from ..encoder.mending import importance
from ..encoder.pyramid import pad, to_planes
from ..encoder.quantizer import pack_bits
from ..encoder.search import Bits
from ..entropy import order
from ..entropy.features import FEATURES, MAX_FEATURE, Traits
from .codebooks import bits_of
from .context_tables import Groups, context_tables, symmetry_costs
from .end_to_end import Model
from .images import cut, random_quality, sample, stacks
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
    """Code parts of the images in one band after the other, and count."""
    scales = config.scales
    random = np.random.default_rng(seed)
    groups: list[Groups] = [{} for _ in scales]
    coded: list[list[np.ndarray]] = []
    plain: list[Tensors] = []
    for band in range(config.bands):
        of_band = []
        for stack in stacks(sample(images, config.table_images)):
            part = cut(stack, config.table_side, scales[0].span, random)
            planes = _search(part, config, model, band, random_quality(config, band, random))
            _collect(planes, config, model, band, groups)
            of_band.append(planes)
        bits = model.codebooks.bits[band] if config.shared else _bits_of(of_band, config)
        plain.append(pack_bits(bits, scales))
        coded += of_band
        progress((band + 1) / config.bands, f"tables of band {band}")
    contexts: dict[str, np.ndarray] = {}
    for position, (scale, of_scale) in enumerate(zip(scales, groups, strict=True)):
        contexts |= context_tables(of_scale, scale, config.bands, config.classes)
        contexts[f"symmetries{scale.scale}"] = symmetry_costs([planes[position] for planes in coded], scale)
    return Tables({name: torch.stack([bits[name] for bits in plain]) for name in plain[0]}, contexts)


def _search(stack: np.ndarray, config: Config, model: Model, band: int, quality: float) -> list[np.ndarray]:
    """Index planes int64 (n, rows, columns, iterations) of images uint8 (n, h, w, C), searched without contexts."""
    transformer, codebooks, lam = model.networks.transformer, model.codebooks, config.lam(quality)
    planes = to_planes(stack)
    latents = transformer.latents(pad(planes, transformer.multiple), lam)
    minded = importance(config, quality, planes.shape[1])
    beam = 1 if config.shared else TABLE_BEAM
    return codebooks.quantizer(latents, (stack.shape[1], stack.shape[2]), lam, codebooks.bits[band], beam, minded)


def _collect(planes: list[np.ndarray], config: Config, model: Model, band: int, groups: list[Groups]) -> None:
    """Add what the entropy coder codes of index planes, with all its features, to the groups of every scale."""

    def collect(group: order.Group) -> np.ndarray:
        symbols = order.symbols_of(planes, group)
        features = np.stack([np.minimum(feature, MAX_FEATURE) for feature in group.features], 1).astype(np.uint8)
        coded = symbols
        if group.iteration is not None:
            coded = (symbols - 1) // config.scales[group.position].symmetries
        groups[group.position].setdefault((group.iteration, group.phase), []).append((features, coded, band))
        return symbols

    grids = [plane.shape[1:3] for plane in planes]
    traits = []
    for scale in config.scales:
        every = np.tile(np.arange(len(FEATURES)), (len(scale.shapes) + 1, 1))
        traits.append(Traits.of(scale, model.codebooks.traits | {f"features{scale.scale}": every}))
    order.walk(config.scales, traits, grids, len(planes[0]), collect)


def _bits_of(coded: list[list[np.ndarray]], config: Config) -> list[Bits]:
    """The bits of every scale without contexts, from the index planes of all stacks."""
    bits = []
    for scale, planes in zip(config.scales, zip(*coded, strict=True), strict=True):
        indices = np.concatenate([plane.reshape(-1, plane.shape[3]) for plane in planes])
        bits.append(bits_of(torch.from_numpy(indices), scale))
    return bits
