"""The decoder's graph: one model, in ONNX Runtime, which draws all but the low-rank sums (low_rank.py)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from ..format import container, grid
from ..packs.pack import Pack
from . import low_rank
from .session import fetch, open_session, session_options


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates per image pixel, by part of the decoder.

    low_rank: the thin products of all codewords that are drawn.
    prediction: enlargement and the convolutions beside it, and the interpolation of chroma.
    """

    low_rank: float
    prediction: float
    smoothing: float
    colour: float

    @property
    def total(self) -> float:
        """Of all parts."""
        return self.low_rank + self.prediction + self.smoothing + self.colour


class Graph:
    """One ONNX graph of a pack, for one colour kind, with or without smoothing.

    options: of its session, by default those of `session_options`.
    """

    def __init__(
        self, pack: Pack, colour: int, smoothing: bool, threads: int = 0, options: ort.SessionOptions | None = None
    ):
        self.pack, self.smoothing = pack, smoothing
        self.channels = 3 if colour == container.RGB else 1
        self.session = open_session(pack, pack.graph(colour, smoothing), options or session_options(threads))

    def run(
        self, planes: list[np.ndarray], rank: int, height: int, width: int, rows: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Draw images, or the rows of pixels [top, bottom) of them.

        planes: index planes (count, rows, columns, iterations) of every scale; of all rows that the image has, or of
        those that `grid.window` names. Returns uint8 (count, height or bottom - top, width[, 3]).
        """
        top, bottom = rows or (0, height)
        firsts = [first for first, _ in grid.window(self.pack.scales, height, top, bottom)]
        above, finest = firsts[-1] * self.pack.scales[-1].patch, self.pack.scales[-1]
        count, h, w = (np.array(planes[-1].shape[:3]) * (1, finest.patch, finest.patch) // (1, 2, 2)).tolist()
        shape = count, 4 * self.channels, h, w
        polyphase = fetch(self.session, self.pack, "pixels", self.inputs(planes, rank, firsts), np.uint8, shape)
        phases = polyphase.reshape(count, self.channels, 2, 2, h, w)
        pixels = np.empty((count, h, 2, w, 2, self.channels), np.uint8)
        for c, y, x in np.ndindex(self.channels, 2, 2):  # several times faster than one transposition
            pixels[:, :, y, :, x, c] = phases[:, c, y, x]
        pixels = pixels.reshape(count, 2 * h, 2 * w, self.channels)[:, top - above : bottom - above, :width]
        return np.ascontiguousarray(pixels[..., 0] if self.channels == 1 else pixels)

    def plane(self, planes: list[np.ndarray], rank: int, firsts: Sequence[int] | None = None) -> np.ndarray:
        """Draw images no further than up to the scale that `planes` ends with: no finer one is computed.

        planes: as for `run`, of the coarsest scale and those that follow it, but not of the finest of several.
        firsts: for each of them the first row of patches that is given; None: all rows that the image has are given.
        Returns the planes of that scale, int16 (count, channels, rows, columns), within the limits of planes.
        """
        inputs = self.inputs(planes, rank, firsts)
        scale = self.pack.scales[len(planes) - 1]
        count, h, w = (np.array(planes[-1].shape[:3]) * (1, scale.patch, scale.patch)).tolist()
        return fetch(
            self.session, self.pack, f"plane{scale.scale}", inputs, np.float32, (count, self.channels, h, w)
        ).astype(np.int16)

    def inputs(
        self, planes: Sequence[np.ndarray], rank: int, firsts: Sequence[int] | None = None
    ) -> dict[str, np.ndarray]:
        """The graph's inputs for index planes, `firsts` as for `plane`; scales without planes get none."""
        inputs, above = {"finest": np.array([self.pack.scales[len(planes) - 1].scale])}, 0
        firsts = firsts or [0] * len(planes)
        for i, (scale, plane, first) in enumerate(zip(self.pack.scales, planes, firsts, strict=False)):
            inputs[f"drawn{scale.scale}"] = low_rank.draw(self.pack, scale, plane, rank, self.channels)
            start = first * scale.patch
            if i:
                inputs[f"crop{scale.scale}"] = np.array([start // 2 - above])
            above = start
        for scale in self.pack.scales[len(planes) :]:
            inputs[f"drawn{scale.scale}"] = np.zeros((0, 4 * scale.channels(self.channels), 0, 0), np.float32)
            inputs[f"crop{scale.scale}"] = np.zeros(1, np.int64)
        return inputs

    def macs(self, planes: list[np.ndarray], rank: int, height: int, width: int) -> Macs:
        """What `run` multiplies and accumulates for each pixel, from the shapes of its products and convolutions."""
        low_rank, prediction, rows, columns = 0.0, 0, 0, 0
        for i, (scale, plane) in enumerate(zip(self.pack.scales, planes, strict=True)):
            p, c = scale.patch, scale.channels(self.channels)
            if i:
                # On the coarser plane five taps down give two phases, four padding columns included; five across four.
                prediction += c * 5 * rows * (2 * (columns + 4) + 4 * columns)
                prediction += rows * columns * self.pack.prediction_weights(scale, self.channels)
            rows, columns = plane.shape[1] * p, plane.shape[2] * p
            low_rank += np.count_nonzero(plane) / len(plane) * rank * p * p * c
        blocks, pixels, finest = rows * columns // 4, height * width, self.pack.scales[-1]
        smoothing = blocks * self.pack.smoothing_weights(self.channels) if self.smoothing else 0
        # Chroma that the finest scale has not is interpolated with nine taps for each of four phases.
        prediction += blocks * 36 * (self.channels - finest.channels(self.channels))
        colour = blocks * (4 * self.channels) ** 2
        return Macs(low_rank / pixels, prediction / pixels, smoothing / pixels, colour / pixels)
