"""`lrq selftest`: every way of decoding is tried on every vector, and what is wrong is found and told."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import c_decoder
import onnxruntime as ort
import pytest
from commands import fails, lrq

from lrcodec import decoder, selftest
from lrcodec.packs import store

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "formats" / "vectors"
FEW = ("rgb", "grey-alpha", "shrink-8", "partial-crc", "mnist", "strips-wide", "faces64-rgb")


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that holds some of the vectors, which a test may change, and no decoder in C."""
    for name in FEW:
        shutil.copytree(VECTORS / name, tmp_path / "vectors" / name)
    monkeypatch.setattr(selftest, "PACKAGE", tmp_path)
    monkeypatch.setattr(selftest, "LRQDEC", tmp_path / "none")
    return tmp_path / "vectors"


@pytest.fixture
def one_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "cores", lambda: 1)
    monkeypatch.setattr(selftest, "LEVELS", {"ORT_ENABLE_BASIC": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC})


@pytest.fixture(scope="module")
def lrqdec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not c_decoder.COMPILERS:
        pytest.skip("there is no C compiler")
    path = tmp_path_factory.mktemp("c") / "lrqdec"
    result = c_decoder.compile_c(c_decoder.COMPILERS[0], c_decoder.FOLDER / "lrqdec.c", path, "-O2")
    assert result.returncode == 0, result.stderr
    return path


def change(folder: Path, **values: object) -> None:
    """Change what a case says."""
    path = folder / "case.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_all_is_well_here(few: Path):
    """Each level of optimisation that ONNX Runtime has, with one thread and more."""
    result = lrq("selftest", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert (report["vectors"], report["left_out"]) == (len(FEW), {})
    names = [way["name"] for way in report["ways"]]
    levels = [*ort.GraphOptimizationLevel.__members__]
    assert "ORT_DISABLE_ALL" in levels and "ORT_ENABLE_ALL" in levels
    assert {f"ONNX Runtime, {level}, {n}" for level in levels for n in ("1 thread", "2 threads")} <= {*names}
    assert all(way["wrong"] == {} and way["vectors"] == len(FEW) and way["seconds"] > 0 for way in report["ways"])
    assert {"python", "lrcodec", "numpy", "onnxruntime"} <= {*report["versions"]}
    assert report["machine"]["system"] and report["machine"]["cpus"] >= 1


def test_the_level_is_that_of_every_session(few: Path, one_level: None, monkeypatch: pytest.MonkeyPatch):
    opened = []
    original = decoder.graph.open_session

    def note(pack, graph, options):
        opened.append((options.graph_optimization_level, options.intra_op_num_threads))
        return original(pack, graph, options)

    for module in (decoder.graph, decoder.low_rank, selftest):
        monkeypatch.setattr(module, "open_session", note)
    assert lrq("selftest").exit_code == 0
    assert {level for level, _ in opened} == {*selftest.LEVELS.values()}
    assert {threads for _, threads in opened} == {1, 2}


@pytest.mark.usefixtures("one_level")
def test_in_c(few: Path, lrqdec: Path):
    result = lrq("selftest", "--c", lrqdec)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[2] == f"{len(FEW)} vectors of faces64, mnist, photo"
    assert lines[-1].startswith(f"{len(FEW):>4} equal, 0 wrong in ") and lines[-1].endswith(f" s: C, {lrqdec}")


@pytest.mark.usefixtures("one_level")
def test_a_wrong_pixel_is_told(few: Path, lrqdec: Path):
    wrong = "0" * 64
    change(few / "shrink-8", pixels_sha256=wrong)
    change(few / "partial-crc", exit=0)
    result = lrq("selftest", "--c", lrqdec)
    assert (result.exit_code, result.stderr) == (1, "lrq: error: 6 of 21 decodings are wrong\n")
    lines = result.stdout.splitlines()
    for way in (
        "ONNX Runtime, ORT_ENABLE_BASIC, 1 thread",
        "ONNX Runtime, ORT_ENABLE_BASIC, 2 threads",
        f"C, {lrqdec}",
    ):
        (number,) = (i for i, line in enumerate(lines) if line.endswith(f" s: {way}"))
        assert lines[number].startswith(f"{len(FEW) - 2:>4} equal, 2 wrong in ")
        assert lines[number + 1] == "     partial-crc: the exit code is 7, not 0"
        assert lines[number + 2].startswith("     shrink-8: the pixels have SHA-256 ") and lines[number + 2].endswith(
            wrong
        )
    ways = json.loads(lrq("selftest", "--json", "--c", lrqdec).stdout)["ways"]
    assert [{*way["wrong"]} for way in ways] == [{"shrink-8", "partial-crc"}] * 3


@pytest.mark.usefixtures("one_level")
def test_a_decoder_that_fails_is_told(few: Path, tmp_path: Path):
    if sys.platform == "win32":
        pytest.skip("needs a shell")
    program = tmp_path / "lrqdec"
    program.write_text("#!/bin/sh\necho 'lrqdec: error: oh' >&2\nexit 4\n")
    program.chmod(0o755)
    result = lrq("selftest", "--c", program)
    assert (result.exit_code, result.stderr) == (1, f"lrq: error: {len(FEW)} of 21 decodings are wrong\n")
    assert "     rgb: LrqError: exit code 4, lrqdec: error: oh" in result.stdout.splitlines()
    program.chmod(0o644)
    assert str(program) in lrq("selftest", "--c", program).stderr.splitlines()[-1]


@pytest.mark.parametrize("damage", ["file", "case", "gone"])
def test_damaged_vectors_are_told(damage: str, few: Path):
    if damage == "file":
        (few / "rgb" / "image.lrq").write_bytes(b"LRQ")
    elif damage == "case":
        (few / "rgb" / "case.json").write_text("[")
    else:
        (few / "rgb" / "image.lrq").unlink()
    assert fails(1, "selftest") == "lrq: error: vector rgb is damaged: it is not as it came\n"


@pytest.mark.usefixtures("one_level")
def test_models_that_a_wheel_leaves_out(few: Path, monkeypatch: pytest.MonkeyPatch):
    shipped = store.shipped()
    monkeypatch.setattr(store, "shipped", lambda: [entry for entry in shipped if entry.name == "photo"])
    result = lrq("selftest")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[2:4] == [
        "5 vectors of photo",
        "left out, since their models are not here: 1 of faces64, 1 of mnist",
    ]
    monkeypatch.setattr(store, "shipped", lambda: [])
    assert "no model" in fails(1, "selftest")


def test_the_wheel_has_the_vectors():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert wheel["wheel"]["force-include"]["formats/vectors"] == "lrcodec/vectors"


@pytest.mark.parametrize("absent", ["torch", "constriction"])
def test_as_a_process_of_all_vectors(absent: str):
    """What the documents say, with all vectors and the level that decoding itself uses.

    Without modules of the encoder, or without those that not every machine has.
    """
    code = (
        f"import sys; sys.modules['{absent}'] = None; from lrcodec import selftest as s; known, _ = s.vectors();"
        "way = next(way for way in s.ways() if 'ORT_ENABLE_EXTENDED, 2' in way.name); print(s.outcome(way, known))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert f"vectors={len([*VECTORS.iterdir()])}" in result.stdout and "wrong={}" in result.stdout, result.stderr
