"""A codebook as the search sees it: shapes, and the codewords that their symmetries make of them."""

from functools import lru_cache

import torch

from ..format.symmetry import MIRRORED, NONE


class Codebook:
    """The codewords of one iteration.

    shapes: float32 (S, p * C * p), each a patch as `pyramid.to_patches` gives it. p: rows of a patch.
    symmetries: how many codewords a shape stands for, G; see `format.symmetry`.
    """

    def __init__(self, shapes: torch.Tensor, p: int, symmetries: int = NONE):
        self.shapes, self.p, self.symmetries = shapes, p, symmetries
        self._places = places(p, shapes.shape[1] // p**2, symmetries).to(shapes.device)
        self._turned = torch.stack([shapes[:, place] for place in self._places])
        """float32 (T, S, d): each shape mirrored and transposed in every way, with its own sign."""
        self._halves = shapes[:0]
        """Of shapes that may be mirrored: see `largest`."""
        if symmetries >= MIRRORED:
            unflipped = self._turned.unflatten(0, (-1, 2, 2))[:, 0].flatten(0, 2)
            self._halves = self._fold(unflipped) / 2

    def to(self, device: torch.device) -> "Codebook":
        """The same, on a device."""
        return Codebook(self.shapes.to(device), self.p, self.symmetries)

    def __len__(self) -> int:
        return len(self.shapes) * self.symmetries

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return self.shapes.nbytes + self._turned.nbytes + self._halves.nbytes

    def energy(self, importance: torch.Tensor | None = None) -> torch.Tensor:
        """float32 (S,): squared norm of each shape, and so of all its codewords.

        importance: what the squares are multiplied with, float32 (d,), the same in all places of a channel.
        """
        squares = self.shapes.square()
        return squares.sum(1) if importance is None else squares @ importance

    @property
    def codewords(self) -> torch.Tensor:
        """float32 (S * G, d), shape by shape, in the order of the symmetries' numbers."""
        if self.symmetries == NONE:
            return self.shapes
        turned = self._turned.transpose(0, 1)
        return torch.stack([turned, -turned], 2).flatten(0, 2)

    def largest(self, patches: torch.Tensor) -> torch.Tensor:
        """The largest scalar product of patches (n, d) with the codewords of each shape, float32 (n, S).

        Those with a shape and with the shape flipped are the sum and the difference of two products of half the length:
        of the parts that are even and odd from top to bottom.
        """
        if self.symmetries == NONE:
            return patches @ self.shapes.T
        if self.symmetries < MIRRORED:
            return (patches @ self.shapes.T).abs_()
        even, odd = torch.bmm(self._fold(patches), self._halves.mT).abs_()
        return even.add_(odd).unflatten(1, (-1, len(self.shapes))).amax(1)

    def products(self, patches: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
        """Scalar products of patches (n, d) with all codewords of one shape each, int64 (n,): float32 (n, G)."""
        turned = self._turned[:, shapes]  # float32 (T, n, d)
        products = torch.linalg.vecdot(turned, patches).T
        return products if self.symmetries == NONE else torch.stack([products, -products], 2).flatten(1)

    def _fold(self, patches: torch.Tensor) -> torch.Tensor:
        """The even and the odd part of patches (n, d) from top to bottom, float32 (2, n, d / 2): their upper halves."""
        top, bottom = patches.unflatten(1, (2, self.p // 2, -1)).unbind(1)
        bottom = bottom.flip(1)
        return torch.stack([top + bottom, top - bottom]).flatten(2)

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
