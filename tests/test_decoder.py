"""Reconstruction is exact: the graph equals the int64 reference on every optimisation level and thread count."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import reference
from onnx import numpy_helper

from lrcodec import decoder, zoo
from lrcodec.container import GREY, RGB, Header
from lrcodec.encoder import export
from lrcodec.errors import FormatError, LimitError, UnsupportedError, UsageError
from lrcodec.grid import Scale

LEVELS = [
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
]


def header(width: int, height: int, **changes) -> Header:
    fields = dict(colour=RGB, rank=2, iterations=3, band=0, smoothing=1, model=bytes(8)) | changes
    return Header(width=width, height=height, **fields)


def expected(pack, smoothing, planes, head: Header) -> np.ndarray:
    """Pixels (count, h, w[, 3]) of index planes (count, ...), image by image."""
    channels = 3 if head.colour == RGB else 1
    w1, b1, w2, b2 = smoothing
    cut = (w1[:, : 4 * channels], b1, w2[: 4 * channels], b2[: 4 * channels]) if head.smoothing else None
    colour = export.colour_matrix(channels)
    return np.stack([reference.pixels(list(one), pack.tables, head, cut, colour) for one in zip(*planes, strict=True)])


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_graph_equals_integer_reference(random_pack, random_planes, rank, level, threads):
    pack, smoothing = random_pack
    for colour, smooth, (width, height), count in (
        (RGB, 1, (97, 61), 1),
        (RGB, 0, (16, 40), 3),
        (GREY, 1, (33, 1), 4),
        (GREY, 0, (64, 64), 2),
    ):
        head = header(width, height, rank=rank, colour=colour, smoothing=smooth)
        planes = random_planes(pack, head, rank + width, count)
        got = decoder.Graph(pack, colour, bool(smooth), threads, level).run(planes, rank, height, width)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, expected(pack, smoothing, planes, head))


def test_every_patch_stopped_gives_mid_grey(random_pack):
    pack, _ = random_pack
    planes = [np.zeros((2, *s.grid(20, 30), len(s.codewords)), np.int64) for s in pack.scales]
    pixels = decoder.Graph(pack, RGB, smoothing=False).run(planes, 2, 20, 30)
    assert pixels.shape == (2, 20, 30, 3) and (pixels == 128).all()


def test_pictures_use_the_whole_range(random_pack, random_planes):
    """The comparison above would prove nothing on pictures that are flat or clipped away."""
    pack, _ = random_pack
    pixels = decoder.Graph(pack, RGB, smoothing=True).run(random_planes(pack, header(97, 61), 1), 4, 61, 97)
    assert pixels.min() == 0 and pixels.max() == 255 and 40 < np.median(pixels) < 215
    assert ((pixels > 0) & (pixels < 255)).mean() > 0.5


def test_export_refuses_inexact_tables():
    scale = Scale(1, 8, (2,))
    u, v = np.full((2, 4, 8), 127, np.int8), np.full((2, 4, 24), 32767, np.int16)
    with pytest.raises(ValueError, match="not exact"):
        export.check_exact((scale,), {1: (u, v)}, None)
    export.check_exact((scale,), {1: (u, v // 4)}, None)
    # Four iterations that share the codebook may all pick its largest codeword.
    with pytest.raises(ValueError, match="not exact"):
        export.check_exact((Scale(1, 8, (2,) * 4, shared=True),), {1: (u, v // 4)}, None)


def test_macs_count_executed_products_only(random_pack):
    pack, _ = random_pack
    planes = [np.zeros((1, *s.grid(64, 64), len(s.codewords)), np.int64) for s in pack.scales]
    graph = decoder.Graph(pack, RGB, smoothing=True)
    still = graph.macs(planes, 2, 64, 64)
    assert still.low_rank == 0
    planes[2][0, 0, 0, :2] = 1  # two iterations of one 8 x 8 patch, rank 2, three channels
    moved = graph.macs(planes, 2, 64, 64)
    assert moved.low_rank == pytest.approx(2 * 2 * 64 * 3 / 64**2)


def test_macs_of_convolutions_are_those_of_the_graph(random_pack, random_planes):
    """Against the shapes that ONNX Runtime really computes: outputs of every convolution times its weights."""
    pack, _ = random_pack
    planes = random_planes(pack, header(97, 61), 2, count=2)
    graph = decoder.Graph(pack, RGB, smoothing=True)
    model = onnx.load_from_string(pack.graph(RGB, True))
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in convolutions:
        model.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    graph.session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = dict(pack.factors(2, 3))
    for scale, plane in zip(pack.scales, planes, strict=True):
        inputs |= decoder._by_depth(scale, plane)
    counted = {"enlargement": 0.0, "smoothing": 0.0, "colour": 0.0}
    for node, made in zip(convolutions, graph.session.run([n.output[0] for n in convolutions], inputs), strict=True):
        part = {"enlarge": "enlargement", "smooth1": "smoothing", "smooth2": "smoothing", "colour": "colour"}
        name = part[node.name.split("_")[0]]
        counted[name] += made.size * weights[node.input[1]][0].size / (2 * 97 * 61)
    macs = graph.macs(planes, 2, 61, 97)
    assert counted == {name: pytest.approx(getattr(macs, name)) for name in counted}


def test_index_out_of_range_for_header_is_refused(random_pack):
    pack, _ = random_pack
    with pytest.raises(FormatError, match="rate band"):
        pack.check(header(8, 8, band=2))
    with pytest.raises(FormatError, match="rank 5"):
        pack.check(header(8, 8, rank=5))


def test_unknown_model_and_limit(photo_file: Path):
    data = photo_file.read_bytes()
    with pytest.raises(LimitError):
        decoder.Decoder(max_pixels=97 * 61 - 1).decode(data)
    assert decoder.Decoder(max_pixels=97 * 61).decode(data).shape == (61, 97, 3)
    with pytest.raises(UnsupportedError, match="00000000000000ff"):
        zoo.by_fingerprint(bytes(7) + b"\xff")


def test_batch_equals_one_by_one(photo, monkeypatch):
    """Files of mixed sizes, qualities, ranks and colour kinds, in batches that are smaller than their number."""
    from lrcodec.encoder import Encoder

    encoder = Encoder(device="cpu")
    crops = [photo[y : y + 24, x : x + 32] for y in (0, 30) for x in (0, 20, 40)]
    images = [*crops, photo[:9, :70], crops[0][:, :, 0], crops[1][:, :, 1]]
    files = [encoder.encode(i, quality=q, effort=0) for q in (10, 80) for i in map(np.ascontiguousarray, images)]
    files += [encoder.encode(crops[0], rank=1, effort=0), encoder.encode(crops[1], smoothing=False, effort=0)]
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    reader = decoder.Decoder()
    one_by_one = [reader.decode(data) for data in files]
    for pixels in (decoder.BATCH_PIXELS, 4 * 24 * 32):
        monkeypatch.setattr(decoder, "BATCH_PIXELS", pixels)
        sizes = [len(members) for _, members, _ in reader.batches(files)]
        assert sum(sizes) == len(files) and max(sizes) == (4 if pixels < 2**20 else len(crops))
        for got, want in zip(reader.decode_batch(files), one_by_one, strict=True):
            np.testing.assert_array_equal(got, want, strict=True)


def test_a_wrong_file_stops_the_batch(photo_file: Path):
    data = photo_file.read_bytes()
    with pytest.raises(FormatError):
        decoder.Decoder().decode_batch([data, data[:-1]])
    with pytest.raises(LimitError):
        decoder.Decoder(max_pixels=97 * 61 - 1).decode_batch([data, data])
    assert decoder.Decoder().decode_batch([]) == []


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("model", [entry.name for entry in zoo.packs()])
def test_shipped_model_equals_integer_reference(model, photo, rank, grey):
    """The whole path on a real photograph: file, range coder, graph, against the reference written from SPEC.md."""
    from lrcodec import container
    from lrcodec.encoder import Encoder

    encoder = Encoder(model, device="cpu")
    image = np.ascontiguousarray(photo[:, :, 1]) if grey else photo
    if not grey and encoder.pack.channels == 1:
        with pytest.raises(UsageError, match="grey"):
            encoder.encode(image)
        return
    data = encoder.encode(image, quality=70, rank=rank, effort=0)
    reader = decoder.Decoder()
    head, chunks = container.unpack(data)
    pack = reader.pack(head)
    planes = reference.indices(chunks[0].payload, pack.tables, head)
    channels = 1 if grey else 3
    w1, b1, w2, b2 = (pack.tables[f"smooth_{name}"].astype(np.int64) for name in ("w1", "b1", "w2", "b2"))
    smoothing = w1[:, : 4 * channels], b1, w2[: 4 * channels], b2[: 4 * channels]
    colour = export.colour_matrix(channels)
    np.testing.assert_array_equal(reader.decode(data), reference.pixels(planes, pack.tables, head, smoothing, colour))


def test_decoding_needs_no_torch(photo_file: Path):
    """With torch made unimportable the command still decodes."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lrcodec.cli import main\n"
        f"main(['decode', {str(photo_file)!r}, '-o', {str(photo_file.with_name('no-torch.png'))!r}])"
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONSTARTUP"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert photo_file.with_name("no-torch.png").stat().st_size > 0


def test_broken_graph_is_unsupported(random_pack):
    broken = copy.copy(random_pack[0])
    broken.graphs = dict.fromkeys(broken.graphs, b"not a graph")
    with pytest.raises(UnsupportedError, match="graph"):
        decoder.Graph(broken, RGB, smoothing=True)
