"""`lrq paper`."""

from importlib import import_module
from pathlib import Path

import click

from ..errors import UsageError, extra
from ..files import check_outputs, write_file
from ..runtime import no_list_of_fonts
from .bench import require
from .help import Command
from .options import FILE
from .progress import goes_on

SETS = ("celeba64", "cifar10", "mnist")
RESULTS = ("paper.md", "paper.json", "figure3.png", "figure4.png", "curves.png")


@click.command(cls=Command)
@click.option(
    "--data",
    type=FILE,
    default=Path("."),
    show_default=True,
    help="Folder of the data sets. If images are missing, the error says what it must hold.",
)
@click.option(
    "--work", type=FILE, default=Path("paper.work"), show_default=True, help="Folder where the trained models are kept."
)
@click.option(
    "--set",
    "sets",
    type=click.Choice(SETS),
    multiple=True,
    default=SETS,
    show_default="all",
    help="Data set to measure.",
)
@click.option(
    "--limit", metavar="N", type=click.IntRange(1), help="Use at most this many images of each split. Default: all."
)
@click.option(
    "--train",
    "pattern",
    metavar="PATTERN",
    help="Train the models of this name, such as 'vq-vae*', and measure nothing. Default: train all, then measure.",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=FILE,
    help=f"Folder for {', '.join(RESULTS[:-1])} and {RESULTS[-1]}. Without it the tables are printed only.",
)
@no_list_of_fonts()
def paper(
    data: Path, work: Path, sets: tuple[str, ...], limit: int | None, pattern: str | None, output: Path | None
) -> None:
    """Reproduce the experiments of the paper.

    Trains the paper's models and its baseline on the paper's data sets, and measures them beside ours. --set may be
    given several times.
    """
    from ..measure.machine import versions

    if pattern is not None and output:
        raise UsageError("--train measures nothing that -o could write")
    inputs = [data / name for name in SETS]
    check_outputs([work, output], [data, *inputs], folders=True)
    if output and output.exists():
        check_outputs([output / name for name in RESULTS], [path for folder in inputs for path in folder.glob("*")])
    with extra("encode"):
        import_module("lrcodec.training.run")
        from ..paper import suite

    def say(line: str) -> None:
        click.echo(line, err=True)

    if pattern is not None:
        with goes_on(work):
            suite.train(data, work, sets, limit, pattern, 0, say)
        return
    require("tabulate", "skimage", *["matplotlib"] * bool(output))
    from ..paper import figures
    from ..paper import report as paper_report

    with goes_on(work):
        measured = suite.run(data, work, sets, limit, 0, say)
    tables = paper_report.tables(measured)
    click.echo(tables)
    if output:
        # All are made before the first is written.
        results = (
            f"{tables}\n".encode(),
            paper_report.to_json(measured, versions()).encode(),
            figures.figure3(measured),
            figures.figure4(measured),
            figures.curves(measured),
        )
        output.mkdir(parents=True, exist_ok=True)
        for name, content in zip(RESULTS, results, strict=True):
            write_file(output / name, content)
