"""`lrq paper`: the paper's experiments, beside its baseline, our packs and classic codecs.

Every point is a model at one setting, measured on all test images of a data set. Models of the paper's form and
baselines are trained on the training images where the work folder does not hold them yet.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..decoder import Decoder
from ..files import write_file
from ..format import container
from ..format.container import Header
from ..measure import classic
from ..measure.metrics import mse, psnr
from ..packs import store
from ..packs.pack import fingerprint
from . import datasets
from .cost import BATCH, BaselineDecoding, Cost, Decoding, PackDecoding, measure_cost
from .examples import example
from .models import Data, Progress, Setting, baseline, folder_of, paper_pack, settings, train_matching

PACKS = {"celeba64": "faces64", "cifar10": "cifar10", "mnist": "mnist"}
QUALITIES = (0, 10, 20, 30, 35, 40, 50, 60, 80)
EFFORT = 2


@dataclass(frozen=True)
class Point:
    """One model at one setting: means over the test images of a data set.

    model: paper, vq-vae, lrq, or a classic codec. setting: what was turned, or the quality.
    bytes, bpp, ratio: whole files; ratio is raw 8-bit bytes / bytes. The baseline has no file format: its bytes are
    the ideal code length of its indices in our container.
    raw_bpp, raw_ratio: indices x log2 K alone, as the paper counts; None where there is no such count.
    mse: on [0, 1] pixels. psnr: dB, the mean over the images; None if one of them is exact.
    macs: multiply-accumulates of the decoder per pixel; None for a classic codec.
    usage: share of the codewords of a shared codebook that the test images use.
    """

    dataset: str
    model: str
    setting: str
    bytes: float
    bpp: float
    ratio: float
    raw_bpp: float | None
    raw_ratio: float | None
    mse: float
    psnr: float | None
    macs: float | None
    usage: float | None


@dataclass(frozen=True)
class Picture:
    """The `example` of a data set, as a point's model decodes it: uint8 (h, w[, 3]), whole file, and the error."""

    dataset: str
    model: str
    setting: str
    pixels: np.ndarray
    bpp: float
    mse: float
    macs: float


@dataclass(frozen=True)
class Suite:
    """All that is measured.

    version: of the format that all points are in; None if they are of several. packs: SHA-256 of our packs, by name.
    images: how many of each set were trained on, and tested. costs: of all points that have MACs. curves: of the
    baselines, by data set and setting, rows of `baseline_training.Epoch`. pictures: of all points that have MACs.
    """

    version: int | None = container.VERSION
    packs: dict[str, str] = field(default_factory=dict)
    images: dict[str, tuple[int, int]] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    curves: dict[str, dict[str, list[dict]]] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)


class Coded(NamedTuple):
    """Images as a model codes them: bytes of each file, decoded images, uint8 (n, h, w[, 3]), and as for `Point`.

    raw_bytes: of an image's indices at equal lengths. decoding: of no images but the first ones.
    """

    sizes: Sequence[int]
    decoded: np.ndarray
    raw_bytes: float | None = None
    macs: float | None = None
    usage: float | None = None
    decoding: Decoding | None = None


def run(folder: Path, work: Path, names: Sequence[str], limit: int | None, seed: int, progress: Progress) -> Suite:
    """Train what is missing in `work`, and measure everything on the data sets `names` in `folder`.

    limit: images of each split, at most (None: all). Raises UsageError where images are missing or others were trained
    on, and EncoderMissingError where scikit-image is missing.
    """
    suite = Suite()
    for data in _sets(folder, names, limit):
        pack = store.find(PACKS[data.name])
        suite.packs[pack.name] = fingerprint(pack.blobs).hex()
        suite.images[data.name] = len(data.training), len(data.test)
        suite.curves[data.name] = {}
        image, decodings = example(data.name), []
        for model, setting, coded, shown in _code(data, image, work, seed, suite, progress):
            point = _point(data, model, setting, coded)
            suite.points.append(point)
            progress(f"{data.name} {model} {setting}: {point.bytes:.0f} bytes, MSE {point.mse:.2e}")
            if shown and shown.macs is not None:
                bpp, error = 8 * shown.sizes[0] / data.side**2, mse(image, shown.decoded[0])
                suite.pictures.append(Picture(data.name, model, setting, shown.decoded[0], bpp, error, shown.macs))
            if coded.decoding:
                decodings.append((point, coded.decoding))
        # At the end of a set, close together: whatever else the machine does hits all of them alike.
        for point, decoding in decodings:
            cost = measure_cost(data.name, point.model, point.setting, point.macs or 0.0, decoding)
            suite.costs.append(cost)
            progress(f"{data.name} {point.model} {point.setting}: {cost.ms:.2f} ms")
    return suite


def train(
    folder: Path, work: Path, names: Sequence[str], limit: int | None, pattern: str, seed: int, progress: Progress
) -> None:
    """Train, as `run` would, the models whose folders match a pattern. Raises as `run`, UsageError if none does."""
    train_matching(pattern, _sets(folder, names, limit), work, seed, progress)


def _sets(folder: Path, names: Sequence[str], limit: int | None) -> list[Data]:
    return [Data(name, *(datasets.load(folder, name, split)[:limit] for split in ("train", "test"))) for name in names]


def _code(
    data: Data, image: np.ndarray, work: Path, seed: int, suite: Suite, progress: Progress
) -> Iterator[tuple[str, str, Coded, Coded | None]]:
    """Model, setting, the test images and the image that is shown, as each model codes them. Adds to suite.curves."""
    from ..encoder import Encoder
    from .kept_files import kept_files

    images = [*data.test, image]
    for setting in settings(data.name):
        if setting.model == "paper":
            pack = paper_pack(data, setting, work, seed, progress)
            # The paper's form: the nearest codeword in every iteration, no search.
            files = Encoder(pack).encode_batch(images, rank=setting.knobs["rank"], effort=0, tune="psnr")
            yield "paper", setting.name, *_of_pack(pack, files)
        else:
            yield "vq-vae", setting.name, *_of_baseline(data, image, setting, work, seed, suite, progress)
    ours = store.find(PACKS[data.name])
    encoder = Encoder(ours.path)
    for quality in QUALITIES:
        files = kept_files(work / data.name, ours, encoder, images, quality, EFFORT)
        yield "lrq", f"{quality}", *_of_pack(ours.path, files)
    available, skipped = classic.split_available(tuple(classic.CLASSIC))
    for codec in skipped:
        progress(f"not measured: {codec} (this build of Pillow cannot write it)")
    for codec in available:
        for quality in classic.CLASSIC[codec].qualities:
            files = [classic.classic_encode(one, codec, quality) for one in data.test]
            decoded = np.stack([classic.classic_decode(file, data.test.ndim == 3) for file in files])
            yield codec, f"{quality}", Coded([len(file) for file in files], decoded), None


def _of_pack(pack: Path, files: list[bytes]) -> tuple[Coded, Coded]:
    """What our decoder makes of files: of all but the last, and of the last."""
    decoder = Decoder([pack])
    return _decoded(decoder, pack, files[:-1]), _decoded(decoder, pack, files[-1:])


def _decoded(decoder: Decoder, pack: Path, files: list[bytes]) -> Coded:
    decoded: list[tuple[int, np.ndarray]] = []
    macs, used, first = 0.0, set(), []
    for header, numbers, planes in decoder.batches(files):
        graph = decoder.graph(header)
        pixels = graph.run(planes, header.rank, header.height, header.width)
        decoded += zip(numbers, pixels, strict=True)
        macs += len(numbers) / len(files) * graph.macs(planes, header.rank, header.height, header.width).total
        used |= set(np.unique(planes[0]).tolist()) - {0}
        first.append([plane[:BATCH] for plane in planes])
    scale = decoder.pack(header).scales[0]
    usage, raw = None, None
    if scale.shared:
        usage, raw = len(used) / scale.rows, planes[0][0].size * math.log2(scale.rows) / 8
    decoding = PackDecoding(pack, header, [np.concatenate(parts)[:BATCH] for parts in zip(*first, strict=True)])
    in_order = np.stack([pixels for _, pixels in sorted(decoded, key=lambda one: one[0])])
    return Coded([len(file) for file in files], in_order, raw, macs, usage, decoding)


def _of_baseline(
    data: Data, image: np.ndarray, setting: Setting, work: Path, seed: int, suite: Suite, progress: Progress
) -> tuple[Coded, Coded]:
    """What a baseline makes of the test images, and of one image. Adds to suite.curves."""
    from .baseline_graph import baseline_graph
    from .baseline_training import code, code_lengths

    model, curve = baseline(data, setting, work, seed, progress)
    suite.curves[data.name][setting.name] = [asdict(epoch) for epoch in curve]
    graph = folder_of(data, setting, work) / "decoder.onnx"
    write_file(graph, baseline_graph(model))
    lengths = code_lengths(model, data.training)
    both = []
    for images in (data.test, image[None]):
        indices, decoded = code(model, images)
        sizes = [_in_container(bits) for bits in lengths[indices].sum((1, 2))]
        usage = len(np.unique(indices)) / model.codewords
        raw = indices[0].size * math.log2(model.codewords) / 8
        decoding = BaselineDecoding(graph, indices[:BATCH])
        both.append(Coded(sizes, decoded, raw, model.decoder_macs(data.side, data.side), usage, decoding))
    return both[0], both[1]


def _in_container(bits: float) -> int:
    """Bytes of a file whose indices take so many bits."""
    header = Header(
        width=64, height=64, colour=container.RGB, smoothing=0, rank=1, iterations=1, band=0, model=bytes(4)
    )
    return len(container.pack(header, [container.Chunk(container.INDICES, bytes(math.ceil(bits / 8)))]))


def _point(data: Data, model: str, setting: str, coded: Coded) -> Point:
    pixels, raw = data.side**2, data.test[0].size
    size = float(np.mean(coded.sizes))
    psnrs = [psnr(a, b) for a, b in zip(data.test, coded.decoded, strict=True)]
    return Point(
        dataset=data.name,
        model=model,
        setting=setting,
        bytes=size,
        bpp=8 * size / pixels,
        ratio=raw / size,
        raw_bpp=None if coded.raw_bytes is None else 8 * coded.raw_bytes / pixels,
        raw_ratio=None if coded.raw_bytes is None else raw / coded.raw_bytes,
        mse=mse(data.test, coded.decoded),
        psnr=float(np.mean(psnrs)) if math.isfinite(max(psnrs)) else None,
        macs=coded.macs,
        usage=coded.usage,
    )
