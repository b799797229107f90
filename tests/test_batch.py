"""Many files in one command: names, groups, folders, what is told, and going on after an interruption."""

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from commands import fails, lrq
from PIL import Image

from lrcodec import files
from lrcodec.cli import batch
from lrcodec.cli.batch import Batch, Loaded, Written
from lrcodec.cli.names import Source, find, name_outputs
from lrcodec.errors import FormatError
from lrcodec.files import Failure
from lrcodec.format.container import pack, unpack

pytestmark = pytest.mark.usefixtures("user_folder")


@pytest.fixture
def pictures(tmp_path: Path, photo: np.ndarray) -> list[Path]:
    """Four small PNGs, two of one shape, one grey and one of another shape."""
    folder = tmp_path / "in"
    folder.mkdir()
    arrays = {"a": photo[:24, :32], "b": photo[24:48, :32], "grey": photo[:24, :32, 0], "tall": photo[:40, :16]}
    for name, array in arrays.items():
        Image.fromarray(array).save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in arrays]


def lines(result: Result) -> list[str]:
    """What a command without a traceback said on standard error, if it said nothing on standard output."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    return result.stderr.splitlines()


def names(folder: Path) -> list[str]:
    """Every file name in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def test_many_files_equal_one_by_one(pictures: list[Path], tmp_path: Path):
    files, decoded = tmp_path / "new" / "files", tmp_path / "decoded"
    result = lrq("encode", *pictures, "--effort", 0, "--out-dir", files)
    (line,) = lines(result)
    assert result.exit_code == 0
    assert names(files) == ["a.lrq", "b.lrq", "grey.lrq", "tall.lrq"]
    total = sum(path.stat().st_size for path in files.iterdir())
    assert line.startswith(f"4 of 4 files written: {total:,} bytes, {total / 4:,.1f} bytes a file, ")
    assert line.endswith(" files a second")
    result = lrq("decode", *sorted(files.iterdir()), "--out-dir", decoded)
    assert (result.exit_code, len(lines(result))) == (0, 1)
    for picture in pictures:
        single = tmp_path / "single.png"
        assert lrq("decode", files / f"{picture.stem}.lrq", "-o", single).exit_code == 0
        assert (decoded / picture.name).read_bytes() == single.read_bytes()
        assert Image.open(single).size == Image.open(picture).size


def test_many_files_load_the_model_once(pictures: list[Path], monkeypatch: pytest.MonkeyPatch):
    from lrcodec.packs.pack import PackFolder

    loaded = []
    load = PackFolder.load
    monkeypatch.setattr(PackFolder, "load", lambda entry: loaded.append(entry.name) or load(entry))
    monkeypatch.setattr(batch, "GROUP_FILES", 3)
    assert lrq("encode", *pictures, "--effort", 0).exit_code == 0
    assert lrq("decode", *(path.with_suffix(".lrq") for path in pictures), "-f").exit_code == 0
    assert loaded == ["photo", "photo"]


def test_one_file_into_a_folder(pictures: list[Path], tmp_path: Path):
    picture = pictures[0]
    result = lrq("encode", picture, "--effort", 0, "--out-dir", tmp_path / "new")
    assert (result.exit_code, names(tmp_path / "new")) == (0, ["a.lrq"])
    assert "bits per pixel" in result.stderr
    assert "name the output with -o, or add -f" in fails(2, "encode", picture, "--out-dir", tmp_path / "new")


def test_bad_files_do_not_stop_the_others(pictures: list[Path], tmp_path: Path):
    out = tmp_path / "out"
    pictures[1].write_bytes(b"hello")
    missing = tmp_path / "missing.png"
    result = lrq("encode", missing, *pictures, "--effort", 0, "--out-dir", out)
    *errors, summary, end = lines(result)
    assert errors == [
        f"lrq: error: {missing}: No such file or directory",
        f"lrq: error: {pictures[1]}: not an image that Pillow can read",
    ]
    assert summary.startswith("3 of 5 files written: ")
    assert (end, result.exit_code) == ("lrq: error: 2 of 5 files failed", 1)
    assert names(out) == ["a.lrq", "grey.lrq", "tall.lrq"]


def test_bad_lrq_files_do_not_stop_the_others(photo_file: Path, tmp_path: Path):
    """Failures of the container, the limit and the model, and of indices that only show when they are decoded."""
    good, out = photo_file.read_bytes(), tmp_path / "out"
    header, (indices,) = unpack(good)
    contents = {
        "0": good,
        "1": good[:-1] + bytes([good[-1] ^ 1]),
        "2": pack(replace(header, model=bytes(4)), [indices]),
        "3": pack(replace(header, band=15), [indices]),
        "4": pack(replace(header, width=98), [indices]),
        "5": good,
    }
    for name, data in contents.items():
        (tmp_path / f"{name}.lrq").write_bytes(data)
    sources = [tmp_path / f"{name}.lrq" for name in contents]
    result = lrq("decode", *sources, "--out-dir", out, "--max-pixels", 97 * 61)
    *errors, summary, end = lines(result)
    assert [error.split(": ")[2] for error in errors] == [str(sources[i]) for i in (1, 2, 3, 4)]
    assert summary.startswith("2 of 6 files written: ")
    assert (end, result.exit_code) == ("lrq: error: 4 of 6 files failed", 3)
    assert names(out) == ["0.png", "5.png"]


def test_a_model_that_is_missing_is_one_error(pictures: list[Path]):
    fails(4, "encode", *pictures, "--model", "no-such-model")


def test_nothing_is_written_if_nothing_can_be_converted(pictures: list[Path], tmp_path: Path):
    result = lrq("decode", *pictures, "--out-dir", tmp_path / "out")
    assert result.exit_code == 3
    assert [line.split(": ")[-1] for line in lines(result)] == ["not an .lrq file"] * 4 + ["4 of 4 files failed"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "b.png", "-o", "out"], "single input"),
        (["a.png", "-o", "out", "--out-dir", "out"], "without --out-dir"),
        (["folder", "-o", "out"], "single input"),
        (["a.png", "-o", "out", "-f"], "go with outputs that take their names from the inputs"),
        (["a.png", "-o", "out", "--skip-existing"], "go with outputs that take their names from the inputs"),
        (["-", "--skip-existing"], "go with outputs that take their names from the inputs"),
        (["a.png", "-f", "--skip-existing"], "only one of -f and --skip-existing"),
        (["a.png", "-v", "--quiet"], "only one of -v and --quiet"),
        (["a.png", "-r"], "-r goes with a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_options_that_do_not_fit_together_are_2(
    command: str, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert message in fails(2, command, *arguments)
    assert names(tmp_path) == ["folder"]


def test_out_dir_that_is_a_file_is_2(pictures: list[Path]):
    result = lrq("encode", pictures[0], "--out-dir", pictures[1])
    assert result.exit_code == 2 and "is a file" in result.stderr


def test_many_files_replace_existing_ones_only_when_forced(pictures: list[Path], tmp_path: Path):
    sources = pictures[:2]
    target = sources[0].with_suffix(".lrq")
    target.write_bytes(b"precious")
    result = lrq("encode", *sources, "--effort", 0)
    assert lines(result)[0] == (f"lrq: error: {sources[0]}: {target} exists: name a folder with --out-dir, or add -f")
    assert (result.exit_code, target.read_bytes()) == (2, b"precious")
    assert sources[1].with_suffix(".lrq").exists()
    assert lrq("encode", *sources, "--effort", 0, "-f").exit_code == 0
    assert unpack(target.read_bytes())


def test_no_output_replaces_its_own_source(tmp_path: Path):
    link, other = tmp_path / "link.lrq", tmp_path / "a.lrq"
    other.write_bytes(b"precious")
    link.symlink_to(tmp_path / "link.png")
    (tmp_path / "link.png").write_bytes(b"precious")
    result = lrq("encode", other, tmp_path / "link.png", "-f", "--out-dir", tmp_path / "." / ".." / tmp_path.name)
    assert result.exit_code == 2
    assert [line.endswith("would be its own output: name a folder with --out-dir") for line in lines(result)] == [
        True,
        True,
        False,
    ]
    assert other.read_bytes() == link.read_bytes() == b"precious"


def test_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By the number of files, or by pixels: here as many as a file has bytes."""
    sizes = [1, 1, 1, 1, 5, 1, 9, 1]
    sources = [tmp_path / f"{i}.in" for i in range(len(sizes))]
    for source, size in zip(sources, sizes, strict=True):
        source.write_bytes(bytes(size))
    groups = []

    def convert(items: list[bytes]) -> list[bytes]:
        groups.append([len(item) for item in items])
        return items

    monkeypatch.setattr(batch, "GROUP_FILES", 3)
    job = Batch(sources, None, ".out", bool, out_dir=tmp_path / "out")
    job.run(
        lambda data: Loaded(data, len(data)), lambda: convert, lambda path, data: Written(path.write_bytes(data), ""), 6
    )
    job.end()
    assert groups == [[1, 1, 1], [1, 5], [1], [9], [1]]
    assert job.sizes == sizes == [(tmp_path / "out" / f"{i}.out").stat().st_size for i in range(len(sizes))]


def test_only_bad_items_of_a_batch_fail():
    calls = []

    def convert(items: list[int]) -> list[int]:
        calls.append(len(items))
        if 5 in items:
            raise FormatError("five")
        if 8 in items:
            raise MemoryError
        return [10 * item for item in items]

    five, memory = Failure("n5: five", 3), Failure("n8: out of memory", 1)
    expected = [five if i == 5 else memory if i == 8 else 10 * i for i in range(100)]
    names = [f"n{i}" for i in range(100)]
    assert batch._convert(convert, list(range(100)), names) == expected
    assert len(calls) < 25
    assert batch._convert(convert, [3, 5], ["n3", "n5"]) == [30, five]


# ---- names


def named(*sources: str, out_dir: str | None = None, suffix: str = ".lrq") -> list[str | None]:
    """The outputs of sources; None for one that fails."""
    outputs = name_outputs([Source(Path(name)) for name in sources], Path(out_dir) if out_dir else None, suffix)
    return [None if isinstance(output, Failure) else output.as_posix() for output in outputs]


def test_names_of_outputs():
    assert named("a.png", "b/a.png", "c.tar.gz", "d") == ["a.lrq", "b/a.lrq", "c.tar.lrq", "d.lrq"]
    assert named("a.png", "b/c.png", out_dir="out") == ["out/a.lrq", "out/c.lrq"]
    assert named("a.lrq", "a.jpg.lrq", "b.png.lrq", suffix=".png") == ["a.png", "a.jpg.png", "b.png"]


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_outputs_that_would_share_a_name_keep_their_suffixes_in_any_order(order: slice):
    names = {"a.png": "a.png.lrq", "b.png": "b.lrq", "a.jpg": "a.jpg.lrq", "c/a.png": "c/a.lrq"}
    assert named(*[*names][order]) == [*names.values()][order]
    assert named("a.lrq", "a.png.lrq", suffix=".png") == ["a.lrq.png", "a.png.lrq.png"]


def test_names_that_stay_the_same_fail_alone():
    assert named("a.png", "b.png", "c/a.png", out_dir="out") == [None, "out/b.lrq", None]
    assert named("a.png", "c/../a.png", "b.png") == [None, None, "b.lrq"]
    assert named("a.png", "a.jpg", "c/a.png", out_dir="out") == [None, "out/a.jpg.lrq", None]


def test_what_is_its_own_output_is_in_no_others_way():
    """As when the command is run again for all files in a folder, outputs too."""
    assert named("a.lrq", "a.png", "b.png") == ["a.lrq", "a.lrq", "b.lrq"]


def test_files_that_share_a_name(pictures: list[Path], tmp_path: Path):
    folder = pictures[0].parent
    Image.open(pictures[0]).save(folder / "a.webp")
    (folder / "deep").mkdir()
    Image.open(pictures[1]).save(folder / "deep" / "b.png")
    out = tmp_path / "out"
    sources = [*pictures, folder / "a.webp", folder / "deep" / "b.png"]
    result = lrq("encode", *sources, "--effort", 0, "--out-dir", out)
    assert (result.exit_code, names(out)) == (2, ["a.png.lrq", "a.webp.lrq", "grey.lrq", "tall.lrq"])
    errors = [line for line in lines(result) if "is the output of another file too" in line]
    assert [error.split(": ")[2] for error in errors] == [str(sources[1]), str(sources[-1])]


# ---- folders


@pytest.fixture
def tree(pictures: list[Path]) -> Path:
    """A folder of images, other files, hidden ones, folders below it, and a link that makes a loop."""
    folder = pictures[0].parent
    for path in ("deep/more/c.png", ".hidden.png", ".hidden/d.png", "deep/e.JPG", "f.LRQ", "deep/g.lrq", "h.pdf"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(pictures[0].read_bytes())
    (folder / "notes.txt").write_bytes(b"notes")
    (folder / "folder.png").mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "deep" / "link.png").symlink_to(pictures[1])
    return folder


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_stands_for_the_images_in_it(tree: Path, tmp_path: Path):
    out = tmp_path / "out"
    result = lrq("encode", tree, "--effort", 0, "--out-dir", out)
    assert (result.exit_code, below(out)) == (0, ["a.lrq", "b.lrq", "grey.lrq", "tall.lrq"])
    result = lrq("decode", out, "--out-dir", tmp_path / "back")
    assert (result.exit_code, below(tmp_path / "back")) == (0, ["a.png", "b.png", "grey.png", "tall.png"])


def test_folders_below_keep_their_places(tree: Path, tmp_path: Path):
    out = tmp_path / "out"
    result = lrq("encode", "-r", tree, "--effort", 0, "--out-dir", out)
    deep = ["deep/e.lrq", "deep/link.lrq", "deep/more/c.lrq"]
    assert (result.exit_code, below(out)) == (0, ["a.lrq", "b.lrq", *deep, "grey.lrq", "tall.lrq"]), result.stderr
    before = below(tree)
    result = lrq("encode", "-r", tree / "deep", "--effort", 0)
    assert (result.exit_code, sorted({*below(tree)} - {*before})) == (0, deep)


def test_files_of_a_folder_are_sorted(tree: Path):
    found = find(tree, True, lambda path: path.suffix == ".png")
    assert [source.path.relative_to(tree).as_posix() for source in found] == [
        *("a.png", "b.png", "grey.png", "tall.png", "deep/link.png", "deep/more/c.png")
    ]
    assert [source.below.as_posix() for source in found[-2:]] == ["deep", "deep/more"]


def test_a_folder_of_nothing_is_one_error(tree: Path, pictures: list[Path], tmp_path: Path):
    empty = tmp_path / "empty"
    (empty / "deep").mkdir(parents=True)
    for command in ("encode", "decode"):
        assert fails(2, command, empty) == (
            f"lrq: error: {empty}: no files to convert in this folder, not counting those below it\n"
        )
        assert "no files to convert in this folder\n" in fails(2, command, empty, "-r")
    result = lrq("encode", empty, pictures[0], "--effort", 0)
    error, summary, end = lines(result)
    assert summary.startswith("1 of 2 files written: ")
    assert (result.exit_code, end) == (2, "lrq: error: 1 of 2 files failed")


# ---- going on


def test_going_on_with_a_batch(pictures: list[Path], tmp_path: Path):
    out = tmp_path / "out"
    lrq("encode", *pictures[:2], "--effort", 0, "--out-dir", out)
    (out / "b.lrq").write_bytes(b"precious")
    result = lrq("encode", *pictures, "--effort", 0, "--out-dir", out, "--skip-existing")
    skipped, summary = lines(result)
    assert skipped == "2 of 4 files skipped: their outputs exist"
    assert summary.startswith("2 of 4 files written: ")
    assert (out / "b.lrq").read_bytes() == b"precious"
    result = lrq("encode", *pictures, "--effort", 0, "--out-dir", out, "--skip-existing")
    assert (result.exit_code, lines(result)) == (0, ["4 of 4 files skipped: their outputs exist"])


def test_going_on_where_outputs_lie_beside_inputs(pictures: list[Path]):
    """All files of the folder are given, as a shell does for *: the outputs are no inputs that could be lost."""
    folder = pictures[0].parent
    assert lrq("encode", *pictures, "--effort", 0).exit_code == 0
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = lrq("encode", *sorted(folder.iterdir()), "--effort", 0, "--skip-existing")
    assert [line.split(": ")[2:4] for line in lines(result)[:4]] == [
        [f"{folder / name}.lrq", "would be its own output"] for name in ("a", "b", "grey", "tall")
    ]
    assert lines(result)[4] == "4 of 8 files skipped: their outputs exist"
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_one_file_that_is_skipped(pictures: list[Path]):
    target = pictures[0].with_suffix(".lrq")
    target.write_bytes(b"precious")
    result = lrq("encode", pictures[0], "--skip-existing")
    assert (result.exit_code, lines(result)) == (0, ["1 of 1 files skipped: their outputs exist"])
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize(("together", "expected"), [(24 * 32, [0, 1, 2, 3]), (2**18, [0])])
def test_an_interruption_loses_no_more_than_a_group(
    together: int, expected: list[int], pictures: list[Path], monkeypatch: pytest.MonkeyPatch
):
    from lrcodec.encoder import Encoder

    intact, written = Encoder.encode_batch, []

    def encode_batch(self: Encoder, images: list[np.ndarray], *arguments: object, **options: object) -> list[bytes]:
        written.append(len([*pictures[0].parent.glob("*.lrq")]))
        if len(written) == len(expected):
            raise KeyboardInterrupt
        return intact(self, images, *arguments, **options)

    monkeypatch.setattr(Encoder, "encode_batch", encode_batch)
    monkeypatch.setattr("lrcodec.cli.encode.GROUP_PIXELS", together)
    result = lrq("encode", *pictures, "--effort", 0)
    assert (result.exit_code, lines(result), written) == (130, ["lrq: error: interrupted"], expected)
    assert len([*pictures[0].parent.glob("*.lrq")]) == expected[-1]


# ---- what is told


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_what_is_done_shows_on_a_terminal_only(pictures: list[Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "999")
    for stream, quiet in ((Terminal(), False), (Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(batch, "GROUP_FILES", 1)
        job = Batch(pictures[:2], None, ".out", bool, quiet=quiet)
        job.run(
            lambda data: Loaded(data, 1234567),
            lambda: lambda items: items,
            lambda path, data: Written(len(data), ""),
            9,
        )
        shown = stream.getvalue().split("\r\033[K")
        if stream.isatty() and not quiet:
            assert shown[1] == f"{pictures[0]}, 1,234,567 pixels" and shown[-1] == ""
            assert re.fullmatch(r"1 of 2 files done, [\d:]+ left: .*/b.png, 1,234,567 pixels", shown[2])
        else:
            assert shown == [""]


def test_a_search_shows_its_encodes(pictures: list[Path], monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(Batch, "show", lambda self, text="": shown.append(text))
    assert lrq("encode", pictures[0], "--effort", 0, "--target-size", "1M").exit_code == 0
    assert shown[0] == f"{pictures[0]}, 768 pixels"
    assert shown[1].startswith("encode 1 of at most ") and ": quality " in shown[1]
    assert " bytes)" in shown[2]


def test_what_is_shown_fits_the_terminal_and_is_removed(monkeypatch: pytest.MonkeyPatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "20")
    files.show("a\nb" + 50 * "c")
    assert stream.getvalue() == "\r\033[Ka b" + 16 * "c"
    files.show()
    assert stream.getvalue().endswith("\r\033[K")


def test_verbose(pictures: list[Path]):
    result = lrq("encode", *pictures[:2], "--effort", 0, "-v")
    for line, path in zip(lines(result)[:2], pictures, strict=False):
        size = path.with_suffix(".lrq").stat().st_size
        start = f"{path.with_suffix('.lrq')}: {size:,} bytes, 32 x 24 pixels, {8 * size / 768:.3f} bits per pixel, "
        assert line.startswith(start) and line.endswith(" s")
    (line,) = lines(lrq("decode", pictures[0].with_suffix(".lrq"), "-f", "-v"))
    assert line.startswith(f"{pictures[0]}: ") and ", 32 x 24 pixels, " in line and line.endswith(" s")


def test_quiet(pictures: list[Path]):
    missing = pictures[0].with_name("missing.png")
    assert lines(lrq("encode", pictures[0], "--effort", 0, "--quiet")) == []
    assert lines(lrq("encode", *pictures, "--effort", 0, "--quiet", "--skip-existing")) == []
    result = lrq("encode", *pictures, missing, "--effort", 0, "--quiet", "-f")
    assert lines(result) == [
        f"lrq: error: {missing}: No such file or directory",
        "lrq: error: 1 of 5 files failed",
    ]


# ---- errors name their file, and places are checked first


def test_every_error_of_a_file_names_it(tmp_path: Path, photo_file: Path):
    junk, cut, deep = tmp_path / "junk.png", tmp_path / "cut.lrq", tmp_path / "deep.png"
    junk.write_bytes(b"junk")
    cut.write_bytes(photo_file.read_bytes()[:-1])
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(deep)
    for code, path, *line in (
        (2, junk, "encode", junk),
        (2, deep, "encode", deep, "-o", "-"),
        (3, junk, "decode", junk, "-o", "-"),
        (3, cut, "decode", cut),
        (5, photo_file, "decode", photo_file, "--max-pixels", 5, "--out-dir", tmp_path),
        (2, photo_file, "decode", photo_file, "--region", "0,0,999,1", "--out-dir", tmp_path),
        (3, cut, "info", cut),
        (2, junk, "compare", photo_file, junk),
        (3, cut, "compare", cut, photo_file),
    ):
        assert fails(code, *line).startswith(f"lrq: error: {path}: ")
    for line in (["encode", "-"], ["decode", "-"], ["info", "-"], ["compare", photo_file, "-"]):
        assert fails(2 if line[0] in ("encode", "compare") else 3, *line).startswith("lrq: error: standard input: ")


@pytest.mark.parametrize(
    ("place", "message"),
    [("missing/new", "no such folder"), ("a.png/new", "is no folder"), ("folder", "is a folder")],
)
def test_places_that_cannot_be_written_are_found_first(
    place: str, message: str, pictures: list[Path], photo_file: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nothing is encoded or decoded before."""
    from lrcodec import decoder, encoder

    for module, name in ((encoder, "Encoder"), (decoder, "Decoder")):
        monkeypatch.setattr(module, name, None)
    monkeypatch.chdir(pictures[0].parent)
    Path("folder").mkdir()
    Path("folder.png").mkdir()
    Path("a.lrq").mkdir()
    before = names(Path())
    for line in (
        ["encode", "a.png", "-o", place],
        ["encode", "b.png", "--preview", f"{place}.png"],
        ["decode", photo_file, "-o", place, "--format", "png"],
        ["compare", "a.png", "b.png", "-o", f"{place}.png"],
    ):
        assert message in fails(1, *line)
    assert "exists" in fails(2, "encode", "a.png")
    assert "is a folder" in fails(1, "encode", "a.png", "-f")
    assert names(Path()) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder where not even root may write")
def test_folders_that_may_not_be_written(pictures: list[Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lrcodec.image_io.read_picture", lambda *arguments: pytest.fail("works"))
    for options in (["-o", "/proc/new"], ["--out-dir", "/proc/x/y"]):
        assert "lrq: error: /proc: " in fails(1, "encode", pictures[0], *options)


@pytest.mark.parametrize("line", ["compare a.png b.png --amplify 8", "compare a.png b.png --amplify 9 --json"])
def test_amplify_goes_with_a_picture(line: str, pictures: list[Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(pictures[0].parent)
    assert "--amplify goes with -o" in fails(2, *line.split())


def test_an_input_that_is_the_output_of_another(tmp_path: Path, pictures: list[Path]):
    precious = pictures[0].with_suffix(".lrq")
    precious.write_bytes(b"precious")
    result = lrq("encode", precious, pictures[0], "-f")
    itself, other, end = lines(result)
    assert (result.exit_code, itself) == (
        2,
        f"lrq: error: {precious}: would be its own output: name a folder with --out-dir",
    )
    assert other == f"lrq: error: {pictures[0]}: {precious} is an input: name a folder with --out-dir"
    assert precious.read_bytes() == b"precious"
