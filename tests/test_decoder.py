"""Reconstruction is exact: the graph equals the int64 reference on every optimisation level and thread count."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from lrcodec import decoder, entropy
from lrcodec.decoder import low_rank
from lrcodec.decoder.session import session_options
from lrcodec.errors import FormatError, LimitError, LrqError, UnsupportedError, UsageError
from lrcodec.format import container, grid
from lrcodec.format.container import GREY, RGB, Chunk, Header
from lrcodec.format.grid import Scale
from lrcodec.format.symmetry import NONE
from lrcodec.packs import store
from lrcodec.packs.pack import Pack
from lrcodec.training import exactness, export

LEVELS = [
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,  # the one that is used
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
]


def header(width: int, height: int, **changes) -> Header:
    fields = dict(colour=RGB, rank=2, iterations=3, band=0, smoothing=1, model=bytes(4)) | changes
    return Header(width=width, height=height, **fields)


def expected(pack, planes, head: Header) -> np.ndarray:
    """Pixels (count, h, w[, 3]) of index planes (count, ...), image by image."""
    return np.stack([reference.pixels(list(one), pack.tables, head) for one in zip(*planes, strict=True)])


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("threads", [1, 2])
def test_graph_equals_integer_reference(random_pack, random_planes, rank, level, threads):
    """And a window of rows is that of the whole, whatever part of the index planes it takes."""
    pack, _ = random_pack
    for colour, smooth, (width, height), count in (
        (RGB, 1, (97, 61), 1),
        (RGB, 0, (16, 40), 3),
        (GREY, 1, (33, 1), 4),
        (GREY, 0, (64, 64), 2),
    ):
        head = header(width, height, rank=rank, colour=colour, smoothing=smooth)
        planes = random_planes(pack, head, rank + width, count)
        options = session_options(threads)
        options.graph_optimization_level = level
        graph = decoder.Graph(pack, colour, bool(smooth), options=options)
        got = graph.run(planes, rank, height, width)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, expected(pack, planes, head))
        top, bottom = height // 2, height - height // 5
        ranges = grid.window(pack.scales, height, top, bottom)
        cut = [plane[:, first:last] for plane, (first, last) in zip(planes, ranges, strict=True)]
        part = graph.run(cut, rank, height, width, (top, bottom))
        np.testing.assert_array_equal(part, got[:, top:bottom])


@pytest.mark.parametrize("colour", [RGB, GREY])
@pytest.mark.parametrize("scales", [1, 2])
def test_planes_of_a_coarser_scale(random_pack, random_planes, scales: int, colour: int):
    pack, _ = random_pack
    head = header(97, 61, colour=colour)
    planes = random_planes(pack, head, 3, count=2)[:scales]
    graph = decoder.Graph(pack, colour, smoothing=True)
    got = graph.plane(planes, 2)
    assert got.dtype == np.int16
    want = [reference.planes_of(list(one), pack.tables, head)[-1] for one in zip(*planes, strict=True)]
    np.testing.assert_array_equal(got, np.stack(want))
    # Row 3 of the patches of scale 2 begins at pixel row 24, so it reads from row 10 of scale 4, in row 2 of patches.
    firsts = [2, 3][:scales]
    part = graph.plane([plane[:, first:] for plane, first in zip(planes, firsts, strict=True)], 2, firsts)
    np.testing.assert_array_equal(part, got[:, :, firsts[-1] * pack.scales[scales - 1].patch :])


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_factors_of_codewords(random_pack, rank: int, channels: int):
    """All of them, with all symmetries, in any order."""
    pack, _ = random_pack
    for scale in pack.scales:
        u, v = (pack.tables[f"{name}{scale.scale}"] for name in "uv")
        lefts, rights = reference.codewords(u, v, scale.symmetries)
        width = scale.channels(channels) * scale.patch
        random = np.random.default_rng(0)
        rows = random.permutation(np.repeat(np.arange(len(lefts)), 2)).reshape(-1, 2)
        there = random.random(rows.shape) < 0.8
        left, right = low_rank.factors(pack, scale).take(rows, there, rank, scale.channels(channels))
        wanted = lefts[rows, :rank] * there[..., None, None] / 2**9
        np.testing.assert_array_equal(left, wanted.reshape(len(rows), 2 * rank, -1))
        np.testing.assert_array_equal(right, rights[rows, :rank, :width].reshape(len(rows), 2 * rank, -1))


def test_patches_are_summed_some_at_a_time(random_pack, random_planes, monkeypatch: pytest.MonkeyPatch):
    pack, _ = random_pack
    planes = random_planes(pack, header(97, 61), 5, count=2)
    want = decoder.Graph(pack, RGB, smoothing=False).run(planes, 2, 61, 97)
    shapes, multiply = [], low_rank.fetch

    def watched(session, pack, name, inputs, dtype, shape):
        shapes.append(inputs["left"].shape)
        return multiply(session, pack, name, inputs, dtype, shape)

    monkeypatch.setattr(low_rank, "fetch", watched)
    monkeypatch.setattr(low_rank, "NUMBERS", 1)
    np.testing.assert_array_equal(decoder.Graph(pack, RGB, smoothing=False).run(planes, 2, 61, 97), want)
    assert {patches for patches, *_ in shapes} == {1}
    assert len(shapes) == sum(np.count_nonzero(plane[..., 0]) for plane in planes)


def test_planes_of_the_only_scale(random_pack):
    pack = copy.copy(random_pack[0])
    finest = replace(pack.scales[-1], luma_only=False, symmetries=NONE)
    pack.factors = {}
    pack.scales = (finest,)
    pack.graphs = pack.graphs | {"decoder-rgb.onnx": export.build_graph((finest,), 3, [None], None)}
    graph = decoder.Graph(pack, RGB, smoothing=False)
    pack.tables = pack.tables | {"u1": np.ones((finest.rows, 1, 8)), "v1": np.full((finest.rows, 1, 24), 512)}
    planes = [np.zeros((1, 2, 2, 3), np.int64)]
    planes[0][0, 0, 1, :2] = 1
    got = graph.plane(planes, 1)
    assert got.shape == (1, 3, 16, 16)
    assert (got[:, :, :8, 8:] == 2).all() and np.count_nonzero(got) == 3 * 64


def profiled(pack: Pack, folder: Path, run: Callable[[decoder.Graph], object]) -> list[dict]:
    """ONNX Runtime's own account of what a graph in RGB with smoothing ran: an event a node, none of them fused."""
    options = session_options(1)
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    graph = decoder.Graph(pack, RGB, smoothing=True, options=options)
    run(graph)
    events = json.loads(Path(graph.session.end_profiling()).read_text())
    return [event for event in events if event["cat"] == "Node"]


def test_no_finer_scale_is_computed(random_pack, random_planes, tmp_path: Path):
    pack, _ = random_pack
    planes = random_planes(pack, header(97, 61), 4)
    names = [event["name"] for event in profiled(pack, tmp_path, lambda graph: graph.plane(planes[:2], 2))]
    assert any("_scale2" in name for name in names)
    assert not any("_scale1" in name for name in names)


def test_every_patch_stopped(random_pack):
    """Mid-grey, and what the biases of predictions add to it."""
    pack, _ = random_pack
    planes = [np.zeros((2, *s.grid(20, 30), len(s.codewords)), np.int64) for s in pack.scales]
    graph = decoder.Graph(pack, RGB, smoothing=False)
    pixels = graph.run(planes, 2, 20, 30)
    np.testing.assert_array_equal(pixels, expected(pack, planes, header(30, 20, smoothing=0)))
    assert (pixels != 128).any()
    plain = export.build_graph(pack.scales, 3, [None] * len(pack.scales), None)
    graph.session = ort.InferenceSession(plain, providers=["CPUExecutionProvider"])
    pixels = graph.run(planes, 2, 20, 30)
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
    with pytest.raises(LrqError, match="not exact"):
        exactness.check_exact((scale,), 3, {"u1": u, "v1": v}, [None], None)
    exactness.check_exact((scale,), 3, {"u1": u, "v1": v // 4}, [None], None)
    # Four iterations that share the codebook may all pick its largest codeword.
    with pytest.raises(LrqError, match="not exact"):
        exactness.check_exact((Scale(1, 8, (2,) * 4, shared=True),), 3, {"u1": u, "v1": v // 4}, [None], None)


def test_macs_count_executed_products_only(random_pack):
    pack, _ = random_pack
    planes = [np.zeros((1, *s.grid(64, 64), len(s.codewords)), np.int64) for s in pack.scales]
    graph = decoder.Graph(pack, RGB, smoothing=True)
    still = graph.macs(planes, 2, 64, 64)
    assert still.low_rank == 0
    planes[1][0, 0, 0, :1] = 1  # one iteration of one 8 x 8 patch, rank 2, three channels
    planes[2][0, 0, 0, :2] = 1  # two, of the channels of the finest scale
    moved = graph.macs(planes, 2, 64, 64)
    finest = 1 if pack.scales[2].luma_only else 3
    assert moved.low_rank == pytest.approx((2 * 64 * 3 + 2 * 2 * 64 * finest) / 64**2)
    assert moved.total == pytest.approx(still.total + moved.low_rank)


def test_macs_of_convolutions_are_those_of_the_graph(random_pack, random_planes, tmp_path: Path):
    """Against the shapes that ONNX Runtime really computes: outputs of every convolution times its weights."""
    pack, _ = random_pack
    planes = random_planes(pack, header(97, 61), 2, count=2)
    counted = {"prediction": 0.0, "smoothing": 0.0, "colour": 0.0}
    for event in profiled(pack, tmp_path, lambda graph: graph.run(planes, 2, 61, 97)):
        if event["args"].get("op_name") != "Conv":
            continue
        name = event["name"].split("/")[0]
        (weights,) = event["args"]["input_type_shape"][1].values()
        (output,) = event["args"]["output_type_shape"][0].values()
        counted[name] += np.prod(output) * np.prod(weights[1:]) / (2 * 97 * 61)
    macs = decoder.Graph(pack, RGB, smoothing=True).macs(planes, 2, 61, 97)
    assert min(counted.values()) > 0
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
    with pytest.raises(UnsupportedError, match="000000ff"):
        store.by_fingerprint(bytes(3) + b"\xff")


def test_batch_equals_one_by_one(photo, monkeypatch):
    """Files of mixed sizes, ranks, colour kinds and ends of the quality range, in batches smaller than their number."""
    from lrcodec.encoder import Encoder

    encoder = Encoder(device="cpu")
    crops = [photo[y : y + 24, x : x + 32] for y in (0, 30) for x in (0, 20, 40)]
    images = [*crops, photo[:9, :70], crops[0][:, :, 0], crops[1][:, :, 1]]
    files = [encoder.encode(i, quality=q, effort=0) for q in (0, 100) for i in map(np.ascontiguousarray, images)]
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


# Strips


def reader_of(pack, threads: int = 2) -> decoder.Decoder:
    """A decoder that knows a pack which is in no folder, with its graphs loaded once."""
    if threads not in (readers := READERS.setdefault(pack, {})):
        readers[threads] = decoder.Decoder(threads=threads)
        readers[threads]._packs[pack.fingerprint] = pack
    return readers[threads]


READERS: dict[Pack, dict[int, decoder.Decoder]] = {}


def file_of(pack, planes: list[np.ndarray], head: Header) -> bytes:
    """The file of an image's index planes (1, ...), cut into strips of `grid.STRIP_PIXELS`."""
    payloads = []
    for top, bottom in grid.strips(pack.scales, head.height, head.width):
        strip_planes = [
            plane[:, top // s.span : -(-bottom // s.span)] for s, plane in zip(pack.scales, planes, strict=True)
        ]
        payloads += entropy.encode(strip_planes, pack, head)
    return container.pack(head, [Chunk(container.INDICES, payload) for payload in payloads])


@contextmanager
def strips_of(pixels: int) -> Iterator[None]:
    """Another size of strips, also for the reference."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "STRIP_PIXELS", pixels)
        patch.setattr(reference, "STRIP_PIXELS", pixels)
        yield


def pieces(data: bytes) -> list[Chunk]:
    return container.unpack(data)[1]


@pytest.mark.parametrize("colour", [GREY, RGB])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("pixels", "count"), [(1, 9), (80 * 16, 9), (2 * 80 * 16, 5), (80 * 80, 2), (2**20, 1)])
def test_strips_are_drawn_as_one_image(random_pack, random_planes, threads, pixels, count, colour):
    """Only the bytes know the strips: the pixels are those of the whole, by graph and by reference."""
    pack, _ = random_pack
    head = header(70, 139, model=pack.fingerprint, band=1, colour=colour)
    planes = random_planes(pack, head, 21)
    pixels_in_one = expected(pack, planes, head)[0]
    reader = reader_of(pack, threads)
    with strips_of(pixels):
        data = file_of(pack, planes, head)
        assert len(pieces(data)) == count
        np.testing.assert_array_equal(reference.decode(data, pack.tables), pixels_in_one)
        np.testing.assert_array_equal(reader.decode(data), pixels_in_one)
        parts = list(reader.strips(data))
        bounds = grid.strips(pack.scales, 139, 70)
        assert [len(part) for part in parts] == [bottom - top for top, bottom in bounds] and len(parts) == count
        np.testing.assert_array_equal(np.concatenate(parts), pixels_in_one)
        for got, want in zip(reader.indices(data)[1], planes, strict=True):
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(reader.decode_batch([data, data])[1], pixels_in_one)
        assert reader.macs(data) == reader.graph(head).macs(planes, 2, 139, 70)


def test_strips_of_the_normative_size(random_pack, random_planes):
    """2^20 pixels: 65,535 columns leave one row of patches, 16 rows of pixels."""
    pack, _ = random_pack
    head = header(65535, 20, model=pack.fingerprint, colour=GREY)
    planes = random_planes(pack, head, 22)
    data = file_of(pack, planes, head)
    assert len(pieces(data)) == 2
    np.testing.assert_array_equal(reader_of(pack).decode(data), expected(pack, planes, head)[0])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_rows_are_those_of_the_whole(random_pack, random_planes, data):
    pack, _ = random_pack
    height = data.draw(st.integers(1, 150), "height")
    top = data.draw(st.integers(0, height - 1), "top")
    bottom = data.draw(st.integers(top + 1, height), "bottom")
    fields = {name: data.draw(st.integers(0, 1), name) for name in ("colour", "smoothing")}
    head = header(data.draw(st.integers(1, 50), "width"), height, model=pack.fingerprint, **fields)
    planes = random_planes(pack, head, 23)
    reader = reader_of(pack, data.draw(st.sampled_from([1, 2]), "threads"))
    expected_pixels = reader.graph(head).run(planes, head.rank, height, head.width)[0]
    with strips_of(data.draw(st.sampled_from([1, 64 * 32, 64 * 48, 2**20]), "pixels")):
        file = file_of(pack, planes, head)
        np.testing.assert_array_equal(np.concatenate(list(reader.strips(file))), expected_pixels)
        parts = list(reader.strips(file, (top, bottom)))
        bounds = grid.strips(pack.scales, height, head.width)
        cut = [(max(top, a), min(bottom, b)) for a, b in bounds if a < bottom and top < b]
    assert [len(part) for part in parts] == [b - a for a, b in cut]
    np.testing.assert_array_equal(np.concatenate(parts), expected_pixels[top:bottom])


def test_no_such_rows(random_pack, random_planes):
    pack, _ = random_pack
    head = header(20, 30, model=pack.fingerprint)
    data = file_of(pack, random_planes(pack, head, 24), head)
    for rows in ((0, 0), (5, 5), (6, 5), (-1, 5), (0, 31), (30, 31)):
        with pytest.raises(UsageError, match="rows"):
            list(reader_of(pack).strips(data, rows))


def test_far_strips_are_not_decoded(random_pack, random_planes, monkeypatch):
    pack, _ = random_pack
    head = header(40, 400, model=pack.fingerprint)
    planes = random_planes(pack, head, 25)
    decoded = []
    decode = entropy.decode

    def spy(payloads, *arguments):
        decoded.extend(payloads)
        return decode(payloads, *arguments)

    monkeypatch.setattr(entropy, "decode", spy)
    with strips_of(1):
        data = file_of(pack, planes, head)
        payloads = [chunk.payload for chunk in pieces(data)]
        part = np.concatenate(list(reader_of(pack).strips(data, (200, 230))))
    np.testing.assert_array_equal(part, expected(pack, planes, head)[0, 200:230])
    assert sorted(decoded) == sorted(payloads[10:17])  # rows 160 to 272: the coarsest patches reach that far


def test_wrong_numbers_of_strips(random_pack, random_planes):
    pack, _ = random_pack
    head = header(30, 75, model=pack.fingerprint)
    reader = reader_of(pack)
    with strips_of(1):
        chunks = pieces(file_of(pack, random_planes(pack, head, 26), head))
        assert len(chunks) == 5
        for wrong in (chunks[:1], chunks[:4], [*chunks, chunks[0]], chunks * 2):
            data = container.pack(head, wrong)
            for use in (reader.decode, reader.indices, reader.macs, lambda d: reader.decode_batch([d])):
                with pytest.raises(FormatError, match=f"{len(wrong)} chunks of indices instead of 5"):
                    use(data)
            with pytest.raises(FormatError, match="instead of 5"):
                next(reader.strips(data))
        # Chunks that are not of indices may come anywhere.
        between = [Chunk(b"x", b"?"), *chunks[:2], Chunk(b"z", b""), *chunks[2:]]
        np.testing.assert_array_equal(
            reader.decode(container.pack(head, between)), reader.decode(container.pack(head, chunks))
        )


def test_strips_in_disorder_or_damaged(random_pack, random_planes):
    """They give other pixels or an error, as for damage behind a CRC-32 that matches."""
    pack, _ = random_pack
    head = header(40, 75, model=pack.fingerprint, iterations=2)
    reader, random, refused = reader_of(pack), np.random.default_rng(0), 0
    with strips_of(40 * 32):
        chunks = pieces(file_of(pack, random_planes(pack, head, 27), head))
        assert len(chunks) == 5
        for attempt in range(60):
            wrong = list(chunks)
            if attempt < 4:  # the last strip is of another height
                wrong[attempt], wrong[4] = wrong[4], wrong[attempt]
            else:
                at = random.integers(5)
                hurt = bytearray(wrong[at].payload)
                hurt[random.integers(len(hurt))] ^= 1 << random.integers(8)
                wrong[at] = Chunk(b"I", bytes(hurt))
            data = container.pack(head, wrong)
            try:
                want = reference.decode(data, pack.tables)
            except ValueError:
                refused += 1
                for use in (reader.decode, reader.indices, lambda d: list(reader.strips(d))):
                    with pytest.raises(FormatError, match="damaged"):
                        use(data)
            else:
                np.testing.assert_array_equal(reader.decode(data), want)
        assert 0 < refused < 60


def test_a_depth_above_the_cap_is_refused_in_any_strip(random_pack, random_planes):
    pack, _ = random_pack
    head = header(40, 75, model=pack.fingerprint, iterations=1)
    deep = replace(head, iterations=3)
    planes = random_planes(pack, head, 28)
    planes[2][0, -1, 0] = 1  # all three iterations, in the last strip alone
    with strips_of(1):
        chunks = pieces(file_of(pack, planes, deep))
        reader = reader_of(pack)
        assert reader.decode(container.pack(deep, chunks)).shape == (75, 40, 3)
        data = container.pack(head, chunks)
        with pytest.raises(FormatError, match="cap"):
            reader.decode(data)
        strips = []
        with pytest.raises(FormatError, match="cap"):
            strips.extend(reader.strips(data))
        top = np.concatenate(list(reader.strips(data, (0, 20))))
        np.testing.assert_array_equal(top, expected(pack, planes, head)[0, :20])


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("model", [entry.name for entry in store.packs()])
def test_shipped_model_equals_integer_reference(model, photo, rank, grey):
    """The whole path on a real photograph: file, range coder, graph, against the reference written from SPEC.md."""
    from lrcodec.encoder import Encoder

    encoder = Encoder(model, device="cpu")
    image = np.ascontiguousarray(photo[:, :, 1]) if grey else photo
    if not grey and encoder.pack.channels == 1:
        with pytest.raises(UsageError, match="grey"):
            encoder.encode(image)
        return
    data = encoder.encode(image, quality=70, rank=rank, effort=0)
    np.testing.assert_array_equal(decoder.Decoder().decode(data), reference.decode(data, encoder.pack.tables))


def test_decoding_needs_no_torch(photo_file: Path):
    """With torch made unimportable the command still decodes."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lrcodec.cli.main import main\n"
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
