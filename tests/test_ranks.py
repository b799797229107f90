"""Two processes that torchrun starts train as one does: the same steps, but for rounding, and one pack."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import fails, lrq
from PIL import Image
from safetensors.torch import load_file
from torch import distributed

from lrcodec.encoder import Encoder
from lrcodec.training import ranks

pytestmark = pytest.mark.skipif(not distributed.is_gloo_available(), reason="needs PyTorch with gloo")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "lrcodec", "train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skimage import data

    path = tmp_path_factory.mktemp("images")
    for number, image in enumerate((data.chelsea(), data.coffee(), data.astronaut())):
        Image.fromarray(image[80:144, 150:214]).save(path / f"{number}.png")
    return path


@pytest.fixture(scope="module")
def packs(few_crops: None, folder: Path) -> dict[int, tuple[Path, str]]:
    """The packs that one process and two make, and what was printed. The two go on from stage 3 of the one."""
    arguments = (str(folder), "--preset", "tiny", "--steps", "8", "-o")
    one, two = (folder.with_name(name) for name in ("one", "two"))
    alone = lrq("train", *arguments, one)
    assert alone.exit_code == 0, alone.stderr
    later = shutil.ignore_patterns("networks.*", "optimiser.*", "tuned.*", "tables.*")
    shutil.copytree(f"{one}.work", f"{two}.work", ignore=later)
    command, environment = [sys.executable, *TORCHRUN, *arguments, two], os.environ | {"OMP_NUM_THREADS": "1"}
    if sys.platform == "win32":
        environment["USE_LIBUV"] = "0"  # PyTorch for Windows has none, and torchrun asks for it all the same
    together = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert together.returncode == 0, together.stderr
    return {1: (one, alone.stderr), 2: (two, together.stderr)}


def test_two_processes_take_the_steps_of_one(packs):
    for name, most in (("codebooks", 0), ("networks", 1e-4), ("tuned", 1e-4)):
        one, two = (load_file(f"{packs[count][0]}.work/{name}.safetensors") for count in (1, 2))
        assert one.keys() == two.keys()
        for key, want in one.items():
            assert torch.allclose(two[key], want, rtol=most, atol=most * float(want.abs().max()) if want.numel() else 0)


def test_the_networks_were_trained(packs, folder):
    """Else they would be equal whatever the processes did."""
    moved = load_file(f"{packs[2][0]}.work/networks.safetensors")["transformer.head.weight"]
    assert moved.abs().max() > 0


def test_the_first_process_speaks_alone_and_makes_a_pack(packs, photo):
    path, printed = packs[2]
    lines = [line for line in printed.splitlines() if "SHA-256" in line or "step 8/8" in line]
    assert len(lines) == 2 and str(path) in lines[1]
    assert Encoder(path).encode(photo, effort=0)


def test_more_processes_than_images_in_a_batch(folder, tmp_path, monkeypatch):
    """A batch of tiny has two."""
    monkeypatch.setattr(ranks, "count", lambda: 3)
    line = fails(2, "train", folder, "--preset", "tiny", "-o", tmp_path / "pack")
    assert "3 processes cannot share batches of 2 images" in line


def test_without_torchrun_there_is_one_process():
    with ranks.joined():
        assert (ranks.count(), ranks.first()) == (1, True)
        assert ranks.device().type == ("cuda" if torch.cuda.is_available() else "cpu")
        assert ranks.total(torch.ones(3)).tolist() == [1, 1, 1]
        module = torch.nn.Linear(2, 2)
        assert ranks.averaged(module) is module
        ranks.wait()
