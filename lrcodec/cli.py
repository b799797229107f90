"""The `lrq` command: options, printing and exit codes. Nothing but files.py, its helper, does these.

Heavy modules are imported inside the commands: `lrq --help` and `lrq decode` never import torch, and `lrq info`
imports no onnxruntime either.
"""

import json
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self

import click
import numpy as np

from . import container, grid, targets, zoo
from .errors import EncoderMissingError, LrqError, UsageError
from .extras import NO_METADATA, Metadata, unpack_metadata
from .files import FAILURES, STANDARD, Batch, Failure, explain, fail, printable, read_file, say, write_file

if TYPE_CHECKING:
    from .decoder import Decoder
    from .pixels import Picture


class FileName(click.Path):
    """A path, whether it exists or not. `-` is `STANDARD`; a file of that name is `./-`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path. Of a file named `-` it is absolute, since Path makes `-` of `./-`."""
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
OUT_DIR = click.option(
    "--out-dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Write into this folder."
)
FORCE = click.option("-f", "--force", is_flag=True, help="Replace an output that exists, where -o does not name it.")

MAX_PIXELS = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=container.MAX_PIXELS,
    show_default=True,
    help="Refuse larger .lrq images.",
)
MODELS = click.option(
    "--model", "models", metavar="PATH", type=FILE, multiple=True, help="Folder of another model pack."
)

SEARCH = f"Takes up to {targets.MAX_ENCODES} encodes."
ANCHORS = ("jpeg", "webp", "avif", "jxl", "jpeg2000")
SETS = ("celeba64", "cifar10", "mnist")


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


def _suffix(text: str) -> str:
    """The suffix of an image file, from a format with or without a dot. Raises UsageError for an unknown one."""
    from .pixels import WRITERS

    suffix = "." + text.lower().removeprefix(".")
    if suffix not in WRITERS:
        raise UsageError(f"unknown image format {text!r}: use one of {' '.join(WRITERS)}")
    return suffix


def _bytes(text: str) -> int:
    """A size in bytes, such as 9500, 20k (20,000) or 1M (1,000,000). Raises UsageError."""
    match = re.fullmatch(r"([1-9]\d{0,11})([kM]?)", text, re.ASCII)
    if not match:
        raise UsageError(f"size {text!r} is not a number of bytes, such as 9500, 20k or 1M")
    return int(match[1]) * {"": 1, "k": 1000, "M": 1000**2}[match[2]]


def _check_picture(option: str, path: Path, others: Iterable[Path]) -> None:
    """Raise UsageError unless a picture can be written to this path, which is also none of the others."""
    if path == STANDARD:
        raise UsageError(f"{option} names a file, not standard output")
    _suffix(path.suffix)
    if os.path.realpath(path) in map(os.path.realpath, others):
        raise UsageError(f"{option} {path} would replace another file of this command")


Made = bytes | Callable[[], targets.Coded]
"""A file that was encoded, or the search for one that meets a target."""
Job = tuple[bytes, Region | None]
"""A file to decode, and the part of its image that is decoded strip by strip; None: the whole of a small image."""


class Strips(NamedTuple):
    """An image to write: its rows from top to bottom, uint8 (some of them, width[, channels]), and their number."""

    strips: Iterable[np.ndarray]
    height: int
    metadata: Metadata


class Lrq(click.Group):
    """A group whose commands end in one line and the error's exit code, never in a traceback."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            return super().parse_args(ctx, args)  # shows the help
        with _one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _interruptions() as signals, _one_line(signals):
            return super().invoke(ctx)


@contextmanager
def _one_line(signals: Sequence[int] = ()) -> Iterator[None]:
    """Ends the program in one line and the exit code, whatever of the known failures comes up.

    signals: those that came. Native modules that are interrupted make an ImportError of it.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if signals or isinstance(error, KeyboardInterrupt):
            fail(Failure("interrupted", 130))
        if isinstance(error, click.UsageError):
            more = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            fail(Failure(error.format_message().rstrip(".") + more, UsageError.exit_code))
        if isinstance(error, FAILURES):
            fail(explain(error))
        raise


@contextmanager
def _interruptions() -> Iterator[list[int]]:
    """SIGTERM raises KeyboardInterrupt, as SIGINT does, so that no temporary file is left. Gives those that came."""
    came: list[int] = []

    def interrupt(number: int, frame: object) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():  # signals are its own
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as in a shell's background jobs
                before[number] = signal.signal(number, interrupt)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Turns a failing import into EncoderMissingError, which names the optional dependencies to install."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").startswith("lrcodec"):
            raise  # our own mistake, which installing something would not mend
        raise EncoderMissingError(f'{error}; pip install "lrcodec[{name}]"') from error


@click.group(cls=Lrq, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lrcodec")
def main() -> None:
    """Encode and decode images as .lrq files.

    \b
    Exit codes:
      0    ok
      1    a file cannot be read or written
      2    wrong usage, or an image that cannot be encoded
      3    not a valid .lrq file
      4    unsupported version of the format, or unknown model
      5    the image or its metadata exceeds a limit
      6    the encoder is not installed: pip install "lrcodec[encode]"
      130  interrupted, by SIGINT or SIGTERM
    """


@main.command()
@SOURCES
@click.option("-o", "--output", metavar="OUT", type=FILE, help="Default: IN with the suffix .lrq.")
@OUT_DIR
@FORCE
@click.option("-q", "--quality", type=click.IntRange(0, 100), help="Default: 50.")
@click.option(
    "--target-size",
    metavar="BYTES",
    type=_bytes,
    help="Instead of -q: the best quality of at most this size, such as 9500, 20k (20,000) or 1M. " + SEARCH,
)
@click.option(
    "--target-psnr",
    metavar="DB",
    type=Number(0, min_open=True),
    help="Instead of -q: the lowest quality of at least this PSNR. " + SEARCH,
)
@click.option("--rank", type=click.IntRange(1, 4), help="Rank of the codewords. Default: the model's own.")
@click.option("--iterations", type=click.IntRange(1, 32), help="Cap on the depth of every scale. Default: none.")
@click.option("--model", default="photo", show_default=True, help="Name or folder of a model pack.")
@click.option(
    "--effort",
    type=click.IntRange(0, 2),
    default=1,
    show_default=True,
    help="0: transformer and one greedy pass, 1: with a search, 2: with a wider one.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--no-smoothing", is_flag=True, help="Leave out the smoothing: a faster decoder.")
@click.option("--strip", is_flag=True, help="Leave out EXIF and XMP; the image is turned as its EXIF says.")
@click.option("--to-8bit", is_flag=True, help="Also convert images of 16 bits a sample, and CMYK, to 8 bits.")
@click.option(
    "--preview", metavar="FILE", type=FILE, help="Also write what decoding will show; the suffix gives the format."
)
def encode(
    sources: tuple[Path, ...],
    output: Path | None,
    out_dir: Path | None,
    force: bool,
    quality: int | None,
    target_size: int | None,
    target_psnr: float | None,
    rank: int | None,
    iterations: int | None,
    model: str,
    effort: int,
    device: str,
    no_smoothing: bool,
    strip: bool,
    to_8bit: bool,
    preview: Path | None,
) -> None:
    """Encode the image files IN; - is standard input or output.

    Of several, those that fail do not stop the others; the exit code is that of the first failure.
    """
    from .pixels import read_picture

    if sum(value is not None for value in (quality, target_size, target_psnr)) > 1:
        raise UsageError("only one of -q, --target-size and --target-psnr can set the quality")
    batch = Batch(sources, output, out_dir, ".lrq", force)
    if preview:
        _check_picture("--preview", preview, [path for pair in batch.files for path in pair])
        if not batch.single:
            raise UsageError("--preview goes with a single input")

    def read(data: bytes) -> tuple["Picture", int]:
        picture = read_picture(data, to_8bit, strip)
        return picture, picture.pixels.shape[0] * picture.pixels.shape[1]

    def load() -> Callable[[list["Picture"]], Sequence[Made]]:
        with _extra("encode"):
            from .encoder import Encoder

        encoder = Encoder(model=model, device=device)

        def encode_batch(pictures: list["Picture"], quality: int) -> list[bytes]:
            return encoder.encode_batch(
                [picture.pixels for picture in pictures],
                quality=quality,
                rank=rank,
                iterations=iterations,
                effort=effort,
                smoothing=not no_smoothing,
                metadata=[picture.metadata for picture in pictures],
            )

        if target_size is None and target_psnr is None:
            return partial(encode_batch, quality=50 if quality is None else quality)
        search = partial(_search, encode_batch, decoder(), target_size, target_psnr)
        return lambda pictures: [partial(search, picture) for picture in pictures]

    @cache
    def decoder() -> "Decoder":
        from .decoder import Decoder

        return Decoder([zoo.find(model).path])

    def write(target: Path, made: Made) -> int:
        if isinstance(made, bytes):
            data, reached = made, ""
        else:
            coded = made()
            data, reached = coded.data, f"quality {coded.quality}, {coded.psnr:.2f} dB PSNR, "
        write_file(target, data)
        if batch.single or reached:
            name = "standard output" if target == STANDARD else target
            say(f"{name}: {reached}{_size(data, container.unpack_header(data))}")
        if preview:
            _write_image(preview, preview.suffix, _decode(decoder(), [_job(data)])[0])
        return len(data)

    batch.run(read, load, write)


def _search(
    encode_batch: Callable[..., list[bytes]],
    decoder: "Decoder",
    size: int | None,
    level: float | None,
    picture: "Picture",
) -> targets.Coded:
    """The file of a picture that meets the target: a size in bytes, or a PSNR in dB."""
    from .metrics import colours, psnr

    def encode(quality: int) -> bytes:
        return encode_batch([picture], quality=quality)[0]

    def measure(data: bytes) -> float:
        return psnr(colours(picture.pixels), colours(decoder.decode(data)))

    if size is not None:
        return targets.for_size(encode, measure, size)
    assert level is not None
    return targets.for_psnr(encode, measure, level)


@main.command()
@SOURCES
@click.option(
    "-o", "--output", metavar="OUT", type=FILE, help="The suffix gives the format. Default: IN with the suffix .png."
)
@click.option(
    "--format",
    "suffix",
    type=_suffix,
    help="Such as png, ppm or webp. Default: the suffix of OUT, and png without an OUT or on standard output.",
)
@OUT_DIR
@FORCE
@MAX_PIXELS
@MODELS
@click.option(
    "--region", metavar="X,Y,W,H", type=Region.parse, help="Only this rectangle, in pixels from the top left."
)
def decode(
    sources: tuple[Path, ...],
    output: Path | None,
    suffix: str | None,
    out_dir: Path | None,
    force: bool,
    max_pixels: int,
    models: tuple[Path, ...],
    region: Region | None,
) -> None:
    """Decode the .lrq files IN; - is standard input or output.

    Of several, those that fail do not stop the others; the exit code is that of the first failure.
    """
    batch = Batch(sources, output, out_dir, suffix or ".png", force)
    if output and output != STANDARD and not suffix:
        _suffix(output.suffix)

    def read(data: bytes) -> tuple[Job, int]:
        job, header = _job(data, region), container.unpack_header(data)
        return job, header.width * header.height

    def load() -> Callable[[list[Job]], list[Strips]]:
        from .decoder import Decoder

        return partial(_decode, Decoder(models, max_pixels))

    def write(target: Path, image: Strips) -> int:
        return _write_image(target, suffix or (".png" if target == STANDARD else target.suffix), image)

    batch.run(read, load, write)


def _job(data: bytes, region: Region | None = None) -> Job:
    """How a file is to be decoded. Raises FormatError, UnsupportedError; UsageError for a region outside the image."""
    header = container.unpack_header(data)
    whole = Region(0, 0, header.width, header.height)
    if region:
        region.check(whole)
    return data, region or (whole if header.width * header.height > grid.STRIP_PIXELS else None)


def _write_image(path: Path, suffix: str, image: Strips) -> int:
    from .pixels import write_strips

    return write_file(path, write_strips(image.strips, image.height, suffix, image.metadata))


def _decode(decoder: "Decoder", jobs: list[Job]) -> list[Strips]:
    """Small images are decoded together, now; the others as their strips are asked for."""
    small = iter(decoder.decode_batch([data for data, part in jobs if part is None]))
    images: list[Strips] = []
    for data, part in jobs:
        header, chunks = container.unpack(data)
        strips = part.columns(decoder.strips(data, part.rows)) if part else [next(small)]
        images.append(Strips(strips, part.height if part else header.height, unpack_metadata(chunks)))
    return images


@main.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(file: Path, as_json: bool) -> None:
    """Check FILE for damage and show its header and chunks; - is standard input."""
    data = read_file(file)
    header, chunks = container.unpack(data)
    fields = header.describe()
    if as_json:
        rows = [{"tag": chunk.tag.decode(), "bytes": len(chunk.payload)} for chunk in chunks]
        click.echo(json.dumps({**fields, "bytes": len(data), "bpp": _bpp(data, header), "chunks": rows}, indent=2))
        return
    for field in container.FIELDS:
        click.echo(f"{field.name:<11} {fields[field.name]!s:<17} {field.meaning}")
    for chunk in chunks:
        what = container.CONTENTS.get(chunk.tag, "unknown")
        click.echo(f"chunk {chunk.tag.decode():<5} {f'{len(chunk.payload):,} bytes':<17} {what}")
    click.echo(f"file        {_size(data, header)}")


@main.command()
@click.argument("reference", type=FILE)
@click.argument("files", metavar="FILE...", type=FILE, nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="OUT", type=FILE, help="Write a picture: for each FILE reference, FILE and difference."
)
@click.option(
    "--amplify", type=click.IntRange(1, 255), default=8, show_default=True, help="Of the difference in the picture."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@MAX_PIXELS
@MODELS
def compare(
    reference: Path,
    files: tuple[Path, ...],
    output: Path | None,
    amplify: int,
    as_json: bool,
    max_pixels: int,
    models: tuple[Path, ...],
) -> None:
    """Print PSNR, MS-SSIM and bits per pixel of each FILE against the image REFERENCE.

    All may be .lrq files or other images, one of them - for standard input. Alpha is left out.
    """
    from . import compare as comparing
    from .decoder import Decoder

    paths = [reference, *files]
    if paths.count(STANDARD) > 1:
        raise UsageError("- stands for standard input once: it holds one file")
    if output:
        _check_picture("-o", output, paths)
    decode = Decoder(models, max_pixels).decode
    with _naming(reference):
        original = comparing.read(read_file(reference), decode)
    rows, images = [], []
    for path in files:
        with _naming(path):
            data = read_file(path)
            image = comparing.read(data, decode)
            rows.append(comparing.compare(str(path), len(data), image, original))
        if output:
            images.append(image)
    click.echo(comparing.to_json(str(reference), rows) if as_json else comparing.table(rows))
    if output:
        strips = comparing.picture(original, images, amplify)
        _write_image(output, output.suffix, Strips(strips, len(images) * len(original), NO_METADATA))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the file's name before what LrqError says."""
    try:
        yield
    except LrqError as error:
        raise type(error)(f"{path}: {error}") from error


def _bpp(data: bytes, header: container.Header) -> float:
    return 8 * len(data) / (header.width * header.height)


def _size(data: bytes, header: container.Header) -> str:
    return f"{len(data):,} bytes, {header.width} x {header.height} pixels, {_bpp(data, header):.3f} bits per pixel"


@main.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List the model packs that are shipped or installed, install one, or remove one."""
    if context.invoked_subcommand is None:
        for pack in zoo.packs():
            _show(pack)


@models.command()
@click.argument("pack", type=FILE)
@click.option("--name", help="Name of the model. Default: the folder's.")
@click.option("-f", "--force", is_flag=True, help="Replace an installed model of that name.")
def add(pack: Path, name: str | None, force: bool) -> None:
    """Install the model pack in the folder PACK.

    It is copied to $LRCODEC_MODELS, or to lrcodec/models in the user's data folder ($XDG_DATA_HOME, or
    ~/.local/share). Then encode knows it by name, and decode finds it by itself.
    """
    _show(zoo.install(pack, name, force))


@models.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the installed model NAME. Files that were encoded with it can no longer be decoded."""
    zoo.remove(name)


def _show(pack: zoo.Entry) -> None:
    """One line: name, fingerprint and description, or that the pack is damaged."""
    text = f"{pack.fingerprint.hex()}  {printable(pack.description)}" if pack.intact else "damaged"
    click.echo(f"{pack.name:<12} {text}")


@main.command()
@click.argument("paths", metavar="IMAGES or FOLDERS", type=FILE, nargs=-1, required=True)
@click.option("-o", "--output", metavar="PACK", type=FILE, required=True, help="Folder of the new model pack.")
@click.option("--preset", default="photo", show_default=True, help="Settings to train with.")
@click.option("--tile", metavar="WxH", help="Every file is a mosaic of images of this size, such as 64x64.")
@click.option("--grey", is_flag=True, help="Train a grey model: colour images are converted.")
@click.option("--steps", type=click.IntRange(1), help="Training steps. Default: the preset's.")
@click.option("--work", type=FILE, help="Folder of the checkpoints, where training resumes. Default: PACK.work.")
@click.option("--seed", type=int, default=0, show_default=True)
def train(
    paths: tuple[Path, ...],
    output: Path,
    preset: str,
    tile: str | None,
    grey: bool,
    steps: int | None,
    work: Path | None,
    seed: int,
) -> None:
    """Train a model pack on images, or resume its training."""
    from . import datasets
    from .bench import find_images

    with _extra("encode"):
        from .encoder.config import PRESETS
        from .encoder.train import train as run

    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset}: choose from {', '.join(PRESETS)}")
    config = PRESETS[preset] if steps is None else replace(PRESETS[preset], steps=steps)
    images = datasets.read(find_images(paths), tile, grey)
    options = [f"--tile {tile}"] * bool(tile) + ["--grey"] * grey
    options += [f"--steps {steps}"] * bool(steps) + [f"--seed {seed}"] * bool(seed)
    names = " ".join(path.name for path in paths)
    command = " ".join([f"lrq train {names} -o {output.name} --preset {preset}", *options])
    with click.progressbar(length=1000, file=sys.stderr, item_show_func=lambda line: line) as bar:

        def progress(done: float, line: str) -> None:
            if sys.stderr.isatty():
                bar.update(int(1000 * done) - bar.pos, line)
            else:
                click.echo(f"{done:4.0%} {line}", err=True)

        run(
            images,
            output,
            config=config,
            work=work or Path(f"{output}.work"),
            seed=seed,
            progress=progress,
            command=command,
        )


def _range(text: str) -> tuple[float, float]:
    """The range `LOW:HIGH` of rates. Raises UsageError."""
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low = high = 0
    if not 0 < low < high < math.inf:
        raise UsageError(f"range {text!r} is not LOW:HIGH, two rising numbers above 0")
    return low, high


@main.command()
@click.argument("paths", metavar="[IMAGES or FOLDERS]", type=FILE, nargs=-1)
@click.option("--rank", "ranks", type=click.IntRange(1, 4), multiple=True, help="Default: the model's own.")
@click.option(
    "-q",
    "--quality",
    "qualities",
    type=click.IntRange(0, 100),
    multiple=True,
    help="Default: 0, 10, ... 100; with --speed 50.",
)
@click.option("--effort", type=click.IntRange(0, 2), default=1, show_default=True)
@click.option("--model", default="photo", show_default=True, help="Name or folder of a model pack.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--no-transformer", is_flag=True, help="Search from block means instead of the transformer's latents.")
@click.option(
    "--anchor",
    "anchors",
    type=click.Choice(ANCHORS),
    multiple=True,
    default=ANCHORS,
    show_default="all",
    help="A codec to compare with.",
)
@click.option(
    "--bpp",
    metavar="LOW:HIGH",
    type=_range,
    help="Take the BD-rates only where lrq's mean bits per pixel are in this range.",
)
@click.option("--per-image", is_flag=True, help="Print the rows of every image too.")
@click.option("--json", "json_file", metavar="FILE", type=FILE, help="Write all figures as JSON.")
@click.option("--plot", "plot_file", metavar="FILE", type=FILE, help="Write the curves (suite: the figure) as a PNG.")
@click.option("--html", "html_file", metavar="FILE", type=FILE, help="Write curves, tables and pictures as one page.")
@click.option("--speed", is_flag=True, help="Time decoding instead, at equal sizes of files.")
@click.option("--large", type=Number(1, 250), help="Speed: also an image of so many megapixels.")
@click.option("--suite", type=click.Choice(["paper"]), help="Reproduce the paper's experiments instead.")
@click.option("--data", type=FILE, help="Suite: folder of the data sets. What it must hold is said if it is missing.")
@click.option("--work", type=FILE, default=Path("paper.work"), show_default=True, help="Suite: models, kept here.")
@click.option(
    "--set", "sets", type=click.Choice(SETS), multiple=True, default=SETS, help="Suite: data set. Default: all."
)
@click.option("--limit", type=click.IntRange(1), help="Suite: images of each split. Default: all.")
@click.option("--pictures", metavar="FILE", type=FILE, help="Suite: write test images side by side as a PNG.")
def bench(
    paths: tuple[Path, ...],
    ranks: tuple[int, ...],
    qualities: tuple[int, ...],
    effort: int,
    model: str,
    device: str,
    no_transformer: bool,
    anchors: tuple[str, ...],
    bpp: tuple[float, float] | None,
    per_image: bool,
    json_file: Path | None,
    plot_file: Path | None,
    html_file: Path | None,
    speed: bool,
    large: float | None,
    suite: str | None,
    data: Path | None,
    work: Path,
    sets: tuple[str, ...],
    limit: int | None,
    pictures: Path | None,
) -> None:
    """Measure rate, distortion and speed beside JPEG, WebP, AVIF, JPEG XL and JPEG 2000.

    Without arguments, on the photographs that scikit-image ships. --rank and -q may be given several times.
    With --speed: time warm decodes on one thread and on two, and whole processes.
    With --suite paper: train and measure the paper's models, its baseline and ours on its data sets.
    """
    from . import bench as measuring
    from . import report
    from .html import Gallery, page

    if speed and (suite or bpp or plot_file or html_file or no_transformer or len(ranks) > 1):
        raise UsageError(
            "--speed goes with one --rank, and without --suite, --bpp, --plot, --html and --no-transformer"
        )
    if suite and html_file:
        raise UsageError("--html goes without --suite")
    if large and not speed:
        raise UsageError("--large goes with --speed")
    if suite:
        _bench_suite(data or Path("."), work, sets, limit, json_file, plot_file, pictures)
        return
    images = measuring.find_images(paths)
    with _extra("encode"):
        from .encoder import Encoder
    from .decoder import Decoder

    pack = zoo.find(model)
    encoder, decoder = Encoder(model=model, device=device), Decoder(models=[pack.path])
    if speed:
        from .speed import run

        qualities = qualities or (50,)
        with click.progressbar(length=len(images) * len(qualities), file=sys.stderr) as bar:
            timed = run(
                measuring.read_images(images),
                qualities,
                lambda image, quality, smoothing: encoder.encode(
                    image, quality, ranks[0] if ranks else None, effort=effort, smoothing=smoothing
                ),
                {threads: Decoder([pack.path], threads=threads) for threads in (1, 2)},
                anchors,
                [pack.path] if pack.sha256 is None else [],
                large,
                progress=lambda: bar.update(1),
            )
        click.echo(report.speed_table(timed, per_image))
        if json_file:
            write_file(json_file, report.speed_json(timed).encode())
        return
    ranks, qualities = ranks or (encoder.config.default_rank,), qualities or tuple(range(0, 101, 10))
    gallery = Gallery(len(images), len(ranks) + len(anchors), qualities)
    with click.progressbar(length=measuring.row_count(len(images), ranks, qualities, anchors), file=sys.stderr) as bar:
        result = measuring.bench(
            measuring.read_images(images),
            ranks,
            qualities,
            lambda image, quality, rank: encoder.encode(
                image, quality, rank, effort=effort, use_transformer=not no_transformer
            ),
            decoder,
            anchors,
            progress=lambda row: bar.update(1),
            look=gallery.add,
        )
    click.echo(report.table(result, per_image, bpp))
    if json_file:
        write_file(json_file, report.to_json(result, bpp).encode())
    if plot_file:
        write_file(plot_file, report.plot(result))
    if html_file:
        write_file(html_file, page(result, gallery, per_image, bpp).encode(errors="replace"))


def _bench_suite(
    data: Path,
    work: Path,
    sets: tuple[str, ...],
    limit: int | None,
    json_file: Path | None,
    plot_file: Path | None,
    pictures: Path | None,
) -> None:
    from . import report
    from . import suite as paper

    with _extra("encode"):
        measured = paper.run(data, work, sets, limit, 0, lambda line: click.echo(line, err=True))
    click.echo(paper.table(measured.points))
    if json_file:
        write_file(json_file, paper.to_json(measured, report.versions()).encode())
    if plot_file:
        write_file(plot_file, paper.plot(measured.points))
    if pictures:
        write_file(pictures, paper.pictures(measured))


if __name__ == "__main__":
    main()
