"""The paper's suite on synthetic points, and once whole, with models trained for a moment."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import fails, lrq
from known_costs import Killed, Sleeper
from PIL import Image

from lrcodec.cli import bench as cli_bench
from lrcodec.cli import paper as cli_paper
from lrcodec.cli import train as cli_train
from lrcodec.errors import UsageError
from lrcodec.format import container
from lrcodec.measure import classic
from lrcodec.packs import store
from lrcodec.packs.pack import fingerprint
from lrcodec.paper import baseline, baseline_training, cost, datasets, examples, figures, models, report, suite
from lrcodec.paper.baseline import Vqvae
from lrcodec.paper.curves import best, cheapest_not_worse, nearest, size_at
from lrcodec.paper.headline import headline
from lrcodec.paper.suite import Point, Suite
from lrcodec.training import presets
from lrcodec.training.work import WorkFolder

ROOT = Path(__file__).parent.parent


def point(model: str, size: float, mse: float, macs: float | None = None, **fields) -> Point:
    return Point(**{
        "dataset": "celeba64", "model": model, "setting": "1", "bytes": size, "bpp": size / 512, "ratio": 12288 / size,
        "raw_bpp": None, "raw_ratio": None, "mse": mse, "psnr": -10 * np.log10(mse), "macs": macs, "usage": None,
    } | fields)  # fmt: skip


def paid(point: Point, ms: float) -> cost.Cost:
    return cost.Cost(point.dataset, point.model, point.setting, point.macs or 0, ms, ms / 2, 1.5, None, 1000)


def test_every_knob_is_turned_alone_and_has_three_values():
    for name in datasets.SIZES:
        trained = list(models.settings(name))
        assert len({setting.folder for setting in trained}) == len(trained)
        knobs = {setting.name: setting.knobs for setting in trained if setting.model == "paper"}
        assert knobs.pop("base") == knobs.pop(f"base, {models.SHORT} epochs") == models.BASE
        assert {setting.epochs for setting in trained if setting.name in knobs} == {models.SHORT}
        turned = [{k for k in models.BASE if values[k] != models.BASE[k]} for values in knobs.values()]
        assert all(len(some) == 1 for some in turned)
        for knob in models.BASE:
            assert len({models.BASE[knob], *(values[knob] for values in knobs.values())}) >= 3


def test_the_papers_form_sees_every_image_as_often_as_in_the_paper():
    config = presets.paper(64, 8192)
    assert config.steps * config.batch == 50 * 8192 and config.batch == 128
    assert (config.learning_rate, presets.paper(28, 1).steps) == (3e-4, 1)


def test_sizes_at_equal_quality_lie_between_neighbours():
    curve = [point("webp", 100, 4e-3), point("webp", 200, 2e-3), point("webp", 400, 1e-3)]
    assert size_at(curve, "mse", 2e-3) == pytest.approx(200)
    assert 200 < size_at(curve, "mse", 1.5e-3) < 400
    assert size_at(curve, "mse", 5e-3) is None
    assert size_at(curve, "psnr", curve[1].psnr) == pytest.approx(200)
    assert size_at(curve, "mse", 2e-3, "bpp") == pytest.approx(200 / 512)


def test_the_best_settings_are_the_lower_hull():
    line = [point("paper", size, 0.4 / size) for size in (100, 200, 400, 800)]
    beaten = [
        point("paper", 150, 0.4 / 120),  # above the line from 100 to 200
        point("paper", 500, 2e-3),  # larger and worse than another
        point("paper", 900, line[-1].mse),  # larger and no better
        point("paper", 300, 1e-3, psnr=None),
    ]
    for order in (1, -1):
        hull = best([*line, *beaten[:3]][::order], "mse")
        assert [line[0], line[-1]] == [hull[0], hull[-1]] and not {*hull} & {*beaten}
        assert size_at(hull, "mse", 2e-3) == pytest.approx(200)
        by_psnr = best([*line, *beaten][::order], "psnr")
        assert [line[0], line[-1]] == [by_psnr[0], by_psnr[-1]] and not {*by_psnr} & {*beaten}
    assert best([], "mse") == []


def test_fewest_macs_among_what_is_as_small_and_as_good():
    baseline = point("vq-vae", 200, 2e-3, 18000)
    others = [
        point("lrq", 200, 2e-3, 500),
        point("lrq", 150, 1.9e-3, 90),
        point("lrq", 150, 2.1e-3, 1),  # worse
        point("paper", 201, 1e-3, 1),  # larger
        point("jpeg", 100, 1e-3),
    ]
    points = [baseline, *others]
    assert cheapest_not_worse(points, baseline, ["lrq", "paper"]) is others[1]
    assert cheapest_not_worse(points, baseline, ["paper"]) is None
    measured = Suite(images={"celeba64": (1, 1)}, points=points)
    assert "**200 times fewer**\n" in report.tables(measured)
    measured.costs.extend([paid(baseline, 3.0), paid(others[1], 0.5)])  # of the first point of that name
    assert "**200 times fewer**; milliseconds: 6.0 times fewer, 6.0 in a batch" in report.tables(measured)


def test_headline_answers_what_the_paper_says():
    raw = {"raw_bpp": 1.0, "raw_ratio": 24.0}
    points = [
        point("vq-vae", 250, 4e-3, 18000, setting="stride 4, K 512", **raw | {"raw_bpp": 0.5, "raw_ratio": 48.0}),
        point("vq-vae", 600, 1e-3, 30000, setting="stride 2, K 512", **raw | {"raw_bpp": 2.0, "raw_ratio": 12.0}),
        point("paper", 256, 7.2e-3, 900, setting="base", **raw),
        point("paper", 1024, 1.8e-3, 180, setting="codewords 2048", **raw | {"raw_bpp": 4.0, "raw_ratio": 6.0}),
        point("paper", 2000, 5e-3, 180, setting="rank 1", **raw | {"raw_bpp": 4.0, "raw_ratio": 6.0}),
        point("lrq", 64, 7.2e-3, 100, setting="0"),
        point("lrq", 256, 1.8e-3, 100, setting="10"),
        point("lrq", 9, 3.6e-3, 100, setting="10, no smoothing"),
    ]
    pairs = {pair.point.setting: pair for pair in nearest(points)}
    assert pairs["codewords 2048"].baseline is points[1] and pairs["base"].baseline is points[0]
    rows = [line[1:] for line in headline(Suite(images={"celeba64": (1, 1)}, points=points)).lines]
    assert rows[0] == ["over 21", "12.0"]  # half way from 1 to 4 bits a pixel, of 24
    assert rows[1] == ["-", "24.0"]  # 512 bytes
    assert rows[4] == ["-", "96.0"]  # 128 bytes
    assert rows[5] == ["10 to 100", "20 to 167"]
    assert rows[6] == ["slightly more", "2.00 to 8.00"]
    assert rows[7] == ["-", "-"] and rows[8] == ["-", "180"]


def test_json_keeps_everything_but_the_pictures():
    points = [point("vq-vae", 200, 2e-3, 18000, setting="stride 4, K 64"), point("paper", 300, 1e-3, 900)]
    points += [point("lrq", 150, 1e-3, 90)]
    epochs = [{"epoch": n + 1, "loss": 0.1, "mse": 1 / (100 + n), "usage": 0.5} for n in range(50)]
    measured = Suite(
        container.VERSION,
        {"faces64": "ab" * 32},
        {"celeba64": (1, 2)},
        points,
        [paid(p, 1.0) for p in points],
        {"celeba64": {"stride 4, K 64": epochs}},
    )
    text = report.to_json(measured, {"python": "3"})
    assert report.from_json(text) == measured
    assert json.loads(text)["format"] == container.VERSION
    for draw in (figures.figure4, figures.curves):
        assert draw(measured).startswith(b"\x89PNG")
    # Its test errors after 10, 25 and 50 epochs, and how much the last five gained.
    row = next(
        line for line in report.tables(measured).splitlines() if line.startswith("| stride 4, K 64") and "%" in line
    )
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["9.17e-03", "8.06e-03", "6.71e-03", "3.4%", "-"]


def test_missing_images_are_named(tmp_path):
    with pytest.raises(UsageError, match="train-NN-COUNT.webp"):
        suite.run(tmp_path, tmp_path / "work", ["cifar10"], None, 0, print)


# ---- the baseline


def test_baseline_macs_are_those_of_its_convolutions():
    # Per latent cell: 3x3 64-128, two times 3x3 128-32 and 1x1 32-128, then 4x4 128-64 on 4 and 4x4 64-3 on 16 pixels.
    start = 9 * 64 * 128 + 2 * (9 * 128 * 32 + 32 * 128)
    assert Vqvae(3).decoder_macs(64, 64) == (start + 16 * 128 * 64 + 4 * 16 * 64 * 3) / 16
    # With a stride of 2, one 4x4 from 128 channels to the pixels.
    assert Vqvae(3, stride=2).decoder_macs(64, 64) == (start + 16 * 128 * 3) / 4


@pytest.fixture(scope="module")
def small_images() -> np.ndarray:
    """Parts of a photograph: uint8 (24, 16, 16, 3)."""
    from skimage import data

    photo = data.chelsea()[:64, :96]
    return photo.reshape(4, 16, 6, 16, 3).swapaxes(1, 2).reshape(24, 16, 16, 3)


def test_dead_codewords_move_to_where_latents_are(small_images):
    torch.manual_seed(0)
    model = Vqvae(3, codewords=64).train()
    pixels = baseline_training._pixels(torch.from_numpy(small_images))
    model.counts[:40] = 0
    before = model.embeddings.clone()
    model.restart(pixels, torch.Generator().manual_seed(0))
    assert torch.equal(model.embeddings[40:], before[40:])
    latents = model.encoder(pixels).movedim(1, -1).flatten(0, 2)
    assert torch.cdist(model.embeddings[:40], latents).min(1).values.max() < 1e-2
    assert (model.counts == 1).all() and torch.equal(model.sums[:40], model.embeddings[:40])
    with torch.no_grad():
        assert len(model.indices(model.encoder(pixels)).unique()) > 20


def test_restarts_keep_the_codebook_in_use(small_images, tmp_path, monkeypatch):
    """Without them most of the codewords are never chosen."""
    monkeypatch.setattr(baseline_training, "BATCH", 6)
    monkeypatch.setattr(baseline_training, "RESTART_STEPS", 2)
    monkeypatch.setattr(baseline, "DECAY", 0.8)
    usage = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr(baseline_training, "RESTARTED", share)
        work = tmp_path / str(share)
        trained = baseline_training.train_baseline(
            small_images, small_images, stride=4, codewords=64, epochs=8, seed=0, work=work, progress=lambda *_: None
        )
        usage[share] = trained.curve[-1].usage
    assert usage[1.0] > 2 * usage[0.0]


def test_a_baseline_that_was_interrupted_goes_on_as_if_it_had_not_been(small_images, tmp_path, monkeypatch):
    def train(work: str, stop: int = 99) -> baseline_training.Trained:
        def progress(share: float, line: str) -> None:
            if line.startswith(f"epoch {stop}/"):
                raise KeyboardInterrupt

        return baseline_training.train_baseline(
            small_images,
            small_images[:6],
            stride=2,
            codewords=16,
            epochs=4,
            seed=3,
            work=tmp_path / work,
            progress=progress,
        )

    monkeypatch.setattr(baseline_training, "BATCH", 8)
    monkeypatch.setattr(baseline_training, "RESTART_STEPS", 3)
    whole = train("whole")
    for stop in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train("parts", stop)
        assert not (tmp_path / "parts" / "weights.safetensors").exists()
    parts = train("parts")
    assert parts.curve == whole.curve and [epoch.epoch for epoch in whole.curve] == [1, 2, 3, 4]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(parts.model.state_dict()[name], value), name
    # Once more: nothing is trained.
    monkeypatch.setattr(baseline_training, "_train_epoch", lambda *_: pytest.fail("trains"))
    again = train("parts")
    assert again.curve == whole.curve and torch.equal(again.model.embeddings, whole.model.embeddings)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["curve.json", "weights.safetensors"]


def test_ideal_code_lengths_are_those_of_the_frequencies(small_images):
    torch.manual_seed(0)
    model = Vqvae(3, codewords=8).eval()
    lengths = baseline_training.code_lengths(model, small_images)
    counts = np.bincount(baseline_training.code(model, small_images)[0].ravel(), minlength=8)
    assert counts.sum() == 24 * 16
    np.testing.assert_allclose(2.0**-lengths, (counts + 0.5) / (counts.sum() + 4))


# ---- cost


def test_what_is_timed_does_not_import_torch():
    code = "import sys, lrcodec.paper.cost; print({'torch', 'onnx'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout == "set()\n", result.stderr


def test_cost_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    found = cost.measure_cost("mnist", "paper", "base", 5.0, Sleeper())
    assert (found.dataset, found.model, found.setting, found.macs, found.weights) == ("mnist", "paper", "base", 5.0, 7)
    assert 2 <= found.ms < 20 and 2 <= found.ms_batch < 20
    if found.memory is not None and found.memory_batch is not None:
        assert 29 < found.memory < 45 and 10 < found.memory_batch - found.memory < 60


def test_a_killed_measurement_is_one_line():
    with pytest.raises(Exception, match="^the process that was to time a decoder was killed$"):
        cost.measure_cost("mnist", "paper", "base", 5.0, Killed())


# ---- all of it


@pytest.fixture
def tiny_suite(tmp_path, monkeypatch) -> Path:
    """A folder with a data set of eight images, for a suite whose models are trained in a moment."""
    from skimage import data

    photo = data.chelsea()[:64, :128]  # eight tiles
    for split in ("train", "test"):
        folder = tmp_path / "data" / "cifar10"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(folder / f"{split}-00-8.png")
    paper = presets.paper
    small = {"steps": 2, "start_patches": 1000, "width": 16, "blocks": 1, "table_images": 8}
    monkeypatch.setattr(models, "paper", lambda *a, **k: replace(paper(*a, **k), batch=4, **small))
    monkeypatch.setattr(models, "KNOBS", {"smoothing": (0, 4)})
    monkeypatch.setattr(models, "BASE", models.BASE | {"codewords": 32, "iterations": 2, "smoothing": 4})
    monkeypatch.setattr(models, "BASELINES", ((8, 16),))
    monkeypatch.setattr(models, "EPOCHS", 2)
    monkeypatch.setattr(models, "SHORT", 2)
    monkeypatch.setattr(suite, "QUALITIES", (0, 60))
    two = {name: replace(classic.CLASSIC[name], qualities=(10, 50)) for name in ("jpeg", "webp")}
    monkeypatch.setattr(classic, "CLASSIC", two)
    return tmp_path / "data"


def test_whole_suite(tiny_suite, monkeypatch):
    out, work = tiny_suite / "results", tiny_suite / "paper.work"
    out.mkdir()
    (out / "paper.md").write_text("of an earlier run")
    monkeypatch.chdir(tiny_suite)
    result = lrq("paper", "--set", "cifar10", "-o", "results")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == sorted(cli_paper.RESULTS)
    assert (out / "paper.md").read_text() in result.stdout
    measured = report.from_json((out / "paper.json").read_text())
    assert report.tables(measured) + "\n" == (out / "paper.md").read_text()
    by_model: dict[str, list[Point]] = {}
    for p in measured.points:
        by_model.setdefault(p.model, []).append(p)
    pack = store.find(suite.PACKS["cifar10"])
    assert {name: len(points) for name, points in by_model.items()} == {
        "paper": 3, "vq-vae": 1, "lrq": 2, "jpeg": 2, "webp": 2,
    }  # fmt: skip
    base, short, plain = by_model["paper"]
    assert base.raw_bpp == short.raw_bpp == plain.raw_bpp == 16 * 2 * 5 / 1024 and 0 < base.usage <= 1
    assert base.macs == 2 * 2 * 3 + 2 * 9 * 4 * 12 / 4 + 36
    assert plain.macs == 2 * 2 * 3 + 36
    low, high = (next(p for p in by_model["lrq"] if p.setting == quality) for quality in ("0", "60"))
    assert low.bytes < high.bytes and low.mse > high.mse
    (reference,) = by_model["vq-vae"]
    # Four latents of four bits, at equal lengths.
    assert reference.raw_bpp == 16 * 4 / 1024 and 0 < reference.usage <= 1
    assert (measured.version, measured.images) == (container.VERSION, {"cifar10": (8, 8)})
    assert measured.packs == {"cifar10": fingerprint(pack.blobs).hex()}
    assert [row["epoch"] for row in measured.curves["cifar10"]["stride 8, K 16"]] == [1, 2]
    decoders = [(p.model, p.setting, p.macs) for p in measured.points if p.macs is not None]
    assert [(c.model, c.setting, c.macs) for c in measured.costs] == decoders
    kept = work / "cifar10" / "paper-base" / "pack"
    files = [*kept.glob("decoder-*.onnx"), kept / "tables.npz"]
    assert measured.costs[0].weights == sum(path.stat().st_size for path in files)
    decoder = work / "cifar10" / "vq-vae-stride-8-K-16" / "decoder.onnx"
    assert [c.weights for c in measured.costs if c.model == "vq-vae"] == [decoder.stat().st_size]
    assert all(0 < c.ms < 1000 and 0 < c.ms_batch < 1000 for c in measured.costs)

    # Once more, nothing is trained, and the points are the same.
    monkeypatch.setattr(suite, "measure_cost", lambda *_: measured.costs[0])
    monkeypatch.setattr(models, "train", lambda *_, **__: pytest.fail("trains"))
    monkeypatch.setattr(WorkFolder, "save", lambda *_: pytest.fail("encodes with our pack"))
    again = suite.run(tiny_suite, work, ["cifar10"], None, 0, lambda line: None)
    assert again.points == measured.points
    shown = {(p.model, p.setting): p for p in again.pictures}
    assert [*shown] == [(model, setting) for model, setting, _ in decoders]
    assert all(p.pixels.shape == (32, 32, 3) and p.bpp > 0 for p in shown.values())
    assert shown["lrq", "0"].mse > shown["lrq", "60"].mse > 0
    # Models that were trained on other images are not taken for those of these.
    with pytest.raises(UsageError, match="other images"):
        suite.run(tiny_suite, work, ["cifar10"], 4, 0, lambda line: None)


def test_training_alone(tiny_suite, tmp_path, monkeypatch):
    work = tmp_path / "work"
    options = ["paper", "--data", str(tiny_suite), "--work", str(work), "--set", "cifar10", "--train"]
    monkeypatch.setattr(suite, "run", lambda *_: pytest.fail("measures"))
    result = lrq(*options, "vq-vae*")
    assert (result.exit_code, result.stdout) == (0, "") and "epoch 2/2" in result.stderr
    assert [path.name for path in (work / "cifar10").iterdir()] == ["vq-vae-stride-8-K-16"]
    names = "paper-base, paper-base-2-epochs, paper-smoothing-0, vq-vae-stride-8-K-16"
    assert f"no model is called vqvae: there are {names}" in fails(2, *options, "vqvae")
    assert "--train measures nothing" in fails(2, *options, "vq-vae*", "-o", tmp_path / "out")


def test_examples_have_the_shapes_of_the_data_sets():
    for name, (height, width, channels) in datasets.SIZES.items():
        image = examples.example(name)
        assert image.dtype == np.uint8 and image.shape == (height, width, channels)[: 3 if channels > 1 else 2]
    digit = examples.example("mnist")
    rows = np.flatnonzero(digit.any(1))
    assert rows[-1] - rows[0] == 19 and digit.max() == 255 and len(np.unique(digit)) > 20


def test_choices_of_the_command_line_are_what_can_be_measured():
    assert set(cli_bench.ANCHORS) == set(classic.CLASSIC)
    assert cli_train.PRESETS == tuple(presets.PRESETS)
    assert set(cli_paper.SETS) == set(datasets.SIZES) == set(suite.PACKS) == set(report.TARGETS)


def test_published_tables_are_those_of_the_published_figures():
    measured = report.from_json((ROOT / "results" / "paper.json").read_text(encoding="utf-8"))
    tables = (ROOT / "results" / "paper.md").read_text(encoding="utf-8")
    assert report.tables(measured) + "\n" == tables
    results = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    quoted = results.partition("## The paper's data sets")[2].partition("\n#")[0]
    rows = re.findall(r"^(?:\| |- vq-vae).+$", quoted, re.MULTILINE)
    assert len(rows) > 15 and set(rows) <= set(tables.splitlines())
