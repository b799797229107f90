"""What the suite measured, made readable: tables, and JSON that keeps every figure."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict

from ..measure.tables import Column, Table, cell, table_of
from .cost import BATCH, Cost
from .curves import best, cheapest_not_worse, cost_of, nearest, size_at
from .headline import headline
from .suite import Point, Suite

COLUMNS = (
    Column("model", "model"),
    Column("setting", "setting"),
    Column("bytes", "bytes", ".1f"),
    Column("bpp", "bpp", ".3f"),
    Column("ratio", "ratio", ".1f"),
    Column("raw bpp", "raw_bpp", ".3f"),
    Column("raw ratio", "raw_ratio", ".1f"),
    Column("MSE", "mse", ".2e"),
    Column("PSNR dB", "psnr", ".2f"),
    Column("MAC/px", "macs", ",.0f"),
    Column("usage", "usage", ".1%"),
)
COST_COLUMNS = (
    Column("model", "model"),
    Column("setting", "setting"),
    Column("MAC/px", "macs", ",.0f"),
    Column("ms", "ms", ".3f"),
    Column(f"ms, batch of {BATCH}", "ms_batch", ".3f"),
    Column("MiB", "memory", ".1f"),
    Column("MiB, batch", "memory_batch", ".1f"),
    Column("bytes of weights", "weights", ",d"),
)
TARGETS = {
    "celeba64": (("mse", 3.6e-3), ("psnr", 27.0), ("psnr", 30.0)),
    "cifar10": (("mse", 3.6e-3), ("psnr", 27.0)),
    "mnist": (("mse", 3.6e-3), ("mse", 1e-3), ("mse", 6e-4)),
}
"""Where each data set's curves are compared: a field of `Point`, and its value."""
CHECKED = (0.2, 0.5, 1.0)
"""Shares of a baseline's epochs after which its table tells the error."""
LAST = 0.9
"""How much the error fell after this share of the epochs shows whether a baseline has converged."""


def tables(suite: Suite) -> str:
    """Markdown: the headline; for each data set all points, sizes at equal quality, MACs and milliseconds beside the
    baseline's, its convergence, and the cost of every decoder.

    Raises EncoderMissingError if the package tabulate is missing.
    """
    parts = ["### What the paper says", headline(suite).markdown()]
    for name in suite.images:
        points = [p for p in suite.points if p.dataset == name]
        costs = [c for c in suite.costs if c.dataset == name]
        parts += [f"### {name}", table_of(points, COLUMNS).markdown(), _equal_quality(points).markdown()]
        parts += [_not_worse(suite, points), _nearest(suite, points).markdown()]
        if suite.curves.get(name):
            parts.append(_convergence(suite, points).markdown())
        if costs:
            parts.append(table_of(costs, COST_COLUMNS).markdown())
    return "\n\n".join(filter(None, parts))


def _equal_quality(points: Sequence[Point]) -> Table:
    """Bytes at equal quality, every curve read between its points; of settings that are no curve, the best ones."""
    targets = TARGETS[points[0].dataset]
    curves: dict[str, list[Point]] = {}
    for point in points:
        trained = point.model in ("paper", "vq-vae")
        name = f"{point.model}, best settings" if trained else point.model + point.setting.partition(",")[2]
        curves.setdefault(name, []).append(point)
    headings = [f"MSE {value:.1e}" if field == "mse" else f"{value:g} dB" for field, value in targets]
    lines = []
    for name, curve in curves.items():
        fields = dict.fromkeys(field for field, _ in targets)
        chosen = {field: best(curve, field) if name.endswith("best settings") else curve for field in fields}
        lines.append([name, *(cell(size_at(chosen[field], field, value), ".0f") for field, value in targets)])
    return Table(["bytes at", *headings], lines)


def _not_worse(suite: Suite, points: Sequence[Point]) -> str:
    """For each baseline: what is no larger and no worse, and how many times fewer MACs and milliseconds that needs."""
    lines = []
    for reference in (p for p in points if p.model == "vq-vae"):
        found = cheapest_not_worse(points, reference, ("paper", "lrq"))
        line = f"- {_brief(reference)}: "
        if found is None or not found.macs or not reference.macs:
            lines.append(line + "nothing here is as small and as good")
        else:
            fewer = f"**{reference.macs / found.macs:.0f} times fewer**"
            lines.append(f"{line}{_brief(found)}, {fewer}{_milliseconds(suite, reference, found)}")
    return "\n".join(lines)


def _milliseconds(suite: Suite, reference: Point, found: Point) -> str:
    slow, fast = cost_of(suite, reference), cost_of(suite, found)
    if not slow or not fast:
        return ""
    return f"; milliseconds: {slow.ms / fast.ms:.1f} times fewer, {slow.ms_batch / fast.ms_batch:.1f} in a batch"


def _brief(point: Point) -> str:
    return f"{point.model} {point.setting}: {point.bytes:.0f} bytes, MSE {point.mse:.2e}, {point.macs:,.0f} MAC/px"


def _nearest(suite: Suite, points: Sequence[Point]) -> Table:
    """For each setting of the paper's form, the baseline of the nearest MSE, and what the two are to each other."""
    headings = ["paper", "MSE", "nearest vq-vae", "its MSE", "times fewer MACs", "times fewer ms"]
    lines = []
    for pair in nearest(points):
        slow, fast = cost_of(suite, pair.baseline), cost_of(suite, pair.point)
        lines.append([
            pair.point.setting,
            cell(pair.point.mse, ".2e"),
            pair.baseline.setting,
            cell(pair.baseline.mse, ".2e"),
            cell(pair.times_macs, ",.0f"),
            cell(slow.ms / fast.ms if slow and fast else None, ".1f"),
            cell(pair.times_raw_bpp, ".2f"),
            cell(pair.point.bytes / pair.baseline.bytes, ".2f"),
        ])  # fmt: skip
    return Table([*headings, "times the raw bpp", "times the bytes"], lines)


def _convergence(suite: Suite, points: Sequence[Point]) -> Table:
    """For each baseline its test errors along the training, and how much of its codebook the test images use."""
    lines, headings = [], []
    for point in (p for p in points if p.model == "vq-vae"):
        curve = suite.curves[point.dataset][point.setting]
        epochs = [max(1, round(share * len(curve))) for share in (*CHECKED, LAST)]
        *errors, late = (curve[epoch - 1]["mse"] for epoch in epochs)
        headings = [f"MSE, epoch {epoch}" for epoch in epochs[:-1]]
        gain = f"{1 - errors[-1] / late:.1%}"
        lines.append([point.setting, *(cell(error, ".2e") for error in errors), gain, cell(point.usage, ".1%")])
    return Table(["vq-vae", *headings, f"gain of the last {1 - LAST:.0%} of epochs", "usage"], lines)


def to_json(suite: Suite, versions: dict[str, str]) -> str:
    """Everything measured but the pictures, one point, cost or epoch a line."""
    head = {
        "versions": versions,
        "machine": platform.machine(),
        "format": suite.version,
        "packs": suite.packs,
        "images": suite.images,
    }
    curves = [
        {"dataset": name, "setting": setting} | epoch
        for name, settings in suite.curves.items()
        for setting, rows in settings.items()
        for epoch in rows
    ]
    parts = {"points": map(asdict, suite.points), "costs": map(asdict, suite.costs), "curves": curves}
    lists = [
        f' "{name}": [\n' + ",\n".join("  " + json.dumps(row) for row in rows) + "\n ]" for name, rows in parts.items()
    ]
    return json.dumps(head, indent=1)[:-2] + ",\n" + ",\n".join(lists) + "\n}\n"


def from_json(text: str) -> Suite:
    """What `to_json` was given, without versions and pictures."""
    document = json.loads(text)
    curves: dict[str, dict[str, list[dict]]] = {}
    for row in document["curves"]:
        curves.setdefault(row.pop("dataset"), {}).setdefault(row.pop("setting"), []).append(row)
    return Suite(
        document["format"],
        document["packs"],
        {name: (training, test) for name, (training, test) in document["images"].items()},
        [Point(**row) for row in document["points"]],
        [Cost(**row) for row in document["costs"]],
        curves,
    )
