"""The `lrq` command: printing and exit codes. Its helpers are options.py, files.py and, for models, cli_models.py.

Heavy modules are imported inside the commands: `lrq --help` and `lrq decode` never import torch, and `lrq info`
imports no onnxruntime either.
"""

import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click
import numpy as np

from . import cli_models, container, grid, targets, zoo
from .errors import LrqError, UsageError, extra
from .extras import NO_METADATA, Metadata, unpack_metadata
from .files import FAILURES, STANDARD, Batch, Failure, explain, fail, read_file, say, write_file
from .options import (
    FILE,
    FORCE,
    MAX_PIXELS,
    MODELS,
    OUT_DIR,
    SOURCES,
    Number,
    Region,
    byte_count,
    check_picture,
    image_suffix,
)

if TYPE_CHECKING:
    from .decoder import Decoder
    from .pixels import Picture

SEARCH = f"Takes up to {targets.MAX_ENCODES} encodes."

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
@click.option("-q", "--quality", type=Number(0, 100), help="Also fractions, such as 75.5. Default: 50.")
@click.option(
    "--target-size",
    metavar="BYTES",
    type=byte_count,
    help="Instead of -q: at most this size, by less than 1 % as a rule, such as 9500, 20k (20,000) or 1M. " + SEARCH,
)
@click.option(
    "--target-psnr",
    metavar="DB",
    type=Number(0, min_open=True),
    help="Instead of -q: at least this PSNR, by less than 0.05 dB as a rule. " + SEARCH,
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
@click.option(
    "--to-8bit", is_flag=True, help="Also convert images of 16 bits a sample, floating point and CMYK to 8 bits."
)
@click.option(
    "--preview", metavar="FILE", type=FILE, help="Also write what decoding will show; the suffix gives the format."
)
def encode(
    sources: tuple[Path, ...],
    output: Path | None,
    out_dir: Path | None,
    force: bool,
    quality: float | None,
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
        check_picture("--preview", preview, [path for pair in batch.files for path in pair])
        if not batch.single:
            raise UsageError("--preview goes with a single input")

    def read(data: bytes) -> tuple["Picture", int]:
        picture = read_picture(data, to_8bit, strip)
        return picture, picture.pixels.shape[0] * picture.pixels.shape[1]

    def load() -> Callable[[list["Picture"]], Sequence[Made]]:
        with extra("encode"):
            from .encoder import Encoder

        encoder = Encoder(model=model, device=device)

        def encode_batch(pictures: list["Picture"], quality: float) -> list[bytes]:
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
            data, reached = coded.data, f"quality {coded.quality:g}, {coded.psnr:.2f} dB PSNR, "
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

    def encode(quality: float) -> bytes:
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
    type=image_suffix,
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
        image_suffix(output.suffix)

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
        check_picture("-o", output, paths)
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


for command in (cli_models.models, cli_models.train, cli_models.bench):
    main.add_command(command)


if __name__ == "__main__":
    main()
