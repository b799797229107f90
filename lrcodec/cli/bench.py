"""`lrq bench` and `lrq speed`."""

import math
from importlib import import_module
from pathlib import Path

import click

from ..errors import UsageError, extra
from ..files import check_outputs, write_file
from ..packs import store
from ..runtime import no_list_of_fonts
from .help import Command
from .options import DEVICE, EFFORT, FILE, MODEL, RANK, THREADS, TUNE_HELP, TUNING, Number
from .progress import bar_of

ANCHORS = ("jpeg", "webp", "avif", "jxl", "jpeg2000")
IMAGES = click.argument("paths", metavar="[IMAGES or FOLDERS]", type=FILE, nargs=-1)
ANCHOR = click.option(
    "--anchor",
    "anchors",
    type=click.Choice(ANCHORS),
    multiple=True,
    default=ANCHORS,
    show_default="all",
    help="Codec to compare with.",
)
PER_IMAGE = click.option("--per-image", is_flag=True, help="Print the rows of every image too.")
JSON = click.option("--json", "json_file", metavar="FILE", type=FILE, help="Write all figures as JSON.")


def _range(text: str) -> tuple[float, float]:
    """The range `LOW:HIGH` of rates. Raises UsageError."""
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low = high = 0
    if not 0 < low < high < math.inf:
        raise UsageError(f"range {text!r} is not LOW:HIGH, two rising numbers above 0")
    return low, high


@click.command(cls=Command)
@IMAGES
@click.option(
    "--rank",
    "ranks",
    metavar="N",
    type=click.IntRange(1, 4),
    multiple=True,
    help="Rank of the codewords. Default: the model's own.",
)
@click.option(
    "-q",
    "--quality",
    "qualities",
    metavar="Q",
    type=Number(0, 100),
    multiple=True,
    default=tuple(range(0, 101, 10)),
    show_default="0, 10, ... 100",
    help="Quality of the files, also fractions.",
)
@EFFORT
@click.option("--tune", "tunings", type=TUNING, multiple=True, default=("eye",), show_default="eye", help=TUNE_HELP)
@MODEL
@DEVICE
@THREADS
@click.option("--no-transformer", is_flag=True, help="Search from block means instead of the transformer's latents.")
@ANCHOR
@click.option(
    "--bpp",
    metavar="LOW:HIGH",
    type=_range,
    help="Take the BD-rates only where lrq's mean bits per pixel are in this range. Default: everywhere.",
)
@PER_IMAGE
@JSON
@click.option("--plot", "plot_file", metavar="FILE", type=FILE, help="Write the curves as a PNG.")
@click.option("--html", "html_file", metavar="FILE", type=FILE, help="Write curves, tables and pictures as one page.")
@no_list_of_fonts()
def bench(
    paths: tuple[Path, ...],
    ranks: tuple[int, ...],
    qualities: tuple[float, ...],
    effort: int,
    tunings: tuple[str, ...],
    model: str,
    device: str,
    threads: int,
    no_transformer: bool,
    anchors: tuple[str, ...],
    bpp: tuple[float, float] | None,
    per_image: bool,
    json_file: Path | None,
    plot_file: Path | None,
    html_file: Path | None,
) -> None:
    """Measure rate and distortion beside other codecs.

    The others are JPEG, WebP, AVIF, JPEG XL and JPEG 2000. Without IMAGES, the photographs that scikit-image ships are
    measured. --anchor, --rank, --tune and -q may be given several times.
    """
    from ..measure import bench as measuring
    from ..measure import report
    from ..measure.html import Gallery, page

    images, pack = _inputs(paths, model, [json_file, plot_file, html_file])
    drawing = ["matplotlib"] * bool(plot_file or html_file)
    require("bjontegaard", "tabulate", "ssimulacra2", *["scipy"] * bool(bpp), *drawing, *["jinja2"] * bool(html_file))
    with extra("encode"):
        from ..encoder import Encoder
    from ..decoder import Decoder

    encoder, decoder = Encoder(model, device, threads), Decoder([pack], threads=threads)
    ranks = ranks or (encoder.config.default_rank,)
    ours = [measuring.Curve(measuring.LRQ, rank, tune) for rank in ranks for tune in tunings]
    gallery = Gallery(len(images), len(ours) + len(anchors), qualities)
    with bar_of(measuring.row_count(len(images), ours, qualities, anchors)) as bar:
        result = measuring.bench(
            measuring.read_images(images),
            ours,
            qualities,
            lambda image, quality, curve: encoder.encode(
                image, quality, curve.rank, effort=effort, tune=str(curve.tune), use_transformer=not no_transformer
            ),
            decoder,
            anchors,
            progress=lambda row: bar and bar.update(1),
            look=gallery.add,
        )
    click.echo(report.table(result, per_image, bpp))
    if json_file:
        write_file(json_file, report.to_json(result, bpp).encode())
    if plot_file:
        write_file(plot_file, report.plot(result))
    if html_file:
        write_file(html_file, page(result, gallery, per_image, bpp).encode(errors="replace"))


@click.command(cls=Command)
@IMAGES
@RANK
@click.option(
    "-q",
    "--quality",
    "qualities",
    metavar="Q",
    type=Number(0, 100),
    multiple=True,
    default=(50,),
    show_default="50",
    help="Quality of the files, also fractions.",
)
@EFFORT
@MODEL
@DEVICE
@ANCHOR
@click.option(
    "--large",
    metavar="MEGAPIXELS",
    type=Number(1, 250),
    help="Also time an image of this size. Default: none.",
)
@PER_IMAGE
@JSON
def speed(
    paths: tuple[Path, ...],
    rank: int | None,
    qualities: tuple[float, ...],
    effort: int,
    model: str,
    device: str,
    anchors: tuple[str, ...],
    large: float | None,
    per_image: bool,
    json_file: Path | None,
) -> None:
    """Time decoding beside other codecs, at equal sizes of files.

    Times warm decodes and their parts, on one thread and on two, those of the paper's baseline, and whole processes.
    Without IMAGES, the photographs that scikit-image ships are decoded. -q and --anchor may be given several times.
    """
    from ..measure import bench as measuring
    from ..measure import speed_report
    from ..measure.speed import run

    images, pack = _inputs(paths, model, [json_file])
    require("tabulate")
    with extra("encode"):
        from ..encoder import Encoder
        from ..paper.baseline_graph import BaselineDecoder
    from ..decoder import Decoder

    encoder = Encoder(model, device)
    with bar_of(len(images) * len(qualities)) as bar:
        timed = run(
            measuring.read_images(images),
            qualities,
            lambda image, quality, smoothing: encoder.encode(image, quality, rank, effort=effort, smoothing=smoothing),
            {threads: Decoder([pack], threads=threads) for threads in (1, 2)},
            anchors,
            [pack] if store.find(model).sha256 is None else [],
            large,
            BaselineDecoder,
            progress=lambda: bar and bar.update(1),
        )
    click.echo(speed_report.table(timed, per_image))
    if json_file:
        write_file(json_file, speed_report.to_json(timed).encode())


def _inputs(paths: tuple[Path, ...], model: str, outputs: list[Path | None]) -> tuple[list[Path], Path]:
    """The images to measure and the folder of the pack. What is wrong with them or the outputs is raised here."""
    from .. import image_files
    from ..measure.bench import read_images

    images, pack = image_files.find_images(paths), store.find(model).path
    check_outputs(outputs, [*images, *pack.glob("*")])
    for _ in read_images(images):
        pass  # one that is of no use must show now, not after hours of measuring the others
    return images, pack


def require(*packages: str) -> None:
    """Raise EncoderMissingError now, not at the end of the measurements, if one of these is not installed."""
    with extra("bench"):
        for package in packages:
            import_module(package)
