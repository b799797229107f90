"""Cut thumbnails from photographs, such as those that the pack `thumbs64` is trained on:

    python models/cut_thumbnails.py photos-free thumbs

They are PNG files of 64 x 64 pixels: in `thumbs/held-out` those of every ninth photograph, to measure with, and in
`thumbs/train` the others. Nothing is random: the same photographs make the same thumbnails.
"""

from pathlib import Path

import click
import numpy as np
from PIL import Image

from lrcodec.errors import UsageError
from lrcodec.files import FAILURES, explain, write_file
from lrcodec.image_files import find_images
from lrcodec.image_io import read_image, write_image

SIDE = 64
PLACES = {1: (1, 3), 2: (2, 3), 3: (3, 5)}
"""How many squares are cut along the short side and along the long one, by how often they fit into the short side."""
HELD_OUT = 9
"""The first of so many photographs is held out."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def main(folder: Path, out: Path) -> None:
    """Cut the photographs in FOLDER into thumbnails, in the new folder OUT. Exits with 1 if any could not be cut."""
    parts = {"train": 0, "held-out": 0}
    try:
        photographs = find_images([folder])
        for part in parts:
            (out / part).mkdir(parents=True)  # what an earlier run held out must not be trained on now
    except FAILURES as error:
        raise click.ClickException(explain(error).message) from None
    failed = 0
    for at, photograph in enumerate(photographs):
        part = "train" if at % HELD_OUT else "held-out"
        try:
            for number, thumbnail in enumerate(thumbnails(read_image(photograph.read_bytes()))):
                write_file(out / part / f"{photograph.name}-{number:02}.png", write_image(thumbnail))
                parts[part] += 1
        except FAILURES as error:
            failed += 1
            click.echo(f"{photograph.name}: error: {explain(error).message}", err=True)
    if failed:
        raise click.ClickException(f"{failed} of {len(photographs)} photographs could not be cut")
    for part, count in parts.items():
        click.echo(f"{count} thumbnails are in {out / part}")


def thumbnails(photograph: np.ndarray) -> list[np.ndarray]:
    """The squares of a photograph uint8 (h, w[, 3]), each reduced to uint8 (64, 64[, 3]). Raises UsageError."""
    image = Image.fromarray(photograph)
    found = squares(image.width, image.height)
    if not found:
        raise UsageError(f"a photograph of {image.width} x {image.height} pixels is smaller than a thumbnail")
    return [np.asarray(image.crop(square).resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for square in found]


def squares(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom of what is cut, in pixels: spread from edge to edge, large ones first, none twice."""
    found = []
    for fits, places in PLACES.items():
        side = min(width, height) // fits
        if side < SIDE:
            break
        columns, rows = places if width < height else places[::-1]
        for top in np.linspace(0, height - side, rows, dtype=int).tolist():
            for left in np.linspace(0, width - side, columns, dtype=int).tolist():
                found.append((left, top, left + side, top + side))
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    main()
