"""formats/vectors and formats/corrupt: what they tell is what our decoders and commands do."""

import hashlib
import json
import re
import zlib
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import reference
from click.testing import CliRunner
from markdown import Document
from PIL import Image

import lrcodec
import lrcodec.plugin  # registers with Pillow
from lrcodec import errors
from lrcodec.cli.main import main
from lrcodec.format.shrink import SHRINKS
from lrcodec.packs import store

ROOT = Path(__file__).parent.parent
FORMATS = ROOT / "formats"
VECTORS = sorted(path.parent for path in FORMATS.glob("vectors/*/case.json"))
CORRUPT = json.loads((FORMATS / "corrupt" / "cases.json").read_text(encoding="utf-8"))
CONTENT = {"image.lrq", "reference.png", "case.json"}

IN_FULL = [
    folder for folder in VECTORS if not {"shrink", "partial"} & {*json.loads((folder / "case.json").read_text())}
]

every_vector = pytest.mark.parametrize("folder", VECTORS, ids=lambda folder: folder.name)
every_corrupt_file = pytest.mark.parametrize("name", CORRUPT)


def case_of(folder: Path) -> dict:
    return json.loads((folder / "case.json").read_text(encoding="utf-8"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pixels_of(folder: Path) -> np.ndarray:
    with Image.open(folder / "reference.png") as image:
        return np.asarray(image)


@cache
def tables(model: str) -> dict[str, np.ndarray]:
    """By NumPy alone."""
    with np.load(ROOT / "models" / model / "tables.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def decoder() -> lrcodec.Decoder:
    return lrcodec.Decoder()


@pytest.fixture
def shared_decoder(decoder: lrcodec.Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands use the decoder of all these tests: loading its models takes longer than all else."""
    monkeypatch.setattr("lrcodec.decoder.Decoder", lambda *arguments: decoder)


def test_there_are_enough():
    assert len(VECTORS) >= 25 and len(CORRUPT) >= 40
    for folder in VECTORS:
        assert {path.name for path in folder.iterdir()} == CONTENT
    assert {path.name for path in (FORMATS / "corrupt").iterdir()} == {*CORRUPT, "cases.json"}
    assert {case_of(folder)["model"] for folder in VECTORS} == {entry.name for entry in store.shipped()}
    files = [*FORMATS.glob("vectors/*/*"), *FORMATS.glob("corrupt/*")]
    assert sum(path.stat().st_size for path in files) < 700_000


def test_every_mode_rank_and_band_is_there():
    headers = [lrcodec.probe((folder / "image.lrq").read_bytes()) for folder in VECTORS]
    photo = store.find("photo").load()
    of_photo = [header for header in headers if header.model == photo.fingerprint]
    assert {(header.colour, header.alpha) for header in of_photo} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {(header.colour, header.smoothing) for header in headers} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {header.rank for header in of_photo} == {*range(1, photo.rank + 1)}
    assert {header.band for header in of_photo} == {*range(photo.bands)}
    assert {1, 32} <= {header.iterations for header in of_photo}


def way_of(case: dict) -> tuple[int, bool]:
    """How a vector is decoded: shrink and partial."""
    return case.get("shrink", 1), case.get("partial", False)


def test_every_way_of_decoding_is_there():
    cases = [case_of(folder) for folder in VECTORS]
    assert {way_of(case)[0] for case in cases} == {*SHRINKS}
    assert {case["exit"] for case in cases if "partial" in case} == {0, 7}
    assert {(shrink > 1, partial) for shrink, partial in map(way_of, cases)} == {*product((False, True), repeat=2)}
    for model in (entry.name for entry in store.shipped()):
        assert {case.get("shrink", 1) for case in cases if case["model"] == model} & {8, 16}


@every_vector
def test_decoder(folder: Path, decoder: lrcodec.Decoder):
    case, data, want = case_of(folder), (folder / "image.lrq").read_bytes(), pixels_of(folder)
    # If not: a model was replaced since formats/make_vectors.py ran.
    assert case["fingerprint"] == store.find(case["model"]).fingerprint.hex()
    assert sha256(data) == case["file_sha256"]
    shrink, partial = way_of(case)
    pixels, missing = decoder.preview(data, shrink)
    np.testing.assert_array_equal(pixels, want, strict=True)
    assert (7 if missing else 0) == case.get("exit", 0)
    if missing:
        with pytest.raises(errors.FormatError):
            decoder.decode(data, shrink)
    else:
        np.testing.assert_array_equal(decoder.decode(data, shrink), want, strict=True)
    assert (list(pixels.shape), sha256(pixels.tobytes())) == (case["shape"], case["pixels_sha256"])
    assert lrcodec.probe(data).model.hex() == case["fingerprint"]


@every_vector
def test_reference_decoder(folder: Path):
    case = case_of(folder)
    pixels = reference.decode((folder / "image.lrq").read_bytes(), tables(case["model"]), *way_of(case))
    np.testing.assert_array_equal(pixels, pixels_of(folder), strict=True)


@every_vector
def test_command(folder: Path, shared_decoder: None, tmp_path: Path):
    case, out = case_of(folder), tmp_path / "out.png"
    shrink, partial = way_of(case)
    arguments = ["decode", str(folder / "image.lrq"), "-o", str(out), "--shrink", str(shrink)]
    result = CliRunner().invoke(main, arguments + ["--partial"] * partial)
    assert (result.exit_code, result.stdout) == (case.get("exit", 0), "")
    assert re.fullmatch(r"lrq: incomplete: .+\n" if result.exit_code else "", result.stderr)
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels_of(folder), strict=True)


@pytest.mark.parametrize(
    "folder", [folder for folder in VECTORS if way_of(case_of(folder)) == (1, False)], ids=lambda folder: folder.name
)
def test_pillow(folder: Path, decoder: lrcodec.Decoder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lrcodec.decoder.shared", lambda: decoder)
    with Image.open(folder / "image.lrq") as image, Image.open(folder / "reference.png") as want:
        assert (image.format, image.mode, image.size) == ("LRQ", want.mode, want.size)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(want), strict=True)
        assert {name: sha256(content) for name, content in image.info.items()} == case_of(folder)["metadata_sha256"]


@every_corrupt_file
def test_corrupt_file(name: str, decoder: lrcodec.Decoder):
    case, data = CORRUPT[name], (FORMATS / "corrupt" / name).read_bytes()
    kind = getattr(errors, case["error"])
    with pytest.raises(errors.LrqError) as raised:
        if case["metadata"]:
            decoder.decode(data)  # reads none
            lrcodec.metadata(data)
        else:
            decoder.decode(data)
    assert raised.type is kind
    assert case["exit"] == kind.exit_code


@pytest.mark.parametrize(
    "name", [name for name, case in CORRUPT.items() if case["check"] not in (8, 9, 10) and not case["metadata"]]
)
def test_reference_decoder_refuses(name: str):
    """It has no limit, is given a model, and reads no metadata. Some it draws if it is asked for what is left."""
    data = (FORMATS / "corrupt" / name).read_bytes()
    with pytest.raises((ValueError, IndexError, zlib.error)):
        reference.decode(data, tables("photo"))
    if CORRUPT[name]["partial"] == 7:
        assert not reference.complete(data, tables("photo"))
        reference.decode(data, tables("photo"), partial=True)
    elif CORRUPT[name]["partial"] == CORRUPT[name]["exit"]:  # else the model is not known
        with pytest.raises((ValueError, IndexError, zlib.error)):
            reference.decode(data, tables("photo"), partial=True)


@every_corrupt_file
def test_corrupt_file_in_a_command(name: str, shared_decoder: None, tmp_path: Path):
    out = tmp_path / "out.png"
    result = CliRunner().invoke(main, ["decode", str(FORMATS / "corrupt" / name), "-o", str(out)])
    assert (result.exit_code, result.stdout) == (CORRUPT[name]["exit"], "")
    assert re.fullmatch(r"lrq: error: .+\n", result.stderr)
    assert list(tmp_path.iterdir()) == []


@every_corrupt_file
def test_corrupt_file_in_part(name: str, shared_decoder: None, tmp_path: Path):
    """What lacks something is drawn, the rest refused as ever."""
    out, wanted = tmp_path / "out.png", CORRUPT[name]["partial"]
    assert (wanted == 7) <= (CORRUPT[name]["check"] in (3, 6, 7, 11))
    result = CliRunner().invoke(main, ["decode", str(FORMATS / "corrupt" / name), "-o", str(out), "--partial"])
    assert (result.exit_code, result.stdout) == (wanted, "")
    assert re.fullmatch(rf"lrq: {'incomplete' if wanted == 7 else 'error'}: .+\n", result.stderr)
    assert out.exists() == (wanted == 7)


def test_every_check_of_the_specification_fails_somewhere():
    """With the error that SPEC.md has for it."""
    rows = Document(ROOT / "SPEC.md").table("Errors", "check")
    kinds = {"not valid": "FormatError", "not supported": "UnsupportedError", "limit exceeded": "LimitError"}
    checks = [(int(row["check"]), kinds[row["otherwise"]]) for row in rows]
    assert sorted({number for number, _ in checks}) == [*range(1, checks[-1][0] + 1)] and checks[0][0] == 1
    assert set(checks) == {(case["check"], case["error"]) for case in CORRUPT.values()}
    assert [number for number, _ in checks] == sorted(number for number, _ in checks)
