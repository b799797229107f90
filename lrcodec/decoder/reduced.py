"""Drawing an image at a part of its size, from the planes of a coarse scale."""

import numpy as np

from ..format import grid
from ..format.container import Header
from ..format.shrink import colours, means
from .graph import Graph


def run(
    graph: Graph, header: Header, planes: list[np.ndarray], shrink: int, rows: tuple[int, int] | None = None
) -> list[np.ndarray]:
    """`graph.run` at 1/shrink of the size, shrink being 2 or more; rows are those of the images of that size.

    planes: as for `graph.run`, of the scales that are `grid.drawn` alone. Returns images uint8 (rows, width[, 3]).
    """
    scales = grid.drawn(graph.pack.scales, shrink)
    size = header.shrunk(shrink)
    top, bottom = rows or (0, size.height)
    firsts = [first for first, _ in grid.window(scales, header.height, top, bottom, shrink)]
    values = graph.plane(planes, header.rank, firsts)
    n = shrink // scales[-1].scale
    above = firsts[-1] * scales[-1].patch
    return [colours(image) for image in means(values[:, :, top * n - above :], n, bottom - top, size.width)]
