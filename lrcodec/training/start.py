"""Stage 1 of a training: codebooks scale by scale, coarse to fine, from which the refinement starts."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from ..encoder.config import Config
from ..encoder.pyramid import block_means, guess_from, to_patches
from ..encoder.quantizer import closed_loop
from ..encoder.search import Bits, beam_search
from ..format.grid import Scale
from . import codebooks
from .codebooks import ScaleCodebooks
from .images import start_views
from .progress import Progress, part_of
from .work import WorkFolder

SHARED_LAMBDA = 1e-6
"""Where iterations share a codebook, every patch takes all of them: bits hardly count."""


def start_codebooks(
    config: Config, images: list[np.ndarray], work: WorkFolder, seed: int, progress: Progress
) -> list[ScaleCodebooks]:
    """Fit the codebooks of every scale, coarse to fine. Each scale has a checkpoint."""
    started: list[ScaleCodebooks] = []
    for position, scale in enumerate(config.scales):
        count = len(config.scales)
        scale_progress = part_of(progress, position / count, (position + 1) / count)
        make = partial(_start_scale, config, images, started, seed, scale_progress)
        load = partial(ScaleCodebooks.from_tensors, iterations=len(scale.codewords))
        started.append(work.keep(f"start-{scale.scale}", make, load))
    return started


def _start_scale(
    config: Config, images: list[np.ndarray], coarser: Sequence[ScaleCodebooks], seed: int, progress: Progress
) -> ScaleCodebooks:
    """Fit the codebooks of the next scale after `coarser`."""
    scale = config.scales[len(coarser)]
    patches = _patches(config, images, coarser, seed)

    def report(share: float, line: str) -> None:
        progress(share, f"codebooks of scale {scale.scale}, {len(patches)} patches, {line}")

    lam, counts = config.start_lambda / scale.scale**2, scale.codewords
    if scale.shared:
        lam, counts = SHARED_LAMBDA, _shares(scale)
    rank = min(config.rank, scale.patch)
    fitted = codebooks.fit(patches, counts, lam, scale.patch, rank, config.start_rounds, seed, report)
    return _joined(fitted, scale) if scale.shared else fitted


def _patches(config: Config, images: list[np.ndarray], coarser: Sequence[ScaleCodebooks], seed: int) -> torch.Tensor:
    """What the codebooks of the next scale have to draw: float32 (n, d), a sample of what `coarser` left."""
    scales, scale = config.scales[: len(coarser)], config.scales[len(coarser)]
    books = [fitted.books for fitted in coarser]

    def search(position: int, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lam = config.start_lambda / scales[position].scale ** 2
        return beam_search(flat, books[position], coarser[position].bits, lam, 1)

    patches = []
    for planes in start_views(images, config, scale, seed):
        decoded = None
        for step in closed_loop(block_means(planes, scales), scales, books, search):
            decoded = step.decoded
        (target,) = block_means(planes, [scale])
        patches.append(to_patches(target - guess_from(decoded, target), scale.patch).flatten(0, 1))
    return torch.cat(patches)


def _shares(scale: Scale) -> tuple[int, ...]:
    """How many codewords of a shared codebook each iteration has to itself at the start."""
    ends = [scale.rows * i // len(scale.codewords) for i in range(len(scale.codewords) + 1)]
    return tuple(end - start for start, end in zip(ends, ends[1:], strict=False))


def _joined(fitted: ScaleCodebooks, scale: Scale) -> ScaleCodebooks:
    """One codebook for all iterations: the codewords of all that were fitted."""
    books, weights, means = (
        [torch.cat(parts)] * len(scale.codewords) for parts in (fitted.books, fitted.weights, fitted.means)
    )
    return ScaleCodebooks(books, _never_stop(scale), weights, means)


def _never_stop(scale: Scale) -> Bits:
    """Bits with which the search takes the nearest codeword, and never stops."""
    depths = torch.full((1, len(scale.codewords) + 1), math.inf)
    depths[0, -1] = 0
    return Bits(depths, [torch.zeros(1, k) for k in scale.codewords])
