"""Stage 1 of a training: codebooks scale by scale, coarse to fine, from which the refinement starts."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ..encoder.codebook import Codebook
from ..encoder.config import Config
from ..encoder.convolutions import Predictors
from ..encoder.pyramid import block_means, guess_from, to_patches
from ..encoder.quantizer import closed_loop, plain_search
from ..encoder.search import Bits
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
        load = partial(ScaleCodebooks.from_tensors, scale=scale)
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

    lam, rank = config.start_lambda / scale.scale**2, min(config.rank, scale.patch)
    if not scale.shared:
        return codebooks.fit(patches, scale, lam, rank, config.start_rounds, seed, report)
    parts = replace(scale, shapes=_shares(scale), shared=False)
    return _joined(codebooks.fit(patches, parts, SHARED_LAMBDA, rank, config.start_rounds, seed, report), scale)


def _patches(config: Config, images: list[np.ndarray], coarser: Sequence[ScaleCodebooks], seed: int) -> torch.Tensor:
    """What the codebooks of the next scale have to draw: float32 (n, d), a sample of what `coarser` left."""
    scales, scale = config.scales[: len(coarser)], config.scales[len(coarser)]
    books, bits = [fitted.books for fitted in coarser], [fitted.bits for fitted in coarser]
    search = plain_search(scales, books, bits, config.start_lambda, 1, [None] * len(scales))
    patches = []
    nothing: Predictors = [None] * len(scales)
    for planes in start_views(images, config, scale, seed):
        decoded = None
        for step in closed_loop(block_means(planes, scales), scales, books, nothing, search):
            decoded = step.decoded
        (target,) = block_means(planes, [scale])
        patches.append(to_patches(target - guess_from(decoded, target), scale.patch).flatten(0, 1))
    return torch.cat(patches)


def _shares(scale: Scale) -> tuple[int, ...]:
    """How many shapes of a shared codebook each iteration has to itself at the start."""
    ends = [scale.rows * i // len(scale.shapes) for i in range(len(scale.shapes) + 1)]
    return tuple(end - start for start, end in zip(ends, ends[1:], strict=False))


def _joined(fitted: ScaleCodebooks, scale: Scale) -> ScaleCodebooks:
    """One codebook for all iterations: the shapes of all that were fitted."""
    times = len(scale.shapes)
    shapes, weights, means = (
        torch.cat(parts) for parts in ([book.shapes for book in fitted.books], fitted.weights, fitted.means)
    )
    book = Codebook(shapes, scale.patch, scale.symmetries)
    return ScaleCodebooks([book] * times, _never_stop(scale), [weights] * times, [means] * times)


def _never_stop(scale: Scale) -> Bits:
    """Bits with which the search takes the nearest codeword, and never stops."""
    depths = torch.full((1, len(scale.codewords) + 1), math.inf)
    depths[0, -1] = 0
    symmetries = [torch.zeros(count, scale.symmetries) for count in scale.shapes]
    return Bits(depths, [torch.zeros(1, count) for count in scale.shapes], symmetries)
