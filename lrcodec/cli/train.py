"""`lrq train`."""

import os
from dataclasses import replace
from pathlib import Path

import click

from ..errors import UsageError, extra
from ..files import check_outputs
from .help import Command
from .options import FILE, THREADS
from .progress import bar_of, goes_on

PRESETS = ("photo", "small", "small-best", "aligned", "line-art", "tiny")


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
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random numbers.")
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
        from ..encoder.limits import torch_threads
        from ..training import ranks
        from ..training.presets import PRESETS as settings
        from ..training.run import train as run

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
    with goes_on(work), torch_threads(threads), ranks.joined(), bar_of(1000) as bar:

        def progress(done: float, line: str) -> None:
            if not ranks.first():
                return
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
