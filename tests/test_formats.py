"""Other programs recognise .lrq files by the entries in formats/."""

import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lrcodec.format.container import GREY, RGB, SIGNATURE, Chunk, Header, pack

FORMATS = Path(__file__).parent.parent / "formats"
MIME = "{http://www.freedesktop.org/standards/shared-mime-info}"
SIDES = (1, 127, 128, 300, 16383, 16384, 65535)


def run(name: str, *arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that must succeed; skips where it is not installed: no package of Python's can bring it along."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd, env=environment or None)


def image(width: int, height: int, colour: int = RGB) -> bytes:
    """With all other options at their largest, so that a wrong bit would show."""
    header = Header(width, height, colour, smoothing=1, rank=4, iterations=32, band=15, model=b"\xff" * 4)
    return pack(header, [Chunk(b"I", b"indices")])


def test_file_knows_every_size(tmp_path: Path):
    expected = {}
    for width in SIDES:
        for height in SIDES:
            for colour, name in ((GREY, "grey"), (RGB, "RGB")):
                path = tmp_path / f"{width}-{height}-{name}.bin"
                path.write_bytes(image(width, height, colour))
                size = f"{width} x {height}, " if max(width, height) < 128 else ""
                expected[path] = f"lrcodec image data, version 1, {size}{name}"
    found = run("file", "--brief", "--magic-file", FORMATS / "lrq.magic", *expected).stdout.splitlines()
    assert found == list(expected.values())


def test_file_tells_the_type(tmp_path: Path):
    path = tmp_path / "nameless"
    path.write_bytes(image(768, 512))
    assert run("file", "-b", "--mime-type", "-m", FORMATS / "lrq.magic", path).stdout.strip() == "image/x-lrq"
    assert run("file", "-b", "--extension", "-m", FORMATS / "lrq.magic", path).stdout.strip() == "lrq"


def test_file_leaves_what_is_something_else(tmp_path: Path):
    later, other = tmp_path / "later", tmp_path / "other"
    later.write_bytes(SIGNATURE + b"\x82" + image(5, 5)[4:])
    other.write_bytes(b"x" + image(5, 5))
    found = run("file", "-b", "-m", FORMATS / "lrq.magic", later, other).stdout.splitlines()
    assert found == ["lrcodec image data, version 2", "data"]


def test_the_magic_file_has_no_warnings(tmp_path: Path):
    assert run("file", "--compile", "--magic-file", FORMATS / "lrq.magic", cwd=tmp_path).stderr == ""


def test_mime_info_is_whole():
    root = ET.parse(FORMATS / "lrq.xml").getroot()
    assert root.tag == f"{MIME}mime-info"
    (entry,) = root
    assert entry.get("type") == "image/x-lrq"
    assert {child.tag.removeprefix(MIME) for child in entry} == {"comment", "acronym", "magic", "glob"}
    (glob,) = entry.iter(f"{MIME}glob")
    (match,) = entry.iter(f"{MIME}match")
    assert glob.get("pattern") == "*.lrq"
    assert (match.get("type"), match.get("offset")) == ("string", "0")
    value = match.get("value", "").encode().decode("unicode_escape").encode("latin-1")
    mask = bytes.fromhex(match.get("mask", "").removeprefix("0x"))
    assert mask == b"\xff\xff\xff\x80" and value == SIGNATURE + b"\x80"  # of any version


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """A user's data folder in which lrq.xml is installed, and nothing else."""
    packages = tmp_path / "data" / "mime" / "packages"
    packages.mkdir(parents=True)
    shutil.copy(FORMATS / "lrq.xml", packages)
    run("update-mime-database", packages.parent)
    return tmp_path / "data"


def test_the_database_takes_it(data_folder: Path):
    assert "50:image/x-lrq:*.lrq" in (data_folder / "mime" / "globs2").read_text().splitlines()
    assert SIGNATURE + b"\x80&\xff\xff\xff\x80" in (data_folder / "mime" / "magic").read_bytes()


@pytest.mark.parametrize("name", ["nameless", "text.lrq"])
def test_gio_knows_content_and_suffix(name: str, data_folder: Path, tmp_path: Path):
    path = tmp_path / name
    path.write_bytes(image(768, 512) if name == "nameless" else b"hello")
    where = {"XDG_DATA_HOME": str(data_folder), "XDG_DATA_DIRS": str(tmp_path / "none"), "LC_ALL": "C"}
    shown = run("gio", "info", "--attributes=standard::content-type", path, **where).stdout
    assert "standard::content-type: image/x-lrq" in shown
