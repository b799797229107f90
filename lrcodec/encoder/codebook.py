"""A codebook as the search sees it: shapes, and the codewords that their symmetries make of them."""

from functools import lru_cache

import torch

from ..format.symmetry import NONE


class Codebook:
    """The codewords of one iteration.

    shapes: float32 (S, p * C * p), each a patch as `pyramid.to_patches` gives it. p: rows of a patch.
    symmetries: how many codewords a shape stands for, G; see `format.symmetry`.
    """

    def __init__(self, shapes: torch.Tensor, p: int, symmetries: int = NONE):
        self.shapes, self.p, self.symmetries = shapes, p, symmetries
        self.energy = shapes.square().sum(1)
        """float32 (S,): squared norm of each shape, and so of all its codewords."""
        self._places = places(p, shapes.shape[1] // p**2, symmetries).to(shapes.device)
        self._turned = torch.stack([shapes[:, place] for place in self._places])
        """float32 (T, S, d): each shape mirrored and transposed in every way, with its own sign."""

    def __len__(self) -> int:
        return len(self.shapes) * self.symmetries

    @property
    def codewords(self) -> torch.Tensor:
        """float32 (S * G, d), shape by shape, in the order of the symmetries' numbers."""
        if self.symmetries == NONE:
            return self.shapes
        turned = self._turned.transpose(0, 1)
        return torch.stack([turned, -turned], 2).flatten(0, 2)

    def products(self, patches: torch.Tensor) -> torch.Tensor:
        """Scalar products of patches (n, d) with every turned shape: float32 (n, T, S)."""
        return (patches @ self._turned.flatten(0, 1).T).unflatten(1, (-1, len(self.shapes)))

    def draw(self, indices: torch.Tensor) -> torch.Tensor:
        """What codewords draw. indices: int64 (n,), from 1. Returns float32 (n, d), differentiable in the shapes."""
        shape, symmetry = (indices - 1) // self.symmetries, (indices - 1) % self.symmetries
        number = symmetry // self.signs * len(self.shapes) + shape
        # Not self._turned[...]: its gradient would be summed by several threads in any order.
        drawn = torch.nn.functional.embedding(number, self._turned.flatten(0, 1))
        return drawn if self.symmetries == NONE else drawn * (1 - 2 * (symmetry % 2))[:, None]

    @property
    def signs(self) -> int:
        """2 if shapes come with both signs, else 1."""
        return min(self.symmetries, 2)

    def aligned(self, patches: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Patches (n, d), each turned back by the symmetry of its index from 1, int64 (n,): what its shape is for."""
        if self.symmetries == NONE:
            return patches
        symmetry = (indices - 1) % self.symmetries
        back = self._places.argsort(1)[symmetry // 2]
        return patches.gather(1, back) * (1 - 2 * (symmetry % 2))[:, None]


@lru_cache
def places(p: int, channels: int, symmetries: int) -> torch.Tensor:
    """int64 (T, d): where in a shape each value of the turned shape comes from, T = max(1, symmetries / 2).

    Mirroring reverses rows and columns in polyphase order too, and transposing exchanges them.
    """
    place = torch.arange(p * channels * p).reshape(p, channels, p)
    turned = []
    for number in range(0, max(symmetries, 2), 2):
        mirror, flip, transpose = (number >> bit & 1 for bit in (1, 2, 3))
        part = place.permute(2, 1, 0) if transpose else place
        part = part.flip(0) if flip else part
        turned.append((part.flip(2) if mirror else part).reshape(-1))
    return torch.stack(turned)
