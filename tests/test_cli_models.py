"""`lrq train` and `lrq bench` as commands: what they refuse, in one line and before the work starts."""

import os
import shutil
import signal
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from commands import fails
from PIL import Image

from lrcodec import bench, cli_models, speed, suite, zoo
from lrcodec.encoder import train as training


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


@pytest.mark.parametrize("command", [["bench"], ["bench", "--speed"], ["train", "-o", "OUT", "--preset", "tiny"]])
def test_an_image_over_the_limit_is_5_and_named(command: list[str], picture: Path, tmp_path: Path):
    path, out = bomb(picture.with_name("z.png")), tmp_path / "out"
    arguments = [out if word == "OUT" else word for word in command]
    assert f"lrq: error: {path}: the image has more pixels" in fails(5, *arguments, picture, path)
    assert not out.exists()


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("bjontegaard", []),
        ("scipy", ["--bpp", "0.1:1"]),
        ("matplotlib", ["--plot", "OUT"]),
        ("matplotlib", ["--html", "OUT"]),
        ("matplotlib", ["--suite", "paper", "--plot", "OUT"]),
        ("matplotlib", ["--suite", "paper", "--pictures", "OUT"]),
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
    images = [] if "--suite" in options else [picture]
    line = fails(6, "bench", *images, *words)
    assert package in line and 'pip install "lrcodec[bench]"' in line
    assert not (tmp_path / "out").exists()


def test_the_default_images_need_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert 'pip install "lrcodec[bench]"' in fails(6, "bench")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--large", "24"], "--large has no effect without --speed"),
        (["--limit", "9"], "--limit has no effect without --suite"),
        (["--set", "mnist"], "--set has no effect without --suite"),
        (["--data", "."], "--data has no effect without --suite"),
        (["--work", "paper.work"], "--work has no effect without --suite"),
        (["--pictures", "OUT"], "--pictures has no effect without --suite"),
        (["--speed", "--bpp", "0.1:1"], "--bpp has no effect with --speed"),
        (["--speed", "--plot", "OUT"], "--plot has no effect with --speed"),
        (["--speed", "--html", "OUT"], "--html has no effect with --speed"),
        (["--speed", "--no-transformer"], "--no-transformer has no effect with --speed"),
        (["--speed", "--limit", "9"], "--limit has no effect with --speed"),
        (["--suite", "paper", "--speed"], "--speed has no effect with --suite"),
        (["--suite", "paper", "--html", "OUT"], "--html has no effect with --suite"),
        (["--suite", "paper", "-q", "50"], "--quality has no effect with --suite"),
        (["--suite", "paper", "--effort", "1"], "--effort has no effect with --suite"),
        (["--suite", "paper", "--anchor", "jpeg"], "--anchor has no effect with --suite"),
        (["--suite", "paper", "--model", "photo"], "--model has no effect with --suite"),
        (["--suite", "paper", "--device", "cpu"], "--device has no effect with --suite"),
        (["--suite", "paper", "--per-image"], "--per-image has no effect with --suite"),
        (["--suite", "paper", "--rank", "1"], "--rank has no effect with --suite"),
        (["--suite", "paper", "."], "[IMAGES or FOLDERS] has no effect with --suite"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_without_effect_are_refused(options: list[str], message: str, tmp_path: Path):
    words = [tmp_path / "out" if word == "OUT" else word for word in options]
    assert message in fails(2, "bench", *words)


def test_modes_name_parameters_of_the_command():
    assert set(cli_models.MODES) <= {parameter.name for parameter in cli_models.bench.params}


@pytest.mark.parametrize("command", [cli_models.train, cli_models.bench], ids=lambda command: command.name)
def test_every_option_tells_its_default(command: click.Command):
    for option in command.params:
        if isinstance(option, click.Option) and not (option.is_flag or option.required):
            _, text = option.get_help_record(click.Context(command))
            assert "default" in text.lower() or text.startswith(("Write ", "Suite: write ")), option.name


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
        assert f"{option} {path} would replace an input" in fails(2, "bench", picture, option, path)
    assert picture.read_bytes() == before


@pytest.mark.usefixtures("refused")
def test_no_output_of_bench_replaces_another_or_the_model(picture: Path, tmp_path: Path):
    out, pack = tmp_path / "out", tmp_path / "pack"
    line = fails(2, "bench", picture, "--json", out, "--plot", tmp_path / "images" / ".." / "out")
    assert "--plot" in line and "would replace what --json writes" in line
    shutil.copytree(zoo.find("mnist").path, pack)
    line = fails(2, "bench", picture, "--model", pack, "--json", pack / "tables.npz")
    assert "would replace an input" in line
    data = tmp_path / "mnist" / "test-00-1.png"
    data.parent.mkdir()
    shutil.copy(picture, data)
    assert "an input" in fails(2, "bench", "--suite", "paper", "--data", tmp_path, "--pictures", data)
    assert "an input" in fails(2, "bench", "--suite", "paper", "--data", tmp_path, "--work", tmp_path)


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(
    "mode",
    [["--json"], ["--plot"], ["--html"], ["--speed", "--json"], ["--suite", "paper", "--pictures"]],
    ids=" ".join,
)
def test_impossible_outputs_of_bench_are_1_before_the_work(mode: list[str], picture: Path, tmp_path: Path):
    images = [] if "--suite" in mode else [picture]
    for path, reason in (
        (tmp_path / "missing" / "out", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (picture / "out", "Not a directory"),
        (Path("/proc/out"), ""),  # nobody may write there, not even root
    ):
        assert f"lrq: error: {path}: {reason}" in fails(1, "bench", *images, *mode, path)
    assert list(tmp_path.iterdir()) == [picture.parent]


@pytest.mark.usefixtures("refused")
def test_folders_that_a_training_must_not_write(picture: Path, tmp_path: Path):
    images, pack, out = picture.parent, tmp_path / "pack", tmp_path / "out"
    shutil.copytree(zoo.find("mnist").path, pack)
    shutil.copy(picture, pack)
    for arguments, code, message in (
        ([images, "-o", images], 2, f"-o {images} would replace an input"),
        ([picture, "-o", picture], 2, f"-o {picture} would replace an input"),
        ([images, "-o", out, "--work", images], 2, f"--work {images} would replace an input"),
        ([images, "-o", out, "--work", out], 2, "would replace what -o writes"),
        ([images, "-o", out, "--work", out / "work"], 2, f"{out / 'work'} lies in {out}"),
        ([pack / picture.name, "-o", pack], 2, f"{pack / picture.name} lies in {pack}"),
        ([images, "-o", picture / "pack"], 1, f"{picture / 'pack'}: Not a directory"),
        ([images, "-o", "/proc/pack"], 1, "/proc/pack: "),
        ([images, "-o", out, "--work", "/proc/pack/work"], 1, "/proc/pack/work: "),
    ):
        assert message in fails(code, "train", "--preset", "tiny", *arguments)
    assert sorted(tmp_path.iterdir()) == [images, pack] and list(images.iterdir()) == [picture]


def raising(error: BaseException) -> Callable[..., None]:
    def stage(self: object) -> None:
        raise error

    return stage


def signalled(number: signal.Signals) -> Callable[..., None]:
    def stage(self: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    return stage


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
    monkeypatch.setattr(training._Run, "start_codebooks", stage)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        line = fails(code, "train", picture.parent, "-o", tmp_path / "pack", "--preset", "tiny")
    finally:
        signal.signal(signal.SIGINT, before)
    assert message in line and line.endswith(f"it goes on from {tmp_path / 'pack'}.work\n")
    assert not (tmp_path / "pack").exists()


def test_an_interruption_before_the_first_checkpoint(picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "_prepare", lambda *arguments: raising(KeyboardInterrupt())(None))
    line = fails(130, "train", picture.parent, "-o", tmp_path / "pack", "--preset", "tiny")
    assert line == "lrq: error: interrupted\n"
