"""Stage 3 of a training: the codebooks of all scales together, on ever new views, at the lambda of every rate band.

What a codeword should draw is averaged over many rounds, each of them a search of other patches than the one before
(online expectation-maximisation, Cappe and Moulines 2009). On a fixed set of patches the codebooks of photographs
learned it by heart: their J was 15 % lower there than on the same images, shifted by some pixels.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch

from ..encoder.codebook import Codebook
from ..encoder.config import Config
from ..encoder.convolutions import Integers, Predictors
from ..encoder.mending import importance
from ..encoder.pyramid import block_means
from ..encoder.quantizer import Quantizer, bits_spent, closed_loop, pack_bits, plain_search, unpack_bits
from ..encoder.search import Bits, clusters
from .codebooks import Averages, ScaleCodebooks, count, factors_of, lengths
from .exactness import check_exact
from .images import View, round_views, stacks
from .places import clusters_by_place, uses_at_places
from .progress import Progress
from .spectra import balanced_clusters, traits_of
from .work import Tensors, WorkFolder

KEEP_ROUNDS = 5
"""Rounds between two checkpoints."""
REVIVE_SHARE = 0.6
"""Share of the rounds, the first ones, that replace codewords which hardly anything takes. In the others each codeword
has time to become an average."""
LEAST_WEIGHT = 2.0
"""Codewords of less weight are replaced."""


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
        predictors: Predictors = [p and deepcopy(p).to(device) for p in self.predictors]
        rank = self.config.default_rank
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
    refinement, first = Refinement(config, start, predictors), 0
    if work.has("refinement"):
        state = work.load("refinement")
        first = int(state.pop("rounds"))
        refinement.load(state)
    every = list(stacks(images))
    for number in range(first, config.rounds):
        revive = number < REVIVE_SHARE * config.rounds
        random = torch.Generator().manual_seed(seed + number) if revive else None
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
    uses = uses_at_places(config, images, refinement.books, bits, predictors, seed) if config.aligned else None
    return _in_clusters(Codebooks(config, refinement.books, bits, predictors), uses)


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


def _few_counts(bits: Bits) -> list[torch.Tensor]:
    """Counts as `count` gives them, whose bits are about these: 100 of depths, and 4 a shape."""
    shapes = [4 * b.shape[1] * 2 ** -b[0] for b in bits.shapes]
    taken = [uses[:, None] * 2**-b for uses, b in zip(shapes, bits.symmetries, strict=True)]
    return [100 * 2 ** -bits.depths[0], *taken]


class Refinement:
    """Codebooks that change from round to round, and how often each rate band takes their codewords.

    books: books[position][iteration]. start: the codebooks of every scale, left as they are. predictors: of every
    scale.
    """

    def __init__(self, config: Config, start: list[ScaleCodebooks], predictors: Predictors):
        self.config, self.scales, self.predictors = config, config.scales, predictors
        self.books = [list(started.books) for started in start]
        self.averages = []
        for scale, started in zip(config.scales, start, strict=True):
            averages = Averages(started.books, scale.patch, min(config.rank, scale.patch), config.memory)
            averages.weights = [weight.clone() for weight in started.weights]
            averages.means = [mean.clone() for mean in started.means]
            self.averages.append(averages)
        # counts[band][position]: see `count`.
        self.counts = [[_few_counts(started.bits) for started in start] for _ in range(config.bands)]

    def bits(self, band: int) -> list[Bits]:
        """The bits of every scale in a rate band, without contexts. Those of symmetries are the same in all bands."""
        bits = []
        for position, counts in enumerate(self.counts[band]):
            pooled = [sum(parts) for parts in zip(*(of_band[position] for of_band in self.counts), strict=True)]
            bits.append(lengths(counts)._replace(symmetries=lengths(pooled).symmetries))
        return bits

    def round(self, views: Iterable[View], random: torch.Generator | None) -> float:
        """Search the views, and move codewords and bits. Returns J a pixel.

        random: picks what codewords that hardly anything takes are replaced by. None leaves them.
        """
        patches: list[list[torch.Tensor]] = [[] for _ in self.scales]
        indices: list[list[torch.Tensor]] = [[] for _ in self.scales]
        bits = [self.bits(band) for band in range(len(self.counts))]
        self._fade()
        total = pixels = 0.0
        for planes, quality in views:
            band, lam = self.config.band(quality), self.config.lam(quality)
            minded = importance(self.config, quality, planes.shape[1])
            search = plain_search(self.scales, self.books, bits[band], lam, self.config.beam, minded)
            steps = closed_loop(block_means(planes, self.scales), self.scales, self.books, self.predictors, search)
            pixels += planes.shape[0] * planes.shape[2] * planes.shape[3]
            for position, step in enumerate(steps):
                scale = self.scales[position]
                more = count(step.indices, scale)
                for counts, new in zip(self.counts[band][position], more, strict=True):
                    counts += new
                patches[position].append(step.patches)
                indices[position].append(step.indices)
                rest = step.patches - step.drawn
                total += lam * bits_spent(step.cost, rest, lam / scale.scale**2, minded[position]).sum().item()
                # Errors are those of the image in the channels that no finer scale has.
                last = position + 1 == len(self.scales)
                mended = 0 if last else self.scales[position + 1].channels(planes.shape[1])
                final = rest.unflatten(1, (scale.patch, -1, scale.patch))[:, :, mended:]
                total += scale.scale**2 * final.square().sum().item()
        for position in range(len(self.scales)):
            self._move(position, torch.cat(patches[position]), torch.cat(indices[position]), random)
        return total / pixels

    def _fade(self) -> None:
        """Let what was counted before weigh less, as the averages do."""
        for of_band in self.counts:
            for averages, of_scale in zip(self.averages, of_band, strict=True):
                for counts in of_scale:
                    counts.mul_(averages.keep)

    def _move(
        self, position: int, patches: torch.Tensor, indices: torch.Tensor, random: torch.Generator | None
    ) -> None:
        """Move the codewords of a scale to what they should have drawn of patches (n, d). random: as for `round`."""
        books, averages = self.books[position], self.averages[position]
        residual = averages.update(patches, indices, books)
        if random is None:
            return
        for i, replaced in enumerate(averages.revive(indices, books, residual, random, LEAST_WEIGHT)):
            for of_band in self.counts:
                counts = of_band[position][1 + i]
                counts[replaced] = counts.sum(1).median() / counts.shape[1]

    def state(self) -> Tensors:
        """All of it by name. The tensors are those of this object: the next `round` changes them."""
        state: Tensors = {}
        for position, (scale, averages) in enumerate(zip(self.scales, self.averages, strict=True)):
            s = scale.scale
            for i in range(len(scale.codewords)):
                state[f"shapes{s}_{i}"] = self.books[position][i].shapes
                state[f"weight{s}_{i}"], state[f"mean{s}_{i}"] = averages.weights[i], averages.means[i]
            for band, of_band in enumerate(self.counts):
                state |= {f"count{s}_{band}_{i}": counts for i, counts in enumerate(of_band[position])}
        return state

    def load(self, state: Tensors) -> None:
        """Go on from a `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self.books = [[Codebook(book.shapes, book.p, book.symmetries) for book in books] for books in self.books]
