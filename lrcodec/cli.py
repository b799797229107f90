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

from . import cli_models, container, grid, targets, unfit, zoo
from .batch import Batch, Loaded, Written
from .errors import UsageError, extra
from .extras import NO_METADATA, Metadata, unpack_metadata
from .files import (
    FAILURES,
    STANDARD,
    Failure,
    check_place,
    explain,
    fail,
    naming,
    read_file,
    title,
    write_file,
)
from .help import Group
from .options import (
    DEVICE,
    EFFORT,
    FILE,
    FORCE,
    MAX_PIXELS,
    MODEL,
    MODELS,
    OUT_DIR,
    QUIET,
    RECURSIVE,
    SKIP,
    SOURCES,
    THREADS,
    VERBOSE,
    Number,
    Region,
    byte_count,
    check_decoded,
    check_encoded,
    check_picture,
    image_suffix,
    is_image,
    is_lrq,
    is_picture,
    name_output,
)

if TYPE_CHECKING:
    from .decoder import Decoder
    from .pixels import Picture

ENCODED_TOGETHER, DECODED_TOGETHER = 2**18, 2**20
"""Pixels of small images in a batch: about a second's work, and as fast as more at once."""
SEARCH = f"Takes up to {targets.MAX_ENCODES} encodes."


class Input(NamedTuple):
    """An image to encode, and the bytes of its file."""

    picture: "Picture"
    size: int


class Made(NamedTuple):
    """A file that was encoded; why it should not have been, if so; and what a search for a target has reached."""

    data: bytes
    unfit: str
    reached: str = ""


Job = tuple[bytes, Region | None]
"""A file to decode, and the part of its image that is decoded strip by strip; None: the whole of a small image."""


class Strips(NamedTuple):
    """An image to write: its rows from top to bottom, uint8 (some of them, width[, channels]), and their number."""

    strips: Iterable[np.ndarray]
    width: int
    height: int
    metadata: Metadata


class Lrq(Group):
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
            what_next = error.args if isinstance(error, KeyboardInterrupt) else ()
            fail(Failure(": ".join(["interrupted", *what_next]), 130))
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
      1    a file cannot be read or written, memory is short, or a training failed
      2    wrong usage, or an image that cannot be encoded
      3    not a valid .lrq file
      4    unsupported version of the format, or unknown model
      5    the image or its metadata exceeds a limit
      6    the encoder, or what bench needs, is not installed: pip install "lrcodec[encode,bench]"
      130  interrupted, by SIGINT or SIGTERM
    """


@main.command()
@SOURCES
@click.option("-o", "--output", metavar="OUT", type=FILE, help="Default: IN with the suffix .lrq.")
@OUT_DIR
@FORCE
@SKIP
@RECURSIVE
@VERBOSE
@QUIET
@click.option("-q", "--quality", metavar="Q", type=Number(0, 100), help="Also fractions, such as 75.5. Default: 50.")
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
@click.option("--rank", metavar="N", type=click.IntRange(1, 4), help="Rank of the codewords. Default: the model's own.")
@click.option(
    "--iterations", metavar="N", type=click.IntRange(1, 32), help="Cap on the depth of every scale. Default: none."
)
@MODEL
@EFFORT
@DEVICE
@THREADS
@click.option("--no-smoothing", is_flag=True, help="Leave out the smoothing: a faster decoder.")
@click.option("--strip", is_flag=True, help="Leave out EXIF and XMP; the image is turned as its EXIF says.")
@click.option(
    "--to-8bit", is_flag=True, help="Also convert images of 16 bits a sample, floating point and CMYK to 8 bits."
)
@click.option(
    "--frame", type=click.IntRange(1), metavar="N", help="Of an animation or a document of several pages; 1: the first."
)
@click.option(
    "--preview", metavar="FILE", type=FILE, help="Also write what decoding will show; the suffix gives the format."
)
def encode(
    sources: tuple[Path, ...],
    output: Path | None,
    out_dir: Path | None,
    force: bool,
    skip_existing: bool,
    recursive: bool,
    verbose: bool,
    quiet: bool,
    quality: float | None,
    target_size: int | None,
    target_psnr: float | None,
    rank: int | None,
    iterations: int | None,
    model: str,
    effort: int,
    device: str,
    threads: int,
    no_smoothing: bool,
    strip: bool,
    to_8bit: bool,
    frame: int | None,
    preview: Path | None,
) -> None:
    """Encode image files, or those in folders. - is standard input or output.

    `lrq encode IN OUT.lrq` is `lrq encode IN -o OUT.lrq` if there is no OUT.lrq yet.

    Of several, those that fail do not stop the others; the exit code is that of the first failure.
    """
    from .pixels import read_picture

    if sum(value is not None for value in (quality, target_size, target_psnr)) > 1:
        raise UsageError("only one of -q, --target-size and --target-psnr can set the quality")
    if not out_dir:
        sources, output = name_output(sources, output, is_lrq)
    batch = Batch(
        sources,
        output,
        ".lrq",
        is_picture,
        out_dir=out_dir,
        force=force,
        skip_existing=skip_existing,
        recursive=recursive,
        verbose=verbose,
        quiet=quiet,
    )
    if output:
        check_encoded(output)
    if preview:
        if not batch.single:
            raise UsageError("--preview goes with a single input")
        check_picture("--preview", preview, [*sources, *batch.targets])
        check_place(preview)

    def read(data: bytes) -> Loaded[Input]:
        picture = read_picture(data, to_8bit, strip, frame)
        return Loaded(Input(picture, len(data)), picture.pixels.shape[0] * picture.pixels.shape[1])

    def load() -> Callable[[list[Input]], Sequence[Made | Callable[[], Made]]]:
        with extra("encode"):
            from .encoder import Encoder

        encoder = Encoder(model, device, threads)

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

        def reasons(inputs: list[Input], files: list[bytes], quality: float) -> list[str]:
            if batch.quiet:
                return [""] * len(files)
            images = [own.picture.pixels for own in inputs]
            return unfit.reasons(images, [own.size for own in inputs], files, quality, lambda: decoder().decode_batch)

        def encode_all(inputs: list[Input]) -> list[Made]:
            level = 50 if quality is None else quality
            files = encode_batch([own.picture for own in inputs], level)
            return list(map(Made, files, reasons(inputs, files, level)))

        def search(own: Input) -> Made:
            shown = _shown(encode_batch, batch.show)
            coded = _search(shown, decoder(), target_size, target_psnr, own.picture)
            (reason,) = reasons([own], [coded.data], coded.quality)
            return Made(coded.data, reason, f"quality {coded.quality:g}, {coded.psnr:.2f} dB PSNR, ")

        if target_size is None and target_psnr is None:
            return encode_all
        return lambda inputs: [partial(search, own) for own in inputs]

    @cache
    def decoder() -> "Decoder":
        from .decoder import Decoder

        return Decoder([zoo.find(model).path], container.MAX_SIDE**2, threads)

    def write(target: Path, made: Made | Callable[[], Made]) -> Written:
        data, reason, reached = made if isinstance(made, Made) else made()
        write_file(target, data)
        if preview:
            _write_image(preview, preview.suffix, _decode(decoder(), [_job(data)])[0])
        header = container.unpack_header(data)
        size = _size(len(data), header.width, header.height)
        return Written(len(data), reached + size, always=batch.single or bool(reached), remark=reason)

    batch.run(read, load, write, ENCODED_TOGETHER)
    for line in unfit.notes(batch.remarks, batch.count):
        batch.say(line)
    batch.end()


def _shown(encode_batch: Callable[..., list[bytes]], show: Callable[[str], None]) -> Callable[..., list[bytes]]:
    """`encode_batch` for the search of one target, which shows every encode."""
    count, last = 0, ""

    def encode(pictures: list["Picture"], quality: float) -> list[bytes]:
        nonlocal count, last
        count += 1
        show(f"encode {count} of at most {targets.MAX_ENCODES}: quality {quality:g}{last}")
        files = encode_batch(pictures, quality)
        last = f" ({quality:g} took {len(files[0]):,} bytes)"
        return files

    return encode


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
    metavar="FORMAT",
    type=image_suffix,
    help="Such as png, ppm or webp. Default: the suffix of OUT, and png without an OUT or on standard output.",
)
@click.option(
    "--output-quality",
    metavar="N",
    type=click.IntRange(0, 100),
    help="As Pillow counts. Default: 95 for .jpg; .webp is lossless without.",
)
@OUT_DIR
@FORCE
@SKIP
@RECURSIVE
@VERBOSE
@QUIET
@MAX_PIXELS
@MODELS
@THREADS
@click.option(
    "--region", metavar="X,Y,W,H", type=Region.parse, help="Only this rectangle, in pixels from the top left."
)
def decode(
    sources: tuple[Path, ...],
    output: Path | None,
    suffix: str | None,
    output_quality: int | None,
    out_dir: Path | None,
    force: bool,
    skip_existing: bool,
    recursive: bool,
    verbose: bool,
    quiet: bool,
    max_pixels: int,
    models: tuple[str, ...],
    threads: int,
    region: Region | None,
) -> None:
    """Decode .lrq files, or those in folders. - is standard input or output.

    `lrq decode IN OUT.png` is `lrq decode IN -o OUT.png` if there is no OUT.png yet, with any suffix of an image.

    Of several, those that fail do not stop the others; the exit code is that of the first failure.
    """
    from .pixels import check_quality

    if not out_dir:
        sources, output = name_output(sources, output, is_image)
    batch = Batch(
        sources,
        output,
        suffix or ".png",
        is_lrq,
        out_dir=out_dir,
        force=force,
        skip_existing=skip_existing,
        recursive=recursive,
        verbose=verbose,
        quiet=quiet,
    )
    if output:
        check_decoded(output, suffix)
    check_quality(suffix or (".png" if output in (None, STANDARD) else output.suffix), output_quality)

    def read(data: bytes) -> Loaded[Job]:
        job, header = _job(data, region), container.unpack_header(data)
        return Loaded(job, header.width * header.height)

    def load() -> Callable[[list[Job]], list[Strips]]:
        from .decoder import Decoder

        return partial(_decode, Decoder(models, max_pixels, threads))

    def write(target: Path, image: Strips) -> Written:
        kind = suffix or (".png" if target == STANDARD else target.suffix)
        size = _write_image(target, kind, image, output_quality)
        return Written(size, _size(size, image.width, image.height))

    batch.run(read, load, write, DECODED_TOGETHER)
    batch.end()


def _job(data: bytes, region: Region | None = None) -> Job:
    """How a file is to be decoded. Raises FormatError, UnsupportedError; UsageError for a region outside the image."""
    header = container.unpack_header(data)
    whole = Region(0, 0, header.width, header.height)
    if region:
        region.check(whole)
    return data, region or (whole if header.width * header.height > grid.STRIP_PIXELS else None)


def _write_image(path: Path, suffix: str, image: Strips, quality: int | None = None) -> int:
    from .pixels import write_strips

    return write_file(path, write_strips(image.strips, image.height, suffix, image.metadata, quality))


def _decode(decoder: "Decoder", jobs: list[Job]) -> list[Strips]:
    """Small images are decoded together, now; the others as their strips are asked for."""
    small = iter(decoder.decode_batch([data for data, part in jobs if part is None]))
    images: list[Strips] = []
    for data, part in jobs:
        header, chunks = container.unpack(data)
        strips = part.columns(decoder.strips(data, part.rows)) if part else [next(small)]
        size = part or header
        images.append(Strips(strips, size.width, size.height, unpack_metadata(chunks)))
    return images


@main.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(file: Path, as_json: bool) -> None:
    """Check a .lrq file for damage, and show what it holds. - is standard input."""
    data = read_file(file)
    with naming(title(file)):
        header, chunks = container.unpack(data)
    bpp = _bpp(len(data), header.width, header.height)
    fields = header.describe()
    if as_json:
        rows = [{"tag": chunk.tag.decode(), "bytes": len(chunk.payload)} for chunk in chunks]
        click.echo(json.dumps({**fields, "bytes": len(data), "bpp": bpp, "chunks": rows}, indent=2))
        return
    for field in container.FIELDS:
        click.echo(f"{field.name:<11} {fields[field.name]!s:<17} {field.meaning}")
    for chunk in chunks:
        what = container.CONTENTS.get(chunk.tag, "unknown")
        click.echo(f"chunk {chunk.tag.decode():<5} {f'{len(chunk.payload):,} bytes':<17} {what}")
    click.echo(f"file        {_size(len(data), header.width, header.height)}")


@main.command()
@click.argument("reference", type=FILE)
@click.argument("files", metavar="FILE...", type=FILE, nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="OUT", type=FILE, help="Write a picture: for each FILE reference, FILE and difference."
)
@click.option(
    "--amplify", type=click.IntRange(1, 255), help="With -o: so many times the difference in the picture. Default: 8."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@MAX_PIXELS
@MODELS
def compare(
    reference: Path,
    files: tuple[Path, ...],
    output: Path | None,
    amplify: int | None,
    as_json: bool,
    max_pixels: int,
    models: tuple[str, ...],
) -> None:
    """Print PSNR, MS-SSIM and bits per pixel of images.

    Each FILE is measured against the image REFERENCE.

    All may be .lrq files or other images, one of them - for standard input. Alpha is left out.
    """
    from . import compare as comparing
    from .decoder import Decoder

    paths = [reference, *files]
    if paths.count(STANDARD) > 1:
        raise UsageError("- stands for standard input once: it holds one file")
    if output:
        check_picture("-o", output, paths)
        check_place(output)
    elif amplify:
        raise UsageError("--amplify goes with -o")
    decode = Decoder(models, max_pixels).decode
    data = read_file(reference)
    with naming(title(reference)):
        original = comparing.read(data, decode)
    rows, images = [], []
    for path in files:
        data = read_file(path)
        with naming(title(path)):
            image = comparing.read(data, decode)
            rows.append(comparing.compare(str(path), len(data), image, original))
        if output:
            images.append(image)
    click.echo(comparing.to_json(str(reference), rows) if as_json else comparing.table(rows))
    if output:
        strips = comparing.picture(original, images, amplify or 8)
        height, width = original.shape[:2]
        _write_image(output, output.suffix, Strips(strips, 3 * width, height * len(images), NO_METADATA))


def _bpp(count: int, width: int, height: int) -> float:
    return 8 * count / (width * height)


def _size(count: int, width: int, height: int) -> str:
    """What there is to say of a file of so many bytes."""
    return f"{count:,} bytes, {width} x {height} pixels, {_bpp(count, width, height):.3f} bits per pixel"


for command in (cli_models.models, cli_models.train, cli_models.bench):
    main.add_command(command)


if __name__ == "__main__":
    main()
