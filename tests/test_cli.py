"""The command line: exit codes, one-line errors, and outputs that are whole or absent."""

import json
import os
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import fails, lrq
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import lrcodec
from lrcodec import files
from lrcodec.errors import LrqError
from lrcodec.format.container import FIELDS, RGB, Chunk, Header, pack, unpack
from lrcodec.image_io import read_picture
from lrcodec.measure.metrics import psnr

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("user_folder")
HEADER = Header(width=64, height=64, colour=RGB, rank=2, iterations=8, band=0, smoothing=0, model=bytes(4))


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter, where modules can be made unimportable."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


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
    assert " --help)" in fails(2, *arguments)


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
    intact = sample.read_bytes()
    damaged = intact[:-1] + bytes([intact[-1] ^ 1])
    sample.write_bytes({"empty": b"", "text": b"hello\n", "truncated": intact[:-1], "damaged": damaged}[kind])
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
    assert bytes(4).hex() in fails(4, "decode", sample)
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
    """All commands in one process: importing torch takes longer than all else."""
    code = (
        f"import sys, json; sys.modules[{missing!r}] = None; from commands import fails;"
        "print(json.dumps([fails(6, *line) for line in json.loads(sys.argv[1])]))"
    )
    lines = (["encode", picture], ["bench", picture], ["train", picture.parent, "-o", picture.parent / "new"])
    result = python(code, json.dumps([[*map(str, line)] for line in lines]))
    assert result.returncode == 0, result.stderr
    messages = json.loads(result.stdout)
    assert len(messages) == 3 and all('pip install "lrcodec[encode]"' in message for message in messages)
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
        "import sys; from lrcodec.cli.main import main; main(standalone_mode=False); "
        "sys.exit(bool({'torch', 'onnxruntime', 'skimage', 'matplotlib'} & set(sys.modules)))"
    )
    assert python(code, *(str(sample) if word == "sample" else word for word in arguments)).returncode == 0


def test_decoding_without_torch(photo_file: Path, photo: np.ndarray, tmp_path: Path):
    code = "import sys; sys.modules['torch'] = None; from lrcodec.cli.main import main; main()"
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
        files.write_file(target, data)
        assert target.read_bytes() == data
    link = tmp_path / "link"
    link.symlink_to(target)
    files.write_file(link, b"third")
    assert link.is_symlink() and target.read_bytes() == b"third"
    assert sorted(tmp_path.iterdir()) == [link, target]


def test_write_leaves_nothing_behind_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(source))

    (tmp_path / "out").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space") as caught:
        files.write_file(tmp_path / "out", b"new")
    assert caught.value.filename == str(tmp_path / "out")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_write_to_a_missing_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        files.write_file(tmp_path / "missing" / "out", b"")
    assert list(tmp_path.iterdir()) == []


def test_write_to_a_device():
    files.write_file(Path(os.devnull), b"gone")
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


def test_the_default_rank_is_the_models_own(picture: Path, sample: Path, monkeypatch: pytest.MonkeyPatch):
    from lrcodec.encoder import Encoder

    ranks = []

    def encode_batch(self: Encoder, images: list[np.ndarray], *, rank: int | None, **others: object) -> list[bytes]:
        ranks.append(rank)
        return [sample.read_bytes()]

    monkeypatch.setattr(Encoder, "encode_batch", encode_batch)
    for options in ([], ["--rank", 1]):
        assert lrq("encode", picture, *options, "-f").exit_code == 0
    assert ranks == [None, 1]


def names(folder: Path) -> list[str]:
    """Every file name in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


# ---- alpha and metadata


@pytest.fixture
def rich(tmp_path: Path, photo: np.ndarray) -> Path:
    """A PNG with alpha, ICC profile, EXIF with an orientation, and XMP."""
    path = tmp_path / "rich.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", "<x/>")
    image = Image.fromarray(np.dstack([photo, photo[..., 0]]))
    image.save(path, icc_profile=b"profile", exif=exif, pnginfo=texts)
    return path


def test_alpha_and_metadata_from_file_to_file(rich: Path, photo: np.ndarray):
    packed = rich.with_suffix(".lrq")
    assert lrq("encode", rich, "--effort", 0).exit_code == 0
    metadata = read_picture(rich.read_bytes()).metadata
    assert None not in metadata
    for suffix in (".png", ".webp"):
        out = rich.with_name(f"out{suffix}")
        assert lrq("decode", packed, "-o", out).output == ""
        pixels, carried = read_picture(out.read_bytes())
        assert carried == metadata
        np.testing.assert_array_equal(pixels[..., 3], photo[..., 0])
        assert psnr(photo, pixels[..., :3]) > 22
    assert lrq("decode", packed, "-o", out.with_suffix(".tif"), "--region", "7,5,30,20").output == ""
    part = read_picture(out.with_suffix(".tif").read_bytes())
    assert (part.metadata.icc_profile, part.metadata.xmp) == (b"profile", b"<x/>")
    turned = np.rot90(part.pixels)  # Pillow turns TIFF files as their orientation says
    np.testing.assert_array_equal(turned, read_picture(out.read_bytes()).pixels[5:25, 7:37])


def test_formats_without_alpha_are_2(rich: Path):
    packed = rich.with_suffix(".lrq")
    lrq("encode", rich, "--effort", 0)
    for suffix in (".jpg", ".ppm", ".bmp"):
        out = rich.with_name(f"out{suffix}")
        message = fails(2, "decode", packed, "-o", out)
        assert f"the image has alpha, and {suffix} files have none: use one of .png .webp .tif .tiff" in message
        assert not out.exists()


def test_strip(rich: Path, photo: np.ndarray):
    packed = rich.with_suffix(".lrq")
    assert lrq("encode", rich, "--effort", 0, "--strip").exit_code == 0
    assert lrcodec.metadata(packed.read_bytes()) == lrcodec.Metadata(icc_profile=b"profile")
    np.testing.assert_array_equal(lrcodec.decode(packed.read_bytes())[..., 3], np.rot90(photo[..., 0], -1))


def test_to_8bit(tmp_path: Path, photo: np.ndarray):
    source = tmp_path / "deep.png"
    Image.fromarray(photo[..., 0].astype(np.uint16) << 8).save(source)
    assert "--to-8bit" in fails(2, "encode", source)
    assert lrq("encode", source, "--to-8bit", "--effort", 0).exit_code == 0
    assert psnr(photo[..., 0], lrcodec.decode(source.with_suffix(".lrq").read_bytes())) > 22


def test_damaged_metadata_and_alpha_leave_no_file(photo_file: Path, tmp_path: Path):
    header, chunks = unpack(photo_file.read_bytes())
    bomb = zlib.compress(bytes(2**24 + 1))
    source, out = tmp_path / "a.lrq", tmp_path / "a.png"
    for code, alpha, chunk in (
        (3, 0, Chunk(b"c", b"damaged")),
        (3, 0, Chunk(b"e", zlib.compress(b"exif") + b"more")),
        (5, 0, Chunk(b"x", bomb)),
        (3, 1, Chunk(b"A", b"\0" + bomb)),
        (3, 1, Chunk(b"A", b"\3")),
        (3, 0, Chunk(b"A", b"")),
        (3, 1, Chunk(b"z", b"")),
    ):
        source.write_bytes(pack(replace(header, alpha=alpha), [*chunks, chunk]))
        fails(code, "decode", source)
        assert not out.exists()


# ---- info and models


def test_info_names_the_chunks(tmp_path: Path):
    path = tmp_path / "a.lrq"
    tags = "IAcexz"
    path.write_bytes(pack(replace(HEADER, alpha=1), [Chunk(tag.encode(), b"12345") for tag in tags]))
    lines = [line.split() for line in lrq("info", path).stdout.splitlines()]
    assert ["alpha", "1"] in [line[:2] for line in lines]
    names = ["indices", "alpha", "ICC profile", "EXIF", "XMP", "unknown"]
    rows = [["chunk", tag, "5", "bytes", *name.split()] for tag, name in zip(tags, names, strict=True)]
    assert [line for line in lines if line[0] == "chunk"] == rows
    fields = json.loads(lrq("info", path, "--json").stdout)
    assert fields["alpha"] == 1 and [chunk["tag"] for chunk in fields["chunks"]] == [*tags]


def test_info(sample: Path):
    result = lrq("info", sample)
    assert result.exit_code == 0
    labels = [line.split()[0] for line in result.stdout.splitlines()]
    assert labels == [*(field.name for field in FIELDS), "chunk", "chunk", "file"]


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


@pytest.fixture
def new_model(tmp_path: Path) -> Path:
    """A model pack of another fingerprint than the shipped one, with a file that is none of its own."""
    path = tmp_path / "my-pack"
    shutil.copytree(ROOT / "models" / "photo", path)
    (path / "decoder-more.onnx").write_bytes(b"more")
    (path / "notes.txt").write_bytes(b"private")
    return path


def test_installed_models_are_found_from_anywhere(
    new_model: Path, picture: Path, user_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    result = lrq("models", "add", new_model)
    assert (result.exit_code, result.stderr) == (0, "")
    assert names(user_folder) == ["my-pack"]
    assert names(user_folder / "my-pack") == sorted({*names(new_model), "sha256"} - {"notes.txt"})
    assert lrq("models").stdout.endswith(f"\n{result.stdout}")
    shutil.rmtree(new_model)
    monkeypatch.chdir(tmp_path)
    assert lrq("encode", picture.name, "--model", "my-pack", "--effort", 0).exit_code == 0
    fingerprint = unpack(Path("picture.lrq").read_bytes())[0].model.hex()
    assert result.stdout.startswith(f"my-pack      {fingerprint}  ")
    assert lrq("decode", "picture.lrq", "-f").exit_code == 0
    assert lrq("models", "remove", "my-pack").exit_code == 0
    assert names(user_folder) == []
    assert fingerprint in fails(4, "decode", "picture.lrq", "-f")


@pytest.mark.parametrize("damage", ["content", "missing file", "no sha256", "wrong sha256"])
def test_a_damaged_model_is_in_the_way_of_no_other(
    damage: str, new_model: Path, picture: Path, photo_file: Path, user_folder: Path, tmp_path: Path
):
    assert lrq("models", "add", new_model, "--name", "other").exit_code == 0
    assert lrq("encode", picture, "--model", "other", "--effort", 0).exit_code == 0
    installed = user_folder / "other"
    {
        "content": lambda: (installed / "decoder-more.onnx").write_bytes(b"less"),
        "missing file": lambda: (installed / "tables.npz").unlink(),
        "no sha256": lambda: (installed / "sha256").unlink(),
        "wrong sha256": lambda: (installed / "sha256").write_bytes(b"\xff" * 64),
    }[damage]()
    result = lrq("models")
    assert result.exit_code == 0
    assert [line for line in result.stdout.splitlines() if "damaged" in line] == ["other        damaged"]
    assert lrq("decode", photo_file, "-o", tmp_path / "out.png").exit_code == 0
    fails(4, "encode", picture, "--model", "other", "-o", tmp_path / "out.lrq")
    fails(4, "decode", picture.with_suffix(".lrq"), "-f")
    assert lrq("models", "remove", "other").exit_code == 0
    assert names(user_folder) == []


def test_adding_what_is_no_model_is_4(tmp_path: Path, user_folder: Path):
    for path in (tmp_path, tmp_path / "missing"):
        assert "no model pack" in fails(4, "models", "add", path)
    (tmp_path / "decoder-rgb.onnx").write_bytes(b"")
    (tmp_path / "tables.npz").write_bytes(b"PK")
    assert "cannot be read" in fails(4, "models", "add", tmp_path, "--name", "new")
    assert names(user_folder) == []


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "two words", "\u00e9", "a\n"])
def test_names_that_no_model_can_have_are_2(name: str, new_model: Path, user_folder: Path):
    assert "cannot name a model" in fails(2, "models", "add", new_model, "--name", name)
    assert names(user_folder) == []


def test_names_that_are_taken_are_2(new_model: Path, user_folder: Path):
    for force in ([], ["-f"]):
        assert "shipped" in fails(2, "models", "add", new_model, "--name", "photo", *force)
    assert lrq("models", "add", new_model).exit_code == 0
    (new_model / "decoder-more.onnx").write_bytes(b"new")
    assert "add -f" in fails(2, "models", "add", new_model)
    installed = user_folder / "my-pack" / "decoder-more.onnx"
    assert installed.read_bytes() == b"more"
    assert lrq("models", "add", new_model, "-f").exit_code == 0
    assert installed.read_bytes() == b"new"
    assert names(user_folder) == ["my-pack"]
    assert "damaged" not in lrq("models").stdout


def test_a_failing_installation_leaves_things_as_they_were(
    new_model: Path, user_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    assert lrq("models", "add", new_model).exit_code == 0

    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "card.md":
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert "No space" in fails(1, "models", "add", new_model, "-f")
    assert "No space" in fails(1, "models", "add", new_model, "--name", "second")
    assert names(user_folder) == ["my-pack"]
    assert "damaged" not in lrq("models").stdout


def test_removing_what_is_not_installed(new_model: Path, user_folder: Path):
    assert "shipped" in fails(2, "models", "remove", "photo")
    for name in ("nope", "..", "", str(new_model)):
        assert "no model" in fails(4, "models", "remove", name)
    assert new_model.exists() and user_folder.exists()


def test_the_folder_of_installed_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from lrcodec.packs import store

    assert store.user_folder() == Path(os.environ["LRCODEC_MODELS"])
    monkeypatch.setenv("LRCODEC_MODELS", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert store.user_folder() == tmp_path / "lrcodec" / "models"
    assert lrq("models").exit_code == 0
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.user_folder() == tmp_path / ".local" / "share" / "lrcodec" / "models"
    monkeypatch.setenv("LRCODEC_MODELS", os.devnull)
    assert lrq("models").exit_code == 0


# ---- bench


def test_bench(picture: Path):
    folder = picture.parent
    options = ["-q", 20, "-q", 79.5, "--rank", 1, "--effort", 0, "--per-image"]
    outputs = ["--json", folder / "rd.json", "--plot", folder / "rd.png", "--html", folder / "rd.html"]
    result = lrq("bench", picture, *options, *outputs)
    assert result.exit_code == 0, result.output
    assert "BD-rate" in result.stdout and "picture.png" in result.stdout
    rows = json.loads((folder / "rd.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["setting"], row["rank"]) for row in rows if row["codec"] == "lrq"] == [(20, 1), (79.5, 1)]
    with Image.open(folder / "rd.png") as image:
        assert image.format == "PNG"
    page = (folder / "rd.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and "picture.png, lrq rank 1 eye, quality 79.5" in page


def test_bench_without_images_is_2(tmp_path: Path):
    assert "no images" in fails(2, "bench", tmp_path)
