"""The commands that manage, train and measure models: `lrq models`, `train` and `bench`. See cli.py."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..errors import LrqError, UsageError, extra
from ..files import check_outputs, printable, write_file
from ..packs import zoo
from ..runtime import no_list_of_fonts
from .help import Command
from .options import DEVICE, EFFORT, FILE, MODEL, THREADS, Number

ANCHORS = ("jpeg", "webp", "avif", "jxl", "jpeg2000")
SETS = ("celeba64", "cifar10", "mnist")
PRESETS = ("photo", "small", "small-best", "line-art", "tiny")
MODES = {
    "paths": ("curves", "speed"),
    "ranks": ("curves", "speed"),
    "qualities": ("curves", "speed"),
    "effort": ("curves", "speed"),
    "model": ("curves", "speed"),
    "device": ("curves", "speed"),
    "threads": ("curves",),
    "no_transformer": ("curves",),
    "anchors": ("curves", "speed"),
    "bpp": ("curves",),
    "per_image": ("curves", "speed"),
    "plot_file": ("curves", "suite"),
    "html_file": ("curves",),
    "speed": ("speed",),
    "large": ("speed",),
    "data": ("suite",),
    "work": ("suite",),
    "sets": ("suite",),
    "limit": ("suite",),
    "pictures": ("suite",),
}
"""What `lrq bench` makes, curves unless --speed or --suite is given, that a parameter has an effect on; others: all."""


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List, install or remove model packs."""
    if context.invoked_subcommand is None:
        for pack in zoo.packs():
            _show(pack)


@models.command(cls=Command)
@click.argument("pack", type=FILE)
@click.option("--name", help="Name of the model. Default: the folder's.")
@click.option("-f", "--force", is_flag=True, help="Replace an installed model of that name.")
def add(pack: Path, name: str | None, force: bool) -> None:
    """Install the model pack in the folder PACK.

    It is copied to $LRCODEC_MODELS, or to lrcodec/models in the user's data folder ($XDG_DATA_HOME, or
    ~/.local/share). Then encode knows it by name, and decode finds it by itself.
    """
    _show(zoo.install(pack, name, force))


@models.command(cls=Command)
@click.argument("name")
def remove(name: str) -> None:
    """Remove the installed model NAME. Files that were encoded with it can no longer be decoded."""
    zoo.remove(name)


def _show(pack: zoo.Entry) -> None:
    """One line: name, fingerprint and description, or that the pack is damaged."""
    text = f"{pack.fingerprint.hex()}  {printable(pack.description)}" if pack.intact else "damaged"
    click.echo(f"{pack.name:<12} {text}")


@click.command(cls=Command)
@click.argument("paths", metavar="IMAGES or FOLDERS", type=FILE, nargs=-1, required=True)
@click.option("-o", "--output", metavar="PACK", type=FILE, required=True, help="Folder of the new model pack.")
@click.option(
    "--preset", type=click.Choice(PRESETS), default="photo", show_default=True, help="Settings to train with."
)
@click.option(
    "--tile", metavar="WxH", help="Every file is a mosaic of images of this size, such as 64x64. Default: one image."
)
@click.option("--grey", is_flag=True, help="Train a grey model: colour images are converted.")
@click.option("--steps", type=click.IntRange(1), help="Training steps. Default: the preset's.")
@click.option("--work", type=FILE, help="Folder of the checkpoints, where training resumes. Default: PACK.work.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn at random.")
@THREADS
def train(
    paths: tuple[Path, ...],
    output: Path,
    preset: str,
    tile: str | None,
    grey: bool,
    steps: int | None,
    work: Path | None,
    seed: int,
    threads: int,
) -> None:
    """Train a model pack on images, or resume its training."""
    from .. import image_files

    with extra("encode"):
        from ..encoder import torch_threads
        from ..training.presets import PRESETS as settings
        from ..training.train import train as run

    config = settings[preset] if steps is None else replace(settings[preset], steps=steps)
    work = work or Path(f"{output}.work")
    files = image_files.find_images(paths)
    check_outputs([output, work], paths, folders=True)
    for path in (work, *files):  # an older pack is replaced, with all that is in its folder
        if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(output)):
            raise UsageError(f"{path} lies in {output}, which the new pack replaces: name another folder with -o")
    options = [f"--tile {tile}"] * bool(tile) + ["--grey"] * grey
    options += [f"--steps {steps}"] * bool(steps) + [f"--seed {seed}"] * bool(seed)
    names = " ".join(path.name for path in paths)
    command = " ".join([f"lrq train {names} -o {output.name} --preset {preset}", *options])
    with _goes_on(work), torch_threads(threads), _bar(1000) as bar:

        def progress(done: float, line: str) -> None:
            if bar:
                bar.update(int(1000 * done) - bar.pos, line)
            else:
                click.echo(f"{done:4.0%} {line}", err=True)

        run(
            image_files.read(files, tile, grey),
            output,
            config=config,
            work=work,
            seed=seed,
            progress=progress,
            command=command,
        )


@contextmanager
def _goes_on(work: Path) -> Iterator[None]:
    """Says, when a training is interrupted or runs out of memory, that what it has done is kept in the work folder."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError) as error:
        if not work.exists():
            raise
        what_next = f"run the same command again, it goes on from {work}"
        if isinstance(error, MemoryError):
            raise LrqError(f"out of memory; when there is more, {what_next}") from None
        raise KeyboardInterrupt(what_next) from None


@contextmanager
def _bar(length: int) -> Iterator[Any]:
    """A progress bar of click on a terminal, else None: click would print an empty line."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=length, file=sys.stderr, item_show_func=lambda line: line) as bar:
        yield bar


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
@click.argument("paths", metavar="[IMAGES or FOLDERS]", type=FILE, nargs=-1)
@click.option(
    "--rank",
    "ranks",
    type=click.IntRange(1, 4),
    multiple=True,
    help="Rank of the codewords. Default: the model's own.",
)
@click.option(
    "-q",
    "--quality",
    "qualities",
    type=Number(0, 100),
    multiple=True,
    help="Quality of the files, also fractions. Default: 0, 10, ... 100; with --speed 50.",
)
@EFFORT
@MODEL
@DEVICE
@THREADS
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
    help="Take the BD-rates only where lrq's mean bits per pixel are in this range. Default: everywhere.",
)
@click.option("--per-image", is_flag=True, help="Print the rows of every image too.")
@click.option("--json", "json_file", metavar="FILE", type=FILE, help="Write all figures as JSON.")
@click.option("--plot", "plot_file", metavar="FILE", type=FILE, help="Write the curves (suite: the figure) as a PNG.")
@click.option("--html", "html_file", metavar="FILE", type=FILE, help="Write curves, tables and pictures as one page.")
@click.option("--speed", is_flag=True, help="Time decoding instead, at equal sizes of files.")
@click.option("--large", type=Number(1, 250), help="Speed: also an image of so many megapixels. Default: none.")
@click.option("--suite", type=click.Choice(["paper"]), help="Reproduce the paper's experiments instead. Default: none.")
@click.option(
    "--data",
    type=FILE,
    default=Path("."),
    show_default=True,
    help="Suite: folder of the data sets. What it must hold is said if it is missing.",
)
@click.option("--work", type=FILE, default=Path("paper.work"), show_default=True, help="Suite: models, kept here.")
@click.option(
    "--set",
    "sets",
    type=click.Choice(SETS),
    multiple=True,
    default=SETS,
    show_default="all",
    help="Suite: a data set.",
)
@click.option("--limit", type=click.IntRange(1), help="Suite: images of each split. Default: all.")
@click.option("--pictures", metavar="FILE", type=FILE, help="Suite: write test images side by side as a PNG.")
@click.pass_context
@no_list_of_fonts()
def bench(
    context: click.Context,
    paths: tuple[Path, ...],
    ranks: tuple[int, ...],
    qualities: tuple[float, ...],
    effort: int,
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
    speed: bool,
    large: float | None,
    suite: str | None,
    data: Path,
    work: Path,
    sets: tuple[str, ...],
    limit: int | None,
    pictures: Path | None,
) -> None:
    """Measure rate, distortion and speed beside other codecs.

    They are JPEG, WebP, AVIF, JPEG XL and JPEG 2000.

    Without arguments, on the photographs that scikit-image ships. --rank and -q may be given several times.
    With --speed: time warm decodes on one thread and on two, and whole processes.
    With --suite paper: train and measure the paper's models, its baseline and ours on its data sets.
    """
    from .. import image_files
    from ..measure import bench as measuring
    from ..measure import report
    from ..measure.html import Gallery, page

    _check_mode(context, "suite" if suite else "speed" if speed else "curves")
    if speed and len(ranks) > 1:
        raise UsageError("--speed goes with one --rank")
    outputs = [json_file, plot_file, html_file, pictures]
    if suite:
        check_outputs(outputs, data.glob("*/*"))
        check_outputs([work], [data], folders=True)
        _bench_suite(data, work, sets, limit, json_file, plot_file, pictures)
        return
    images = image_files.find_images(paths)
    pack = zoo.find(model)
    check_outputs(outputs, [*images, *pack.path.glob("*")])
    for _ in measuring.read_images(images):
        pass  # one that is of no use must show now, not after hours of measuring the others
    if not speed:
        _require("bjontegaard", *["scipy"] * bool(bpp), *["matplotlib"] * bool(plot_file or html_file))
    with extra("encode"):
        from ..encoder import Encoder
    from ..decoder import Decoder

    encoder, decoder = Encoder(model, device, threads), Decoder([pack.path], threads=threads)
    if speed:
        from ..measure.speed import run

        qualities = qualities or (50,)
        with _bar(len(images) * len(qualities)) as bar:
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
                progress=lambda: bar and bar.update(1),
            )
        click.echo(report.speed_table(timed, per_image))
        if json_file:
            write_file(json_file, report.speed_json(timed).encode())
        return
    ranks, qualities = ranks or (encoder.config.default_rank,), qualities or tuple(range(0, 101, 10))
    gallery = Gallery(len(images), len(ranks) + len(anchors), qualities)
    with _bar(measuring.row_count(len(images), ranks, qualities, anchors)) as bar:
        result = measuring.bench(
            measuring.read_images(images),
            ranks,
            qualities,
            lambda image, quality, rank: encoder.encode(
                image, quality, rank, effort=effort, use_transformer=not no_transformer
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


def _check_mode(context: click.Context, mode: str) -> None:
    """Raise UsageError for a parameter of `bench` that was given and has no effect on what it is to make."""
    for parameter in context.command.params:
        name = parameter.name or ""
        modes = MODES.get(name, (mode,))
        if mode not in modes and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = parameter.opts[-1] if isinstance(parameter, click.Option) else parameter.human_readable_name
            where = f"without --{modes[0]}" if mode == "curves" else f"with --{mode}"
            raise UsageError(f"{option} has no effect {where}")


def _require(*packages: str) -> None:
    """Raise EncoderMissingError now, not at the end of the measurements, if one of these is not installed."""
    with extra("bench"):
        for package in packages:
            import_module(package)


def _bench_suite(
    data: Path,
    work: Path,
    sets: tuple[str, ...],
    limit: int | None,
    json_file: Path | None,
    plot_file: Path | None,
    pictures: Path | None,
) -> None:
    from ..measure import report
    from ..paper import suite as paper

    with extra("encode"):
        import_module("lrcodec.training.train")
    _require(*["matplotlib"] * bool(plot_file or pictures))
    with _goes_on(work):
        measured = paper.run(data, work, sets, limit, 0, lambda line: click.echo(line, err=True))
    click.echo(paper.table(measured.points))
    if json_file:
        write_file(json_file, paper.to_json(measured, report.versions()).encode())
    if plot_file:
        write_file(plot_file, paper.plot(measured.points))
    if pictures:
        write_file(pictures, paper.pictures(measured))
