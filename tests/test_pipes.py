"""Standard input and output in place of files, and odd arguments: bytes as with files, or one line and exit code 2."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import fails, lrq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lrcodec import files
from lrcodec.cli.options import image_suffix
from lrcodec.decoder import Decoder
from lrcodec.errors import FormatError, UsageError
from lrcodec.format import container, grid

ROOT = Path(__file__).parent.parent
LRQ = [sys.executable, str(ROOT / "cli.py")]


def process(command: str, *arguments: object, **streams: object) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell where `lrq` is the command, and $1, $2 ... are the arguments."""
    if sys.platform == "win32":
        pytest.skip("needs the shell of a POSIX system")
    line = f'set -o pipefail; lrq() {{ "{LRQ[0]}" "{LRQ[1]}" "$@"; }}\n{command}'
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | streams
    return subprocess.run(["bash", "-c", line, "bash", *map(str, arguments)], timeout=300, **streams)  # type: ignore


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def picture(tmp_path: Path, photo: np.ndarray) -> Path:
    """`photo` as a PNG."""
    path = tmp_path / "picture.png"
    Image.fromarray(photo).save(path)
    return path


# ---- standard input and output


@pytest.mark.parametrize("output", [[], ["-o", "-"], ["-o", "file"]], ids=["derived", "-o -", "-o file"])
def test_encoding_standard_input(output: list[str], picture: Path, photo_file: Path, tmp_path: Path):
    target = tmp_path / "out.lrq"
    options = [str(target) if word == "file" else word for word in output]
    result = lrq("encode", "-", "--effort", 0, *options, stdin=picture.read_bytes())
    assert result.exit_code == 0, result.stderr
    data = target.read_bytes() if "file" in output else result.stdout_bytes
    assert data == photo_file.read_bytes()
    assert b"" == (result.stdout_bytes if "file" in output else b"")
    assert result.stderr.startswith(f"{target}: " if "file" in output else "standard output: ")
    assert result.stderr.endswith("bits per pixel\n") and result.stderr.count("\n") == 1


def test_encoding_to_standard_output(picture: Path, photo_file: Path):
    result = lrq("encode", picture, "-o", "-", "--effort", 0)
    assert (result.exit_code, result.stdout_bytes) == (0, photo_file.read_bytes())
    assert list(picture.parent.iterdir()) == [picture]


@pytest.mark.parametrize(
    ("options", "format"),
    [
        ([], "PNG"),
        (["-o", "-"], "PNG"),
        (["--format", "ppm"], "PPM"),
        (["-o", "-", "--format", ".WebP"], "WEBP"),
        (["-o", "file.bmp"], "BMP"),
        (["-o", "file.png", "--format", "ppm"], "PPM"),
        (["-o", "file", "--format", "png"], "PNG"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_decoding_standard_input(
    options: list[str], format: str, photo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    source = photo_file.read_bytes()
    result = lrq("decode", "-", *options, stdin=source)
    assert (result.exit_code, result.stderr) == (0, "")
    data = next((path.read_bytes() for path in tmp_path.iterdir()), b"") + result.stdout_bytes
    assert Image.open(io.BytesIO(data)).format == format
    np.testing.assert_array_equal(pixels(data), Decoder().decode(source))


def test_derived_names_follow_the_format(photo_file: Path, tmp_path: Path):
    assert lrq("decode", photo_file, "--out-dir", tmp_path, "--format", "ppm").exit_code == 0
    (path,) = tmp_path.iterdir()
    assert path.name == "photo.ppm"
    assert Image.open(path).format == "PPM"


def test_decoding_a_region_of_standard_input(photo_file: Path):
    result = lrq("decode", "-", "--region", "3,4,5,6", stdin=photo_file.read_bytes())
    expected = Decoder().decode(photo_file.read_bytes())
    np.testing.assert_array_equal(pixels(result.stdout_bytes), expected[4:10, 3:8])


def test_info_of_standard_input(photo_file: Path):
    for options in ([], ["--json"]):
        expected = lrq("info", photo_file, *options).stdout
        assert lrq("info", "-", *options, stdin=photo_file.read_bytes()).stdout == expected


def test_a_file_named_dash(photo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path(tmp_path, "-").write_bytes(photo_file.read_bytes())
    result = lrq("decode", "./-", stdin=b"not this")
    assert (result.exit_code, result.stdout_bytes) == (0, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-", "-.png"]
    result = lrq("encode", "./-.png", "--effort", 0, "-o", "./-")
    assert (result.exit_code, result.stdout_bytes) == (0, b"")
    assert Path(tmp_path, "-").read_bytes().startswith(b"LRQ\x81")


def test_real_pipes(picture: Path, photo_file: Path, tmp_path: Path):
    line = 'cat "$1" | lrq encode - --effort 0 | tee "$2" | lrq decode - -o "$3"'
    result = process(line, picture, tmp_path / "a.lrq", tmp_path / "out.png")
    assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (0, b"", 1)
    assert (tmp_path / "a.lrq").read_bytes() == photo_file.read_bytes()
    expected = Decoder().decode(photo_file.read_bytes())
    np.testing.assert_array_equal(pixels((tmp_path / "out.png").read_bytes()), expected)
    result = process('cat "$1" | lrq decode - --format ppm', photo_file)
    assert (result.returncode, result.stderr) == (0, b"")
    np.testing.assert_array_equal(pixels(result.stdout), expected)


@pytest.mark.parametrize(
    ("command", "stdin", "code"),
    [
        ("encode", b"", 2),
        ("encode", b"hello", 2),
        ("decode", b"", 3),
        ("decode", b"hello", 3),
        ("info", b"", 3),
        ("info", b"hello", 3),
    ],
)
def test_bad_standard_input(command: str, stdin: bytes, code: int):
    fails(code, command, "-", stdin=stdin)


def test_standard_input_cut_short(photo_file: Path):
    data = photo_file.read_bytes()
    for length in (4, 20, len(data) - 1):
        for command in ("decode", "info"):
            fails(3, command, "-", stdin=data[:length])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "a"], "- is an input on its own"),
        (["-", "-"], "- is an input on its own"),
        (["-", "--out-dir", "out"], "name that with -o"),
        (["a", "b", "-o", "-"], "-o names the output of a single input"),
        (["a", "-o", "-", "--out-dir", "out"], "without --out-dir"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_what_a_dash_does_not_go_with(
    command: str, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert message in fails(2, command, *arguments)
    assert list(tmp_path.iterdir()) == []


# ---- strips


class Pipe(io.BytesIO):
    """Standard output that may be looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        super().__init__()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(self))


def test_a_piece_is_on_standard_output_before_the_next_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    pipe = Pipe(monkeypatch)

    def pieces() -> Iterator[bytes]:
        yield b"one"
        assert pipe.getvalue() == b"one"
        yield b"two"
        assert pipe.getvalue() == b"onetwo"

    assert files.write_file(files.STANDARD, pieces()) == 6
    assert files.write_file(files.STANDARD, b"!") == 1
    assert pipe.getvalue() == b"onetwo!"


def test_large_images_go_to_standard_output_in_strips(photo_file: Path, monkeypatch: pytest.MonkeyPatch):
    """And one that turns out to be damaged after its first strip is an error, after what was already written."""
    expected = Decoder().decode(photo_file.read_bytes())

    def strips(self: Decoder, data: bytes, *arguments: object) -> Iterator[np.ndarray]:
        yield expected[:20]
        if data != photo_file.read_bytes():
            raise FormatError("the indices are damaged")
        yield expected[20:]

    monkeypatch.setattr(Decoder, "strips", strips)
    monkeypatch.setattr(Decoder, "decode", None)
    monkeypatch.setattr(grid, "STRIP_PIXELS", 1000)
    result = lrq("decode", "-", "--format", "ppm", stdin=photo_file.read_bytes())
    assert (result.exit_code, result.stderr) == (0, "")
    np.testing.assert_array_equal(pixels(result.stdout_bytes), expected)
    header, chunks = container.unpack(photo_file.read_bytes())
    other = container.pack(header, [*chunks, container.Chunk(b"z", b"")])
    result = lrq("decode", "-", "--format", "ppm", stdin=other)
    assert (result.exit_code, result.stderr) == (3, "lrq: error: standard input: the indices are damaged\n")
    assert result.stdout_bytes == b"P6 97 61 255\n" + expected[:20].tobytes()


# ---- terminals, closed and full pipes


@contextlib.contextmanager
def terminal() -> Iterator[int]:
    """A file descriptor that is a terminal."""
    pty = pytest.importorskip("pty")
    ends = pty.openpty()
    try:
        yield ends[1]
    finally:
        for end in ends:
            os.close(end)


def test_no_files_to_a_terminal(photo_file: Path, picture: Path):
    for line, source in (
        ('lrq decode "$1" -o -', photo_file),
        ('lrq encode - < "$1"', picture),
        ('lrq encode - --preview "$1.png" < "$1"', picture),
    ):
        with terminal() as screen:
            result = process(line, source, stdout=screen)
        assert result.returncode == 2
        assert result.stderr == b"lrq: error: standard output is a terminal: - needs a pipe or a file there\n"
    assert list(picture.parent.iterdir()) == [picture]


def test_no_files_from_a_terminal():
    with terminal() as keyboard:
        for command in ("encode", "decode", "info"):
            result = process(f"lrq {command} -", stdin=keyboard)
            assert (result.returncode, result.stdout) == (2, b"")
            assert result.stderr == b"lrq: error: standard input is a terminal: - needs a pipe or a file there\n"


@pytest.fixture(scope="session")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose pixels do not fit into a pipe's buffer."""
    import lrcodec

    path = tmp_path_factory.mktemp("large") / "large.lrq"
    path.write_bytes(lrcodec.encode(np.full((400, 500), 99, np.uint8), quality=0, effort=0))
    return path


@pytest.mark.parametrize("command", ['decode "$1" -o - --format ppm', 'decode - --format bmp < "$1"'])
def test_a_reader_that_has_gone_ends_things_quietly(command: str, large_file: Path):
    result = process(f"lrq {command} | head -c 5; echo ${{PIPESTATUS[0]}}", large_file)
    assert (result.stdout[5:], result.stderr) == (b"1\n", b"")


def test_slow_readers_get_everything(large_file: Path):
    """Four at a time, for they sleep."""
    cases = [(format, unbuffered) for format in ("ppm", "bmp") for unbuffered in ("", "1")]
    lines = (
        f'export PYTHONUNBUFFERED={unbuffered}; lrq decode "$1" -o - --format {format} | (sleep 2; cat)'
        for format, unbuffered in cases
    )
    with ThreadPoolExecutor(len(cases)) as readers:
        results = [*readers.map(lambda line: process(line, large_file), lines)]
    expected = Decoder().decode(large_file.read_bytes())
    for case, result in zip(cases, results, strict=True):
        assert (result.returncode, result.stderr) == (0, b""), case
        np.testing.assert_array_equal(pixels(result.stdout), expected, err_msg=str(case))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_device_is_named(photo_file: Path):
    assert fails(1, "decode", photo_file, "-o", "/dev/full", "--format", "png").startswith("lrq: error: /dev/full: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("command", ['decode "$1" -o -', 'info "$1"'])
def test_a_full_disk_is_1(command: str, photo_file: Path):
    result = process(f"lrq {command} > /dev/full", photo_file)
    assert result.returncode == 1
    assert result.stderr.endswith(b"No space left on device\n") and result.stderr.count(b"\n") == 1


@pytest.mark.parametrize("command", ['decode "$1" -o - >&-', "decode - <&-", "info - <&-"])
def test_standard_streams_that_are_not_open(command: str, photo_file: Path):
    result = process(f"lrq {command}", photo_file)
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.startswith(b"lrq: error: standard ") and result.stderr.endswith(b"put: not open\n")


def test_streams_that_fail_are_named(monkeypatch: pytest.MonkeyPatch):
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

        def write(self, data: object) -> int:
            raise OSError(5, "Input/output error")

    for name, call in (
        ("stdin", lambda: files.read_file(files.STANDARD)),
        ("stdout", lambda: files.write_file(files.STANDARD, b"x")),
    ):
        with monkeypatch.context() as context:
            context.setattr(sys, name, io.TextIOWrapper(Broken()))
            with pytest.raises(OSError) as caught:
                call()
        assert files.explain(caught.value) == files.Failure(f"standard {name[3:]}put: Input/output error", 1)


# ---- batches


def test_an_explicit_output_replaces_what_exists(picture: Path, photo_file: Path, tmp_path: Path):
    for command, source, target in (("encode", picture, "a.lrq"), ("decode", photo_file, "a.png")):
        (tmp_path / target).write_bytes(b"old")
        assert lrq(command, source, "-o", tmp_path / target).exit_code == 0
        assert len((tmp_path / target).read_bytes()) > 100


def test_a_batch_ends_with_the_code_of_its_first_failure(photo_file: Path, tmp_path: Path):
    (tmp_path / "bad.lrq").write_bytes(b"hello")
    (tmp_path / "wide.lrq").write_bytes(photo_file.read_bytes())
    bad, wide, missing, good = (tmp_path / f"{name}.lrq" for name in ("bad", "wide", "missing", "good"))
    good.write_bytes(photo_file.read_bytes())
    for sources, code in (([bad, wide, missing], 3), ([missing, bad], 1), ([wide, bad], 2), ([good, missing, bad], 1)):
        options = ["--out-dir", tmp_path / "out", "-f", *(["--region", "0,0,98,1"] if wide in sources else [])]
        result = lrq("decode", *sources, *options)
        assert (result.exit_code, result.stdout_bytes) == (code, b"")
        assert "\r" not in result.stderr and "\033" not in result.stderr
        assert result.stderr.endswith(f"of {len(sources)} files failed\n")


# ---- odd arguments


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, photo_file: Path) -> Path:
    """A folder of files of all sorts, none of which can be encoded."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "junk.png").write_bytes(b"hello")
    (folder / "empty").write_bytes(b"")
    (folder / "cut.lrq").write_bytes(photo_file.read_bytes()[:-3])
    (folder / "folder").mkdir()
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "--nonsense",
        "encode",
        "encode --quality",
        "encode folder",
        "encode folder -r",
        "encode junk.png -r",
        "encode junk.png -o new.lrq -f",
        "encode junk.png -v --quiet",
        "encode junk.png cut.lrq",
        "decode cut.lrq junk.png",
        "decode folder --region 1,2,3,4",
        "encode junk.png -q",
        "encode junk.png -q high",
        "encode junk.png -q 100.5",
        "encode junk.png -q nan",
        "encode junk.png -q inf",
        "bench junk.png -q nan",
        "encode junk.png -q -1",
        "encode junk.png -q 50 --target-size 10",
        "encode junk.png --rank 0 --rank 9",
        "encode junk.png --nonsense",
        "encode junk.png --out-dir empty",
        "encode junk.png -o a -o b --out-dir folder",
        "decode",
        "decode cut.lrq --format",
        "decode cut.lrq --format exe",
        "decode cut.lrq --format ../png",
        "decode cut.lrq -o out",
        "decode cut.lrq -o out.exe",
        "decode cut.lrq --region 1,2,3",
        "decode cut.lrq --max-pixels nan",
        "decode cut.lrq -q 5",
        "info",
        "info cut.lrq empty",
        "info cut.lrq --json yes",
        "compare",
        "compare junk.png",
        "compare - -",
        "compare junk.png - -",
        "compare junk.png empty -o -",
        "compare junk.png empty -o out",
        "compare junk.png empty -o out.lrq",
        "compare junk.png empty -o junk.png",
        "compare junk.png empty --amplify 0",
        "compare junk.png empty --amplify 256",
        "compare junk.png empty --amplify 1.5",
        "models nonsense",
        "models add",
        "models remove",
        "bench --large nan --speed",
        "bench --bpp 2:1",
        "train",
    ],
)
def test_odd_arguments_are_2(line: str, desk: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(desk)
    before = sorted(desk.rglob("*"))
    fails(2, *line.split())
    assert sorted(desk.rglob("*")) == before


WORDS = [
    *("encode", "decode", "info", "compare", "models", "add", "remove"),
    *("-", "--", "", "junk.png", "empty", "cut.lrq", "folder", "missing", "./-", "x/y", "\u00e9", "a\nb"),
    *("-o", "--out-dir", "-f", "-q", "--rank", "--effort", "--model", "--target-size", "--target-psnr", "--preview"),
    *("--skip-existing", "-r", "-v", "--quiet", "out.lrq"),
    *("--format", "--region", "--max-pixels", "--json", "--amplify", "--iterations", "--device", "--no-smoothing"),
    *("0", "1", "-1", "50", "101", "nan", "inf", "1e9", "20k", "png", "out.png", "1,2,3,4", "cpu", "photo"),
]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    command=st.sampled_from(["encode", "decode", "info", "compare", "models"]),
    words=st.lists(st.sampled_from(WORDS), max_size=7),
    stdin=st.sampled_from([b"", b"hello", b"LRQ\x81"]),
)
def test_random_arguments_end_in_one_line_a_failure(
    command: str, words: list[str], stdin: bytes, desk: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(desk)
    before = sorted(desk.rglob("*"))
    result = lrq(command, *words, stdin=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in range(6), result.output
    if result.exit_code:
        lines = result.stderr.splitlines()
        assert lines and all(line.startswith("lrq: error: ") for line in lines), result.stderr
        assert result.stdout_bytes == b""
    else:
        assert command == "models" and result.stdout.startswith("photo ")
    assert sorted(desk.rglob("*")) == before


@pytest.mark.parametrize("command", ["encode", "decode", "info", "compare"])
def test_an_empty_name_is_no_folder(command: str, desk: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(desk)
    assert "not empty" in fails(2, command, "", "")


def test_no_arguments_show_the_help():
    result = lrq()
    assert "Exit codes:" in result.output and "Traceback" not in result.output


@pytest.mark.parametrize("text", ["png", ".png", "PNG", ".Png"])
def test_formats(text: str):
    assert image_suffix(text) == ".png"


@pytest.mark.parametrize("text", ["", ".", "..png", "png ", "gif"])
def test_unknown_formats(text: str):
    with pytest.raises(UsageError, match="unknown image format"):
        image_suffix(text)
