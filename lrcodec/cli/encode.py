"""`lrq encode`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .. import targets
from ..errors import UsageError, extra
from ..files import check_place, write_file
from ..format import container
from ..measure.metrics import MS_SSIM_MIN_SIDE, colours, ms_ssim, ms_ssim_db, ms_ssim_of_db, psnr
from ..packs import store
from . import unfit
from .batch import Batch, Loaded, Written
from .help import Command
from .images import decode_images, job_of, size_text, write_image
from .options import (
    DEVICE,
    EFFORT,
    FILE,
    MODEL,
    RANK,
    SOURCES,
    THREADS,
    TUNE,
    Number,
    batch_options,
    byte_count,
    check_encoded,
    check_picture,
    is_lrq,
    is_picture,
    name_output,
)
from .progress import bar_of_shares

if TYPE_CHECKING:
    from ..decoder import Decoder
    from ..encoder import Encoder
    from ..image_io import Picture

GROUP_PIXELS = 2**18
"""Pixels of small images in a batch: about a second's work, and as fast as more at once."""
SEARCH = f"Takes up to {targets.MAX_ENCODES} encodes."


class Input(NamedTuple):
    """An image to encode, and the bytes of its file."""

    picture: "Picture"
    size: int


class Encoded(NamedTuple):
    """An encoded file. unfit: why another format keeps the image better, or "". reached: by a search for a target."""

    data: bytes
    unfit: str
    reached: str = ""


@dataclass
class Encoding:
    """How `lrq encode` makes files of images: what its options say, and the models once they are needed.

    settings: of `Encoder.encode_batch`. quality: where there is no target, of which there is one at most.
    """

    model: str
    device: str
    threads: int
    settings: dict[str, Any]
    quality: float
    target_size: int | None
    target_psnr: float | None
    target_ssim: float | None
    batch: Batch
    preview: Path | None

    @cached_property
    def encoder(self) -> "Encoder":
        """Loaded once."""
        with extra("encode"):
            from ..encoder import Encoder

        return Encoder(self.model, self.device, self.threads)

    @cached_property
    def decoder(self) -> "Decoder":
        """Of images of any size; loaded once."""
        from ..decoder import Decoder

        return Decoder([store.find(self.model).path], container.MAX_SIDE**2, self.threads)

    def load(self) -> Callable[[list[Input]], Sequence[Encoded | Callable[[], Encoded]]]:
        """What makes files of a group of images: at once, or, where there is a target, each when it is asked for."""
        self.encoder  # noqa: B018  what is wrong with it must show now
        if (self.target_size, self.target_psnr, self.target_ssim) == (None, None, None):
            return self.encode
        return lambda inputs: [partial(self.search, image) for image in inputs]

    def encode(self, inputs: list[Input]) -> list[Encoded]:
        """The files of images of one quality."""
        files = self._files([image.picture for image in inputs], self.quality)
        return list(map(Encoded, files, self._reasons(inputs, files, self.quality)))

    def search(self, image: Input) -> Encoded:
        """The file of an image that meets the target."""
        metric, sizes = self._metric(image), dict[float, int]()

        def encode(quality: float) -> bytes:
            last = "".join(f" ({tried:g} took {size:,} bytes)" for tried, size in [*sizes.items()][-1:])
            self.batch.show(f"encode {len(sizes) + 1} of at most {targets.MAX_ENCODES}: quality {quality:g}{last}")
            (data,) = self._files([image.picture], quality)
            sizes[quality] = len(data)
            return data

        if self.target_size is not None:
            coded = targets.for_size(encode, metric, self.target_size)
        else:
            coded = targets.for_level(encode, metric, self._level)
        (reason,) = self._reasons([image], [coded.data], coded.quality)
        return Encoded(coded.data, reason, f"quality {coded.quality:g}, {metric.text(coded.level)}, ")

    @property
    def _level(self) -> float:
        """The dB that a file should have."""
        if self.target_ssim is not None:
            return ms_ssim_db(self.target_ssim)
        assert self.target_psnr is not None
        return self.target_psnr

    def _metric(self, image: Input) -> targets.Metric:
        """MS-SSIM where it is the target, PSNR otherwise. Raises UsageError for an image that is too small for it."""
        pixels = colours(image.picture.pixels)
        if self.target_ssim is None:
            return targets.Metric(
                lambda data: psnr(pixels, colours(self.decoder.decode(data))), lambda level: f"{level:.2f} dB PSNR"
            )
        height, width = pixels.shape[:2]
        if min(height, width) < MS_SSIM_MIN_SIDE:
            raise UsageError(f"--target-ssim needs {MS_SSIM_MIN_SIDE} pixels a side, not {width} x {height}")
        return targets.Metric(
            lambda data: ms_ssim_db(ms_ssim(pixels, colours(self.decoder.decode(data)))),
            lambda level: f"MS-SSIM {ms_ssim_of_db(level):.4f}",
        )

    def write(self, target: Path, encoded: Encoded | Callable[[], Encoded]) -> Written:
        """Write a file, and the preview if one is asked for."""
        data, reason, reached = encoded if isinstance(encoded, Encoded) else encoded()
        write_file(target, data)
        if self.preview:
            write_image(self.preview, self.preview.suffix, decode_images(self.decoder, [job_of(data)])[0])
        header = container.unpack_header(data)
        size = size_text(len(data), header.width, header.height)
        return Written(len(data), reached + size, always=self.batch.single or bool(reached), remark=reason)

    def _files(self, pictures: list["Picture"], quality: float) -> list[bytes]:
        pixels, metadata = zip(*pictures, strict=True)
        with bar_of_shares(not self.batch.quiet) as progress:
            return self.encoder.encode_batch(
                pixels, quality=quality, metadata=metadata, progress=progress, **self.settings
            )

    def _reasons(self, inputs: list[Input], files: list[bytes], quality: float) -> list[str]:
        """Why each of the images should not be a file of this kind; "" if there is no reason, or nobody reads it."""
        if self.batch.quiet:
            return [""] * len(files)
        pixels, sizes = [image.picture.pixels for image in inputs], [image.size for image in inputs]
        return unfit.reasons(pixels, sizes, files, quality, lambda: self.decoder.decode_batch)


@click.command(cls=Command)
@SOURCES
@click.option("-o", "--output", metavar="OUT", type=FILE, help="Default: IN with the suffix .lrq.")
@batch_options
@click.option("-q", "--quality", metavar="Q", type=Number(0, 100), help="Also fractions, such as 75.5. Default: 50.")
@click.option(
    "--target-size",
    metavar="BYTES",
    type=byte_count,
    help="Instead of -q: a file of at most this size, such as 9500, 20k (20,000) or 1M; as a rule it is less than 1 % "
    "smaller. " + SEARCH,
)
@click.option(
    "--target-psnr",
    metavar="DB",
    type=Number(0, min_open=True),
    help="Instead of -q: a file of at least this PSNR; as a rule it is less than 0.05 dB better. " + SEARCH,
)
@click.option(
    "--target-ssim",
    metavar="X",
    type=Number(0, 1, min_open=True, max_open=True),
    help="Instead of -q: a file of at least this MS-SSIM, such as 0.97; as a rule it lacks at most 1 % less to 1. The "
    f"image needs {MS_SSIM_MIN_SIDE} pixels a side. " + SEARCH,
)
@RANK
@click.option(
    "--iterations",
    metavar="N",
    type=click.IntRange(1, 32),
    help="At most so many codewords for a patch at each scale. Default: no cap.",
)
@MODEL
@EFFORT
@TUNE
@DEVICE
@THREADS
@click.option("--no-smoothing", is_flag=True, help="Leave out the smoothing: a faster decoder.")
@click.option("--strip", is_flag=True, help="Leave out EXIF and XMP; the image is turned upright first.")
@click.option(
    "--to-8bit", is_flag=True, help="Also convert images of 16 bits a sample, floating point and CMYK to 8 bits."
)
@click.option(
    "--frame",
    type=click.IntRange(1),
    metavar="N",
    help="Take this frame of an animation, or page of a document; 1 is the first.",
)
@click.option(
    "--preview", metavar="FILE", type=FILE, help="Also write what decoding will show; the suffix gives the format."
)
def encode(
    sources: tuple[Path, ...],
    output: Path | None,
    batch_arguments: dict[str, Any],
    quality: float | None,
    target_size: int | None,
    target_psnr: float | None,
    target_ssim: float | None,
    rank: int | None,
    iterations: int | None,
    model: str,
    effort: int,
    tune: str,
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

    If one of several files fails, the others go on; the exit code is that of the first failure.
    """
    if sum(value is not None for value in (quality, target_size, target_psnr, target_ssim)) > 1:
        raise UsageError("only one of -q, --target-size, --target-psnr and --target-ssim can set the quality")
    if not batch_arguments["out_dir"]:
        sources, output = name_output(sources, output, is_lrq)
    batch = Batch(sources, output, ".lrq", is_picture, **batch_arguments)
    if output:
        check_encoded(output)
    if preview:
        if not batch.single:
            raise UsageError("--preview goes with a single input")
        check_picture("--preview", preview, [*sources, *batch.targets])
        check_place(preview)
    encoding = Encoding(
        model,
        device,
        threads,
        settings={
            "rank": rank,
            "iterations": iterations,
            "effort": effort,
            "tune": tune,
            "smoothing": not no_smoothing,
        },
        quality=50 if quality is None else quality,
        target_size=target_size,
        target_psnr=target_psnr,
        target_ssim=target_ssim,
        batch=batch,
        preview=preview,
    )
    batch.run(partial(_read, to_8bit, strip, frame), encoding.load, encoding.write, GROUP_PIXELS)
    for line in unfit.notes(batch.remarks, batch.count):
        batch.say(line)
    batch.end()


def _read(to_8bit: bool, strip: bool, frame: int | None, data: bytes) -> Loaded[Input]:
    from ..image_io import read_picture

    picture = read_picture(data, to_8bit, strip, frame)
    return Loaded(Input(picture, len(data)), picture.pixels.shape[0] * picture.pixels.shape[1])
