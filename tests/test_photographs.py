"""The photographs that the pack `photo` is trained on: who made them, and the script that fetches them."""

import csv
import hashlib
import importlib.util
import io
import lzma
import re
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image, JpegImagePlugin

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("fetch_photographs", ROOT / "models/fetch_photographs.py")
assert spec and spec.loader
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

COUNT = 186
FREE = {
    *("public domain", "CC0-1.0", "BSD-3-Clause"),
    *("CC-BY-2.0", "CC-BY-3.0", "CC-BY-3.0-BR", "CC-BY-4.0"),
    *("CC-BY-SA-2.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0"),
}
"""Licences under which anyone may use a photograph for anything. Those of BY ask that its author is named."""
NOBODY = "not named by the source"


# ---- the table


def licences(photograph) -> set[str]:
    """Without remarks in brackets."""
    text = re.sub(r" \(.*?\)", "", photograph.licence).replace("Public", "public")
    return set(text.split(" / "))


def test_every_photograph_has_an_author_and_a_free_licence():
    rows = script.photographs()
    assert len({row.file for row in rows}) == len(rows) == COUNT
    for row in rows:
        assert all(str(field).strip() == str(field) != "" for field in row), row
        assert licences(row) <= FREE, row
        assert row.author != NOBODY or licences(row) <= {"CC0-1.0", "public domain"}, row


def test_every_source_can_be_fetched():
    for row in script.photographs():
        assert re.fullmatch(r"Debian \w+ \S+ \S+|github\.com/[\w.-]+/[\w.-]+@[0-9a-f]{40}", row.source), row
        assert row.path.startswith("/") == row.source.startswith("Debian"), row
        assert row.width * row.height <= 1.26e6


def test_the_wheel_has_the_table_and_not_the_script():
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    folders = targets["wheel"]["force-include"]
    assert folders["models/photo"] == "lrcodec/models/photo" and script.TABLE.parent == ROOT / "models/photo"
    assert "models" not in folders and not list((ROOT / "models").glob("*/*.py"))


# ---- the script, with sources made here


def image_file(width: int, height: int, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).save(out, kind, **options)
    return out.getvalue()


def debian_package(files: dict[str, bytes]) -> bytes:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(f".{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": inner.getvalue()}
    headers = {name: f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n" for name, data in parts.items()}
    return b"!<arch>\n" + b"".join(headers[n].encode() + data + b"\n" * (len(data) % 2) for n, data in parts.items())


PACKAGE = "Debian bookworm flowers-data 1:2.0~git3-1"
ROWS = [
    "file width height source path author licence licence".split(),
    ["petal.jpg", "40", "27", PACKAGE, "/usr/share/petal.png", "Ann", "CC0-1.0", "copyright"],
    ["leaf.jpg", "20", "30", PACKAGE, "/usr/share/leaf.jpg", 'Bo "B"', "CC-BY-4.0", "copyright"],
    ["root.jpg", "30", "30", "github.com/cy/garden@abc", "deep down/root (1).png", "Cy", "CC-BY-SA-4.0", "README.md"],
]
FILES = {"petal.jpg": (40, 27), "leaf.jpg": (20, 30), "root.jpg": (30, 30)}
POOL = "pool/main/f/flowers/flowers-data_2.0~git3-1_all.deb"
INDEX = "dists/bookworm/main/binary-amd64/Packages.xz"
IN_GARDEN = "cy/garden/raw/abc/deep down/root (1).png"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a mirror of Debian and a copy of GitHub, of which ROWS is the table."""
    with (tmp_path / "table.tsv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, "excel-tab").writerows(ROWS)
    monkeypatch.setattr(script, "TABLE", tmp_path / "table.tsv")
    lying = Image.Exif()
    lying[274] = 6  # to be turned by a quarter
    leaf = image_file(90, 60, "JPEG", exif=lying)
    package = debian_package({"/usr/share/petal.png": image_file(100, 67), "/usr/share/leaf.jpg": leaf})
    sha256 = hashlib.sha256(package).hexdigest()
    other = "Package: another\nVersion: 1\nDescription: of no use\n continued: here\n\n"
    entry = f"Package: flowers-data\nVersion: 1:2.0~git3-1\nFilename: {POOL}\nSHA256: {sha256}\n\n"
    for path, data in {
        f"debian/{POOL}": package,
        f"debian/{INDEX}": lzma.compress((other + entry).encode()),
        f"github/{IN_GARDEN}": image_file(60, 60),
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    return tmp_path


@pytest.fixture
def fetch(sources: Path) -> Callable[..., Result]:
    def run(mirror: str = "debian", github: str = "github") -> Result:
        script.read_index.cache_clear()
        script.read_package.cache_clear()
        options = ["--mirror", (sources / mirror).as_uri(), "--github", (sources / github).as_uri()]
        return CliRunner().invoke(script.main, [str(sources / "photos/free"), *options])

    return run


def found(sources: Path) -> dict[str, tuple[int, int]]:
    return {path.name: Image.open(path).size for path in (sources / "photos/free").iterdir()}


def test_photographs_are_fetched_reduced_and_stored(sources: Path, fetch: Callable[..., Result]):
    result = fetch()
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [f"{name}: {width} x {height}" for name, (width, height) in FILES.items()]
    assert result.stdout.splitlines() == [*lines, f"all 3 photographs are in {sources / 'photos/free'}"]
    assert found(sources) == FILES
    for name in FILES:
        with Image.open(sources / "photos/free" / name) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4


def test_a_run_goes_on_where_the_last_one_stopped(sources: Path, fetch: Callable[..., Result]):
    first = fetch(github="nowhere")
    assert first.exit_code == 1 and set(found(sources)) == {"petal.jpg", "leaf.jpg"}
    missing, summary = first.stderr.splitlines()
    assert missing.startswith("root.jpg: error: file://") and "No such file" in missing
    assert summary == "Error: 1 of 3 photographs are missing"
    (sources / "photos/free/leaf.jpg").write_bytes(image_file(1, 1, "JPEG"))
    second = fetch(mirror="nowhere")  # nothing of it is needed
    assert second.exit_code == 0 and second.stdout.startswith("root.jpg: 30 x 30\nall 3")
    assert found(sources) == {**FILES, "leaf.jpg": (1, 1)}


GARBAGE = [
    (IN_GARDEN, b"version https://git-lfs.github.com/spec/v1", "cannot identify image file"),
    (IN_GARDEN, image_file(60, 60)[:-60], "broken|truncated"),
    (IN_GARDEN, image_file(60, 55), "an image of 60 x 55 pixels does not reduce to 30 x 30"),
    (IN_GARDEN, image_file(29, 29), "an image of 29 x 29 pixels does not reduce to 30 x 30"),
]


@pytest.mark.parametrize("path, data, message", GARBAGE, ids=range(len(GARBAGE)))
def test_a_source_that_is_not_as_it_was(
    sources: Path, fetch: Callable[..., Result], path: str, data: bytes, message: str
):
    (sources / "github" / path).write_bytes(data)
    result = fetch()
    assert result.exit_code == 1 and re.search(rf"^root.jpg: error: .*({message})", result.stderr)
    assert len(result.stderr.splitlines()) == 2 and set(found(sources)) == {"petal.jpg", "leaf.jpg"}


@pytest.mark.parametrize(
    "path, change, message",
    [
        (POOL, lambda data: data[:-1] + b"x", "is damaged: another SHA-256 than the index states"),
        (INDEX, lambda data: data[:-9], "ended before the end-of-stream marker"),
        (
            INDEX,
            lambda data: lzma.compress(b"Package: another\nVersion: 1\n"),
            "does not have flowers-data 1:2.0~git3-1",
        ),
        (INDEX, lambda data: b"<html>", "not supported|Input format"),
    ],
    ids=["package", "cut", "older", "page"],
)
def test_a_mirror_that_is_not_as_it_was(sources: Path, fetch: Callable[..., Result], path: str, change, message: str):
    file = sources / "debian" / path
    file.write_bytes(change(file.read_bytes()))
    result = fetch()
    petal, leaf, summary = result.stderr.splitlines()
    assert result.exit_code == 1 and set(found(sources)) == {"root.jpg"}
    assert re.search(rf"^petal.jpg: error: .*({message})", petal) and leaf.startswith("leaf.jpg: error: ")
    assert summary == "Error: 2 of 3 photographs are missing"


def test_what_is_no_package_or_lacks_the_file():
    with pytest.raises(ValueError, match="not a package of Debian"):
        list(script.unpack_ar(b"<html>"))
    parts = dict(script.unpack_ar(debian_package({"/a": b"odd", "/b": b"even"})))
    assert list(parts) == ["debian-binary", "control.tar.xz", "data.tar.xz"] and parts["control.tar.xz"] == b"odd"
    assert script.read_member(parts["data.tar.xz"], "/b") == b"even"
    with pytest.raises(FileNotFoundError, match="the package has no file /c"):
        script.read_member(parts["data.tar.xz"], "/c")


def test_a_folder_that_cannot_be(fetch: Callable[..., Result], sources: Path):
    (sources / "photos").write_text("a file")
    result = fetch()
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 4 and "petal.jpg: error: " in result.stderr
