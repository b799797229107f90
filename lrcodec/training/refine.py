"""Stage 3 of a training: the codebooks of all scales together, on ever new views, at the lambda of every rate band.

What a codeword should draw is averaged over many rounds, each of them a search of other patches than the one before
(online expectation-maximisation, Cappe and Moulines 2009). On a fixed set of patches the codebooks of photographs
learned it by heart: their J was 15 % lower there than on the same images, shifted by some pixels.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch

from ..encoder.codebook import Codebook
from ..encoder.config import Config
from ..encoder.convolutions import Integers, Predictors, on_device
from ..encoder.quantizer import Quantizer, pack_bits, unpack_bits
from ..encoder.search import Bits, clusters
from . import ranks
from .codebooks import ScaleCodebooks, factors_of
from .exactness import check_exact
from .images import GPU_STACK_PIXELS, STACK_PIXELS, round_views, stacks
from .places import clusters_by_place, uses_at_places
from .progress import Progress
from .rounds import Refinement
from .spectra import balanced_clusters, traits_of
from .work import Tensors, WorkFolder

KEEP_ROUNDS = 5
"""Rounds between two checkpoints."""
CPU = torch.device("cpu")
REVIVE_SHARE = 0.6
"""Share of the rounds, the first ones, that replace codewords which hardly anything takes. In the others each codeword
has time to become an average."""


@dataclass(frozen=True)
class Codebooks:
    """The codebooks of all scales.

    books: books[position][iteration], shapes in the order of their clusters. A shared book gets its order at the end of
    stage 4. bits: bits[band][position] is what they cost without contexts. predictors: of every scale, from stage 2.
    """

    config: Config
    books: list[list[Codebook]]
    bits: list[list[Bits]]
    predictors: Predictors

    @cached_property
    def factors(self) -> dict[str, np.ndarray]:
        """The arrays u{s} and v{s} of tables.npz, by name."""
        return factors_of(self.config.scales, self.books, self.config.rank)

    @cached_property
    def quantizer(self) -> Quantizer:
        """The search, with the codewords that the decoder draws at the default rank."""
        return self.quantizer_on(torch.device("cpu"))

    def quantizer_on(self, device: torch.device) -> Quantizer:
        """The `quantizer`, on a device."""
        rank = self.config.default_rank
        predictors = on_device(self.predictors, device)
        return Quantizer.of_factors(self.config.scales, self.factors, predictors, rank, device=device)

    @property
    def integer_predictors(self) -> list[Integers | None]:
        """What `export.build_graph` takes."""
        return [predictor.integers() if predictor else None for predictor in self.predictors]

    @cached_property
    def traits(self) -> dict[str, np.ndarray]:
        """The arrays energy{s}, orientation{s} and frequency{s} of tables.npz, by name."""
        traits: dict[str, np.ndarray] = {}
        for scale, books in zip(self.config.scales, self.quantizer.books, strict=True):
            traits |= {
                f"{name}{scale.scale}": levels
                for name, levels in traits_of(books[: 1 if scale.shared else None]).items()
            }
        return traits

    def to_tensors(self) -> Tensors:
        """Books and bits by name."""
        scales = self.config.scales
        tensors = {
            f"symmetries{scale.scale}_{i}": cost
            for scale, bits in zip(scales, self.bits[0], strict=True)  # the same in all bands
            for i, cost in enumerate(bits.symmetries)
        }
        tensors |= {
            f"shapes{scale.scale}_{i}": book.shapes
            for scale, books in zip(scales, self.books, strict=True)
            for i, book in enumerate(books)
        }
        named = [pack_bits(bits, scales) for bits in self.bits]
        return tensors | {name: torch.stack([bits[name] for bits in named]) for name in named[0]}

    @classmethod
    def from_tensors(cls, tensors: Tensors, config: Config, predictors: Predictors) -> "Codebooks":
        """The inverse of `to_tensors`."""
        books = [
            [Codebook(tensors[f"shapes{s.scale}_{i}"], s.patch, s.symmetries) for i in range(len(s.shapes))]
            for s in config.scales
        ]
        symmetries = [[tensors[f"symmetries{s.scale}_{i}"] for i in range(len(s.shapes))] for s in config.scales]
        bits = [unpack_bits(tensors, symmetries, config.scales, band) for band in range(config.bands)]
        return cls(config, books, bits, predictors)


def refine_codebooks(
    config: Config,
    images: list[np.ndarray],
    start: list[ScaleCodebooks],
    predictors: Predictors,
    work: WorkFolder,
    seed: int,
    progress: Progress,
) -> Codebooks:
    """Refine the codebooks of all scales. They are the final ones, but for a shared one, which is trained further.

    start, predictors: of every scale, from stages 1 and 2. Raises LrqError if the decoder could not be exact with the
    new codebooks.
    """
    make = partial(_refine, config, images, start, predictors, work, seed, progress)
    load = partial(Codebooks.from_tensors, config=config, predictors=predictors)
    codebooks = work.keep("codebooks", make, load)
    if not config.shared:
        check_exact(config.scales, images[0].shape[2], codebooks.factors, codebooks.integer_predictors, None)
    return codebooks


def _refine(
    config: Config,
    images: list[np.ndarray],
    start: list[ScaleCodebooks],
    predictors: Predictors,
    work: WorkFolder,
    seed: int,
    progress: Progress,
) -> Codebooks:
    """Run all rounds, but for those that an earlier run has kept."""
    device = ranks.device()
    refinement, first = Refinement(config, [one.to(device) for one in start], on_device(predictors, device)), 0
    if work.has("refinement"):
        state = work.load("refinement")
        first = int(state.pop("rounds"))
        refinement.load(state)
    every = list(stacks(images, STACK_PIXELS if device == CPU else GPU_STACK_PIXELS))
    for number in range(first, config.rounds):
        revive = number < REVIVE_SHARE * config.rounds
        random = torch.Generator(device).manual_seed(seed + number) if revive else None
        cost = refinement.round(round_views(every, config, seed, number), random)
        done = number + 1
        if done % KEEP_ROUNDS == 0:
            work.save("refinement", refinement.state() | {"rounds": torch.tensor(done)})
        progress(done / config.rounds, f"codebooks, round {done}/{config.rounds}: J {cost:.2f} a pixel")
    if config.shared:
        # Its patches never stop, whatever was counted. It gets its order when its training ends.
        bits = [[started.bits for started in start]] * config.bands
        return Codebooks(config, refinement.books, bits, predictors)
    bits = [refinement.bits(band) for band in range(config.bands)]
    uses = None
    if config.aligned:
        uses = uses_at_places(config, images, refinement.books, bits, refinement.predictors, seed)
    books = [[book.to(CPU) for book in of_scale] for of_scale in refinement.books]
    bits = [[of_scale.to(CPU) for of_scale in of_band] for of_band in bits]
    return _in_clusters(Codebooks(config, books, bits, predictors), uses)


def _in_clusters(codebooks: Codebooks, uses: list[list[torch.Tensor]] | None) -> Codebooks:
    """Codebooks and bits with the shapes in the order of their clusters.

    uses: of the shapes at each place, if that is what clusters are made of, see `uses_at_places`.
    """
    if uses is None:
        orders = [[balanced_clusters(book, clusters(len(book.shapes))) for book in books] for books in codebooks.books]
    else:
        orders = [[clusters_by_place(of_book, clusters(len(of_book))) for of_book in of_scale] for of_scale in uses]
    books = [
        [Codebook(book.shapes[order], book.p, book.symmetries) for book, order in zip(*pair, strict=True)]
        for pair in zip(codebooks.books, orders, strict=True)
    ]
    bits = [
        [
            Bits(
                bits.depths,
                [b[:, order] for b, order in zip(bits.shapes, of_scale, strict=True)],
                [b[order] for b, order in zip(bits.symmetries, of_scale, strict=True)],
            )
            for bits, of_scale in zip(of_band, orders, strict=True)
        ]
        for of_band in codebooks.bits
    ]
    return replace(codebooks, books=books, bits=bits)
