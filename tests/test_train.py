"""Training on a few small photographs: a pack comes out that works, the same one every time, also after a stop."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from click.testing import CliRunner
from PIL import Image

import lrcodec.encoder
from lrcodec import decode, entropy
from lrcodec.cli import main as cli
from lrcodec.decoder import Decoder
from lrcodec.encoder import Encoder
from lrcodec.encoder.config import Config
from lrcodec.encoder.transformer import Smoothing
from lrcodec.errors import FormatError, LrqError, UnsupportedError, UsageError
from lrcodec.format import container, grid
from lrcodec.format.container import GREY, RGB
from lrcodec.measure.metrics import psnr
from lrcodec.packs import store
from lrcodec.training import codebooks, end_to_end, export, run, tuning
from lrcodec.training.descent import Descent
from lrcodec.training.images import Crops
from lrcodec.training.presets import PRESETS, paper
from lrcodec.training.run import train
from lrcodec.training.work import WorkFolder

TINY = PRESETS["tiny"]
LUMA = replace(TINY, scales=(*TINY.scales[:-1], replace(TINY.scales[-1], luma_only=True)), steps=5)
SHARED = replace(
    paper(32, 8, codewords=32, iterations=2, smoothing=0), steps=4, start_patches=2000, width=32, blocks=1, heads=2
)

pytestmark = pytest.mark.usefixtures("few_crops")


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    from skimage import data

    return [np.ascontiguousarray(image[:192, :256]) for image in (data.chelsea(), data.coffee())]


@pytest.fixture(scope="module")
def crops(images) -> list[np.ndarray]:
    """Small images of one size."""
    return [image[y : y + 32, x : x + 32] for image in images for y in range(0, 192, 64) for x in range(0, 225, 56)]


@pytest.fixture(scope="module")
def train_pack(few_crops, tmp_path_factory) -> Callable[[list[np.ndarray], Config], Path]:
    """A function that trains a pack, in a folder whose neighbour `work` has the checkpoints."""

    def make(images: list[np.ndarray], config: Config) -> Path:
        out = tmp_path_factory.mktemp("packs") / "mine"
        shares: list[float] = []
        work = out.with_name("work")
        train(images, out, config=config, work=work, progress=lambda share, line: shares.append(share))
        assert shares == sorted(shares) and shares[-1] == 1
        return out

    return make


@pytest.fixture(scope="module")
def pack(train_pack, images) -> Path:
    return train_pack(images, TINY)


@pytest.fixture(scope="module")
def luma_pack(train_pack, images) -> Path:
    """Its finest scale has no chroma."""
    return train_pack(images, LUMA)


@pytest.fixture(scope="module")
def shared_pack(train_pack, crops) -> Path:
    return train_pack(crops, SHARED)


@pytest.fixture(scope="module")
def grey_images() -> list[np.ndarray]:
    from skimage import data

    return [data.camera()[y : y + 28, 90 : 90 + 28] for y in range(20, 20 + 16 * 28, 28)]


@pytest.fixture(scope="module")
def grey_pack(train_pack, grey_images) -> Path:
    return train_pack(grey_images, replace(TINY, steps=2))


def asking_for(data: bytes, **fields: int) -> bytes:
    """A file whose header differs."""
    header, chunks = container.unpack(data)
    return container.pack(replace(header, **fields), chunks)


def test_trained_pack_codes_a_photograph(pack, photo):
    with pytest.raises(UnsupportedError):
        decode(Encoder(pack).encode(photo))
    sizes, psnrs = [], []
    for quality in (0, 20, 80):
        data = Encoder(pack).encode(photo, quality=quality)
        sizes.append(len(data))
        psnrs.append(psnr(photo, decode(data, models=[pack])))
    assert sizes[0] < sizes[1] < sizes[2] and psnrs[0] < psnrs[1] < psnrs[2]
    flat = np.broadcast_to(photo.mean((0, 1)).astype(np.uint8), photo.shape)
    assert psnrs[2] > psnr(photo, flat) + 6


def test_finest_scale_without_chroma(luma_pack, photo):
    """Grey and colour, with and without smoothing, are what SPEC.md says, and the smoothing is of use."""
    encoder, decoder = Encoder(luma_pack, device="cpu"), Decoder([luma_pack])
    tables = encoder.pack.tables
    assert encoder.pack.scales[-1].luma_only and tables["luma_only"] == 1
    assert tables["v1"].shape == (192, 4, 8) and tables["v2"].shape == (128, 4, 24)
    assert tables["smooth_w1"].shape == (4, 6, 3, 3) and tables["smooth_w2"].shape == (6, 4, 3, 3)
    for image in (photo, np.ascontiguousarray(photo[:, :, 1])):
        for smoothing in (False, True):
            data = encoder.encode(image, quality=90, smoothing=smoothing)
            pixels = decoder.decode(data)
            np.testing.assert_array_equal(pixels, reference.decode(data, tables), strict=True)
            flat = np.broadcast_to(image.mean((0, 1)).astype(np.uint8), image.shape)
            assert psnr(image, pixels) > psnr(image, flat) + 4


@pytest.mark.parametrize("name", ["luma_pack", "pack"])
def test_the_search_pays_what_the_file_costs(name, request, photo):
    """The bits of the last pass, in the contexts of the file, add up to the payload."""
    folder = request.getfixturevalue(name)
    encoder = Encoder(folder, device="cpu")
    data = encoder.encode(np.tile(photo, (2, 2, 1)), quality=95)
    header, planes = Decoder([folder]).indices(data)
    total = 0.0
    for plane, labels, bits in zip(
        planes, entropy.contexts(planes, encoder.pack, header), encoder.rates._of_tables(header.band), strict=True
    ):
        total += bits.depths.numpy()[labels.depths, np.count_nonzero(plane, axis=3)].sum()
        for i, (of_shapes, of_symmetries) in enumerate(zip(bits.shapes, bits.symmetries, strict=True)):
            coded = plane[..., i] > 0
            shape, symmetry = np.divmod(plane[..., i][coded] - 1, of_symmetries.shape[1])
            total += of_shapes.numpy()[labels.indices[..., i][coded], shape].sum()
            total += of_symmetries.numpy()[shape, symmetry].sum()
    (chunk,) = container.unpack(data)[1]
    assert total / 8 - 1 < len(chunk.payload) < 1.002 * total / 8 + 2 and total > 4000


def test_large_images_are_encoded_in_windows(luma_pack, images, monkeypatch):
    """Files of several strips, searched a few at a time: decoded as one image, of about the same quality and size."""
    encoder, decoder = Encoder(luma_pack, device="cpu"), Decoder([luma_pack])
    in_one, image = encoder.encode(images[0], quality=70), images[0]
    assert image.shape == (192, 256, 3)
    for module in (grid, reference):
        monkeypatch.setattr(module, "STRIP_PIXELS", 32 * 256)
    monkeypatch.setattr(lrcodec.encoder.windows, "MARGIN", 40)
    searched = []
    search = Encoder._indices

    def spy(self, stack, *arguments):
        searched.append(stack.shape[1])
        return search(self, stack, *arguments)

    monkeypatch.setattr(Encoder, "_indices", spy)
    for pixels, windows in ((3 * 32 * 256, [96 + 48, 48 + 96]), (1, [80, 112, 128, 128, 112, 80])):
        monkeypatch.setattr(lrcodec.encoder.windows, "PIXELS", pixels)
        searched.clear()
        data = encoder.encode(image, quality=70)
        assert searched == windows
        chunks = container.unpack(data)[1]
        assert [chunk.tag for chunk in chunks] == [b"I"] * 6
        pixels = decoder.decode(data)
        np.testing.assert_array_equal(pixels, reference.decode(data, encoder.pack.tables))
        assert len(data) == pytest.approx(len(in_one), rel=0.1)
        monkeypatch.setattr(grid, "STRIP_PIXELS", 2**20)
        assert psnr(image, pixels) == pytest.approx(psnr(image, decoder.decode(in_one)), abs=0.2)
        monkeypatch.setattr(grid, "STRIP_PIXELS", 32 * 256)
        # Several images at a time, too.
        for one in encoder.encode_batch([image, image], quality=70):
            assert len(one) == pytest.approx(len(data), rel=0.01)
            assert psnr(image, decoder.decode(one)) == pytest.approx(psnr(image, pixels), abs=0.1)
    small = np.ascontiguousarray(image[:70, :200])
    data = encoder.encode(small, quality=70)
    assert len(container.unpack(data)[1]) == 3  # two rows of patches each: 32, 32 and 6 rows of pixels
    np.testing.assert_array_equal(decoder.decode(data), reference.decode(data, encoder.pack.tables))


@pytest.mark.parametrize(("name", "config"), [("pack", TINY), ("shared_pack", SHARED)])
def test_interrupted_training_goes_on_to_the_same_pack(name, config, request, tmp_path):
    uninterrupted = request.getfixturevalue(name)
    images = request.getfixturevalue("images" if name == "pack" else "crops")
    out, work = tmp_path / "mine", tmp_path / "work"

    def stop_at(share: float):
        def progress(done: float, line: str) -> None:
            if done >= share:
                raise Stop

        return progress

    for share in (0.3, 0.5, 0.86, 2.0):
        try:
            train(images, out, config=config, work=work, progress=stop_at(share))
        except Stop:
            assert not out.exists()
    train(images, tmp_path / "again", config=config, work=work, progress=stop_at(2.0))
    for folder in (out, tmp_path / "again"):  # the second from checkpoints alone
        assert store.find(folder).fingerprint == store.find(uninterrupted).fingerprint
        assert (folder / "encoder.safetensors").read_bytes() == (uninterrupted / "encoder.safetensors").read_bytes()


def test_shared_codebook(shared_pack, crops):
    encoder, decoder = Encoder(shared_pack, device="cpu"), Decoder([shared_pack])
    pack = encoder.pack
    assert pack.scales == SHARED.scales and pack.rank == SHARED.rank == 2
    assert pack.tables["u1"].shape == (32, 2, 8) and pack.tables["v1"].shape == (32, 2, 24)
    files = encoder.encode_batch(crops, effort=0)
    for _, _, planes in decoder.batches(files):
        assert [plane.shape[1:] for plane in planes] == [(4, 4, 2)] and planes[0].min() >= 1
    decoded = decoder.decode_batch(files)
    for data, pixels in zip(files, decoded, strict=True):
        np.testing.assert_array_equal(pixels, reference.decode(data, pack.tables))
    flat = [np.broadcast_to(crop.mean((0, 1)).round().astype(np.uint8), crop.shape) for crop in crops]
    assert psnr(np.stack(crops), np.stack(decoded)) > psnr(np.stack(crops), np.stack(flat)) + 3
    with pytest.raises(UsageError, match="rank"):
        encoder.encode(crops[0], rank=3)


def test_model_without_smoothing(shared_pack, crops):
    encoder = Encoder(shared_pack, device="cpu")
    assert sorted(encoder.pack.graphs) == ["decoder-codewords.onnx", "decoder-grey.onnx", "decoder-rgb.onnx"]
    shapes = {name: encoder.pack.tables[f"smooth_{name}"].shape for name in ("w1", "b1", "w2", "b2")}
    assert shapes == {"w1": (0, 12, 3, 3), "b1": (0,), "w2": (12, 0, 3, 3), "b2": (12,)}
    data = encoder.encode(crops[0], smoothing=True)
    assert container.unpack_header(data).smoothing == 0
    with pytest.raises(FormatError, match="decoder-rgb-smooth"):
        decode(asking_for(data, smoothing=1), models=[shared_pack])


def test_grey_model(grey_pack, grey_images, photo):
    encoder = Encoder(grey_pack, device="cpu")
    assert sorted(encoder.pack.graphs) == ["decoder-codewords.onnx", "decoder-grey-smooth.onnx", "decoder-grey.onnx"]
    files = encoder.encode_batch(grey_images, quality=100)
    assert container.unpack_header(files[0]).colour == GREY
    decoded = Decoder([grey_pack]).decode_batch(files)
    for data, pixels in zip(files, decoded, strict=True):
        np.testing.assert_array_equal(pixels, reference.decode(data, encoder.pack.tables))
    originals, flat = np.concatenate(grey_images), np.full((16 * 28, 28), np.mean(grey_images), np.uint8)
    assert psnr(originals, np.concatenate(decoded)) > psnr(originals, flat) + 6
    with pytest.raises(UsageError, match="grey images only"):
        encoder.encode(photo)
    with pytest.raises(FormatError, match="decoder-rgb"):
        decode(asking_for(files[0], colour=RGB), models=[grey_pack])


def test_factors_are_in_singular_value_order(pack):
    tables = store.find(pack).load().tables
    u, v = tables["u1"].astype(float), tables["v1"].astype(float)
    sizes = np.linalg.norm(u, axis=2) * np.linalg.norm(v, axis=2)
    ordered = sizes[:, :-1] >= 0.95 * sizes[:, 1:]
    only_rounding = sizes[:, 1:] < 0.01 * sizes[:, :1]
    assert (ordered | only_rounding).all() and not only_rounding.all()


def test_tampered_pack_is_refused(pack, photo, tmp_path):
    data = Encoder(pack).encode(photo, quality=10, effort=0)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in pack.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert Decoder([copy]).decode(data).shape == photo.shape
    weights = copy / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UnsupportedError, match="no usable encoder"):
        Encoder(copy)
    graph = copy / "decoder-rgb-smooth.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(UnsupportedError):
        Decoder([copy]).decode(data)
    (copy / "tables.npz").write_bytes(b"PK")
    with pytest.raises(UnsupportedError):
        store.find(copy).load()


@pytest.mark.parametrize("steps", [1, 3, 9, 10])
def test_every_number_of_steps_can_be_trained(steps):
    """PyTorch's own schedule divides by zero where the learning rate rises for exactly one step: 9 steps, or 3 * 3."""
    for count in (steps, end_to_end.REFIT_STEPS * steps):
        parameter = torch.nn.Parameter(torch.ones(1))
        descent = Descent([parameter], 0.1, count)
        while descent.done < count:
            descent.step(parameter.square().sum())
        assert parameter.isfinite().all() and parameter.item() < 1


def test_bad_input(images, tmp_path):
    with pytest.raises(UsageError, match="no images"):
        train([], tmp_path / "out", config=TINY, work=tmp_path / "work", progress=print)
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"hello")
    for options, message in ((["--preset", "nope"], "'nope' is not one of 'photo', "), ([], "b.png: not an image")):
        arguments = ["train", str(tmp_path), "-o", str(tmp_path / "out"), "--preset", "tiny", *options]
        result = CliRunner().invoke(cli.main, arguments)
        assert result.exit_code == UsageError.exit_code and message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_pack_is_never_replaced(images, tmp_path):
    (tmp_path / "diary.txt").write_text("precious")
    with pytest.raises(UsageError, match="not a model pack"):
        train(images, tmp_path, config=TINY, work=tmp_path / "work", progress=print)
    assert (tmp_path / "diary.txt").read_text() == "precious"


def test_checkpoints_of_another_run_are_refused(pack, images, tmp_path):
    with pytest.raises(UsageError, match="--work"):
        train(images, tmp_path / "out", config=TINY, work=pack.with_name("work"), seed=1, progress=print)
    mirrored = [image[:, ::-1] for image in images]
    with pytest.raises(UsageError, match="other images"):
        train(mirrored, tmp_path / "out", config=TINY, work=pack.with_name("work"), progress=print)


def test_tiny_images_train(train_pack, images):
    """Images smaller than a window of the transformer; one that is grey is one of the others in a colour model."""
    tiny = [np.ascontiguousarray(images[1][30:50, 20 * i : 20 * i + 20]) for i in range(6)]
    tiny[2] = tiny[2][:, :, 1]
    out = train_pack(tiny, replace(TINY, steps=2))
    assert decode(Encoder(out).encode(tiny[3]), models=[out]).shape == (20, 20, 3)


def test_shared_codebook_for_a_side_that_patches_do_not_divide(train_pack, grey_images):
    config = paper(28, 8, codewords=32, iterations=2, smoothing=4, mirror=False)
    out = train_pack(grey_images, replace(config, steps=2, width=32, blocks=1, heads=2))
    data = Encoder(out, device="cpu").encode(grey_images[0])
    np.testing.assert_array_equal(decode(data, models=[out]), reference.decode(data, store.find(out).load().tables))


def as_large_as_can_be(book, p, rank):
    factors = (
        np.full((len(book), rank, p), 127, np.int8),
        np.full((len(book), rank, book.shape[1] // p), 32767, np.int16),
    )
    return factors


def too_steep(smoothing):
    w1, b1, w2, b2 = training_smoothing(smoothing)
    return w1, b1, w2 + 2000, b2


training_smoothing = Smoothing.integers


def checkpoints(pack: Path, work: Path, *missing: str) -> Path:
    """A work folder with those of a pack's training, but for some: the training goes on where they are missing."""
    return Path(shutil.copytree(pack.with_name("work"), work, ignore=shutil.ignore_patterns(*missing)))


@pytest.mark.parametrize(
    ("module", "name", "wrong", "missing", "message"),
    [
        (codebooks, "factorise", as_large_as_can_be, ["networks.*", "tables.*"], "codewords of scale .*other images"),
        (Smoothing, "integers", too_steep, ["tables.*"], "second convolution .*fewer --steps"),
    ],
)
def test_inexact_weights_are_refused_as_soon_as_they_are_known(
    module, name, wrong, missing, message, pack, images, tmp_path, monkeypatch
):
    out, work = tmp_path / "out", checkpoints(pack, tmp_path / "work", *missing)
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(LrqError, match=rf"^[^\n]*{message}[^\n]*$") as caught:
        train(images, out, config=TINY, work=work, progress=lambda share, line: None)
    assert type(caught.value) is LrqError and "not exact" in str(caught.value)
    assert not out.exists() and not any([*work.glob(name)] for name in missing)


def test_weights_that_are_no_numbers_are_refused(pack, images, tmp_path, monkeypatch):
    out, work = tmp_path / "out", checkpoints(pack, tmp_path / "work", "networks.*", "tables.*", "optimiser.pt")
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, _: parameters[0].data.fill_(math.nan))
    with pytest.raises(LrqError, match="weights of the transformer are no numbers"):
        train(images, out, config=TINY, work=work, progress=lambda share, line: None)
    assert not (work / "optimiser.pt").exists() and not out.exists()


def brighter_grey(smoothing):
    w1, b1, w2, b2 = export_grey_smoothing(smoothing)
    return w1, b1, w2, b2 + 100


export_grey_smoothing = export.grey_smoothing


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("build_graph", lambda *arguments: b"no graph", "broken graph"),
        ("ENLARGE_TAPS", export.ENLARGE_TAPS[::-1], r"other pixels than in training \(grey, without smoothing\)"),
        ("grey_smoothing", brighter_grey, r"other pixels than in training \(grey, with smoothing\)"),
    ],
)
def test_a_pack_that_does_not_work_never_takes_its_name(name, wrong, message, pack, images, tmp_path, monkeypatch):
    out, work = Path(shutil.copytree(pack, tmp_path / "mine")), checkpoints(pack, tmp_path / "work")
    (out / "card.md").write_text("the older pack")
    with monkeypatch.context() as patch:
        patch.setattr(export, name, wrong)
        with pytest.raises(LrqError, match=rf"stays in {work / 'unchecked'}: .*{message}"):
            train(images, out, config=TINY, work=work, progress=lambda share, line: None)
    assert (out / "card.md").read_text() == "the older pack"
    assert (work / "unchecked" / "tables.npz").exists()
    train(images, out, config=TINY, work=work, progress=lambda share, line: None)
    assert store.find(out).fingerprint == store.find(pack).fingerprint and "Trained on" in (out / "card.md").read_text()
    assert not (work / "unchecked").exists()


def test_tuning_the_decoder_lowers_j(pack, images, tmp_path, monkeypatch):
    """On other crops of the training images, encoded anew with what was tuned."""
    found: list = []

    def find(config, prepared, model, *rest):
        found.extend((prepared, model))
        raise Stop

    monkeypatch.setattr(run, "tune_decoder", find)
    with pytest.raises(Stop):
        work = checkpoints(pack, tmp_path / "work", "tuned.*", "tables.*")
        train(images, tmp_path / "out", config=TINY, work=work, progress=print)
    prepared, model = found
    planes = Crops(prepared, TINY, model.networks.transformer.multiple).spread(16, np.random.default_rng(9))

    def cost(model) -> float:
        with torch.no_grad():
            return sum(tuning._error(tuning._Drawing(model), model, planes, q)[1].mean().item() for q in (0.2, 0.7))

    config = replace(TINY, steps=240)
    tuned = tuning.tune_decoder(config, prepared, model, WorkFolder(tmp_path / "more", {}), 0, lambda share, line: None)
    assert cost(tuned) < 0.99 * cost(model)
    before, after = model.codebooks.predictors[1].integers(), tuned.codebooks.predictors[1].integers()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
