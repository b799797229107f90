"""What the paper says of its form, and what is measured here."""

from collections.abc import Callable, Sequence

from ..measure.tables import Table, cell
from .curves import best, cheapest_not_worse, nearest, size_at
from .suite import Point, Suite

MSE = 3.6e-3
"""At which the paper states how many times smaller its images are."""
SMALLER, FEWER, BITS = "over 21", "10 to 100", "slightly more"
"""What it says: "over 21x reduction in image size at as low as 3.6 x 10^-3 mean squared error", "reducing the decoder
computation by 10-100x", "comparable quality, albeit at slightly higher bpp"."""

Row = tuple[str, str, Callable[[list[Point]], str]]


def headline(suite: Suite) -> Table:
    """A line for each claim and way of counting, a column for each data set."""
    sets = list(suite.images)
    rows: tuple[Row, ...] = (
        (f"times smaller at MSE {MSE:.1e}: paper, raw indices", SMALLER, _smaller("paper", "raw_bpp")),
        ("the same: paper, whole files", "", _smaller("paper", "bpp")),
        ("the same: vq-vae, raw indices", "", _smaller("vq-vae", "raw_bpp")),
        ("the same: vq-vae, whole files", "", _smaller("vq-vae", "bpp")),
        ("the same: lrq, whole files", "", _smaller("lrq", "bpp")),
        ("times fewer MACs than the vq-vae of the nearest MSE: paper", FEWER, _fewer_nearest),
        ("at times its bits per pixel, raw indices: paper", BITS, _times_bits),
        ("times fewer MACs than a vq-vae, no larger and no worse: paper", "", _fewer_not_worse("paper")),
        ("the same: lrq", "", _fewer_not_worse("lrq")),
    )
    groups = [[p for p in suite.points if p.dataset == name] for name in sets]
    return Table(
        ["", "the paper says", *sets], [[what, says or "-", *map(measured, groups)] for what, says, measured in rows], 2
    )


def _smaller(model: str, size: str) -> Callable[[list[Point]], str]:
    def measured(points: list[Point]) -> str:
        if model == "lrq":
            curve = [p for p in points if p.model == model and p.setting.isdecimal()]
        else:
            curve = best([p for p in points if p.model == model], "mse", size)
        found = size_at(curve, "mse", MSE, size)
        return cell(found and points[0].ratio * points[0].bpp / found, ".1f")

    return measured


def _fewer_nearest(points: list[Point]) -> str:
    return _range([pair.times_macs for pair in nearest(points)], ",.0f")


def _times_bits(points: list[Point]) -> str:
    return _range([pair.times_raw_bpp for pair in nearest(points)], ".2f")


def _fewer_not_worse(model: str) -> Callable[[list[Point]], str]:
    def measured(points: list[Point]) -> str:
        times = []
        for reference in (p for p in points if p.model == "vq-vae"):
            found = cheapest_not_worse(points, reference, [model])
            if found and found.macs and reference.macs:
                times.append(reference.macs / found.macs)
        return _range(times, ",.0f")

    return measured


def _range(values: Sequence[float], form: str) -> str:
    if not values:
        return "-"
    low, high = cell(min(values), form), cell(max(values), form)
    return low if low == high else f"{low} to {high}"
