"""A round of the refinement: codebooks are searched, and move to what they should have drawn."""

from collections.abc import Iterable

import torch

from ..encoder.codebook import Codebook
from ..encoder.config import Config
from ..encoder.convolutions import Predictors
from ..encoder.mending import importance
from ..encoder.pyramid import block_means
from ..encoder.quantizer import bits_spent, closed_loop, plain_search
from ..encoder.search import Bits
from .codebooks import Averages, ScaleCodebooks, count, lengths
from .images import View
from .work import Tensors

LEAST_WEIGHT = 2.0
"""Codewords of less weight are replaced."""


def _few_counts(bits: Bits) -> list[torch.Tensor]:
    """Counts as `count` gives them, whose bits are about these: 100 of depths, and 4 a shape."""
    shapes = [4 * b.shape[1] * 2 ** -b[0] for b in bits.shapes]
    taken = [uses[:, None] * 2**-b for uses, b in zip(shapes, bits.symmetries, strict=True)]
    return [100 * 2 ** -bits.depths[0], *taken]


class Refinement:
    """Codebooks that change from round to round, and how often each rate band takes their codewords.

    books: books[position][iteration]. start: the codebooks of every scale, left as they are. predictors: of every
    scale, on the same device.
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
        device = self.books[0][0].shapes.device
        for planes, quality in views:
            planes = planes.to(device)
            band, lam = self.config.band(quality), self.config.lam(quality)
            minded = importance(self.config, quality, planes.shape[1], device=device)
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
