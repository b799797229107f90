"""What the networks are trained for: J = D + lambda * R of latents -> vector quantization -> decoder.

Quantization lets gradients through in proportion to the share of a patch's target that its codewords drew. This is a
straight-through estimator (van den Oord et al. 2017) that is zero for patches that stopped. The rate has no gradient of
its own. A logarithm of each patch's energy stands for it, which is fitted to the bits as training goes on.

A codebook that all iterations share is trained too. Then every patch takes all iterations, so the rate is constant, and
the loss is the squared error.
"""

import math

import torch

from ..encoder.codebook import Codebook
from ..encoder.mending import importance
from ..encoder.pyramid import block_means, from_patches, guess_from, to_patches, to_pixels
from ..encoder.quantizer import bits_spent, closed_loop, plain_search
from ..encoder.search import beam_search, reconstruct
from . import ranks
from .networks import Networks
from .refine import Codebooks

CPU = torch.device("cpu")
COMMITMENT = 0.25
"""Weight of the pull of latents towards the codewords of a shared codebook (van den Oord et al. 2017)."""
STRENGTHS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
"""Shares of the transformer's change that are tried."""


class Objective:
    """J of a batch, differentiable. With a shared codebook the commitment of the latents takes the place of R.

    device: where the networks are, and planes.
    slopes: slopes[band][position] is the bits for each unit of the logarithm that stands for them. Calls that have a
    gradient fit it.
    """

    def __init__(self, networks: Networks, codebooks: Codebooks, device: torch.device = CPU):
        self.networks, self.config = networks, codebooks.config
        self.quantizer = codebooks.quantizer if device == CPU else codebooks.quantizer_on(device)
        self.bits = [[bits.to(device) for bits in band] for band in codebooks.bits]
        self.slopes = [[4.0] * len(self.config.scales) for _ in range(self.config.bands)]

    def __call__(self, planes: torch.Tensor, quality: float, latents: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The differentiable J of each image, float32 (b,), and the mean real J, float32 ().

        planes: float32 (b, C, h, w). quality: share of its range, 0..1. latents: False starts from block means instead.
        """
        lam, scales = self.config.lam(quality), self.config.scales
        targets = self.networks.transformer(planes, lam) if latents else block_means(planes, scales)
        minded = importance(self.config, quality, planes.shape[1], device=planes.device)
        rate, real_rate = planes.new_zeros(len(planes)), planes.new_zeros(len(planes))
        coarser = decoded = None
        for position, (scale, target) in enumerate(zip(scales, targets, strict=True)):
            coarser = decoded
            guess = guess_from(coarser, target, self.quantizer.predictors[position])
            x = to_patches(target - guess, scale.patch)
            passed, more, real = self._quantize(x, position, quality, minded[position])
            rate, real_rate = rate + more, real_rate + real
            decoded = guess + from_patches(passed, scale.patch, *target.shape[1:])
        assert decoded is not None
        change = self.networks.smoothing(decoded, coarser) - to_pixels(planes)
        error = change.square().sum((1, 2, 3)) * (3 / planes.shape[1])
        return error + lam * rate, (error + lam * real_rate).detach().mean()

    def _quantize(
        self, x: torch.Tensor, position: int, quality: float, minded: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the codewords of a scale draw of patches x, float32 (b, n, d), differentiable; what stands for their
        bits (b,), differentiable; and their real bits (b,). minded: the importance of errors.
        """
        lam, band, flat = self.config.lam(quality), self.config.band(quality), x.flatten(0, 1).detach()
        scale_lam = lam / self.config.scales[position].scale ** 2
        codebook = self.networks.codebook
        books = self.quantizer.books[position]
        if codebook:
            scale = self.config.scales[position]
            books = [Codebook(codebook(), scale.patch, scale.symmetries)] * len(books)
        with torch.no_grad():
            indices, cost = beam_search(flat, books, self.bits[band][position], scale_lam, 1, None, minded)
        drawn = reconstruct(indices, books)
        with torch.no_grad():
            energy = flat.square().sum(1, keepdim=True)
            share = ((drawn * flat).sum(1, keepdim=True) / (energy + 1e-6)).clamp(0, 1)
            spent = bits_spent(cost, flat - drawn, scale_lam, minded).reshape(len(x), -1)
        if codebook:
            # Plain straight-through: the latents are free to move, and the codebook follows them.
            share = torch.ones_like(share)
            rate = COMMITMENT / lam * (x - drawn.detach().reshape(x.shape)).square().sum((1, 2))
        else:
            rate = self._proxy(x, spent, position, scale_lam, band)
        passed = (drawn + share * (x.flatten(0, 1) - flat)).reshape(x.shape)
        return passed, rate, spent.sum(1)

    def _proxy(self, x: torch.Tensor, spent: torch.Tensor, position: int, lam: float, band: int) -> torch.Tensor:
        """What stands for the bits (b,) of patches x (b, n, d). spent: their real bits (b, n)."""
        proxy = torch.log2(1 + x.square().sum(2) / (10 * lam))
        slopes = self.slopes[band]
        if torch.is_grad_enabled():
            bits, units = ranks.total(torch.stack([(spent * proxy).sum(), proxy.square().sum()]))
            slope = (bits / (units + 1e-6)).item()
            slopes[position] = 0.9 * slopes[position] + 0.1 * slope
        return slopes[position] * proxy.sum(1)

    @torch.no_grad()
    def decoded(self, planes: torch.Tensor, quality: float) -> tuple[torch.Tensor, torch.Tensor]:
        """What the decoder has before smoothing: the finest scale (b, its channels, h, w), and the one before it.

        Where there is none before it, the finest again. planes, quality: as for a call.
        """
        lam, bits = self.config.lam(quality), self.bits[self.config.band(quality)]
        quantizer, scales = self.quantizer, self.config.scales
        minded = importance(self.config, quality, planes.shape[1])
        search = plain_search(scales, quantizer.books, bits, lam, self.config.beam, minded)
        latents = self.networks.transformer(planes, lam)
        steps = closed_loop(latents, scales, quantizer.books, quantizer.predictors, search)
        decoded = [step.decoded for step in steps]
        return decoded[-1], decoded[-2:][0]

    @torch.no_grad()
    def best_strength(self, planes: torch.Tensor) -> float:
        """The share of the transformer's change that has the least real J, summed over all bands in proportion.

        planes: float32 (b, C, h, w), b at least 8. Straight-through gradients see an average over what quantization
        might choose, and overshoot: 0.6 to 0.7 of the change was best for photographs, 0.2 to 0.6 for small images.
        """
        parameters = list(self.networks.transformer.head.parameters())
        full = [parameter.clone() for parameter in parameters]
        totals = {}
        for strength in STRENGTHS:
            for parameter, value in zip(parameters, full, strict=True):
                parameter.data = value * strength
            totals[strength] = 0.0
            for band in range(self.config.bands):
                middle = self.config.middle(band)
                costs = [self(part, middle, latents=True)[1].item() for part in planes.split(len(planes) // 8)]
                totals[strength] += math.log(sum(costs))
        for parameter, value in zip(parameters, full, strict=True):
            parameter.data = value
        return min(totals, key=lambda strength: totals[strength])
