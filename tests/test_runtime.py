"""What the native libraries do beside their work: nothing is told or kept, cores are shared, memory may run out."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from commands import fails, lrq
from PIL import Image

import lrcodec
from lrcodec import runtime
from lrcodec.encoder.limits import memory_errors, torch_threads

ROOT = Path(__file__).parent.parent
LRQ = [sys.executable, str(ROOT / "cli.py")]
STRACE = shutil.which("strace")
no_home = pytest.mark.skipif(sys.platform == "win32", reason="HOME is not where a home folder is there")


@pytest.fixture
def source(photo: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    return path


def fresh(home: Path) -> dict[str, str]:
    """The environment of a user who has just been made, and whose only variable is PATH."""
    home.mkdir()
    return {"HOME": str(home), "PATH": os.environ["PATH"]}


@pytest.fixture(scope="module", autouse=True)
def traced(photo_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A process that decodes and then lives on for twelve seconds, beside the other tests, and its log of strace."""
    if not STRACE:
        yield None
        return
    folder = tmp_path_factory.mktemp("traced")
    code = f"import lrcodec, time; lrcodec.decode(open({str(photo_file)!r}, 'rb').read()); time.sleep(12)"
    command = [STRACE, "-f", "-o", folder / "log", "-e", "trace=socket,connect", sys.executable, "-c", code]
    with subprocess.Popen(command, env=fresh(folder / "home"), stderr=subprocess.PIPE, text=True) as process:
        yield process, folder / "log"
        process.terminate()


# ---- nothing is told or kept


@no_home
def test_nothing_appears_in_a_fresh_home(source: Path, tmp_path: Path):
    """After three commands, in one process: importing torch takes longer than all else."""
    user, work = fresh(tmp_path / "home"), tmp_path / "work"
    work.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from lrcodec.cli.main import main;"
        "[main(line.split(), standalone_mode=False) for line in sys.argv[1:]]"
    )
    lines = (
        f"encode {source} -o photo.lrq --effort 0",
        "decode photo.lrq -o decoded.png",
        f"bench {source} -q 50 --effort 0 --anchor jpeg --plot rd.png --html report.html",
    )
    command = [sys.executable, "-c", code, *lines]
    result = subprocess.run(command, cwd=work, env=user, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert [*Path(user["HOME"]).rglob("*")] == []
    assert sorted(path.name for path in work.iterdir()) == ["decoded.png", "photo.lrq", "rd.png", "report.html"]


@no_home
def test_decoding_without_a_writable_home_is_silent(photo_file: Path, tmp_path: Path):
    user = fresh(tmp_path / "home") | {"HOME": "/dev/null/nowhere"}
    command = [*LRQ, "decode", photo_file, "-o", tmp_path / "out.png"]
    result = subprocess.run(command, env=user, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# ---- cores are shared


def in_a_process(code: str, **variables: str) -> str:
    """What code prints that runs by itself, without the variables that lrcodec has set for this process."""
    mine = {"OMP_WAIT_POLICY", "ORT_DISABLE_TELEMETRY"}
    env = {name: value for name, value in os.environ.items() if name not in mine} | variables
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=True
    ).stdout.strip()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_processors_that_may_not_be_used_do_not_count():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "import lrcodec, torch; print(lrcodec.runtime.cores(), lrcodec.Decoder().threads, torch.get_num_threads())"
    )
    assert in_a_process(code) == "1 1 1"


def test_waiting_threads_do_not_spin(photo_file: Path, monkeypatch: pytest.MonkeyPatch):
    """Those of OpenMP by its variable, unless the user has set it, those of ONNX Runtime by an option."""
    code = "import lrcodec, os; print(os.environ['OMP_WAIT_POLICY'])"
    assert in_a_process(code) == "passive"
    assert in_a_process(code, OMP_WAIT_POLICY="active") == "active"
    started = []
    session = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", lambda *a, **k: started.append((a, k)) or session(*a, **k))
    lrcodec.Decoder().decode(photo_file.read_bytes())
    for positional, named in started:
        options = next(o for o in (*positional, *named.values()) if isinstance(o, ort.SessionOptions))
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert started


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_of_the_encoder(threads: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counts = []
    search = lrcodec.Encoder._indices

    def watched(*arguments):
        counts.append(torch.get_num_threads())
        return search(*arguments)

    monkeypatch.setattr(lrcodec.Encoder, "_indices", watched)
    before = torch.get_num_threads()
    assert lrq("encode", source, "-o", tmp_path / "out.lrq", "--effort", 0, "--threads", threads).exit_code == 0
    assert (counts, torch.get_num_threads()) == ([threads], before)
    data = lrcodec.encode(np.asarray(Image.open(source)), effort=0, threads=threads)
    assert (counts, torch.get_num_threads()) == ([threads] * 2, before)
    assert data == (tmp_path / "out.lrq").read_bytes()


def test_threads_of_the_decoder(photo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counts = []
    start = lrcodec.Decoder.__init__

    def watched(self, *positional, **named):
        start(self, *positional, **named)
        counts.append(self.threads)

    monkeypatch.setattr(lrcodec.Decoder, "__init__", watched)
    assert lrq("decode", photo_file, "-o", tmp_path / "1.png", "--threads", 1).exit_code == 0
    assert lrq("decode", photo_file, "-o", tmp_path / "3.png", "--threads", 3).exit_code == 0
    assert lrq("decode", photo_file, "-o", tmp_path / "0.png").exit_code == 0
    assert counts == [1, 3, runtime.cores()]
    assert len({(tmp_path / f"{n}.png").read_bytes() for n in (0, 1, 3)}) == 1


def test_threads_are_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("command", ["encode", "decode", "train", "bench"])
def test_threads_must_be_a_number(command: str, source: Path):
    assert "'--threads': -1 is not" in fails(2, command, source, "--threads", "-1")


# ---- memory runs out


RUNS_OUT = """
import resource, sys
from lrcodec.cli.main import main
import lrcodec.encoder
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 250 * 2**20,) * 2)
main()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_that_runs_out_is_one_line(tmp_path: Path):
    """An encoder that has loaded may have 250 MiB more, for four megapixels."""
    source, out = tmp_path / "large.png", tmp_path / "large.lrq"
    Image.effect_noise((2048, 2048), 60).save(source)
    command = [sys.executable, "-c", RUNS_OUT, "encode", source, "-o", out, "--effort", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (1, ""), result.stderr[-500:]
    assert result.stderr.startswith("lrq: error: ") and "out of memory" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [*tmp_path.iterdir()] == [source]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried"),
        MemoryError(),
    ],
)
def test_every_way_to_run_out(error: Exception, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*arguments):
        raise error

    monkeypatch.setattr("lrcodec.encoder.transformer.Transformer.latents", full)
    assert "out of memory" in fails(1, "encode", source, "-o", tmp_path / "out.lrq")
    with pytest.raises(MemoryError):
        lrcodec.encode(np.asarray(Image.open(source)))
    assert [*tmp_path.iterdir()] == [source]


def test_other_errors_of_torch_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shape"), memory_errors():
        raise RuntimeError("shape mismatch")


def test_memory_that_runs_out_in_onnxruntime(photo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Full:
        def __init__(self, *arguments, **named):
            self.session = ort.InferenceSession(*arguments, **named)

        def run(self, *arguments):
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested")

        def __getattr__(self, name):
            return getattr(self.session, name)

    monkeypatch.setattr("lrcodec.decoder.session.ort", type("", (), vars(ort) | {"InferenceSession": Full}))
    assert "out of memory" in fails(1, "decode", photo_file, "-o", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


# ---- nothing is told: last, for the process takes its time


@pytest.mark.skipif(not STRACE, reason="needs strace")
def test_no_host_is_looked_up(traced: tuple[subprocess.Popen[str], Path]):
    """ONNX Runtime did so after ten seconds."""
    process, log = traced
    errors = process.communicate(timeout=120)[1]
    if "PTRACE" in errors:
        pytest.skip("strace may not trace here")
    assert process.returncode == 0, errors
    assert "exited with 0" in log.read_text() and "AF_INET" not in log.read_text()
