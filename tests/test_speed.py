import json
import os
import sys
from dataclasses import astuple
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from lrcodec.cli import main as cli
from lrcodec.errors import LrqError
from lrcodec.format.container import INDICES, RGB, Chunk, Header, pack
from lrcodec.measure import process, speed, timing
from lrcodec.measure.process import CHILD, STEPS, Process
from lrcodec.measure.speed import BASELINE, PLAIN, REDUCED, Large, Speed, Time, measure, medians, mirrored, nearest
from lrcodec.measure.speed_report import table, to_json
from lrcodec.measure.timing import Call
from lrcodec.paper.baseline import Vqvae
from lrcodec.paper.baseline_graph import BaselineDecoder, baseline_graph

IMAGE = np.zeros((50, 100, 3), np.uint8)
FILE = pack(Header(64, 48, RGB, 0, 1, 1, 0, bytes(4)), [Chunk(INDICES, b"x")])


class Clock:
    """A clock that only the fakes move on, by milliseconds."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def spend(self, ms):
        self.now += ms / 1000


class FakeDecoder:
    """Decodes in 8 ms: 2 of entropy decoding, 1 for sums, 4 in its graph, where threads share the work, and 1 around.
    An eighth takes 1 ms.

    Its first decode takes much longer, and so does every seventh. A file's first byte says of how many strips it is.
    """

    def __init__(self, clock, threads):
        self.clock, self.threads, self.decodes = clock, threads, 0

    def decode(self, data, shrink=1):
        if shrink > 1:
            self.clock.spend(8 / shrink)
            return IMAGE
        self.clock.spend(4 + 4 / self.threads + 100 * (self.decodes % 7 == 0))
        self.decodes += 1
        return IMAGE

    def macs(self, data):
        return SimpleNamespace(total=7 * data[0])

    def _read(self, data):
        return None, [b""] * data[0]


class FakeParts:
    def __init__(self, decoder, data):
        self.clock, self.threads = decoder.clock, decoder.threads

    def entropy(self):
        self.clock.spend(2)

    def low_rank(self):
        self.clock.spend(1)

    def graph(self):
        self.clock.spend(4 / self.threads)

    def of_graph(self, count):
        return {"prediction": 0.002 / self.threads, "smoothing": 0.001 / self.threads, "colour": 0.001 / self.threads}


@pytest.fixture
def clock(monkeypatch):
    """Time passes in the fakes alone, among them the classic codecs: WebP takes 2 ms, AVIF 4, the others 1."""
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(speed, "Parts", FakeParts)
    monkeypatch.setattr(speed, "classic_encode", lambda image, codec, quality: codec.encode() + bytes(3 * abs(quality)))
    monkeypatch.setattr(
        speed, "classic_decode", lambda data, grey: clock.spend({b"w": 2, b"a": 4}.get(data[:1], 1)) or IMAGE
    )
    return clock


def encode(strips):
    """encode(image, quality, smoothing): a file of 100 bytes, one less without smoothing."""
    return lambda image, quality, smoothing: bytes([strips]) + bytes(98 + smoothing)


PARTS = [name for name in Time.__dataclass_fields__ if name.endswith("_ms")]


def parts_of(time):
    return [getattr(time, name) for name in PARTS]


def test_times_of_an_image(clock):
    decoders = {1: FakeDecoder(clock, 1), 2: FakeDecoder(clock, 2)}
    asked = []

    def baseline(size, channels, threads):
        asked.append((size, channels, threads))
        return SimpleNamespace(bytes=33, macs=18_000, decode=lambda: clock.spend(200 / threads))

    found = measure("a.png", IMAGE, 50, encode(1), decoders, ("webp", "avif", "jpeg"), baseline)
    times = {(t.codec, t.threads): t for t in found}
    own, others = [("lrq", 1), (PLAIN, 1), ("lrq", 2), (PLAIN, 2)], [[(REDUCED, n), (BASELINE, n)] for n in (1, 2)]
    assert list(times) == [*own[:2], *others[0], *own[2:], *others[1], ("webp", 1), ("avif", 1), ("jpeg", 1)]
    assert (times[REDUCED, 1].bytes, times[REDUCED, 1].ms) == (100, pytest.approx(1))
    assert PARTS == [f"{part}_ms" for part in ("entropy", "low_rank", *timing.GRAPH_PARTS, "rest")]
    for key, total, graph in zip(own, (8, 8, 6, 6), (4, 4, 2, 2), strict=True):
        t = times[key]
        assert (t.image, t.quality, t.setting, t.bytes) == ("a.png", 50, 50, 100 - (key[0] == PLAIN))
        assert (t.ms, t.speed, t.macs) == pytest.approx((total, 5 / total, 7))
        assert (t.to_webp, t.to_avif) == pytest.approx((total / 2, total / 4))
        assert parts_of(t) == pytest.approx([2, 1, graph / 2, graph / 4, graph / 4, 1])
    webp, jpeg = times["webp", 1], times["jpeg", 1]
    assert (webp.setting, webp.bytes, webp.ms, webp.to_webp) == (32, 100, pytest.approx(2), 1)
    assert (jpeg.to_webp, jpeg.to_avif) == pytest.approx((0.5, 0.25))
    assert asked == [(IMAGE.shape[:2], 3, 1), (IMAGE.shape[:2], 3, 2)]
    rival = times[BASELINE, 2]
    assert (rival.bytes, rival.macs, rival.ms, rival.to_avif) == (33, 18_000, pytest.approx(100), pytest.approx(25))
    assert {*parts_of(webp), *parts_of(rival), webp.macs} == {None}
    assert decoders[1].decodes == 2 * 2 * speed.ROUNDS and speed.ROUNDS >= 15


def test_times_without_webp_and_of_strips(clock):
    decoders = {1: FakeDecoder(clock, 1), 2: FakeDecoder(clock, 2)}
    one, _, _, two, _, _, jpeg = measure("a.png", IMAGE, 50, encode(3), decoders, ("jpeg",))
    assert {time.to_webp for time in (one, two, jpeg)} == {time.to_avif for time in (one, two, jpeg)} == {None}
    # Two threads work on strips side by side, so the parts would not add up to the whole.
    assert one.low_rank_ms == pytest.approx(1)
    assert two.ms == pytest.approx(6) and {*parts_of(two)} == {None}


@pytest.mark.parametrize("smoothing", [True, False])
def test_parts_are_those_of_the_decoder(random_pack, random_planes, smoothing):
    model, _ = random_pack
    header = Header(97, 61, RGB, int(smoothing), 2, 3, 0, model.fingerprint)
    planes = random_planes(model, header, 1)
    decoder = SimpleNamespace(threads=1, indices=lambda data: (header, planes), pack=lambda header: model)
    parts = timing.Parts(decoder, b"")
    assert parts.entropy() == (header, planes)
    whole = parts._graph.run(planes, 2, 61, 97)
    start = perf_counter()
    for _ in range(3):
        (pixels,) = parts.graph()
    seconds = perf_counter() - start
    np.testing.assert_array_equal(pixels[0, ::4, :31, :49], whole[0, ::2, ::2].transpose(2, 0, 1))
    assert parts.low_rank().keys() == {given.name for given in parts._graph.session.get_inputs()}
    found = parts.of_graph(3)
    assert list(found) == [*timing.GRAPH_PARTS]
    assert (found["smoothing"] > 0) == smoothing and found["prediction"] > 0 and found["colour"] > 0
    assert sum(found.values()) < seconds
    assert not Path(parts._folder.name).exists()


def test_the_baseline_decodes_as_it_does_in_torch():
    torch.manual_seed(1)
    for channels, stride in ((3, 4), (1, 8)):
        model = Vqvae(channels, stride, 16).eval()
        session = ort.InferenceSession(baseline_graph(model), providers=["CPUExecutionProvider"])
        indices = np.random.default_rng(1).integers(0, 16, (2, 3, 5))
        (got,) = session.run(["pixels"], {"indices": indices})
        with torch.no_grad():
            want = model.decoder(model.embeddings[indices].movedim(-1, 1))
        want = ((want + 0.5) * 255).clamp(0, 255).permute(0, 2, 3, 1).numpy()
        assert got.shape == (2, 3 * stride, 5 * stride, channels) and got.std() > 0
        assert np.abs(got - want).max() < 0.51
    decoder = BaselineDecoder((30, 45), 3, threads=1)
    assert decoder.decode().shape == (1, 28, 44, 3)
    assert decoder.bytes == 7 * 11 * 9 / 8 and decoder.macs == 18_688


def made(image, codec="lrq", quality=50, **figures):
    return Time(image, codec, **dict.fromkeys(list(Time.__dataclass_fields__)[2:], 1) | {"quality": quality} | figures)


def test_medians_over_images():
    times = [made(f"{ms}.png", ms=ms, to_webp=ratio) for ms, ratio in ((4, 2.0), (9, None), (5, 4.0))]
    times += [made("4.png", quality=20, ms=70), made("4.png", codec="jpeg", low_rank_ms=None)]
    mean, other, jpeg = medians(times)
    assert (mean.image, mean.codec, mean.threads, mean.quality) == ("median", "lrq", 1, 50)
    assert (mean.ms, mean.to_webp, mean.bytes) == (5, 3, 1)
    assert (other.quality, other.ms) == (20, 70)
    assert (jpeg.codec, jpeg.low_rank_ms) == ("jpeg", None)
    assert medians([]) == []


@pytest.mark.parametrize(("size", "setting"), [(0, 1), (39, 4), (41, 4), (46, 5), (2000, 99)])
def test_nearest_size(size, setting):
    tried = []

    def file(quality):
        tried.append(quality)
        return bytes(10 * quality)

    assert nearest(file, range(1, 100), size) == (setting, bytes(10 * setting))
    assert len(tried) == len(set(tried)) <= 8


def test_nearest_size_on_a_falling_scale():
    assert nearest(lambda ratio: bytes(1000 // ratio), range(500, 0, -1), 99)[0] == 10


def test_mirrored():
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    large = mirrored(image, 0.015)
    assert large.shape == (100, 150, 3) and large.dtype == np.uint8
    assert (large[:20, :30] == image).all() and (large[80:, 120:] == image).all()
    assert (large[:20, 30:60] == image[:, ::-1]).all() and (large[20:40, :30] == image[::-1]).all()
    assert (mirrored(image[:, :, 0], 0.00015) == image[:10, :15, 0]).all()


def test_rounds_take_turns():
    seen = []
    calls = {
        Call(name, threads): lambda name=name: seen.append(name) for name, threads in (("a", 1), ("b", 0), ("c", 2))
    }
    seconds = timing.rounds(calls, 3)
    assert seen == ["a", "a", "b", "b", "c", "c"] * 3
    assert {call: len(values) for call, values in seconds.items()} == dict.fromkeys(calls, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="this system cannot keep a thread on a core")
def test_calls_get_no_more_cores_than_threads():
    before, seen = os.sched_getaffinity(0), {}
    calls = {Call("", n): lambda n=n: seen.update({n: len(os.sched_getaffinity(0))}) for n in (0, 1, 2)}
    timing.rounds(calls, 1)
    assert seen == {0: len(before), 1: 1, 2: min(2, len(before))}
    assert os.sched_getaffinity(0) == before


def test_large_image(clock):
    class PerPixel(FakeDecoder):
        def decode(self, data):  # 10 ms a megapixel, of many on one of its threads each, and 1 ms for each image
            self.clock.spend(1 + int(data) / 1e5 / (self.threads if int(data) > 10_000 else 1))

    large = speed.measure_large(
        IMAGE,
        2,
        30,
        lambda image, quality, smoothing: b"%d" % (image.shape[0] * image.shape[1]),
        {n: PerPixel(clock, n) for n in (1, 2)},
    )
    assert (large.megapixels, large.small_megapixels, large.bytes) == (2, 0.005, 7)
    assert large.ms == pytest.approx({1: 10.5, 2: 5.5})
    assert large.small_ms == pytest.approx({1: 210, 2: 210})


def test_whole_processes(clock, monkeypatch):
    commands = []

    def python(*arguments):
        commands.append(list(map(str, arguments)))
        kind = "decode" if "decode" in arguments else "reference" if len(arguments) == 2 else "inside"
        clock.spend({"decode": 300, "reference": 100, "inside": 350}[kind])
        return json.dumps(dict.fromkeys([name for name, _ in STEPS], 10.0)) if kind == "inside" else ""

    monkeypatch.setattr(process, "_python", python)
    times = process.measure_process(FILE, [Path("pack")])
    assert (times.width, times.height) == (64, 48)
    assert (times.decode_ms, times.reference_ms) == pytest.approx((300, 100))
    rest = times.steps.pop(list(times.steps)[-1])
    assert times.steps == {name: 10 for name, _ in STEPS} and rest == pytest.approx(350 - 10 * len(STEPS))
    decode, reference, inside = commands[-5::2]
    assert decode[2] == "decode" and decode[-2:] == ["--model", str(Path("pack").resolve())]
    assert reference == ["-c", "import numpy, PIL"]
    assert json.loads(inside[2])["models"] == decode[-1:]


def test_steps_of_a_process():
    given = {
        "data": "00ff",
        "models": ["m"],
        "steps": [["a", "x = data, models"], ["b", "assert x == (b'\\0\\xff', ['m'])"]],
    }
    assert list(json.loads(process._python("-c", CHILD, json.dumps(given)))) == ["a", "b"]
    with pytest.raises(LrqError, match="KeyError"):
        process._python("-c", CHILD, "{}")


def test_steps_are_those_of_the_decoder(photo_file):
    given = {"data": photo_file.read_bytes().hex(), "models": [], "steps": STEPS}
    assert list(json.loads(process._python("-c", CHILD, json.dumps(given)))) == [name for name, _ in STEPS]


@pytest.fixture
def measured():
    times = [made("a.png", ms=2.5), made("a.png", codec="webp", quality=50, ms=1.25, low_rank_ms=None)]
    large = Large(24.0, 0.5, 12345, {1: 30.0, 2: 15.0}, {1: 20.0, 2: 16.0})
    return Speed(times, ("jxl",), large, Process(64, 64, 250.5, 100.5, {"import numpy, PIL": 90.0, "decode": 5.0}))


def test_speed_table(measured):
    text = table(measured)
    assert text.startswith(f"Medians over 1 image, {speed.ROUNDS} rounds\n")
    for line in (
        "threads  large  small  large / small  large faster  small faster",
        "      1  30.00  20.00           1.50          1.00          1.00",
        "      2  15.00  16.00           0.94          2.00          1.25",
        "not measured: jxl (this build of Pillow cannot write it)",
    ):
        assert line in text.splitlines()
    cells = next(line.split() for line in text.splitlines() if line.startswith("webp"))
    assert cells == ["webp", "1", "50", "1", "1", "1", "1.25", "1.00", "1.00", "1.00", "-", *["1.00"] * 4]
    assert [line.split()[-1] for line in text.splitlines() if line.startswith(("lrq decode", "python -c"))] == [
        "250.5",
        "100.5",
    ]
    assert "a.png" not in text and "a.png" in table(measured, per_image=True)
    assert max(map(len, text.splitlines())) <= 130
    assert "large" not in table(Speed([])) and table(Speed([])).startswith("Medians over 0 images")


def test_speed_json(measured):
    document = json.loads(to_json(measured), parse_constant=pytest.fail)
    assert set(document) == {"versions", "machine", "rounds", "skipped", "times", "medians", "large", "process"}
    assert [tuple(time.values()) for time in document["times"]] == [astuple(time) for time in measured.times]
    assert document["medians"][1]["ms"] == 1.25 and document["medians"][1]["image"] == "median"
    assert document["large"]["ms"] == {"1": 30.0, "2": 15.0}
    assert document["process"]["steps"]["decode"] == 5.0


# ---- the command


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (80, 70, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    "options",
    [
        ["bench", "--bpp", "0.5"],
        ["bench", "--bpp", "0.9:0.1"],
        ["bench", "--bpp", "0:1"],
        ["bench", "--bpp", "0.1:nan"],
        ["bench", "--bpp", "low:high"],
        ["bench", "--bpp", "0.1:0.2:0.3"],
        ["speed", "--large", "0"],
        ["speed", "--large", "nan"],
        ["speed", "--rank", "5"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(options, picture):
    result = CliRunner().invoke(cli.main, [*options, str(picture)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "rror: " in result.stderr


def test_command(picture, clock, monkeypatch):
    """The options arrive where they belong; encoder, decoder and processes are fakes."""
    made_of, encoded, told = [], [], []

    class FakeEncoder:
        def __init__(self, model, device):
            made_of.append(model)

        def encode(self, image, quality, rank, effort, smoothing):
            encoded.append((image.shape, quality, rank, effort, smoothing))
            return b"\1" * 100

    def fake_process(data, models):
        told.append(models)
        return Process(64, 64, 2.0, 1.0, {})

    monkeypatch.setattr("lrcodec.encoder.Encoder", FakeEncoder)
    monkeypatch.setattr("lrcodec.decoder.Decoder", lambda models, threads=0: FakeDecoder(clock, threads))
    monkeypatch.setattr(speed, "measure_process", fake_process)
    monkeypatch.setattr(
        "lrcodec.paper.baseline_graph.BaselineDecoder",
        lambda size, channels, threads: SimpleNamespace(bytes=1, macs=1, decode=lambda: clock.spend(100)),
    )
    model, document = picture.parent / "pack", picture.parent / "speed.json"
    model.mkdir()
    options = ["--large", "1", "--rank", "2", "--effort", "0", "--anchor", "webp", "--anchor", "jpeg"]
    result = CliRunner().invoke(
        cli.main, ["speed", str(picture), *options, "--model", str(model), "--json", str(document)]
    )
    assert result.exit_code == 0, result.output
    assert made_of == [str(model)] and told == [[model]]
    large = mirrored(np.zeros((80, 70, 3), np.uint8), 1).shape
    assert [one[0] for one in encoded] == [(80, 70, 3), (80, 70, 3), large, (80, 70, 3), (64, 64, 3)]
    assert [one[-1] for one in encoded] == [True, False, True, True, True]
    assert {one[1:4] for one in encoded} == {(50, 2, 0)}
    times = json.loads(document.read_text())["times"]
    assert [(time["codec"], time["threads"]) for time in times] == [
        *[(codec, threads) for threads in (1, 2) for codec in ("lrq", PLAIN, REDUCED, BASELINE)],
        ("webp", 1),
        ("jpeg", 1),
    ]
    assert "A large image of 1.0 megapixels" in result.stdout and "lrq no smoothing" in result.stdout
