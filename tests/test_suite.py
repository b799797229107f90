"""The paper's suite on synthetic points, and once whole, with models trained for a moment."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrcodec.cli import bench as cli_bench
from lrcodec.cli import paper as cli_paper
from lrcodec.cli import train as cli_train
from lrcodec.errors import UsageError
from lrcodec.measure import classic
from lrcodec.packs import store
from lrcodec.paper import datasets, report, suite
from lrcodec.paper.report import bytes_at, cheapest_not_worse
from lrcodec.paper.suite import Point
from lrcodec.training import presets


def point(model: str, size: float, mse: float, macs: float | None = None, **fields) -> Point:
    return Point(**{
        "dataset": "celeba64", "model": model, "setting": "1", "bytes": size, "bpp": size / 512, "ratio": 12288 / size,
        "raw_bpp": None, "raw_ratio": None, "mse": mse, "psnr": -10 * np.log10(mse), "macs": macs, "usage": None,
    } | fields)  # fmt: skip


def test_every_knob_is_turned_alone_and_has_three_values():
    for name in datasets.SIZES:
        settings = dict(suite.knob_settings(name))
        assert settings.pop("base") == suite.BASE
        turned = [{k for k in suite.BASE if knobs[k] != suite.BASE[k]} for knobs in settings.values()]
        assert all(len(knobs) == 1 for knobs in turned)
        for knob in suite.BASE:
            assert len({suite.BASE[knob], *(knobs[knob] for knobs in settings.values())}) >= 3


def test_sizes_at_equal_quality_lie_between_neighbours():
    curve = [point("webp", 100, 4e-3), point("webp", 200, 2e-3), point("webp", 400, 1e-3)]
    assert bytes_at(curve, "mse", 2e-3) == pytest.approx(200)
    assert 200 < bytes_at(curve, "mse", 1.5e-3) < 400
    assert bytes_at(curve, "mse", 5e-3) is None
    assert bytes_at(curve, "psnr", curve[1].psnr) == pytest.approx(200)


def test_fewest_macs_among_what_is_as_small_and_as_good():
    baseline = point("vq-vae", 200, 2e-3, 18000)
    others = [
        point("lrq", 200, 2e-3, 500),
        point("lrq", 150, 1.9e-3, 90),
        point("lrq", 150, 2.1e-3, 1),  # worse
        point("paper", 201, 1e-3, 1),  # larger
        point("jpeg", 100, 1e-3),
    ]
    assert cheapest_not_worse([baseline, *others], baseline) is others[1]
    assert cheapest_not_worse([baseline], baseline) is None
    assert "**200 times fewer**" in report.table([baseline, *others])


def test_json_round_trip_and_figure():
    points = [point("vq-vae", 200, 2e-3, 18000), point("paper", 300, 1e-3, 900), point("lrq", 150, 1e-3, 90)]
    text = report.to_json(suite.Suite(points, [], {}, {"celeba64": (1, 2)}), {"python": "3"})
    assert report.from_json(text) == points
    assert report.plot(points).startswith(b"\x89PNG")


def test_missing_images_are_named(tmp_path):
    with pytest.raises(UsageError, match="train-NN-COUNT.webp"):
        suite.run(tmp_path, tmp_path / "work", ["cifar10"], None, 0, print)


def test_whole_suite(tmp_path, monkeypatch):
    from skimage import data

    photo = data.chelsea()[:64, :128]  # eight tiles
    for split in ("train", "test"):
        folder = tmp_path / "data" / "cifar10"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(folder / f"{split}-00-8.png")
    paper = presets.paper
    small = {"steps": 2, "start_patches": 1000, "width": 16, "blocks": 1, "table_images": 8}
    monkeypatch.setattr(presets, "paper", lambda *a, **k: replace(paper(*a, **k), batch=4, **small))
    monkeypatch.setattr(suite, "KNOBS", {"smoothing": (0, 4)})
    monkeypatch.setattr(suite, "BASE", suite.BASE | {"codewords": 32, "iterations": 2, "smoothing": 4})
    monkeypatch.setattr(suite, "BASELINES", ((8, 16),))
    monkeypatch.setattr(suite, "QUALITIES", (0, 50))
    monkeypatch.setattr(suite, "SHOWN", 2)
    two = {name: replace(classic.CLASSIC[name], qualities=(10, 50)) for name in ("jpeg", "webp")}
    monkeypatch.setattr(classic, "CLASSIC", two)
    measured = suite.run(tmp_path / "data", tmp_path / "work", ["cifar10"], 8, 0, lambda line: None)
    by_model = {}
    for p in measured.points:
        by_model.setdefault(p.model, []).append(p)
    assert {name: len(points) for name, points in by_model.items()} == {
        "paper": 2, "vq-vae": 1, "lrq": 4, "jpeg": 2, "webp": 2,
    }  # fmt: skip
    base, plain = by_model["paper"]
    assert base.raw_bpp == plain.raw_bpp == 16 * 2 * 5 / 1024 and 0 < base.usage <= 1
    assert base.macs == 2 * 2 * 3 + 2 * 9 * 4 * 12 / 4 + 36
    assert plain.macs == 2 * 2 * 3 + 36
    lrq = by_model["lrq"]
    assert lrq[0].bytes == lrq[1].bytes < lrq[2].bytes and lrq[0].mse > lrq[2].mse
    tables = store.find(suite.PACKS["cifar10"]).load().tables
    # Each weight of the pair is used once for every block of two by two pixels.
    pair = (tables["smooth_w1"].size + tables["smooth_w2"].size) / 4
    assert lrq[0].macs == pytest.approx(lrq[1].macs + pair)
    assert lrq[2].mse < lrq[3].mse  # the second of each pair is without smoothing
    assert {len(p) for p in measured.pictures} == {suite.SHOWN}
    document = json.loads(report.to_json(measured, {}))
    assert len(document["points"]) == len(measured.points) and document["images"] == {"cifar10": [8, 8]}
    assert report.pictures(measured).startswith(b"\x89PNG")
    # A second run trains nothing and measures the same.
    again = suite.run(tmp_path / "data", tmp_path / "work", ["cifar10"], 8, 0, lambda line: None)
    assert again.points == measured.points


def test_baseline_macs_are_those_of_its_convolutions():
    from lrcodec.paper.baseline import Vqvae

    # Per latent cell: 3x3 64-128, two times 3x3 128-32 and 1x1 32-128, then 4x4 128-64 on 4 and 4x4 64-3 on 16 pixels.
    cell = 9 * 64 * 128 + 2 * (9 * 128 * 32 + 32 * 128) + 16 * 128 * 64 + 4 * 16 * 64 * 3
    assert Vqvae(3).decoder_macs(64, 64) == cell / 16


def test_choices_of_the_command_line_are_what_can_be_measured():

    assert set(cli_bench.ANCHORS) == set(classic.CLASSIC)
    assert cli_train.PRESETS == tuple(presets.PRESETS)
    assert set(cli_paper.SETS) == set(datasets.SIZES) == set(suite.PACKS) == set(report.TARGETS)


ROOT = Path(__file__).parent.parent


def test_published_tables_are_those_of_the_published_figures():
    points = report.from_json((ROOT / "results" / "paper.json").read_text(encoding="utf-8"))
    tables = (ROOT / "results" / "paper.md").read_text(encoding="utf-8")
    assert report.table(points) in tables
    results = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    quoted = results.partition("## The paper's data sets")[2].partition("\n#")[0]
    rows = re.findall(r"^(?:\| |- vq-vae).+$", quoted, re.MULTILINE)
    assert len(rows) > 15 and set(rows) <= set(tables.splitlines())
