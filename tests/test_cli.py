"""The command line: exit codes, one-line errors, and outputs that are whole or absent."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from lrcodec import cli
from lrcodec.container import FIELDS, RGB, Chunk, Header, pack, unpack
from lrcodec.errors import LrqError

ROOT = Path(__file__).parent.parent
HEADER = Header(width=64, height=64, colour=RGB, rank=2, iterations=8, band=0, smoothing=0, model=bytes(8))


def lrq(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def fails(code: int, *arguments: object) -> str:
    """Run a command that must fail with `code`, one line on stderr and nothing on stdout; returns the line."""
    result = lrq(*arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.startswith("lrq: error: ") and result.stderr.count("\n") == 1
    return result.stderr


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter, where modules can be made unimportable."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A valid container whose model nobody has."""
    path = tmp_path / "sample.lrq"
    path.write_bytes(pack(HEADER, [Chunk(b"I", b"indices"), Chunk(b"x", b"more")]))
    return path


@pytest.fixture
def picture(tmp_path: Path, photo: np.ndarray) -> Path:
    """`photo` as a PNG."""
    path = tmp_path / "picture.png"
    Image.fromarray(photo).save(path)
    return path


# ---- exit codes


def test_help_documents_every_code():
    result = lrq("--help")
    assert result.exit_code == 0
    for code in {0, 130} | {kind.exit_code for kind in [LrqError, *LrqError.__subclasses__()]}:
        assert f"\n    {code} " in result.stdout


@pytest.mark.parametrize("command", ["encode", "decode", "info"])
def test_missing_file_is_1(command: str, tmp_path: Path):
    assert "nothing.bin" in fails(1, command, tmp_path / "nothing.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["encode"],
        ["encode", "a.png", "-q", "101"],
        ["encode", "a.png", "--rank", "5"],
        ["encode", "a.png", "--iterations", "0"],
        ["encode", "a.png", "--effort", "3"],
        ["encode", "a.png", "--device", "tpu"],
        ["decode", "a.lrq", "--max-pixels", "0"],
        ["train", "folder"],
        ["bench", "--rank", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(arguments: list[str]):
    result = lrq(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


@pytest.mark.parametrize("content", [b"", b"hello, world\n"], ids=["empty", "text"])
def test_encoding_what_is_no_image_is_2(content: bytes, tmp_path: Path):
    source = tmp_path / "a.png"
    source.write_bytes(content)
    assert "not an image that Pillow can read" in fails(2, "encode", source)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(("command", "name"), [("encode", "a.lrq"), ("decode", "a.png")])
def test_default_output_never_overwrites_the_input(command: str, name: str, tmp_path: Path):
    source = tmp_path / name
    source.write_bytes(b"precious")
    assert "name the output with -o" in fails(2, command, source)
    assert source.read_bytes() == b"precious"


def test_derived_output_replaces_an_existing_file_only_when_forced(photo_file: Path, tmp_path: Path):
    source, target = tmp_path / "a.lrq", tmp_path / "a.png"
    source.write_bytes(photo_file.read_bytes())
    target.write_bytes(b"precious")
    assert "add -f" in fails(2, "decode", source)
    assert target.read_bytes() == b"precious"
    assert lrq("decode", source, "-f").exit_code == 0
    assert np.asarray(Image.open(target)).shape == (61, 97, 3)
    assert lrq("decode", source, "-o", target).exit_code == 0


@pytest.mark.parametrize("command", ["decode", "info"])
@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "damaged"])
def test_invalid_files_are_3(command: str, kind: str, sample: Path):
    whole = sample.read_bytes()
    damaged = whole[:-1] + bytes([whole[-1] ^ 1])
    sample.write_bytes({"empty": b"", "text": b"hello\n", "truncated": whole[:-1], "damaged": damaged}[kind])
    fails(3, command, sample)
    assert list(sample.parent.iterdir()) == [sample]


def test_truncation_of_a_photo_is_3(photo_file: Path, tmp_path: Path):
    data, source = photo_file.read_bytes(), tmp_path / "cut.lrq"
    for length in range(0, len(data), max(1, len(data) // 20)):
        source.write_bytes(data[:length])
        fails(3, "decode", source)
    assert list(tmp_path.iterdir()) == [source]


def test_unknown_critical_chunk_is_4(sample: Path):
    sample.write_bytes(pack(HEADER, [Chunk(b"I", b"indices"), Chunk(b"Z", b"")]))
    for command in ("decode", "info"):
        assert "critical chunk Z" in fails(4, command, sample)


def test_unknown_model_is_4(sample: Path, picture: Path):
    assert bytes(8).hex() in fails(4, "decode", sample)
    fails(4, "encode", picture, "--model", "no-such-model")
    assert sorted(sample.parent.iterdir()) == [picture, sample]


def test_wrong_model_is_4(photo_file: Path, tmp_path: Path):
    header, chunks = unpack(photo_file.read_bytes())
    other = bytes(byte ^ 255 for byte in header.model)
    source = tmp_path / "other.lrq"
    source.write_bytes(pack(replace(header, model=other), chunks))
    assert other.hex() in fails(4, "decode", source)
    assert list(tmp_path.iterdir()) == [source]


def test_limits_are_5(sample: Path, tmp_path: Path):
    fails(5, "decode", sample, "--max-pixels", 64 * 64 - 1)
    wide = tmp_path / "wide.png"
    Image.new("L", (65536, 1)).save(wide)
    assert "65,535" in fails(5, "encode", wide)
    assert sorted(tmp_path.iterdir()) == [sample, wide]


@pytest.mark.parametrize("missing", ["torch", "safetensors"])
def test_missing_encoder_is_6(missing: str, picture: Path):
    code = f"import sys; sys.modules[{missing!r}] = None; from lrcodec.cli import main; main()"
    for arguments in (["encode", picture], ["bench", picture], ["train", picture.parent, "-o", picture.parent / "new"]):
        result = python(code, *arguments)
        assert (result.returncode, result.stdout) == (6, "")
        assert result.stderr.startswith("lrq: error: ") and result.stderr.count("\n") == 1
        assert 'pip install "lrcodec[encode]"' in result.stderr
    assert list(picture.parent.iterdir()) == [picture]


def test_interruption_is_130(sample: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(self: Path) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "read_bytes", interrupt)
    fails(130, "info", sample)


# ---- what is imported


@pytest.mark.parametrize("arguments", [["--help"], ["info", "sample"], ["models"]], ids=["help", "info", "models"])
def test_light_commands_import_nothing_heavy(arguments: list[str], sample: Path):
    code = (
        "import sys; from lrcodec.cli import main; main(standalone_mode=False); "
        "sys.exit(bool({'torch', 'onnxruntime', 'skimage', 'matplotlib'} & set(sys.modules)))"
    )
    assert python(code, *(str(sample) if word == "sample" else word for word in arguments)).returncode == 0


def test_decoding_without_torch(photo_file: Path, photo: np.ndarray, tmp_path: Path):
    code = "import sys; sys.modules['torch'] = None; from lrcodec.cli import main; main()"
    result = python(code, "decode", photo_file, "-o", tmp_path / "out.png")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    with Image.open(tmp_path / "out.png") as image:
        assert np.array(image).shape == photo.shape


def test_the_checkout_has_a_command(sample: Path):
    command = [sys.executable, ROOT / "cli.py", "info", sample]
    result = subprocess.run(command, cwd=sample.parent, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")


# ---- outputs


def test_write_replaces_the_whole_file(tmp_path: Path):
    target = tmp_path / "out"
    for data in (b"first", b"second"):
        cli._write(target, data)
        assert target.read_bytes() == data
    link = tmp_path / "link"
    link.symlink_to(target)
    cli._write(link, b"third")
    assert link.is_symlink() and target.read_bytes() == b"third"
    assert sorted(tmp_path.iterdir()) == [link, target]


def test_write_leaves_nothing_behind_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(source))

    (tmp_path / "out").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space") as caught:
        cli._write(tmp_path / "out", b"new")
    assert caught.value.filename == str(tmp_path / "out")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_write_to_a_missing_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        cli._write(tmp_path / "missing" / "out", b"")
    assert list(tmp_path.iterdir()) == []


def test_write_to_a_device():
    cli._write(Path(os.devnull), b"gone")
    assert Path(os.devnull).is_char_device()


def test_encode_and_decode(picture: Path, photo: np.ndarray):
    folder = picture.parent
    result = lrq("encode", picture, "--effort", 0)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert "bits per pixel" in result.stderr
    assert lrq("decode", folder / "picture.lrq", "-o", folder / "out.webp").exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["out.webp", "picture.lrq", "picture.png"]
    with Image.open(folder / "out.webp") as image:
        assert image.format == "WEBP"
        assert np.array(image).shape == photo.shape


def test_decode_refuses_an_unknown_suffix(photo_file: Path, tmp_path: Path):
    assert ".xyz" in fails(2, "decode", photo_file, "-o", tmp_path / "out.xyz")
    assert list(tmp_path.iterdir()) == []


def test_decode_into_a_missing_folder(photo_file: Path, tmp_path: Path):
    assert "missing" in fails(1, "decode", photo_file, "-o", tmp_path / "missing" / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_encode_into_a_missing_folder(picture: Path):
    assert "missing" in fails(1, "encode", picture, "--effort", 0, "-o", picture.parent / "missing" / "out.lrq")
    assert list(picture.parent.iterdir()) == [picture]


# ---- info and models


def test_info(sample: Path):
    result = lrq("info", sample)
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names == [*(field.name for field in FIELDS), "chunk", "chunk", "file"]


def test_info_json(sample: Path):
    result = lrq("info", sample, "--json")
    assert result.exit_code == 0
    size = sample.stat().st_size
    assert json.loads(result.stdout) == {
        **HEADER.describe(),
        "bytes": size,
        "bpp": 8 * size / (64 * 64),
        "chunks": [{"tag": "I", "bytes": 7}, {"tag": "x", "bytes": 4}],
    }


def test_models_lists_the_shipped_pack():
    result = lrq("models")
    assert result.exit_code == 0
    assert any(line.startswith("photo ") for line in result.stdout.splitlines())


# ---- bench


def test_bench(picture: Path):
    folder = picture.parent
    options = ["-q", 20, "-q", 80, "--rank", 1, "--effort", 0, "--per-image"]
    result = lrq("bench", picture, *options, "--json", folder / "rd.json", "--plot", folder / "rd.png")
    assert result.exit_code == 0, result.output
    assert "BD-rate" in result.stdout and "picture.png" in result.stdout
    rows = json.loads((folder / "rd.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["setting"], row["rank"]) for row in rows if row["codec"] == "lrq"] == [(20, 1), (80, 1)]
    with Image.open(folder / "rd.png") as image:
        assert image.format == "PNG"


def test_bench_without_images_is_2(tmp_path: Path):
    assert "no images" in fails(2, "bench", tmp_path)
