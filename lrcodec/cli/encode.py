"""`lrq encode`."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from .. import targets
from ..errors import UsageError, extra
from ..files import check_place, write_file
from ..format import container
from ..packs import zoo
from . import unfit
from .batch import Batch, Loaded, Written
from .help import Command
from .images import decode_images, job_of, size_text, write_image
from .options import (
    DEVICE,
    EFFORT,
    FILE,
    FORCE,
    MODEL,
    OUT_DIR,
    QUIET,
    RECURSIVE,
    SKIP,
    SOURCES,
    THREADS,
    VERBOSE,
    Number,
    byte_count,
    check_encoded,
    check_picture,
    is_lrq,
    is_picture,
    name_output,
)

if TYPE_CHECKING:
    from ..decoder import Decoder
    from ..image_io import Picture

TOGETHER = 2**18
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


@click.command(cls=Command)
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
    from ..image_io import read_picture

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
            from ..encoder import Encoder

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
        from ..decoder import Decoder

        return Decoder([zoo.find(model).path], container.MAX_SIDE**2, threads)

    def write(target: Path, made: Made | Callable[[], Made]) -> Written:
        data, reason, reached = made if isinstance(made, Made) else made()
        write_file(target, data)
        if preview:
            write_image(preview, preview.suffix, decode_images(decoder(), [job_of(data)])[0])
        header = container.unpack_header(data)
        size = size_text(len(data), header.width, header.height)
        return Written(len(data), reached + size, always=batch.single or bool(reached), remark=reason)

    batch.run(read, load, write, TOGETHER)
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
    from ..measure.metrics import colours, psnr

    def encode(quality: float) -> bytes:
        return encode_batch([picture], quality=quality)[0]

    def measure(data: bytes) -> float:
        return psnr(colours(picture.pixels), colours(decoder.decode(data)))

    if size is not None:
        return targets.for_size(encode, measure, size)
    assert level is not None
    return targets.for_psnr(encode, measure, level)
