"""Every command and example of README.md and docs/ runs, as printed, and leaves what it says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from lrcodec.cli.main import main
from lrcodec.measure.metrics import psnr

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
TEXT = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
TUTORIAL = (ROOT / "docs/training.md").read_text(encoding="utf-8")  # tests/test_thumbnails.py runs it
TOUR = re.findall(r"^\$ lrq (.+)$", TEXT.replace(TUTORIAL, ""), re.MULTILINE)
TOUR = [*dict.fromkeys(TOUR)]  # README.md and docs/cli.md begin alike


@pytest.mark.skipif(sys.platform == "win32", reason="needs the shell of a POSIX system")
def test_usage_tour(photo, tmp_path, monkeypatch):
    assert len(TOUR) >= 6
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.png")
    for line in TOUR:
        if "|" in line:
            shell = f'set -o pipefail; lrq() {{ "{sys.executable}" "{ROOT / "cli.py"}" "$@"; }}; lrq {line}'
            subprocess.run(["bash", "-c", shell], check=True, timeout=300)
            continue
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == 0, (line, result.output)
    assert psnr(photo, np.asarray(Image.open("decoded.png"))) > 22
    assert Path("small.lrq").stat().st_size < Path("photo.lrq").stat().st_size < Path("best.lrq").stat().st_size
    assert psnr(photo, np.asarray(Image.open("fits.png"))) > 22 and Path("fits.lrq").stat().st_size <= 20000
    assert Image.open("compared.png").size == (3 * 97, 2 * 61)
    np.testing.assert_array_equal(np.asarray(Image.open("piped.ppm")), np.asarray(Image.open("decoded.png")))
    assert Path("rd.png").stat().st_size > 0 and Path("bench.json").stat().st_size > 0
    assert Path("report.html").stat().st_size > 0


def test_python_examples(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages = (page for page in PAGES if page != "docs/pipelines.md")  # tests/integrations runs those, of engines
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in pages)
    examples = re.findall(r"^```python\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict = {"image": photo}
    for code in examples:
        exec(code, names)
    assert psnr(photo, names["pixels"]) > 22
    assert [psnr(photo, image) > 22 for image in names["images"]] == [True, True]
    assert (names["header"].width, names["header"].height) == names["picture"].size == (97, 61)
    assert psnr(photo, np.asarray(names["picture"])) > 22


EXIT_CODES = (ROOT / "docs/cli.md").read_text(encoding="utf-8").split("## Exit codes", 1)[1]


@pytest.mark.parametrize("row", re.findall(r"^\| (\d+) \| ([^|]+) \|$", EXIT_CODES, re.MULTILINE))
def test_exit_codes_are_those_of_the_help(row):
    help_text = " ".join((main.help or "").split())
    assert f"{row[0]} {row[1]}" in help_text


@pytest.mark.parametrize("name", [*PAGES, "SPEC.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_what_documents_refer_to_is_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []
    paths = re.findall(r"`((?:tests|lrcodec|models|formats|results|docs)/[\w./-]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_front_page_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120 and any(line.startswith("![") for line in lines[:20])
    assert [line[3:] for line in lines if line.startswith("## ")][:3] == ["Install", "Quick start", "Limits"]
