"""Which of several codings of a patch is best for the scales after it.

What a scale draws is what the next finer one starts from. So of codings that cost about the same, those are better
that leave less to draw. Each is tried: the patches of the finer scale under it are searched, greedily, and J is that of
both scales.
"""

from dataclasses import dataclass

import torch

from ..format.grid import Scale
from .codebook import Codebook
from .convolutions import Convolutions
from .pyramid import from_patches, guess_from, to_patches
from .search import Bits, Labels, beam_search, best_paths, reconstruct


@dataclass(frozen=True)
class ScaleSearch:
    """A scale, as it is searched.

    target: float32 (b, C, h, w). importance, books, bits, labels: as in `beam_search`. lams: of the patches, float32
    (n,).
    """

    scale: Scale
    target: torch.Tensor
    predictor: Convolutions | None
    importance: torch.Tensor
    books: list[Codebook]
    bits: Bits
    lams: torch.Tensor
    labels: Labels | None

    def paths(self, patches: torch.Tensor, beam: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The best codings of all patches (n, d), and J, see `best_paths`."""
        return best_paths(patches, self.books, self.bits, self.lams, beam, count, self.labels, self.importance)

    def costs_after(self, coarser: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """J of some patches, float32 (m,), if the coarser scale is decoded to (b, C', h, w). which: int64 (m,)."""
        rest = self.target - guess_from(coarser, self.target, self.predictor)
        patches = to_patches(rest, self.scale.patch).flatten(0, 1)[which]
        labels = None if self.labels is None else Labels(self.labels.depths[which], self.labels.shapes[which])
        return beam_search(patches, self.books, self.bits, self.lams[which], 1, labels, self.importance)[1]


def choose(
    paths: torch.Tensor,
    costs: torch.Tensor,
    patches: torch.Tensor,
    guess: torch.Tensor,
    here: ScaleSearch,
    finer: ScaleSearch,
) -> torch.Tensor:
    """The best coding of every patch of a scale: indices int64 (n, iterations).

    paths, costs: codings of every patch, int64 (n, K, iterations), the one of the least J first, and J, float32 (n, K).
    patches: what they should draw, float32 (n, d). guess: what is added to it, planes float32 (b, C, h, w). here,
    finer: the scale, and the next finer one.

    Patches are taken in four phases, so that no neighbour changes while one is tried.
    """
    images, channels, h, w = guess.shape
    scale, rows, columns = here.scale, h // here.scale.patch, w // here.scale.patch
    place = torch.arange(len(patches), device=patches.device)
    phases = place // columns % rows % 2 * 2 + place % columns % 2
    parents = _parents(scale, finer.scale, images, rows, columns, finer.target)
    drawn = [reconstruct(paths[:, k], here.books) for k in range(paths.shape[1])]
    spent = []  # bits, and errors of the channels that the finer scale has not: these stay
    for k, one in enumerate(drawn):
        error = (patches - one).square() * here.importance
        stays = error.unflatten(1, (scale.patch, channels, scale.patch))[:, :, finer.target.shape[1] :].sum((1, 2, 3))
        spent.append(costs[:, k] - error.sum(1) + stays)
    best = torch.zeros_like(place)
    current = drawn[0].clone()
    for phase in range(4):
        turn = phases == phase
        totals = torch.full_like(costs, torch.inf)
        for k, one in enumerate(drawn):
            tried = turn & costs[:, k].isfinite()
            which = tried[parents].nonzero()[:, 0]
            if not len(which):
                continue
            trial = torch.where(tried[:, None], one, current)
            planes = from_patches(trial.unflatten(0, (images, -1)), scale.patch, channels, h, w)
            below = torch.zeros_like(costs[:, 0])
            below.index_add_(0, parents[which], finer.costs_after(guess + planes, which))
            total = scale.scale**2 * spent[k] + finer.scale.scale**2 * below
            totals[:, k] = torch.where(tried, total, totals[:, k])
        best = torch.where(turn, totals.argmin(1), best)
        for k, one in enumerate(drawn):
            current = torch.where((turn & (best == k))[:, None], one, current)
    return paths[place, best]


def _parents(scale: Scale, finer: Scale, images: int, rows: int, columns: int, target: torch.Tensor) -> torch.Tensor:
    """The number of the patch of a scale, of all images, that covers each patch of the next finer one, int64 (n,)."""
    times = scale.span // finer.span
    down, across = (torch.arange(side // finer.patch, device=target.device) // times for side in target.shape[2:])
    of_one = (down[:, None] * columns + across).flatten()
    return (torch.arange(images, device=target.device)[:, None] * rows * columns + of_one).flatten()
