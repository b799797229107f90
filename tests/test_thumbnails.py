"""The script that cuts the thumbnails which the pack `thumbs64` is trained on, and the tutorial that trains it."""

import importlib.util
import re
import shlex
import shutil
from glob import glob
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from commands import lrq
from PIL import Image

from lrcodec.image_files import find_images, read_file
from lrcodec.packs import store
from lrcodec.packs.pack import ATTRIBUTION, CARD, Terms

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("cut_thumbnails", ROOT / "models/cut_thumbnails.py")
assert spec and spec.loader
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

PAGE = (ROOT / "docs/training.md").read_text(encoding="utf-8")
TERMS = Terms(*re.findall(r"^(?:Licence|Data): (.+)$", PAGE, re.MULTILINE))
"""What the tutorial writes into the card."""


def cut(folder: Path, out: Path) -> Result:
    return CliRunner().invoke(script.main, [str(folder), str(out)])


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of three photographs, two wide ones in colour and a square one in grey, and a file that is none."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in find_images():
        if path.name in ("chelsea.png", "rocket.jpg"):
            shutil.copy(path, folder)
    Image.fromarray(read_file(find_images()[0])[:192, :192]).convert("L").save(folder / "astronaut.png")
    (folder / "notes.txt").write_text("no photograph")
    return folder


# ---- the script


@pytest.mark.parametrize("width, height", [(64, 64), (65, 127), (128, 400), (191, 5000), (192, 192), (1491, 839)])
def test_squares_lie_in_the_photograph_from_edge_to_edge(width: int, height: int):
    found = script.squares(width, height)
    short = min(width, height)
    sides = [right - left for left, _, right, _ in found]
    assert sides == sorted(sides, reverse=True) and len(set(found)) == len(found)
    assert set(sides) == {short // fits for fits in (1, 2, 3) if short // fits >= 64}
    for left, top, right, bottom in found:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height and right - left == bottom - top >= 64
    for side in set(sides):
        alike = [square for square in found if square[2] - square[0] == side]
        assert min(square[0] for square in alike) == min(square[1] for square in alike) == 0
        assert max(square[2] for square in alike) == width
        assert max(square[3] for square in alike) == height


def test_a_photograph_has_24_squares_and_a_square_one_22():
    assert len(script.squares(1200, 800)) == len(script.squares(800, 1200)) == 3 + 6 + 15
    assert len(script.squares(800, 800)) == 1 + 6 + 15
    assert script.squares(63, 900) == []


def test_photographs_are_cut_and_one_in_nine_is_held_out(photographs: Path, tmp_path: Path):
    out = tmp_path / "new" / "thumbs"
    result = cut(photographs, out)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [f"48 thumbnails are in {out / 'train'}", f"22 thumbnails are in {out / 'held-out'}"]
    assert result.stdout.splitlines() == lines
    assert {path.name[:-7] for path in (out / "train").iterdir()} == {"chelsea.png", "rocket.jpg"}
    held_out = sorted((out / "held-out").iterdir())
    assert [path.name for path in held_out] == [f"astronaut.png-{number:02}.png" for number in range(22)]
    grey = [read_file(path) for path in held_out]
    assert {image.shape for image in grey} == {(64, 64)}
    assert all((one != other).any() for one, other in combinations(grey, 2))
    # Of 192 pixels, the last third of either side: Lanczos has nothing to reduce.
    np.testing.assert_array_equal(grey[-1], read_file(photographs / "astronaut.png")[128:, 128:])
    colour = {path.name: read_file(path) for path in find_images([out / "train"])}
    assert {image.shape for image in colour.values()} == {(64, 64, 3)}
    rocket = Image.open(photographs / "rocket.jpg")
    left = rocket.crop((0, 0, rocket.height, rocket.height)).resize((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(colour["rocket.jpg-00.png"], np.asarray(left))


def test_it_makes_the_same_again(photographs: Path, tmp_path: Path):
    for out in ("one", "two"):
        assert cut(photographs, tmp_path / out).exit_code == 0
    files = [
        {str(path.relative_to(tmp_path / out)): path.read_bytes() for path in (tmp_path / out).rglob("*.png")}
        for out in ("one", "two")
    ]
    assert files[0] == files[1] and len(files[0]) == 70


def test_every_ninth_of_many(tmp_path: Path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(19):
        Image.linear_gradient("L").resize((64, 64 + number)).save(folder / f"{number:02}.png")
    assert cut(folder, tmp_path / "out").exit_code == 0
    assert {path.name[:2] for path in (tmp_path / "out/held-out").iterdir()} == {"00", "09", "18"}
    assert len({path.name[:2] for path in (tmp_path / "out/train").iterdir()}) == 16


def test_what_cannot_be_cut_is_named_and_the_others_go_on(photographs: Path, tmp_path: Path):
    (photographs / "broken.jpg").write_bytes((photographs / "rocket.jpg").read_bytes()[:2000])
    Image.new("RGB", (900, 63)).save(photographs / "strip.png")
    Image.new("RGBA", (90, 90)).save(photographs / "clear.png")
    result = cut(photographs, tmp_path / "out")
    assert result.exit_code == 1 and result.stdout == ""
    broken, clear, strip, summary = result.stderr.splitlines()
    assert broken.startswith("broken.jpg: error: ") and clear.startswith("clear.png: error: ")
    assert strip == "strip.png: error: a photograph of 900 x 63 pixels is smaller than a thumbnail"
    assert summary == "Error: 3 of 6 photographs could not be cut"
    assert len([*(tmp_path / "out").rglob("*.png")]) == 70


def test_folders_that_cannot_be(photographs: Path, tmp_path: Path):
    def line(folder: Path, out: Path) -> str:
        result = cut(folder, out)
        assert (result.exit_code, result.stdout) == (1, "") and result.stderr.startswith("Error: ")
        (found,) = result.stderr.splitlines()
        return found

    (tmp_path / "empty").mkdir()
    assert line(tmp_path / "missing", tmp_path / "out") == f"Error: {tmp_path / 'missing'}: No such file or directory"
    assert line(tmp_path / "empty", tmp_path / "out") == f"Error: no images in {tmp_path / 'empty'}"
    assert not (tmp_path / "out").exists()
    (tmp_path / "out" / "train").mkdir(parents=True)  # of an earlier run
    assert line(photographs, tmp_path / "out").endswith("out/train: File exists")
    assert not [*tmp_path.glob("out/**/*.png")]


# ---- the pack


def test_the_authors_of_what_it_is_trained_on_are_named():
    """Of the photographs of `photo` all that are not held out."""
    photo, ours = ((store.find(name).path / ATTRIBUTION).read_text("utf-8") for name in ("photo", "thumbs64"))
    title, *rows = photo.splitlines()
    held_out = sorted(row.split("\t")[0] for row in rows)[:: script.HELD_OUT]
    assert ours.splitlines() == [title, *(row for row in rows if row.split("\t")[0] not in held_out)]
    counts = re.search(r"^(\d+) .*: (\d+) CC0, (\d+) public domain, (\d+) CC-BY, (\d+) CC-BY-SA; ", TERMS.data)
    assert counts
    licences = [row.split("\t")[6] for row in ours.splitlines()[1:]]
    starts = ("CC0", "Public domain", "CC-BY-[234]", "CC-BY-SA")
    found = [sum(bool(re.match(start, licence)) for licence in licences) for start in starts]
    assert [*map(int, counts.groups())] == [len(licences), *found] and sum(found) == len(licences)


# ---- the tutorial

KEPT = slice(0, 24, 3)
"""Of the thumbnails of a photograph: the fewer, the faster."""


@pytest.mark.usefixtures("few_crops")
def test_the_tutorial(tmp_path: Path, user_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Its commands in turn: on the thumbnails of two photographs instead of 186, and with the preset tiny."""
    monkeypatch.chdir(tmp_path)
    for line in re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE):
        words = shlex.split(line.replace("--preset small", "--preset tiny"))
        words = [path for word in words for path in sorted(glob(word)) or [word]]
        match words:
            case ["python", "models/fetch_photographs.py", folder]:
                Path(folder).mkdir()
                for path in find_images()[1:3]:
                    shutil.copy(path, folder)
            case ["python", "models/cut_thumbnails.py", folder, out]:
                assert cut(Path(folder), Path(out)).exit_code == 0
                for part in (Path(out, "train"), Path(out, "held-out")):
                    files = sorted(part.iterdir())
                    assert len(files) == 24
                    for path in {*files} - {*files[KEPT]}:
                        path.unlink()
            case ["lrq", *arguments]:
                result = lrq(*arguments)
                assert result.exit_code == 0, (line, result.output)
            case ["cp", table, folder]:
                card = Path(folder, CARD).read_text(encoding="utf-8")
                for title, term in zip(("Licence", "Data"), TERMS, strict=True):
                    card, count = re.subn(f"^{title}: .*$", f"{title}: {term}", card, flags=re.MULTILINE)
                    assert count == 1
                Path(folder, CARD).write_text(card, encoding="utf-8")
                shutil.copy(ROOT / table, folder)
            case _:
                raise AssertionError(line)
    added = store.find("my-thumbs")
    assert added.path.parent == user_folder and (added.path / ATTRIBUTION).is_file()
    assert added.terms == TERMS == store.find("thumbs64").terms
    for decoded in ("decoded", "again"):
        assert len([*Path(decoded).iterdir()]) == 8
    shown = Path("bench.html").read_text(encoding="utf-8")
    assert "lrq" in shown and "webp" in shown
