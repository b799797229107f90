import io
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lrcodec import image_files
from lrcodec.errors import UsageError
from lrcodec.image_files import SKIMAGE_PHOTOGRAPHS, find_images
from lrcodec.measure.bench import Curve, Result, Row, bench, means, read_images, row_count
from lrcodec.measure.classic import CLASSIC, classic_encode
from lrcodec.measure.curves import bd_rates, curves, cut
from lrcodec.measure.metrics import ms_ssim_db, ms_ssim_of_db
from lrcodec.measure.report import plot, table, to_json

QUALITIES = (20, 40, 60, 80)
OURS = [Curve("lrq", rank, "psnr") for rank in (1, 2)]


class DoubledJpeg:
    """A codec whose files are JPEG files, padded to twice their length: its BD-rate against JPEG is +100 %."""

    def __init__(self):
        self.encoded, self.decodes = [], 0

    def encode(self, image, quality, curve):
        self.encoded.append((image.shape, quality, curve))
        data = classic_encode(image, "jpeg", quality)
        return data + bytes(len(data))

    def decode(self, data):
        self.decodes += 1
        return np.asarray(Image.open(io.BytesIO(data)))

    def macs(self, data):
        return SimpleNamespace(low_rank=len(data), prediction=2.5, smoothing=216.0, colour=9.0)


def level_of(bpp):
    """A law under which six dB cost four times the rate: log rate is linear, which pchip reproduces."""
    return 30 + 3 * math.log2(bpp / 0.4)


def row_of(codec="lrq", rank=2, tune="psnr", **figures):
    """A row of a.png at quality 50, whose figures are those of a photograph unless they are given."""
    ours = codec == "lrq"
    usual = {"image": "a.png", "setting": 50, "bytes": 100, "bpp": 0.8, "ratio": 30.0, "mse": 1e-3, "psnr": 30.0}
    usual |= {"psnr_cb": 35.0, "psnr_cr": 35.0, "ms_ssim": math.nan, "ssimulacra2": math.nan}
    macs = {"low_rank": 8.0, "prediction": 8.0, "smoothing": 216.0, "colour": 9.0}
    usual |= {f"macs_{name}": count if ours else None for name, count in macs.items()}
    usual |= {"encode_s": 1.0, "decode_s": 0.03}
    return Row(codec=codec, rank=rank if ours else None, tune=tune if ours else None, **usual | figures)


def straight_curve(codec, level, rates, tune="psnr"):
    """Mean rows whose PSNR at a rate is level(rate), whose MS-SSIM is 15 dB lower, and SSIMULACRA2 20 higher."""
    levels = {rate: level(rate) for rate in rates}
    return [
        row_of(codec, 2, tune, setting=i, bpp=rate, psnr=at, ms_ssim=1 - 10 ** ((15 - at) / 10), ssimulacra2=at + 20)
        for i, (rate, at) in enumerate(levels.items())
    ]


def photograph(height, width):
    y, x = np.mgrid[:height, :width]
    planes = [128 + 90 * np.sin(x / (5 + 3 * c)) * np.cos(y / 7) for c in range(3)]
    return np.stack(planes, -1).astype(np.uint8)


@pytest.fixture(scope="module")
def measured():
    codec, seen = DoubledJpeg(), []
    images = [("a.png", photograph(48, 64)), ("b.png", photograph(40, 56)[:, :, 0])]
    result = bench(images, OURS, QUALITIES, codec.encode, codec, progress=seen.append)
    return SimpleNamespace(codec=codec, images=images, result=result, seen=seen)


@pytest.fixture
def row():
    return row_of()


def test_every_file_is_measured_once(measured):
    own = [(image.shape, q, curve) for _, image in measured.images for curve in OURS for q in QUALITIES]
    assert measured.codec.encoded == own
    assert measured.codec.decodes == 4 * len(own)  # one warm-up, three timed
    classic = [("a.png", name, q) for name, codec in CLASSIC.items() for q in codec.qualities]
    got = [(row.image, row.codec, row.setting) for row in measured.result.rows if row.rank is None]
    assert got == classic + [("b.png", name, q) for _, name, q in classic]
    assert measured.seen == measured.result.rows
    assert len(measured.seen) == row_count(2, OURS, QUALITIES)


def test_figures_of_a_row(measured):
    rgb, grey = (next(r for r in measured.result.rows if (r.image, r.codec) == (n, "lrq")) for n in ("a.png", "b.png"))
    for row, (_, image), samples in zip((rgb, grey), measured.images, (48 * 64 * 3, 40 * 56), strict=True):
        data = measured.codec.encode(image, row.setting, OURS[0])
        error = measured.codec.decode(data).astype(float) - image
        assert row.bytes == len(data)
        assert row.bpp == len(data) * 8 / (image.shape[0] * image.shape[1])
        assert row.ratio == samples / len(data)
        assert row.mse == pytest.approx(np.mean((error / 255) ** 2))
        assert row.psnr == pytest.approx(-10 * math.log10(np.mean((error / 255) ** 2)))
        assert math.isnan(row.ms_ssim) and math.isnan(row.ssimulacra2)
        assert math.isnan(row.psnr_cb) == math.isnan(row.psnr_cr) == (image.ndim == 2)
        macs = (row.macs_low_rank, row.macs_prediction, row.macs_smoothing, row.macs_colour)
        assert macs == (len(data), 2.5, 216.0, 9.0)
        assert 0 < row.decode_s < 1 and 0 < row.encode_s < 1


def test_classic_rows(measured):
    for name, codec in CLASSIC.items():
        rows = [row for row in measured.result.rows if (row.codec, row.image) == (name, "a.png")]
        assert [row.setting for row in rows] == list(codec.qualities)
        assert rows[0].bytes < rows[-1].bytes and rows[0].psnr < rows[-1].psnr
        assert rows[-1].psnr > 25
        assert {row.rank for row in rows} == {row.tune for row in rows} == {row.macs_low_rank for row in rows} == {None}


def test_jpeg_is_420():
    assert Image.open(io.BytesIO(classic_encode(photograph(32, 32), "jpeg", 50))).layer[0][1:3] == (2, 2)


def test_means(row):
    other = row_of(bytes=300, bpp=1.6, ratio=10.0, psnr=25.0, ms_ssim=0.9, macs_low_rank=16.0, encode_s=3.0)
    first_rank, for_the_eye = row_of(rank=1, bytes=1), row_of(tune="eye", bytes=2)
    mean, single, eye = means([row, other, first_rank, for_the_eye])
    assert (mean.image, mean.codec, mean.setting, mean.rank) == ("mean", "lrq", 50, 2)
    assert (mean.bytes, mean.bpp, mean.ratio, mean.psnr) == (200, pytest.approx(1.2), 20, 27.5)
    assert mean.ms_ssim == 0.9 and mean.macs_low_rank == 12 and mean.encode_s == 2
    assert single.rank == 1 and single.bytes == 1 and (eye.tune, eye.bytes) == ("eye", 2)


def test_means_keep_what_is_unknown(measured):
    for mean in means(measured.result.rows):
        assert math.isnan(mean.ms_ssim)
        assert (mean.macs_colour is None) == (mean.codec != "lrq")


def test_bd_rates(measured):
    found = {(bd.rank, bd.anchor, bd.metric): bd for bd in bd_rates(means(measured.result.rows))}
    assert set(found) == {(rank, anchor, "psnr") for rank in (1, 2) for anchor in CLASSIC}  # too small for MS-SSIM
    jpeg = found[2, "jpeg", "psnr"]
    # Four of JPEG's ten points, so interpolation differs a little.
    assert jpeg.percent == pytest.approx(100, abs=2)
    points = [row for row in means(measured.result.rows) if row.rank == 2]
    assert (jpeg.low, jpeg.high) == (points[0].psnr, points[-1].psnr)


def test_bd_rates_of_all_metrics():
    own = straight_curve("lrq", lambda bpp: level_of(bpp / 0.75), (0.1, 0.25, 0.5, 1.0))
    jpeg = straight_curve("jpeg", level_of, (0.05, 0.2, 0.8, 2.0))
    found = bd_rates(own + jpeg)
    assert [bd.metric for bd in found] == ["psnr", "ms_ssim", "ssimulacra2"]
    for bd, offset in zip(found, (0, -15, 20), strict=True):
        assert bd.percent == pytest.approx(-25)
        assert (bd.low, bd.high) == pytest.approx((own[0].psnr + offset, own[-1].psnr + offset))
    text = table(Result(own + jpeg))
    assert "MS-SSIM in dB, which is -10 log10(1 - MS-SSIM)" in text
    headings, line = text.splitlines()[-2:]
    assert headings.split() == "codec against PSNR from to MS-SSIM from to SSIMULACRA2 from to".split()
    cells = [text for bd in found for text in ("-25.0", "%", f"{bd.low:.1f}", f"{bd.high:.1f}")]
    assert line.split() == ["lrq", "rank", "2", "psnr", "jpeg", *cells]


def test_bd_rates_of_one_tuning_against_the_other():
    eye = straight_curve("lrq", lambda bpp: level_of(bpp / 0.9), (0.1, 0.25, 0.5, 1.0), "eye")
    psnr = straight_curve("lrq", level_of, (0.1, 0.25, 0.5, 1.0))
    for rows in (eye + psnr, psnr + eye):
        found = bd_rates(rows)
        assert {(bd.rank, bd.tune, bd.anchor) for bd in found} == {(2, "eye", "lrq rank 2 psnr")}
        assert [bd.percent for bd in found] == pytest.approx([-10] * 3)
    assert bd_rates(eye) == bd_rates(psnr) == []


@pytest.mark.parametrize("low, high", [(0.12, 0.9), (0.01, 0.3), (0.25, 9.0)])
def test_bd_rate_between_two_rates(low, high):
    # Six dB cost us eight times the rate: relative to the anchor the rate rises by a factor of 2 ** (1 / 6) a dB.
    def level(bpp):
        return 30 + 2 * math.log2(bpp / 0.4)

    own = straight_curve("lrq", level, (0.1, 0.25, 0.5, 1.0))
    rows = own + straight_curve("jpeg", level_of, (0.01, 0.2, 0.8, 5.0))
    ends = level(max(low, 0.1)), level(min(high, 1.0))
    middle = 2 ** ((sum(ends) / 2 - 30) / 6)
    for bd, offset in zip(bd_rates(rows, (low, high)), (0, -15, 20), strict=True):
        assert (bd.low, bd.high) == pytest.approx((ends[0] + offset, ends[1] + offset))
        assert bd.percent == pytest.approx(100 * (middle - 1))
    assert f"where lrq takes {low:g} to {high:g} bpp" in table(Result(rows), bpp=(low, high))
    assert json.loads(to_json(Result(rows), (low, high)))["bd_bpp"] == [low, high]


def test_bd_rate_between_rates_that_lrq_never_takes():
    rows = [row for codec in ("lrq", "jpeg") for row in straight_curve(codec, level_of, (0.2, 0.4, 0.8))]
    assert [bd.percent for bd in bd_rates(rows, (2.0, 3.0))] == [None] * 3
    line = table(Result(rows), bpp=(2.0, 3.0)).splitlines()[-1]
    assert line.split() == [
        "lrq",
        "rank",
        "2",
        "psnr",
        "jpeg",
        *9 * "-",
    ]


def test_cut_of_a_curve():
    rates, levels = [0.8, 0.2, 0.4, 0.4, 1.6], [33.0, 27.0, 30.0, 29.0, math.inf]
    got = cut(rates, levels, 0.3, 0.6)
    assert got[0] == [0.3, 0.4, 0.6]
    assert got[1] == pytest.approx([level_of(rate) for rate in got[0]])
    assert cut(rates, levels, 0.01, 9) == ([0.2, 0.4, 0.8], pytest.approx([27, 30, 33]))
    for low, high in ((0.8, 2.0), (0.1, 0.2)):
        assert cut(rates, levels, low, high) == ([], [])
    assert cut([0.5], [30.0], 0.1, 1) == cut([], [], 0.1, 1) == ([], [])


def test_ms_ssim_in_decibels():
    assert ms_ssim_db(0) == 0
    assert ms_ssim_db(0.9) == pytest.approx(10)
    assert ms_ssim_db(1) == ms_ssim_db(1 + 1e-15) == math.inf
    assert math.isnan(ms_ssim_db(math.nan))
    assert [ms_ssim_of_db(ms_ssim_db(value)) for value in (0, 0.9, 0.999, 1)] == pytest.approx([0, 0.9, 0.999, 1])


@pytest.mark.parametrize("name", CLASSIC)
def test_files_grow_along_the_scale_of_qualities(name):
    scale = CLASSIC[name].scale
    sizes = [len(classic_encode(photograph(240, 320), name, scale[at])) for at in (0, len(scale) // 2, -1)]
    assert sizes[0] < sizes[1] < sizes[2]
    assert set(CLASSIC[name].qualities) <= set(scale)


def test_jpeg2000_keeps_to_the_ratio_and_transforms_colours():
    image = photograph(128, 128)
    assert image.size / len(classic_encode(image, "jpeg2000", 24)) == pytest.approx(24, rel=0.1)
    grey = np.repeat(image[:, :, :1], 3, 2)  # costs hardly more than one channel of it
    sizes = [len(classic_encode(pixels, "jpeg2000", 1)) for pixels in (grey, grey[:, :, 0])]
    assert sizes[0] < 1.1 * sizes[1]


def test_codec_missing_from_pillow_is_named(measured, monkeypatch):
    Image.init()
    monkeypatch.delitem(Image.SAVE, "AVIF")
    codec = DoubledJpeg()
    result = bench(measured.images[:1], OURS[:1], (50,), codec.encode, codec)
    assert result.skipped == ("avif",)
    assert {row.codec for row in result.rows} == {"lrq", *CLASSIC} - {"avif"}
    assert len(result.rows) == row_count(1, OURS[:1], (50,))
    assert "not measured: avif" in table(result)
    assert json.loads(to_json(result))["skipped"] == ["avif"]


def test_unknown_classic_codec(measured):
    with pytest.raises(UsageError, match="gif"):
        bench(measured.images, OURS, (50,), None, None, classic=("jpeg", "gif"))


def test_find_and_read_images(tmp_path):
    for name, mode in (("b.png", "RGBA"), ("a.JPG", "L"), ("c.webp", "RGB"), ("z.png", "1"), ("p.png", "P")):
        Image.new(mode, (7, 5), "white").save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "inner.png").write_bytes((tmp_path / "c.webp").read_bytes())
    found = find_images([tmp_path / "z.png", tmp_path])
    assert [path.name for path in found] == ["z.png", "a.JPG", "b.png", "c.webp", "p.png", "z.png"]
    shapes = {name: image.shape for name, image in read_images(found)}
    assert shapes == {"z.png": (5, 7), "a.JPG": (5, 7), "b.png": (5, 7, 3), "c.webp": (5, 7, 3), "p.png": (5, 7, 3)}
    assert all(image.dtype == np.uint8 and image.flags.writeable for _, image in read_images(found))


def test_paths_that_hold_no_images(tmp_path):
    with pytest.raises(UsageError, match="no images"):
        find_images([tmp_path])
    with pytest.raises(FileNotFoundError):
        find_images([tmp_path / "absent.png"])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UsageError, match="text.png"):
        list(read_images([tmp_path / "text.png"]))
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UsageError, match="deep.png: .*8 bits"):
        list(read_images([tmp_path / "deep.png"]))


def test_images_are_upright_as_in_training(tmp_path):
    path, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(photograph(20, 40)).save(path, exif=exif)
    ((_, measured),), (trained,) = read_images([path]), image_files.read([path])
    assert measured.shape == (40, 20, 3)
    np.testing.assert_array_equal(measured, trained)


def test_default_images_are_there():
    images = list(read_images(find_images()))
    assert [name for name, _ in images] == list(SKIMAGE_PHOTOGRAPHS)
    assert all(image.ndim == 3 and min(image.shape[:2]) >= 300 for _, image in images)


def test_table(measured):
    text = table(measured.result)
    assert text.startswith("Means over 2 images\n")
    lines = text.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("codec"))
    body = [line.split() for line in lines[heading + 1 : lines.index("", heading)]]
    mean_rows = means(measured.result.rows)
    assert len(body) == len(mean_rows)
    for cells, row in zip(body, mean_rows, strict=True):
        assert cells[:4] == [row.codec, row.tune or "-", str(row.rank or "-"), str(row.setting)]
        assert cells[5:7] == [f"{row.bpp:.4f}", f"{row.ratio:.1f}"]
        assert float(cells[8]) == pytest.approx(row.psnr, abs=0.006)
        assert cells[13] == ("216.0" if row.codec == "lrq" else "-")
    rates = [line.split() for line in lines if line.startswith("lrq rank")]
    assert [cells[:5] for cells in rates] == [["lrq", "rank", rank, "psnr", name] for rank in "12" for name in CLASSIC]
    bd = next(bd for bd in bd_rates(mean_rows) if (bd.rank, bd.anchor) == (2, "jpeg"))
    jpeg = next(cells for cells in rates if cells[2:5] == ["2", "psnr", "jpeg"])
    assert jpeg[5:] == [f"{bd.percent:+.1f}", "%", f"{bd.low:.1f}", f"{bd.high:.1f}"]
    assert "a.png" not in text and "a.png" in table(measured.result, per_image=True)
    assert max(map(len, lines)) <= 150


def test_table_without_overlap(row):
    jpeg = [row_of("jpeg", setting=q, bytes=q, bpp=q / 9, psnr=40.0 + q, ms_ssim=1.0) for q in (1, 2)]
    assert table(Result([row, *jpeg])).splitlines()[-1].split() == ["lrq", "rank", "2", "psnr", "jpeg", "-", "-", "-"]
    assert table(Result([])).startswith("Means over 0 images")


def test_images_that_share_a_name_count_each(row):
    assert table(Result([row, row])).startswith("Means over 2 images\n")


def test_json(measured, row, tmp_path):
    document = json.loads(to_json(measured.result), parse_constant=pytest.fail)
    assert set(document) == {"versions", "machine", "skipped", "rows", "means", "bd_bpp", "bd_rates"}
    assert document["bd_bpp"] is None
    assert len(document["rows"]) == len(measured.result.rows)
    first, original = document["rows"][0], measured.result.rows[0]
    assert first["psnr"] == original.psnr and first["bytes"] == original.bytes and first["ms_ssim"] is None
    assert document["versions"]["numpy"] == np.__version__
    assert document["machine"]["cpus"] > 0
    assert {bd["anchor"] for bd in document["bd_rates"]} == set(CLASSIC)
    assert str(Path.home()) + "/" not in json.dumps(document["machine"])


def test_plot(measured, row):
    perfect = row_of(setting=100, bytes=900, bpp=7.0, mse=0.0, psnr=math.inf, ms_ssim=1.0)
    images = [Image.open(io.BytesIO(plot(r))) for r in (measured.result, Result([row, perfect]), Result([]))]
    assert all(image.format == "PNG" and image.size[0] >= 640 for image in images)
    assert len(images[0].convert("RGB").getcolors(2**24)) > 20  # something was drawn


def test_curves_rise_in_rate(row):
    cheap = row_of(setting=10, bytes=10, bpp=0.1, psnr=20.0)
    assert curves([row, cheap]) == {("lrq", 2, "psnr"): [cheap, row]}
