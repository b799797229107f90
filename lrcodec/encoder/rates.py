"""What symbols cost at a quality: the bits of the rate bands around it, with contexts and without."""

from collections.abc import Callable

import torch

from .. import entropy
from ..entropy import cost_tables
from ..format.grid import Scale
from ..packs.pack import Pack
from .config import Config
from .quantizer import unpack_bits
from .search import Bits


class Rates:
    """The bits of a pack. weights: the tensors of its encoder. device: where the bits are kept."""

    def __init__(self, pack: Pack, config: Config, weights: dict[str, torch.Tensor], device: torch.device):
        self.pack, self.config, self.device = pack, config, device
        self._with_contexts: dict[int, list[Bits]] = {}
        symmetries = [bits.symmetries for bits in self._of_tables(0)]  # which are the same in all bands
        bands = (unpack_bits(weights, symmetries, pack.scales, band) for band in range(pack.bands))
        self._plain = [[bits.to(device) for bits in band] for band in bands]

    def plain(self, quality: float) -> list[Bits]:
        """Of each scale, with one class alone. quality: 0..100."""
        return self._blend(quality, self._plain.__getitem__)

    def with_contexts(self, quality: float) -> list[Bits]:
        """Of each scale, by the labels of `entropy.contexts`, which are the same in all bands. quality: 0..100."""
        return self._blend(quality, self._of_tables)

    def _blend(self, quality: float, bits: Callable[[int], list[Bits]]) -> list[Bits]:
        """The mean of what `bits` gives for the rate bands around a quality, weighted: choices change bit by bit."""
        low, high, share = self.config.bands_around(quality / 100)
        if low == high:
            return bits(low)

        def mean(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (1 - share) * a + share * b  # not lerp: of two infinite bits it makes nan

        def means(a: list[torch.Tensor], b: list[torch.Tensor]) -> list[torch.Tensor]:
            return [mean(x, y) for x, y in zip(a, b, strict=True)]

        return [
            Bits(mean(a.depths, b.depths), means(a.shapes, b.shapes), means(a.symmetries, b.symmetries))
            for a, b in zip(bits(low), bits(high), strict=True)
        ]

    def _of_tables(self, band: int) -> list[Bits]:
        """The bits of a rate band's tables."""
        if band not in self._with_contexts:
            of_scales = zip(self.pack.scales, entropy.tables(self.pack, band), strict=True)
            self._with_contexts[band] = [_of_scale(scale, tables.bits).to(self.device) for scale, tables in of_scales]
        return self._with_contexts[band]


def _of_scale(scale: Scale, bits: cost_tables.Bits) -> Bits:
    """The bits of a scale's tables, as the search takes them."""
    # The phase is the lowest bit of a depth's label.
    depths = torch.from_numpy(bits.depths).transpose(0, 1).flatten(0, 1)
    symmetries = torch.from_numpy(bits.symmetries)
    of_iterations = [symmetries[at : at + count] for at, count in zip(scale.starts, scale.shapes, strict=True)]
    return Bits(depths, [torch.from_numpy(b) for b in bits.shapes], of_iterations)
