"""`lrq integrate`: other programs show and convert .lrq files once it has run, and nothing is left of it in the end."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from commands import fails, lrq
from PIL import Image

import lrcodec
from lrcodec import desktop

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "formats" / "vectors"
HURRY = "renice -n 5 -p $$ > /dev/null 2>&1\n"
"""tumblerd starts its programs at the lowest priority, which on a busy machine is never; root alone can mend that."""
START = "import sys; sys.path.insert(0, {root!r}); sys.argv[0] = {path!r}; from lrcodec.cli.main import main; main()"
DELEGATES = b"""<?xml version="1.0"?>
<!DOCTYPE delegatemap [ <!ELEMENT delegatemap (delegate)*> ]>
<delegatemap><!-- mine \xc3\xa9 -->\r
  <delegate decode="mine" command="&quot;mine&quot; &quot;%i&quot; &quot;%o&quot;"/></delegatemap>"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the entries are for Unix")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user who has nothing; the program lrq is at a path with a space."""
    home, program = tmp_path / "home of mine", tmp_path / "my programs" / "lrq"
    program.parent.mkdir()
    start = shlex.quote(START.format(root=str(ROOT), path=str(program)))
    program.write_text(f'#!/bin/sh\n{HURRY}exec {shlex.quote(sys.executable)} -c {start} "$@"\n')
    program.chmod(0o755)
    home.mkdir()
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home


def needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder, and the content of its files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def integrate() -> list[str]:
    """Run the command; the lines that it prints."""
    result = lrq("integrate", "--user")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def run(*command: object) -> str:
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("moved", [False, True], ids=["usual folders", "XDG folders"])
def test_done_twice_it_is_done_once_and_undone_it_never_was(
    moved: bool, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if moved:
        for name in ("data", "config"):
            (tmp_path / name).mkdir()
            monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / name))
    before = tree(tmp_path)
    lines = integrate()
    written = [line.removeprefix("wrote ") for line in lines if line.startswith("wrote ")]
    assert len(written) == 4 and all(Path(path).is_file() for path in written)
    assert {*tree(tmp_path)} - {*before} >= {str(Path(path).relative_to(tmp_path)) for path in written}
    after = tree(tmp_path)
    assert integrate() == lines and tree(tmp_path) == after
    result = lrq("integrate", "--remove")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [f"removed {path}" for path in written]
    assert tree(tmp_path) == before
    again = lrq("integrate", "--remove")
    assert (again.exit_code, again.output) == (0, "")


def test_what_the_user_has_stays(home: Path):
    needs("update-mime-database")
    theirs = {
        ".config/ImageMagick/delegates.xml": DELEGATES,
        ".magic": b"0\tstring\tMINE\tmine",
        ".local/share/mime/packages/mine.xml": (ROOT / "formats/lrq.xml").read_bytes().replace(b"lrq", b"mine"),
        ".local/share/thumbnailers/mine.thumbnailer": b"[Thumbnailer Entry]\n",
    }
    for name, content in theirs.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    run("update-mime-database", home / ".local/share/mime")
    before = tree(home)
    integrate()
    changed = tree(home)
    assert changed[".magic"] != theirs[".magic"] and changed[".magic"].endswith(theirs[".magic"])
    assert b'decode="mine"' in changed[".config/ImageMagick/delegates.xml"]
    integrate()
    assert tree(home) == changed
    out = lrq("integrate", "--user", "--remove").stdout
    assert f"took our lines out of {home / '.magic'}" in out.splitlines()
    after = tree(home)
    for name in ("mime.cache", "version"):  # made anew, with times in it
        assert before.pop(f".local/share/mime/{name}") and after.pop(f".local/share/mime/{name}")
    assert after == before


@pytest.mark.parametrize("content", [b"<delegatemap>", b"<other/>", b"", b"<!-- <delegatemap> --><other/>"])
def test_what_is_no_list_of_delegates_is_left_as_it_is(content: bytes, home: Path):
    path = home / ".config/ImageMagick/delegates.xml"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    result = lrq("integrate", "--user")
    assert result.exit_code == 1 and str(path) in result.stderr and result.stderr.count("\n") == 1
    assert path.read_bytes() == content


def test_half_a_block_is_an_error(home: Path):
    integrate()
    path = home / ".magic"
    path.write_text(path.read_text().replace("# end: lrq integrate\n", ""))
    half = path.read_bytes()
    for option in ("--user", "--remove"):
        result = lrq("integrate", option)
        assert result.exit_code == 1 and f"{path} has a mark" in result.stderr
        assert path.read_bytes() == half


def test_what_is_left_out_is_told(home: Path, monkeypatch: pytest.MonkeyPatch):
    (home / ".magic.mgc").write_bytes(b"")
    monkeypatch.setenv("PATH", str(home))
    lines = integrate()
    assert [line.split(",")[0] for line in lines if line.startswith("left out: ")] == [
        "left out: update-mime-database is not installed (package shared-mime-info)",
        f"left out: {home / '.magic'}",
    ]
    assert sum(line.startswith("wrote ") for line in lines) == 3 and not (home / ".magic").exists()
    lrq("integrate", "--remove")
    assert {*tree(home)} == {".magic.mgc"}


def test_usage(home: Path, monkeypatch: pytest.MonkeyPatch):
    assert "lrq integrate --user" in fails(2, "integrate")
    odd = home / "a$b" / "lrq"
    odd.parent.mkdir()
    shutil.copy(sys.argv[0], odd)
    monkeypatch.setattr(sys, "argv", [str(odd)])
    assert str(odd) in fails(2, "integrate", "--user")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(desktop.sysconfig, "get_path", lambda name: str(home))
    assert "no program lrq" in fails(2, "integrate", "--user")
    assert {*tree(home)} == {"a$b", "a$b/lrq"}


def test_file_and_xdg_mime_know_the_type(home: Path, tmp_path: Path):
    needs("file", "xdg-mime", "update-mime-database", "gio")
    path = tmp_path / "nameless"
    shutil.copy(VECTORS / "rgb" / "image.lrq", path)
    assert run("file", "-b", "--mime-type", path) == "application/octet-stream"
    integrate()
    assert run("file", "-b", "--mime-type", path) == run("xdg-mime", "query", "filetype", path) == "image/x-lrq"
    assert "standard::content-type: image/x-lrq" in run("gio", "info", "-a", "standard::content-type", path)


@pytest.fixture
def magick() -> str:
    """ImageMagick, version 7 or 6."""
    for name in ("magick", "convert"):
        if (
            shutil.which(name)
            and "ImageMagick" in subprocess.run([name, "-version"], capture_output=True).stdout.decode()
        ):
            return name
    pytest.skip("ImageMagick is not installed")


@pytest.mark.parametrize("vector", ["rgb", "rgba", "grey", "grey-alpha"])
def test_imagemagick_reads(vector: str, home: Path, magick: str, tmp_path: Path):
    source, out = tmp_path / "a picture.lrq", tmp_path / "out.png"
    shutil.copy(VECTORS / vector / "image.lrq", source)
    integrate()
    run(magick, source, out)
    with Image.open(VECTORS / vector / "reference.png") as want, Image.open(out) as image:
        assert np.array_equal(np.asarray(image.convert(want.mode)), np.asarray(want))
    lrq("integrate", "--remove")
    with pytest.raises(AssertionError, match="no decode delegate|no images defined"):
        run(magick, source, tmp_path / "none.png")


def test_imagemagick_writes(home: Path, magick: str, tmp_path: Path, photo: np.ndarray):
    source, out = tmp_path / "a photo.png", tmp_path / "a photo.lrq"
    small = np.ascontiguousarray(photo[:24, :40])
    Image.fromarray(small).save(source)
    integrate()
    run(magick, source, "-depth", 16, "-negate", "-negate", out)  # more than 8 bits a sample, as its colours often have
    assert out.read_bytes() == lrcodec.encode(small)


THUMBNAILER = "org.freedesktop.thumbnails.Thumbnailer1"


@pytest.fixture
def bus(home: Path) -> Iterator[dict[str, str]]:
    """A session bus with the home of `home`: the environment of programs on it. Skips where there is no tumblerd."""
    needs("dbus-daemon", "gdbus")
    service = Path("/usr/share/dbus-1/services/org.xfce.Tumbler.Thumbnailer1.service")
    if not service.is_file():
        pytest.skip("tumbler is not installed")
    command = ["dbus-daemon", "--session", "--nofork", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as daemon:
        assert daemon.stdout
        yield {**os.environ, "DBUS_SESSION_BUS_ADDRESS": daemon.stdout.readline().strip()}
        daemon.terminate()


def test_tumbler_makes_a_thumbnail(home: Path, bus: dict[str, str], tmp_path: Path):
    """The service that file managers of Xfce and others ask, with the entry and nothing else of ours."""
    source = tmp_path / "a picture.lrq"
    shutil.copy(VECTORS / "strips-wide" / "image.lrq", source)
    integrate()

    def call(name: str, method: str, *arguments: object) -> str:
        place = "/" + name.replace(".", "/")
        command = ["gdbus", "call", "--session", "-t", "120", "-d", name, "-o", place, "-m", f"{name}.{method}"]
        result = subprocess.run([*command, *map(str, arguments)], env=bus, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    call(THUMBNAILER, "Queue", f"['{source.as_uri()}']", "['image/x-lrq']", "normal", "default", "uint32 0")
    path = home / ".cache/thumbnails/normal" / f"{md5(source.as_uri().encode()).hexdigest()}.png"
    end = time.monotonic() + 240
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.2)
    assert path.exists(), "tumbler made no thumbnail"
    with Image.open(path) as image:
        assert image.size == (128, 1) and image.info["Thumb::URI"] == source.as_uri()
