"""`lrq paper`."""

from importlib import import_module
from pathlib import Path

import click

from ..errors import extra
from ..files import check_outputs, write_file
from ..runtime import no_list_of_fonts
from .bench import require
from .help import Command
from .options import FILE
from .progress import goes_on

SETS = ("celeba64", "cifar10", "mnist")


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
@click.option("--json", "json_file", metavar="FILE", type=FILE, help="Write all figures as JSON.")
@click.option("--plot", "plot_file", metavar="FILE", type=FILE, help="Write the paper's figure 4 as a PNG.")
@click.option("--pictures", metavar="FILE", type=FILE, help="Write test images side by side as a PNG.")
@no_list_of_fonts()
def paper(
    data: Path,
    work: Path,
    sets: tuple[str, ...],
    limit: int | None,
    json_file: Path | None,
    plot_file: Path | None,
    pictures: Path | None,
) -> None:
    """Reproduce the experiments of the paper.

    Trains the paper's models and its baseline on the paper's data sets, and measures them beside ours. --set may be
    given several times.
    """
    from ..measure import report
    from ..paper import report as paper_report
    from ..paper import suite

    check_outputs([json_file, plot_file, pictures], data.glob("*/*"))
    check_outputs([work], [data], folders=True)
    with extra("encode"):
        import_module("lrcodec.training.run")
    require("tabulate", *["matplotlib"] * bool(plot_file or pictures))
    with goes_on(work):
        measured = suite.run(data, work, sets, limit, 0, lambda line: click.echo(line, err=True))
    click.echo(paper_report.table(measured.points))
    if json_file:
        write_file(json_file, paper_report.to_json(measured, report.versions()).encode())
    if plot_file:
        write_file(plot_file, paper_report.plot(measured.points))
    if pictures:
        write_file(pictures, paper_report.pictures(measured))
