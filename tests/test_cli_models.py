"""`lrq train` and `lrq bench` as commands: what they refuse, in one line and before the work starts."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from click.shell_completion import ShellComplete
from commands import fails, lrq
from PIL import Image

import lrcodec
from lrcodec.cli import main as cli
from lrcodec.measure import bench, speed
from lrcodec.packs import store
from lrcodec.paper import suite
from lrcodec.training import run as training

NOBODYS = [path for path in [Path("/proc")] if (path / "self").exists()]
"""Folders where nobody may write, not even root."""


@pytest.fixture
def picture(tmp_path: Path, photo: np.ndarray) -> Path:
    """`photo` as a PNG, alone in its folder."""
    path = tmp_path / "images" / "picture.png"
    path.parent.mkdir()
    Image.fromarray(photo).save(path)
    return path


def bomb(path: Path) -> Path:
    """A PNG of a few bytes that announces 900 megapixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    size = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(99))))
    return path


@pytest.mark.parametrize("command", [["bench"], ["speed"], ["train", "-o", "OUT", "--preset", "tiny"]])
def test_an_image_over_the_limit_is_5_and_named(command: list[str], picture: Path, tmp_path: Path):
    path, out = bomb(picture.with_name("z.png")), tmp_path / "out"
    arguments = [out if word == "OUT" else word for word in command]
    assert f"lrq: error: {path}: the image has more pixels" in fails(5, *arguments, picture, path)
    assert not out.exists()


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("bjontegaard", ["bench"]),
        ("scipy", ["bench", "--bpp", "0.1:1"]),
        ("matplotlib", ["bench", "--plot", "OUT"]),
        ("matplotlib", ["bench", "--html", "OUT"]),
        ("jinja2", ["bench", "--html", "OUT"]),
        ("tabulate", ["bench"]),
        ("tabulate", ["speed"]),
        ("tabulate", ["paper"]),
        ("skimage", ["paper"]),
        ("matplotlib", ["paper", "-o", "OUT"]),
    ],
)
def test_measuring_without_its_extra_is_6_before_it_starts(
    package: str, options: list[str], picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    for module, name in ((bench, "bench"), (suite, "run")):
        monkeypatch.setattr(module, name, lambda *arguments, **options: pytest.fail("measures"))
    words = [tmp_path / "out" if word == "OUT" else word for word in options]
    images = [picture] * (options[0] == "bench")
    line = fails(6, *words, *images)
    assert package in line and 'pip install "lrcodec[bench]"' in line
    assert not (tmp_path / "out").exists()


def test_the_default_images_need_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert 'pip install "lrcodec[bench]"' in fails(6, "bench")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be measured or trained."""
    for module, name in ((bench, "bench"), (suite, "run"), (speed, "run"), (training, "train")):
        monkeypatch.setattr(module, name, lambda *arguments, **options: pytest.fail("works"))


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("option", ["--json", "--plot", "--html"])
def test_no_output_of_bench_replaces_an_input(option: str, picture: Path):
    before = picture.read_bytes()
    links = picture.with_name("link.png"), picture.with_name("hard.png")
    links[0].symlink_to(picture)
    os.link(picture, links[1])
    for path in (picture, picture.parent / ".." / "images" / "picture.png", *links):
        assert f"{path} would replace a file of this command" in fails(2, "bench", picture, option, path)
    assert picture.read_bytes() == before


@pytest.mark.usefixtures("refused")
def test_no_output_of_bench_replaces_another_or_the_model(picture: Path, tmp_path: Path):
    out, pack = tmp_path / "out", tmp_path / "pack"
    line = fails(2, "bench", picture, "--json", out, "--plot", tmp_path / "images" / ".." / "out")
    assert "would replace a file of this command" in line
    shutil.copytree(store.find("mnist").path, pack)
    line = fails(2, "bench", picture, "--model", pack, "--json", pack / "tables.npz")
    assert "would replace a file of this command" in line
    data = tmp_path / "mnist" / "test-00-1.png"
    data.parent.mkdir()
    shutil.copy(picture, data)
    for options in (["-o", tmp_path], ["--work", tmp_path], ["--work", out, "-o", out], ["-o", data.parent]):
        assert "would replace a file of this command" in fails(2, "paper", "--data", tmp_path, *options)
    out.mkdir()
    (out / "figure4.png").symlink_to(data)
    assert f"{out / 'figure4.png'} would replace" in fails(2, "paper", "--data", tmp_path, "-o", out)


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(
    "mode",
    [["bench", "--json"], ["bench", "--plot"], ["bench", "--html"], ["speed", "--json"]],
    ids=" ".join,
)
def test_impossible_outputs_of_bench_are_1_before_the_work(mode: list[str], picture: Path, tmp_path: Path):
    for path, reason in (
        (tmp_path / "missing" / "out", f"{tmp_path / 'missing'}: no such folder"),
        (tmp_path, f"{tmp_path}: is a folder"),
        (picture / "out", f"{picture}: is no folder"),
        *((path / "out", f"{path}: ") for path in NOBODYS),
    ):
        assert f"lrq: error: {reason}" in fails(1, *mode, path, picture)
    assert list(tmp_path.iterdir()) == [picture.parent]


@pytest.mark.usefixtures("refused")
def test_impossible_outputs_of_paper_are_1_before_the_work(picture: Path, tmp_path: Path):
    (tmp_path / "out" / "curves.png").mkdir(parents=True)
    for path, reason in (
        (picture, f"{picture}: is no folder"),
        (picture / "out", f"{picture}: is no folder"),
        (tmp_path / "out", f"{tmp_path / 'out' / 'curves.png'}: is a folder"),
        *((path / "out", f"{path}: ") for path in NOBODYS),
    ):
        assert f"lrq: error: {reason}" in fails(1, "paper", "-o", path)


@pytest.mark.usefixtures("refused")
def test_folders_that_a_training_must_not_write(picture: Path, tmp_path: Path):
    images, pack, out = picture.parent, tmp_path / "pack", tmp_path / "out"
    shutil.copytree(store.find("mnist").path, pack)
    shutil.copy(picture, pack)
    for arguments, code, message in (
        ([images, "-o", images], 2, f"{images} would replace a file of this command"),
        ([picture, "-o", picture], 2, f"{picture} would replace a file of this command"),
        ([images, "-o", out, "--work", images], 2, f"{images} would replace a file of this command"),
        ([images, "-o", out, "--work", out], 2, "would replace a file of this command"),
        ([images, "-o", out, "--work", out / "work"], 2, f"{out / 'work'} lies in {out}"),
        ([pack / picture.name, "-o", pack], 2, f"{pack / picture.name} lies in {pack}"),
        ([images, "-o", picture / "pack"], 1, f"{picture}: is no folder"),
        *(([images, "-o", path / "pack"], 1, f"{path}: ") for path in NOBODYS),
        *(([images, "-o", out, "--work", path / "pack" / "work"], 1, f"{path}: ") for path in NOBODYS),
    ):
        assert message in fails(code, "train", "--preset", "tiny", *arguments)
    assert sorted(tmp_path.iterdir()) == [images, pack] and list(images.iterdir()) == [picture]


def raising(error: BaseException) -> Callable[..., None]:
    def stage(*arguments: object) -> None:
        raise error

    return stage


def signalled(number: signal.Signals) -> Callable[..., None]:
    def stage(*arguments: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    return stage


@pytest.mark.skipif(sys.platform == "win32", reason="there os.kill ends this process")
@pytest.mark.parametrize(
    ("stage", "code", "message"),
    [
        (signalled(signal.SIGTERM), 130, "interrupted: run the same command again, it goes on from "),
        (signalled(signal.SIGINT), 130, "interrupted: run the same command again, it goes on from "),
        (raising(RuntimeError("DefaultCPUAllocator: can't allocate memory: 99 bytes")), 1, "out of memory; when "),
        (raising(torch.OutOfMemoryError("CUDA out of memory.\nSee more")), 1, "out of memory; when "),
        (raising(MemoryError()), 1, "out of memory; when "),
    ],
    ids=["SIGTERM", "SIGINT", "torch", "CUDA", "memory"],
)
def test_what_to_do_after_a_training_that_was_stopped(
    stage: Callable[..., None], code: int, message: str, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(training, "start_codebooks", stage)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        line = fails(code, "train", picture.parent, "-o", tmp_path / "pack", "--preset", "tiny")
    finally:
        signal.signal(signal.SIGINT, before)
    assert message in line and line.endswith(f"it goes on from {tmp_path / 'pack'}.work\n")
    assert not (tmp_path / "pack").exists()


def test_an_interruption_before_the_first_checkpoint(picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "prepare", raising(KeyboardInterrupt()))
    line = fails(130, "train", picture.parent, "-o", tmp_path / "pack", "--preset", "tiny")
    assert line == "lrq: error: interrupted\n"


def completions(*words: str) -> list[tuple[str, str]]:
    """What a shell is told of the last word: kinds and values."""
    *before, incomplete = words
    found = ShellComplete(cli.main, {}, "lrq", "_LRQ_COMPLETE").get_completions(before, incomplete)
    return [(item.type, item.value) for item in found]


@pytest.mark.parametrize("command", ["encode", "decode", "compare", "bench"])
def test_completion_of_models(command: str, user_folder: Path):
    shutil.copytree(store.find("mnist").path, user_folder / "portraits")
    names = [pack.name for pack in store.packs()]
    assert {"photo", "mnist", "portraits"} <= set(names)
    assert completions(command, "--model", "") == [("dir", ""), *(("plain", name) for name in names)]
    assert completions(command, "--model", "p") == [("dir", "p"), ("plain", "photo"), ("plain", "portraits")]


def test_completion_of_presets_without_torch():
    assert ("plain", "line-art") in completions("train", "--preset", "")
    code = "import sys; sys.modules['torch'] = None; from lrcodec.cli.main import main; main(prog_name='lrq')"
    words = {"_LRQ_COMPLETE": "bash_complete", "COMP_WORDS": "lrq train --preset s", "COMP_CWORD": "3"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | words, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("plain,small\nplain,small-best\n", "")


def test_decoding_takes_models_by_name_as_encoding_does(picture: Path, user_folder: Path, tmp_path: Path):
    source, decoded = tmp_path / "small.lrq", tmp_path / "small.png"
    assert lrq("encode", picture, "-o", source, "--model", "faces64", "--effort", 0).exit_code == 0
    for model in ("faces64", store.find("faces64").path):
        assert lrq("decode", source, "-o", decoded, "--model", model).exit_code == 0
        decoded.unlink()
    assert lrcodec.decode(source.read_bytes(), models=["faces64"]).shape == (61, 97, 3)
    assert "unknown model nobody" in fails(4, "decode", source, "-o", decoded, "--model", "nobody")


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_of_a_training(threads: int, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counts = []
    monkeypatch.setattr(training, "train", lambda *arguments, **options: counts.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    assert lrq("train", picture, "-o", tmp_path / "pack", "--preset", "tiny", "--threads", threads).exit_code == 0
    assert (counts, torch.get_num_threads()) == ([threads], before)


@pytest.mark.parametrize("name", ["photo", "mnist"])
def test_an_exported_model_has_the_tables_of_the_pack(name: str, tmp_path: Path):
    exported, pack = tmp_path / "model.lrqm", store.find(name).load()
    result = lrq("models", "export", name, "-o", exported)
    assert (result.exit_code, result.output) == (0, "")
    assert lrq("models", "export", store.find(name).path, "-o", "-").stdout_bytes == exported.read_bytes()
    fingerprint, tables = reference.model_file(exported.read_bytes())
    assert (fingerprint, tables.keys()) == (pack.fingerprint, pack.tables.keys())
    for key, array in tables.items():
        np.testing.assert_array_equal(array, pack.tables[key], strict=True)


def test_models_that_cannot_be_exported(tmp_path: Path):
    pack = tmp_path / "pack"
    shutil.copytree(store.find("mnist").path, pack)
    assert "would replace a file of this command" in fails(2, "models", "export", pack, "-o", pack / "tables.npz")
    assert "Missing option" in fails(2, "models", "export", pack)
    assert "unknown model nobody" in fails(4, "models", "export", "nobody", "-o", tmp_path / "out.lrqm")
    assert "no such folder" in fails(1, "models", "export", "mnist", "-o", tmp_path / "missing" / "out.lrqm")
    (pack / "tables.npz").write_bytes(b"no archive")
    assert "cannot be read" in fails(4, "models", "export", pack, "-o", tmp_path / "out.lrqm")
    assert [*tmp_path.iterdir()] == [pack]
