"""What the commands of `lrq` take: types of values, and the options that several commands share."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import reduce, wraps
from pathlib import Path
from typing import Any, NamedTuple, Self

import click
import numpy as np
from click.shell_completion import CompletionItem

from ..errors import UsageError
from ..files import STANDARD, refuse_input
from ..format import container
from ..packs import store


class FileName(click.Path):
    """A path, whether it exists or not. `-` is `STANDARD`; a file of that name is `./-`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path. Of a file named `-` it is absolute, since Path makes `-` of `./-`. Raises click.BadParameter."""
        if not str(value):
            self.fail("a file has a name that is not empty.", param, ctx)
        path = Path(value)
        return Path.cwd() / path if path == STANDARD and str(value) != "-" else path


class Number(click.FloatRange):
    """A number in a range; FloatRange lets nan pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Raises click.BadParameter."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


FILE = FileName()
SOURCES = click.argument("sources", metavar="IN...", type=FILE, nargs=-1, required=True)
BATCH = {
    "out_dir": click.option(
        "--out-dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Write into this folder."
    ),
    "force": click.option(
        "-f", "--force", is_flag=True, help="Replace outputs that exist. One that -o names is replaced without it."
    ),
    "skip_existing": click.option(
        "--skip-existing", is_flag=True, help="Go on with an interrupted batch: skip inputs whose output exists."
    ),
    "recursive": click.option(
        "-r", "--recursive", is_flag=True, help="Also take the folders below a folder; --out-dir gets the same tree."
    ),
    "verbose": click.option(
        "-v", "--verbose", is_flag=True, help="Print a line for every file, with the time it took."
    ),
    "quiet": click.option("--quiet", is_flag=True, help="Print nothing but errors."),
}
"""The options of `Batch`, by its arguments."""


def batch_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of `BATCH` to a command, which gets them as one argument: those of `Batch`, by name."""

    @wraps(command)
    def collect(**given: Any) -> None:
        command(batch_arguments={name: given.pop(name) for name in BATCH}, **given)

    return reduce(lambda collected, option: option(collected), reversed(BATCH.values()), collect)


MAX_PIXELS = click.option(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(1),
    default=container.MAX_PIXELS,
    show_default=True,
    help="Refuse .lrq images of more pixels.",
)
RANK = click.option(
    "--rank", metavar="N", type=click.IntRange(1, 4), help="Rank of the codewords. Default: the model's own."
)
EFFORT = click.option(
    "--effort",
    metavar="N",
    type=click.IntRange(0, 2),
    default=1,
    show_default=True,
    help="0: transformer and one greedy pass; 1: a search too; 2: a wider search.",
)
TUNING = click.Choice(["eye", "psnr"])
TUNE_HELP = "eye: little error where it is seen; psnr: little squared error everywhere."
TUNE = click.option("--tune", type=TUNING, default="eye", show_default=True, help=TUNE_HELP)
DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the encoder computes; auto: on a GPU with CUDA, if there is one.",
)
THREADS = click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of threads; 0: as many as the processors that this process may use.",
)


class Region(NamedTuple):
    """A rectangle of an image, in pixels from the top left."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The region `X,Y,W,H`. Raises UsageError."""
        match = re.fullmatch(",".join([r"(\d{1,9})"] * 4), text, re.ASCII)
        if not match:
            raise UsageError(f"region {text!r} is not X,Y,W,H: four numbers of pixels")
        return cls(*map(int, match.groups()))

    def check(self, image: "Region") -> None:
        """Raise UsageError unless the region has pixels, and all of them are in the image."""
        if not (0 < self.width <= image.width - self.x and 0 < self.height <= image.height - self.y):
            text = ",".join(map(str, self))
            raise UsageError(f"region {text} is empty or not inside the image of {image.width} x {image.height} pixels")

    @property
    def rows(self) -> tuple[int, int]:
        """Its first row, and the one after its last."""
        return self.y, self.y + self.height

    def columns(self, strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Its columns of an image in strips."""
        return (strip[:, self.x : self.x + self.width] for strip in strips)


def image_suffix(text: str) -> str:
    """The suffix of an image file, from a format with or without a dot. Raises UsageError for an unknown one."""
    from ..image_io import WRITERS

    suffix = "." + text.lower().removeprefix(".")
    if suffix not in WRITERS:
        raise UsageError(f"unknown image format {text!r}: use one of {' '.join(WRITERS)}")
    return suffix


def byte_count(text: str) -> int:
    """A size in bytes, such as 9500, 20k (20,000) or 1M (1,000,000). Raises UsageError."""
    match = re.fullmatch(r"([1-9]\d{0,11})([kM]?)", text, re.ASCII)
    if not match:
        raise UsageError(f"size {text!r} is not a number of bytes, such as 9500, 20k or 1M")
    return int(match[1]) * {"": 1, "k": 1000, "M": 1000**2}[match[2]]


def is_lrq(path: Path) -> bool:
    """Whether the file has the name of an encoded one."""
    return path.suffix.lower() == ".lrq"


def is_image(path: Path) -> bool:
    """Whether the file has the name of another image, in any format that Pillow knows."""
    from PIL import Image

    return not is_lrq(path) and path.suffix.lower() in Image.registered_extensions()


def is_picture(path: Path) -> bool:
    """Whether a file of this name in a folder is taken for an image: documents and films are not."""
    from PIL import Image

    kind = Image.MIME.get(Image.registered_extensions().get(path.suffix.lower(), ""), "image/")
    return is_image(path) and kind.startswith("image/")


def name_output(
    sources: tuple[Path, ...], output: Path | None, is_output: Callable[[Path], bool]
) -> tuple[tuple[Path, ...], Path | None]:
    """The inputs and the output, which is the second of two names if that is a new one for an output.

    Raises UsageError if such a file exists: it may be meant as an input.
    """
    if output or len(sources) != 2 or STANDARD == sources[1] or not is_output(sources[1]):
        return sources, output
    if sources[1].exists():
        raise UsageError(f"{sources[1]} exists: if it is the output, which is replaced, name it with -o")
    return sources[:1], sources[1]


def check_encoded(path: Path) -> None:
    """Raise UsageError if the name is one of another format."""
    if path != STANDARD and is_image(path):
        raise UsageError(f"{path} would be an .lrq file under the name of another format: use the suffix .lrq")


def check_decoded(path: Path, suffix: str | None) -> None:
    """Raise UsageError if the name is one of an .lrq file, or if neither it nor `suffix` gives a format."""
    if is_lrq(path):
        raise UsageError(f"{path} would be an image under the name of an .lrq file: use the suffix of its format")
    if path != STANDARD and not suffix:
        image_suffix(path.suffix)


def check_picture(option: str, path: Path, others: Iterable[Path]) -> None:
    """Raise UsageError unless a picture can be written to this path, which is also none of the others."""
    if path == STANDARD:
        raise UsageError(f"{option} names a file, not standard output")
    image_suffix(path.suffix)
    refuse_input(path, others)


class Model(click.ParamType):
    """Name or folder of a model pack; whether there is one is found out when it is needed."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names of packs that are shipped or installed, and folders, which a shell finds by itself."""
        names = [pack.name for pack in store.packs() if pack.name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, names)]


MODEL = click.option(
    "--model", type=Model(), default="photo", show_default=True, help="Name or folder of a model pack."
)
MODELS = click.option(
    "--model", "models", type=Model(), multiple=True, help="Name or folder of another model pack. Default: none."
)
