"""Images that another format keeps better: text and line art, and what becomes larger than its source."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..files import printable, title
from ..measure.metrics import colours, psnr

QUALITY, PSNR = 75, 30
"""From this quality on, a drawing that gets less than so many dB is worth a note."""
EVEN = 0.5
"""In drawings more pixels than this share equal their left neighbour; in photographs it is 0.03 to 0.3, as a rule."""
NAMES = 3
"""A note names at most so many files."""
LARGER = "larger than the source, which is better kept"
DRAWN = f"below {PSNR} dB PSNR at this quality: text and line art are better kept as PNG or lossless WebP"


def is_drawn(pixels: np.ndarray) -> bool:
    """Whether an image, uint8 (height, width[, channels]), has areas of one colour as text and line art have."""
    samples = pixels.reshape(*pixels.shape[:2], -1)
    return bool((samples[:, 1:] == samples[:, :-1]).all(axis=2).mean() > EVEN) if samples.shape[1] > 1 else False


def reasons(
    images: Sequence[np.ndarray],
    sizes: Sequence[int],
    files: Sequence[bytes],
    quality: float,
    load: Callable[[], Callable[[Sequence[bytes]], Sequence[np.ndarray]]],
) -> list[str]:
    """Why each of the images, of source files of these sizes, should not be one of `files`; "" if there is no reason.

    load: makes what decodes files; called only for drawings of a high quality.
    """
    found = [LARGER if len(file) > size else "" for file, size in zip(files, sizes, strict=True)]
    drawn = [number for number, image in enumerate(images) if quality >= QUALITY and is_drawn(image)]
    decoded = load()([files[number] for number in drawn]) if drawn else []
    for number, image in zip(drawn, decoded, strict=True):
        if psnr(colours(images[number]), colours(image)) < PSNR:
            found[number] = DRAWN
    return found


def notes(unfit: Sequence[tuple[Path, str]], count: int) -> list[str]:
    """What to say of sources and their reasons, of `count` in all: a line for each reason."""
    lines = []
    for reason in dict.fromkeys(reason for _, reason in unfit):
        names = [printable(title(source)) for source, cause in unfit if cause == reason]
        more = f" and {len(names) - NAMES:,} more" if len(names) > NAMES else ""
        which = f"{len(names):,} of {count:,} files ({', '.join(names[:NAMES])}{more})" if count > 1 else names[0]
        lines.append(f"note: {which}: {reason}")
    return lines
