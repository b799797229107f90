"""Trains transformer and smoothing end to end: latents -> vector quantization -> decoder, minimising D + lambda * R.

Quantization lets gradients through in proportion to the share of a patch's target that its codewords drew
(a straight-through estimator, van den Oord et al. 2017, that is zero for patches that stopped). The rate
has no gradient of its own: a logarithm of each patch's energy, fitted to the bits as training goes on,
stands for it.

Where all iterations share one codebook (the form of the paper), it is trained too: then every patch takes all
iterations, so the rate is constant, and the loss is the squared error.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..encoder.config import Config
from ..encoder.pyramid import block_means, from_patches, guess_from, to_patches, to_pixels, to_planes
from ..encoder.quantizer import Quantizer, closed_loop
from ..encoder.search import Bits, beam_search, reconstruct
from ..encoder.transformer import LEVELS, Smoothing, Transformer
from ..errors import LrqError
from .codebooks import Progress

HELD = 6
"""Images that progress is measured on: of the training images, so only a sign of life."""
REFIT_PIXELS = 25_000_000
"""Pixels of the crops that the smoothing is trained on at the end, at most."""
REFIT_STEPS, REFIT_RATE = 3, 3e-3
"""Steps of that, for each step of the whole, and the peak learning rate: the smoothing alone can be trained faster."""
BandBits = list[list[Bits]]


COMMITMENT = 0.25
"""Weight of the pull of latents towards the codewords of a shared codebook (van den Oord et al. 2017)."""


class Codebook(nn.Module):
    """One codebook, shared by all iterations, as trainable factors of `rank`: codeword k is u[k] @ v[k]."""

    def __init__(self, book: torch.Tensor, p: int, rank: int):
        super().__init__()
        left, singular, right = torch.linalg.svd(book.reshape(len(book), p, -1) / LEVELS, full_matrices=False)
        root = singular[:, None, :rank].sqrt()
        self.u = nn.Parameter(left[:, :, :rank] * root)
        self.v = nn.Parameter(right[:, :rank] * root.mT)

    def forward(self) -> torch.Tensor:
        """The codewords, float32 (K, p * C * p)."""
        return (LEVELS * self.u @ self.v).flatten(1)


def optimise(
    transformer: Transformer,
    smoothing: Smoothing,
    codebook: Codebook | None,
    quantizer: Quantizer,
    images: list[np.ndarray],
    band_bits: BandBits,
    config: Config,
    checkpoint: Path,
    seed: int,
    progress: Progress,
) -> None:
    """Train the networks in place; goes on from `checkpoint` if it exists, and keeps it up to date.

    codebook: trained as well, instead of the quantizer's, where all iterations share it.
    Raises LrqError if a weight is no number any more.
    """
    # Crops are whole windows that at least half of the images can give.
    middle = sorted(min(image.shape[:2]) for image in images)[len(images) // 2]
    side = max(1, min(config.crop, middle) // transformer.multiple) * transformer.multiple
    usable = [image for image in images if min(image.shape[:2]) >= side]
    held = usable[:: max(1, len(usable) // HELD)][:HELD]
    held_planes = to_planes(np.stack([image[:side, :side] for image in held]))
    networks = {"transformer": transformer, "smoothing": smoothing} | ({"codebook": codebook} if codebook else {})
    parameters = [parameter for network in networks.values() for parameter in network.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, config.steps + 1, pct_start=0.1)
    loss_of = _Objective(transformer, smoothing, codebook, quantizer, band_bits, config)
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for name, network in networks.items():
            network.load_state_dict(state[name])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        loss_of.slopes = state["slopes"]
        start = state["step"]
    for step in range(start, config.steps):
        random = np.random.default_rng((seed, step))
        share = random.random()
        cost, _ = loss_of(_batch(usable, side, config, random), share, latents=True)
        loss = (cost / cost.detach().mean()).mean() if codebook else (cost / cost.detach()).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % max(1, min(250, config.steps)) == 0:
            _check_finite(networks)
            with torch.no_grad():
                gain = [
                    (loss_of(held_planes, at, latents=True)[1] / loss_of(held_planes, at, latents=False)[1]).item()
                    for at in (0.2, 0.5, 0.8)
                ]
            line = f"step {step + 1}/{config.steps}: J with latents / without {[round(g, 4) for g in gain]}"
            progress((step + 1) / config.steps, line)
            state = {name: network.state_dict() for name, network in networks.items()}
            state |= {"optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
            torch.save(state | {"slopes": loss_of.slopes, "step": step + 1}, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
    if codebook:
        return
    random = np.random.default_rng((seed, config.steps))
    count = max(24, 8 * config.batch)
    crops = [_crop(usable[i * len(usable) // count], side, config.mirror, random) for i in range(count)]
    strength = loss_of.best_strength(to_planes(np.stack(crops)))
    for parameter in transformer.head.parameters():
        parameter.data *= strength
    progress(1.0, f"latents moved by {strength} of what training proposed")
    if smoothing.hidden:
        _refit(smoothing, loss_of, lambda random: _batch(usable, side, config, random), config, seed)
        _check_finite(networks)


def _check_finite(networks: dict[str, nn.Module]) -> None:
    """Raise LrqError if a weight is no finite number: what follows would be of no use."""
    for name, network in networks.items():
        if not all(parameter.isfinite().all() for parameter in network.parameters()):
            raise LrqError(
                f"the weights of the {name} are no numbers any more: train with another --seed or --preset, "
                "and another --work"
            )


def _refit(
    smoothing: Smoothing,
    loss_of: "_Objective",
    batch: Callable[[np.random.Generator], torch.Tensor],
    config: Config,
    seed: int,
) -> None:
    """Train the smoothing alone, on what latents of their final strength decode to: minimises the mean log error."""
    random = np.random.default_rng((seed, config.steps + 1))
    decoded: list[tuple[torch.Tensor, ...]] = []
    pixels = 0
    while pixels < REFIT_PIXELS and len(decoded) < config.steps:
        planes = batch(random)
        pixels += planes[:, 0].numel()
        decoded.append((*loss_of.decoded(planes, random.random()), to_pixels(planes)))
    finest, coarser, wanted = (torch.cat(parts) for parts in zip(*decoded, strict=True))
    steps = REFIT_STEPS * config.steps
    optimiser = torch.optim.AdamW(smoothing.parameters(), lr=REFIT_RATE, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, REFIT_RATE, steps + 1, pct_start=0.1)
    for _ in range(steps):
        some = torch.from_numpy(random.integers(0, len(finest), config.batch))
        error = (smoothing(finest[some], coarser[some]) - wanted[some]).square().mean((1, 2, 3))
        optimiser.zero_grad()
        (error / error.detach()).mean().backward()
        optimiser.step()
        schedule.step()


def _batch(images: list[np.ndarray], side: int, config: Config, random: np.random.Generator) -> torch.Tensor:
    """Planes of random crops."""
    chosen = [images[random.integers(len(images))] for _ in range(config.batch)]
    return to_planes(np.stack([_crop(image, side, config.mirror, random) for image in chosen]))


def _crop(image: np.ndarray, side: int, mirror: bool, random: np.random.Generator) -> np.ndarray:
    y, x = (random.integers(0, n - side + 1) for n in image.shape[:2])
    crop = image[y : y + side, x : x + side]
    return crop[:, ::-1] if mirror and random.random() < 0.5 else crop


class _Objective:
    """J = D + lambda * R of a batch, differentiable; with a shared codebook D and the latents' commitment."""

    def __init__(
        self,
        transformer: Transformer,
        smoothing: Smoothing,
        codebook: Codebook | None,
        quantizer: Quantizer,
        band_bits: BandBits,
        config: Config,
    ):
        self.transformer, self.smoothing, self.codebook, self.quantizer = transformer, smoothing, codebook, quantizer
        self.band_bits, self.config = band_bits, config
        self.slopes = [[4.0] * len(config.scales) for _ in range(config.bands)]

    def __call__(self, planes: torch.Tensor, quality: float, latents: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """planes (b, C, h, w), share of the quality range -> differentiable J of each (b,), mean real J ()."""
        lam, band = self.config.lam(quality), self.config.band(quality)
        bits, slopes = self.band_bits[band], self.slopes[band]
        scales = self.config.scales
        targets = self.transformer(planes, lam) if latents else block_means(planes, scales)
        rate = planes.new_zeros(len(planes))
        real_rate = planes.new_zeros(len(planes))
        coarser = decoded = None
        for j, (scale, target) in enumerate(zip(scales, targets, strict=True)):
            coarser = decoded
            guess = guess_from(coarser, target)
            x = to_patches(target - guess, scale.patch)  # (b, n, d)
            flat, lam_s = x.flatten(0, 1).detach(), self.quantizer.lam(j, lam)
            books = [self.codebook()] * len(scale.codewords) if self.codebook else self.quantizer.books[j]
            with torch.no_grad():
                indices, cost = beam_search(flat, books, bits[j], lam_s, 1)
            drawn = reconstruct(indices, books)
            with torch.no_grad():
                energy = flat.square().sum(1, keepdim=True)
                share = ((drawn * flat).sum(1, keepdim=True) / (energy + 1e-6)).clamp(0, 1)
                spent = ((cost - (flat - drawn).square().sum(1)) / lam_s).reshape(len(planes), -1)
            if self.codebook:
                # Plain straight-through: the latents are free to move, and the codebook follows them.
                share = torch.ones_like(share)
                rate = rate + COMMITMENT / lam * (x - drawn.detach().reshape(x.shape)).square().sum((1, 2))
            else:
                proxy = torch.log2(1 + x.square().sum(2) / (10 * lam_s))
                if torch.is_grad_enabled():
                    slope = ((spent * proxy).sum() / (proxy.square().sum() + 1e-6)).item()
                    slopes[j] = 0.9 * slopes[j] + 0.1 * slope
                rate = rate + slopes[j] * proxy.sum(1)
            real_rate = real_rate + spent.sum(1)
            passed = (drawn + share * (x.flatten(0, 1) - flat)).reshape(x.shape)
            decoded = guess + from_patches(passed, scale.patch, *target.shape[1:])
        assert decoded is not None
        error = (self.smoothing(decoded, coarser) - to_pixels(planes)).square().sum((1, 2, 3)) * (3 / planes.shape[1])
        return error + lam * rate, (error + lam * real_rate).detach().mean()

    @torch.no_grad()
    def decoded(self, planes: torch.Tensor, quality: float) -> tuple[torch.Tensor, torch.Tensor]:
        """What the decoder has before smoothing: the finest scale (b, its channels, h, w), and the one before it.

        Where there is none before it, the finest again.
        """
        config, lam, bits = self.config, self.config.lam(quality), self.band_bits[self.config.band(quality)]

        def search(j: int, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return beam_search(flat, self.quantizer.books[j], bits[j], self.quantizer.lam(j, lam), config.beam)

        steps = closed_loop(self.transformer(planes, lam), config.scales, self.quantizer.books, search)
        planes_of = [step.decoded for step in steps]
        return planes_of[-1], planes_of[-2:][0]

    @torch.no_grad()
    def best_strength(self, planes: torch.Tensor) -> float:
        """The share of the transformer's change that has the least real J, summed over all bands in proportion.

        Straight-through gradients see an average over what quantization might choose, and overshoot: 0.6 to 0.7 of
        the change was best for photographs, 0.2 to 0.6 for small images.
        """
        head = [p.clone() for p in self.transformer.head.parameters()]
        totals = {}
        for strength in (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0):
            for parameter, whole in zip(self.transformer.head.parameters(), head, strict=True):
                parameter.data = whole * strength
            totals[strength] = 0.0
            for band in range(self.config.bands):
                middle = self.config.middle(band)
                costs = [self(some, middle, latents=True)[1].item() for some in planes.split(len(planes) // 8)]
                totals[strength] += math.log(sum(costs))
        for parameter, whole in zip(self.transformer.head.parameters(), head, strict=True):
            parameter.data = whole
        return min(totals, key=lambda strength: totals[strength])
