"""Fits the codebooks of all scales together, on ever new views of the images, at the lambda of every rate band.

What a codeword should draw is averaged over many rounds, each of them a search of other patches than the one before
(online expectation-maximisation, Cappe and Moulines 2009). With a fixed set of patches the codebooks of photographs
learn it by heart: their J was 15 % lower there than on the same images, shifted by some pixels.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from ..encoder.pyramid import block_means
from ..encoder.quantizer import closed_loop
from ..encoder.search import Bits, beam_search
from ..format.grid import Scale
from .codebooks import Averages, count, lengths


class View(NamedTuple):
    """Planes of images, float32 (n, C, h, w), sides multiples of the coarsest span; a rate band, and a lambda of it."""

    planes: torch.Tensor
    band: int
    lam: float


class Refinement:
    """Codebooks of every scale, books[position][iteration] float32 (K, d), and what their bits are in each rate band.

    start: for each scale the books and averages to go on from; bits: of each scale, for all bands.
    """

    def __init__(
        self, scales: tuple[Scale, ...], start: list[tuple[list[torch.Tensor], Averages]], bits: list[Bits], bands: int
    ):
        self.scales = scales
        self.books = [books for books, _ in start]
        self.averages = [averages for _, averages in start]
        # How often each depth and codeword was taken, forgotten as the averages are: a little at first.
        few = [[100 * 2 ** -own.depths[0], *(4 * len(b[0]) * 2 ** -b[0] for b in own.indices)] for own in bits]
        self.counts = [[[counts.clone() for counts in own] for own in few] for _ in range(bands)]

    def bits(self, band: int) -> list[Bits]:
        """The bits of every scale in a rate band, without contexts."""
        return [lengths(counts) for counts in self.counts[band]]

    def round(self, views: Iterable[View], beam: int, random: torch.Generator | None) -> float:
        """Search the views, and move codewords and bits. Returns J a pixel.

        random: picks what codewords that hardly anything takes are replaced by; None leaves them.
        """
        patches: list[list[torch.Tensor]] = [[] for _ in self.scales]
        indices: list[list[torch.Tensor]] = [[] for _ in self.scales]
        bits = [self.bits(band) for band in range(len(self.counts))]
        # What was counted before fades as the averages do.
        for j, averages in enumerate(self.averages):
            for counts in (own for own_band in self.counts for own in own_band[j]):
                counts.mul_(averages.keep)
        total = pixels = 0.0
        for planes, band, lam in views:
            pixels += planes.shape[0] * planes.shape[2] * planes.shape[3]

            def search(j: int, flat: torch.Tensor, band=band, lam=lam) -> tuple[torch.Tensor, torch.Tensor]:
                return beam_search(flat, self.books[j], bits[band][j], lam / self.scales[j].scale ** 2, beam)

            steps = closed_loop(block_means(planes, self.scales), self.scales, self.books, search)
            for j, (scale, step) in enumerate(zip(self.scales, steps, strict=True)):
                for counts, more in zip(self.counts[band][j], count(step.indices, scale.codewords), strict=True):
                    counts += more
                patches[j].append(step.patches)
                indices[j].append(step.indices)
                # Errors of coarser scales are not those of the image.
                last = j + 1 == len(self.scales)
                error = 0 if last else (step.patches - step.drawn).square().sum(1)
                total += scale.scale**2 * (step.cost - error).sum().item()
        for j, averages in enumerate(self.averages):
            every, chosen = torch.cat(patches[j]), torch.cat(indices[j])
            residual = averages.update(every, chosen, self.books[j])
            if random:
                for i, replaced in enumerate(averages.revive(chosen, self.books[j], residual, random, 2.0)):
                    for band_counts in self.counts:
                        counts = band_counts[j][1 + i]
                        counts[replaced] = counts.median()
        return total / pixels

    def state(self) -> dict[str, torch.Tensor]:
        """All of it by name: views of what `round` changes in place or replaces, so valid until then."""
        out: dict[str, torch.Tensor] = {}
        for j, (scale, averages) in enumerate(zip(self.scales, self.averages, strict=True)):
            for i in range(len(scale.codewords)):
                name = f"{scale.scale}_{i}"
                out |= {f"book{name}": self.books[j][i]}
                out |= {f"weight{name}": averages.weights[i], f"mean{name}": averages.means[i]}
            for band, own in enumerate(self.counts):
                out |= {f"count{scale.scale}_{band}_{i}": c for i, c in enumerate(own[j])}
        return out

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a `state`."""
        for name, own in self.state().items():
            own.copy_(state[name])
