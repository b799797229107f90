"""`lrq selftest`."""

import json
from collections import Counter
from pathlib import Path

import click

from ..errors import LrqError
from ..files import printable, show
from .help import Command


@click.command(cls=Command)
@click.option(
    "--c",
    "programs",
    metavar="LRQDEC",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="A decoder in C, as formats/c makes it, also several times. Default: that of a checkout, if it is built.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def selftest(programs: tuple[Path, ...], as_json: bool) -> None:
    """Tell whether files decode to the right pixels here.

    Decodes test vectors in every way that is here: by ONNX Runtime at each level of optimisation, with one thread and
    several, and by the decoder in C. Prints machine and versions, and of each way the time and what is wrong. Add it to
    a report of an error. The exit code is 1 if a pixel is wrong.
    """
    from .. import selftest as test
    from ..measure.machine import machine, versions

    known, left_out = test.vectors()
    missing = dict(Counter(vector.case["model"] for vector in left_out))
    head = {"versions": versions(), "machine": machine(), "vectors": len(known), "left_out": missing}
    if not as_json:
        click.echo(", ".join(f"{name} {text}" for name, text in versions().items()))
        click.echo(", ".join(f"{name} {value}" for name, value in machine().items() if value))
        click.echo(f"{len(known)} vectors of {', '.join(sorted({vector.case['model'] for vector in known}))}")
        if missing:
            counts = ", ".join(f"{count} of {model}" for model, count in missing.items())
            click.echo(f"left out, since their models are not here: {counts}")
    outcomes = []
    for way in test.ways(programs):
        show(f"{way.name} ...")
        outcome = test.outcome(way, known)
        show()
        outcomes.append(outcome)
        if not as_json:
            equal = outcome.vectors - len(outcome.wrong)
            click.echo(f"{equal:>4} equal, {len(outcome.wrong)} wrong in {outcome.seconds:6.2f} s: {outcome.name}")
            for vector, what in outcome.wrong.items():
                click.echo(f"     {vector}: {printable(what)}")
    if as_json:
        click.echo(json.dumps(head | {"ways": [outcome._asdict() for outcome in outcomes]}, indent=2))
    if wrong := sum(len(outcome.wrong) for outcome in outcomes):
        raise LrqError(f"{wrong} of {len(known) * len(outcomes)} decodings are wrong")
