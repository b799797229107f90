"""What a training sees of its images: whole, in stacks of one size, shifted, mirrored, and in crops."""

import hashlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from ..encoder.config import Config
from ..encoder.pyramid import to_planes
from ..errors import UsageError
from ..format.grid import Scale

LARGE = 256
"""Images with sides from this on count as large: photographs, not icons."""
STACK_PIXELS, GPU_STACK_PIXELS = 2**18, 2**20
"""Images of one size are worked on together, up to this many pixels, and to this many where a GPU works on them."""
SHIFT = 3
"""Pixels that small images, which may be aligned, are shifted by, at most: enough to make them new to codebooks."""
TURNED, MIRRORED = 0.3, 0.5
"""Shares of the views of a round that are turned, if they are large, and mirrored."""


def prepare(images: list[np.ndarray], config: Config, seed: int) -> list[np.ndarray]:
    """Images uint8 (h, w, C), cut to whole patches of the coarsest scale, small ones padded to a window.

    images: uint8 (h, w) or (h, w, 3). C is 1 if all of them are grey. Large ones lose up to eight rows and columns at
    random: the grid of a JPEG must not fall on ours. Raises UsageError if there are none, or if aligned ones have
    several sizes.
    """
    random = np.random.default_rng(seed)
    span = config.scales[0].span
    least = math.lcm(span, config.scales[-1].span * config.window)
    prepared = []
    for image in images:
        image = image.reshape(*image.shape[:2], -1)
        y, x = random.integers(1, 9, 2) if _large(image) else (0, 0)
        image = image[y:, x:]
        h, w = (max(least, n // span * span) for n in image.shape[:2])
        image = np.pad(image, [(0, max(0, h - image.shape[0])), (0, max(0, w - image.shape[1])), (0, 0)], mode="edge")
        prepared.append(np.ascontiguousarray(image[:h, :w]))
    if not prepared:
        raise UsageError("no images to train on")
    if config.aligned and len({image.shape[:2] for image in images}) > 1:
        raise UsageError("the images have several sizes, and aligned ones have one: choose another --preset")
    channels = max(image.shape[2] for image in prepared)
    return [image if image.shape[2] == channels else image.repeat(channels, 2) for image in prepared]


def _large(image: np.ndarray) -> bool:
    """Whether an image (h, w, C) is large."""
    return min(image.shape[:2]) >= LARGE


def digest(images: list[np.ndarray]) -> str:
    """SHA-256 of the shapes and pixels of images, in hexadecimal."""
    total = hashlib.sha256()
    for image in images:
        total.update(repr(image.shape).encode() + image.tobytes())
    return total.hexdigest()


def sample(images: list[np.ndarray], count: int) -> list[np.ndarray]:
    """At most `count` of the images, evenly spread."""
    return images[:: max(1, math.ceil(len(images) / count))]


def stacks(images: list[np.ndarray], pixels: int = STACK_PIXELS) -> Iterator[np.ndarray]:
    """uint8 (n, h, w, C): runs of images of one size, of at most so many pixels or of one image each."""
    start = 0
    for at in range(1, len(images) + 1):
        size = images[start].shape
        full = (at - start + 1) * size[0] * size[1] > pixels
        if at == len(images) or full or images[at].shape != size:
            yield np.stack(images[start:at])
            start = at


def _shifted(stack: np.ndarray, span: int, y: int, x: int) -> np.ndarray:
    """A stack without its first y rows and x columns, cut to multiples of `span`."""
    h, w = ((n - skipped) // span * span for n, skipped in zip(stack.shape[1:3], (y, x), strict=True))
    return stack[:, y : y + h, x : x + w]


def start_views(images: list[np.ndarray], config: Config, scale: Scale, seed: int) -> Iterator[torch.Tensor]:
    """Planes float32 (n, C, h, w) that have as many patches of a scale as its codebooks start from, about.

    Where there are few images each is seen several times: large ones shifted, small ones, which may be aligned,
    mirrored.
    """
    random = np.random.default_rng(seed + scale.scale)
    span = config.scales[0].span
    small = not any(map(_large, images))
    views = (2 if config.mirror else 1) if small else min(4, scale.scale)
    patches = sum(image.shape[0] * image.shape[1] for image in images) * views / scale.span**2
    share = config.start_patches / patches
    for view in range(views):
        for stack in stacks(images):
            if random.random() >= share:
                continue
            y, x = random.integers(0, span, 2) if view and _large(stack[0]) else (0, 0)
            shifted = _shifted(stack, span, y, x)
            yield to_planes(np.ascontiguousarray(shifted[:, :, ::-1] if small and view else shifted))


class View(NamedTuple):
    """Planes of images, float32 (n, C, h, w), sides multiples of the coarsest span; a share of the quality range."""

    planes: torch.Tensor
    quality: float


def round_views(every: list[np.ndarray], config: Config, seed: int, number: int) -> Iterator[View]:
    """What a round of the refinement looks at: random stacks, shifted, some mirrored, of the large ones some turned.

    every: the stacks of all images. Each is seen at a quality of a random band. The low bands are picked less often:
    few patches go deep there.
    """
    random = np.random.default_rng((seed, number))
    shares = np.arange(1, config.bands + 1) / (config.bands * (config.bands + 1) / 2)
    pixels = 0
    for at in random.permutation(len(every)):
        stack = _moved(every[at], config, random)
        band = int(random.choice(config.bands, p=shares))
        yield View(to_planes(np.ascontiguousarray(stack)), random_quality(config, band, random))
        pixels += stack[..., 0].size
        if pixels >= config.round_pixels:
            return


def cut(stack: np.ndarray, side: int, span: int, random: np.random.Generator) -> np.ndarray:
    """A random part of a stack of images (n, h, w, C), at most `side` pixels high and wide, at a multiple of `span`."""
    for axis in (1, 2):
        start = int(random.integers(0, max(0, stack.shape[axis] - side) // span + 1)) * span
        stack = stack.take(range(start, min(start + side, stack.shape[axis])), axis)
    return stack


def random_quality(config: Config, band: int, random: np.random.Generator) -> float:
    """A share of the quality range within a rate band."""
    return config.middle(band) + random.uniform(-0.5, 0.5) / config.bands


def _moved(stack: np.ndarray, config: Config, random: np.random.Generator) -> np.ndarray:
    """A stack as a round sees it: shifted, perhaps turned and mirrored."""
    if _large(stack[0]):
        stack = _shifted(stack, config.scales[0].span, *random.integers(0, config.scales[0].span, 2))
        if config.mirror and random.random() < TURNED:
            stack = stack.swapaxes(1, 2)
    else:
        y, x = random.integers(-SHIFT, SHIFT + 1, 2)
        sides = [(max(0, n), max(0, -n)) for n in (y, x)]
        padded = np.pad(stack, [(0, 0), *sides, (0, 0)], mode="edge")
        stack = padded[:, max(0, -y) :, max(0, -x) :][:, : stack.shape[1], : stack.shape[2]]
    return stack[:, :, ::-1] if config.mirror and random.random() < MIRRORED else stack


class Crops:
    """Square crops of the images that are large enough.

    They are whole windows of the transformer, of a size that at least half of the images can give.
    images: uint8 (h, w, C). multiple: of pixels, side of a window.
    """

    def __init__(self, images: list[np.ndarray], config: Config, multiple: int):
        middle = sorted(min(image.shape[:2]) for image in images)[len(images) // 2]
        self.side = max(1, min(config.crop, middle) // multiple) * multiple
        self.images = [image for image in images if min(image.shape[:2]) >= self.side]
        self.count, self.mirror = config.batch, config.mirror

    def corners(self, count: int) -> torch.Tensor:
        """Planes float32 (n, C, side, side) of the top left corners of `count` images, or of all, evenly spread."""
        chosen = self.images[:: max(1, len(self.images) // count)][:count]
        return to_planes(np.stack([image[: self.side, : self.side] for image in chosen]))

    def batch(self, random: np.random.Generator, device: torch.device | str = "cpu") -> torch.Tensor:
        """Planes float32 (batch, C, side, side) of random crops of random images, on a device."""
        chosen = [self.images[random.integers(len(self.images))] for _ in range(self.count)]
        return to_planes(np.stack([self._crop(image, random) for image in chosen]), device)

    def spread(self, count: int, random: np.random.Generator) -> torch.Tensor:
        """Planes float32 (count, C, side, side) of random crops, of all images alike."""
        chosen = [self.images[i * len(self.images) // count] for i in range(count)]
        return to_planes(np.stack([self._crop(image, random) for image in chosen]))

    def _crop(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        y, x = (random.integers(0, n - self.side + 1) for n in image.shape[:2])
        crop = image[y : y + self.side, x : x + self.side]
        return crop[:, ::-1] if self.mirror and random.random() < MIRRORED else crop
