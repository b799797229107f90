"""`lrq view` and its page: in a browser, from a file, with nothing but what is in it."""

import base64
import re
import tomllib
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, server
from commands import fails, lrq
from PIL import Image

import lrcodec
from lrcodec import viewer
from lrcodec.format import container
from lrcodec.packs import modelfile, store
from lrcodec.viewer import is_page, page

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "formats" / "vectors"
DAMAGED = ROOT / "formats" / "corrupt" / "12-alpha-checksum.lrq"

pytestmark = pytest.mark.usefixtures("user_folder")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that the command opens, in a browser that always can."""
    urls: list[str] = []

    def note(url: str) -> bool:
        urls.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", note)
    return urls


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray, photo_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: photo.lrq, photo.png, and mnist.lrq of another model."""
    monkeypatch.chdir(tmp_path)
    Path("photo.lrq").write_bytes(photo_file.read_bytes())
    Path("mnist.lrq").write_bytes((VECTORS / "mnist" / "image.lrq").read_bytes())
    Image.fromarray(photo).save("photo.png")
    return tmp_path


def inside(path: Path) -> dict[str, bytes]:
    """Names and contents of the files in a page."""
    found = re.findall(r'<script type="[^"]*" data-name="([^"]*)">([^<]*)</script>', path.read_text(encoding="utf-8"))
    return {name: base64.b64decode(text) for name, text in found}


# ---- the command


def test_what_it_writes_and_opens(folder: Path, opened: list[str]):
    result = lrq("view", "photo.lrq", "mnist.lrq", "photo.lrq", "--original", "photo.png")
    assert (result.exit_code, result.output) == (0, "")
    assert opened == [(folder / "photo.html").as_uri()]
    found = inside(folder / "photo.html")
    assert [*found] == ["photo.lrqm", "mnist.lrqm", "photo.lrq", "mnist.lrq", "photo.png"]
    for name in ("photo.lrq", "mnist.lrq", "photo.png"):
        assert found[name] == Path(name).read_bytes()
    for name in ("photo", "mnist"):
        assert found[f"{name}.lrqm"] == modelfile.save(store.find(name).load())


def test_a_page_is_replaced_and_nothing_else(folder: Path, opened: list[str]):
    assert lrq("view", "photo.lrq", "--original", "photo.png", "--no-open").exit_code == 0
    first = Path("photo.html").read_bytes()
    assert is_page(Path("photo.html")) and lrq("view", "photo.lrq", "--no-open").exit_code == 0
    assert Path("photo.html").read_bytes() != first and opened == []
    Path("photo.html").write_text("<!doctype html><title>mine</title>")
    assert "lrq view has not written it" in fails(2, "view", "photo.lrq")
    assert Path("photo.html").read_text() == "<!doctype html><title>mine</title>"
    assert lrq("view", "photo.lrq", "-o", "photo.html", "--no-open").exit_code == 0  # named, as for other commands
    assert is_page(Path("photo.html"))


def test_standard_input_and_output(folder: Path):
    data = Path("photo.lrq").read_bytes()
    assert "name one with -o" in fails(2, "view", "-", stdin=data)
    assert "add --no-open" in fails(2, "view", "photo.lrq", "-o", "-")
    assert "it holds one file" in fails(2, "view", "-", "--original", "-", "-o", "page.html", stdin=data)
    result = lrq("view", "-", "-o", "-", "--no-open", stdin=data)
    Path("page.html").write_bytes(result.stdout_bytes)
    assert inside(Path("page.html"))["standard input"] == data


def test_where_no_browser_opens(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    result = lrq("view", "photo.lrq")
    assert (result.exit_code, result.stdout) == (0, "") and is_page(Path("photo.html"))
    assert result.stderr == "lrq: no browser could be opened: open photo.html in one\n"


@pytest.mark.parametrize("output", ["photo.png", "other.lrq", "page", "page.txt"])
def test_names_of_other_formats(output: str, folder: Path):
    before = sorted(folder.iterdir())
    assert "use the suffix .html" in fails(2, "view", "photo.lrq", "-o", output)
    assert sorted(folder.iterdir()) == before


def test_no_input_is_replaced(folder: Path):
    Path("photo.lrq").rename("photo.html")
    assert "would replace" in fails(2, "view", "photo.html", "-o", "photo.html")
    assert "would replace" in fails(2, "view", "mnist.lrq", "--original", "photo.html", "-o", "./photo.html")


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (1, ["missing.lrq"]),
        (1, ["photo.lrq", "--original", "missing.png"]),
        (1, ["photo.lrq", "-o", "missing/page.html"]),
        (2, ["photo.lrq", "--original", "text.png"]),
        (3, ["photo.lrq", DAMAGED, "--no-open"]),
        (3, ["photo.png"]),
        (4, ["other.lrq"]),
        (5, ["photo.lrq", "--max-pixels", 97 * 61 - 1]),
    ],
)
def test_what_is_refused(code: int, arguments: list[object], folder: Path, opened: list[str]):
    header, chunks = container.unpack(Path("photo.lrq").read_bytes())
    Path("other.lrq").write_bytes(container.pack(lrcodec.Header(**{**vars(header), "model": bytes(4)}), chunks))
    Path("text.png").write_text("no image")
    before = sorted(folder.iterdir())
    fails(code, "view", *arguments)
    assert sorted(folder.iterdir()) == before and opened == []


def test_originals_that_no_browser_shows_become_png(folder: Path, photo: np.ndarray):
    Image.fromarray(photo).save("photo.tif")
    assert lrq("view", "photo.lrq", "--original", "photo.tif", "--no-open").exit_code == 0
    Path("inside.png").write_bytes(inside(Path("photo.html"))["photo.tif"])
    with Image.open("inside.png") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), photo)


def test_the_wheel_has_what_the_page_is_made_of():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    folders = wheel["wheel"]["force-include"]
    sources = {*viewer.SCRIPTS, "viewer.html", "viewer.css", "lrqdec.wasm"}
    assert {name: folders.get(f"formats/web/{name}") for name in sources} == {
        name: f"lrcodec/web/{name}" for name in sources
    }


def test_names_are_escaped():
    name = '"><script>alert(1)</script>&.lrq'
    text = page([(name, b"x")]).decode()
    assert "alert(1)" in text and "<script>alert" not in text
    assert 'data-name="?.lrq"' in page([("\udcff.lrq", b"x")]).decode()  # a file's name need not be UTF-8
    assert 'data-name="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;.lrq"' in text


def test_the_page_is_whole():
    """It refers to nothing, and what is joined is what was written."""
    text = page([]).decode()
    assert not re.search(r'(src|href)="|@import|url\(|^import ', text, re.MULTILINE)
    assert text.count("<script") == text.count("</script>") == 2
    assert all(
        (viewer.PACKAGE.parent / "formats/web" / name).read_text().splitlines()[0] in text for name in viewer.SCRIPTS
    )


# ---- the page in a browser


def write(path: Path, *names: str, models: bool = True, original: str = "") -> Path:
    """A page with vectors inside, the models that they need, and the pixels of one of them as the original."""
    files = [(f"{name}.lrq", (VECTORS / name / "image.lrq").read_bytes()) for name in names]
    if original:
        files.append(("original.png", (VECTORS / original / "reference.png").read_bytes()))
    needed = dict.fromkeys(store.by_fingerprint(lrcodec.probe(data).model) for name, data in files if ".lrq" in name)
    packs = [(f"{entry.name}.lrqm", modelfile.save(entry.load())) for entry in needed if models]
    path.write_bytes(page(packs + files))
    return path


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Browser]:
    """The browser, which must not have logged any error or warning at the end: nothing broke the page's policy."""
    chromium.errors.clear()
    chromium.size(1200, 800)
    yield chromium
    assert chromium.errors == []


def visit(tab: Browser, path: Path, name: str) -> None:
    """Open a page that has a file of this name on its stage."""
    tab.open(path.as_uri())
    shows(tab, name)


def shows(tab: Browser, name: str) -> None:
    tab.wait(f"document.title.startsWith('{name}.lrq')")


def of(tab: Browser, name: str, what: str) -> Any:
    return tab.run(f"document.getElementById('{name}').{what}")


def details(tab: Browser) -> dict[str, str]:
    return tab.run(
        "Object.fromEntries([...document.querySelectorAll('dt')]"
        ".map(name => [name.textContent, name.nextSibling.textContent]))"
    )


def drop(tab: Browser, **files: bytes) -> None:
    """Drop files onto the page: `a_lrq` stands for a.lrq."""
    encoded = {name.replace("_", "."): base64.b64encode(data).decode() for name, data in files.items()}
    tab.run(
        f"""{{
          const transfer = new DataTransfer();
          for (const [name, text] of Object.entries({encoded}))
            transfer.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
          const stage = document.getElementById("stage");
          for (const type of ["dragover", "drop"])
            stage.dispatchEvent(new DragEvent(type, {{dataTransfer: transfer, bubbles: true, cancelable: true}}));
        }}"""
    )


def vector(name: str) -> bytes:
    return (VECTORS / name / "image.lrq").read_bytes()


@pytest.mark.parametrize("name", ["rgb", "grey", "mnist"])
def test_pixels_on_the_page(name: str, tab: Browser, tmp_path: Path):
    visit(tab, write(tmp_path / "page.html", name), name)
    with Image.open(VECTORS / name / "reference.png") as image:
        rgba = np.asarray(image.convert("RGBA"))
    height, width = rgba.shape[:2]
    pixels = of(tab, "decoded", f"getContext('2d').getImageData(0, 0, {width}, {height}).data.join()")
    np.testing.assert_array_equal(np.array(pixels.split(","), np.uint8).reshape(rgba.shape), rgba)


def test_what_the_page_tells(tab: Browser, tmp_path: Path):
    visit(tab, write(tmp_path / "page.html", "rgb"), "rgb")
    tab.wait("document.getElementById('details').textContent.includes('first time')")
    told, header, size = details(tab), lrcodec.probe(vector("rgb")), len(vector("rgb"))
    assert re.fullmatch(r"[\d.]+ ms, the first time [\d.]+ ms", told.pop("decoding"))
    assert told == {
        "size": f"{header.width} × {header.height} pixels",
        "bytes": f"{size}",
        "rate": f"{8 * size / (header.width * header.height):.3f} bits per pixel",
        "colour": "RGB",
        "alpha": "no",
        "smoothing": "yes" if header.smoothing else "no",
        "rank": f"{header.rank}",
        "iterations": f"at most {header.iterations}",
        "band": f"{header.band}",
        "model": header.model.hex(),
    }
    assert of(tab, "message", "hidden") and of(tab, "notice", "hidden") and of(tab, "share", "hidden")


def test_zoom(tab: Browser, tmp_path: Path):
    """By buttons, keys, wheel and fingers; enlarged pixels are squares; what is under the pointer stays there."""
    visit(tab, write(tmp_path / "page.html", "rgb"), "rgb")
    percent = lambda: float(of(tab, "percent", "textContent").removesuffix(" %"))  # noqa: E731
    place = lambda: tab.run("document.getElementById('decoded').getBoundingClientRect().toJSON()")  # noqa: E731
    stage = tab.run("document.getElementById('stage').getBoundingClientRect().toJSON()")
    fitted = percent()
    assert fitted == 100 * (min(stage["width"] / 45, stage["height"] / 37) // 1)
    assert of(tab, "picture", "classList.contains('enlarged')")
    of(tab, "actual", "click()")
    assert percent() == 100 and place()["width"] == 45 and not of(tab, "picture", "classList.contains('enlarged')")
    of(tab, "stage", "focus()")
    for key, wanted in (("+", 125), ("-", 100), ("0", fitted), ("1", 100)):
        tab.press(key)
        assert percent() == pytest.approx(wanted, rel=0.01)
    before = place()
    tab.press("ArrowRight")
    assert place()["x"] < before["x"] and place()["y"] == before["y"]
    box = place()
    x, y = round(box["x"] + 10), round(box["y"] + 30)  # wheels know whole pixels alone
    tab.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-500)
    tab.wait("parseFloat(document.getElementById('percent').textContent) > 150")
    scale = place()["width"] / 45
    assert [x - place()["x"], y - place()["y"]] == pytest.approx([scale * (x - box["x"]), scale * (y - box["y"])])
    before = place()
    tab.drag((x, y), (x + 40, y + 10), (x + 60, y + 25))
    after = place()
    assert [after["x"] - before["x"], after["y"] - before["y"]] == pytest.approx([60, 25])
    for kind, gap in (("touchStart", 20), ("touchMove", 40), ("touchEnd", None)):
        points = [] if gap is None else [{"x": 300 - gap, "y": 300, "id": 0}, {"x": 300 + gap, "y": 300, "id": 1}]
        tab.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    assert percent() == pytest.approx(200 * scale, rel=0.01)


def test_the_original_beside_it(tab: Browser, tmp_path: Path):
    """The slider, by keys and by its line, says where the original ends."""
    visit(tab, write(tmp_path / "page.html", "rgb", original="rgb"), "rgb")
    tab.wait("!document.getElementById('share').hidden")
    assert details(tab)["original"].startswith("original.png, 45 × 37 pixels, ")
    assert of(tab, "original", "alt") == "The original, original.png"
    shown = lambda: 45 - float(re.findall(r"inset\(0px ([\d.]+)", of(tab, "original", "style.clipPath"))[0])  # noqa: E731
    assert shown() == pytest.approx(22.5, abs=0.1)
    of(tab, "share", "focus()")
    tab.press("Home")
    assert (of(tab, "share", "value"), shown()) == ("0", 0)
    tab.press("ArrowRight")
    assert float(of(tab, "share", "value")) > 0
    box = tab.run("document.getElementById('decoded').getBoundingClientRect().toJSON()")
    edge = tab.run("document.getElementById('divider').getBoundingClientRect().x")
    tab.drag((edge + 4, 300), (300, 300), (box["x"] + box["width"] / 3, 310))
    assert shown() == pytest.approx(15, abs=0.5)
    assert tab.run("document.getElementById('decoded').getBoundingClientRect().x") == box["x"]  # it did not move
    of(tab, "drop-original", "click()")
    assert of(tab, "share", "hidden") and of(tab, "original", "hidden") and "original" not in details(tab)


def test_dropping(tab: Browser, tmp_path: Path):
    """A picture, then its model, then both of another, then an original of another size."""
    path = tmp_path / "page.html"
    path.write_bytes(page([]))
    tab.open(path.as_uri())
    tab.wait("!document.getElementById('hint').hidden")
    drop(tab, rgb_lrq=vector("rgb"))
    tab.wait("!document.getElementById('message').hidden")
    assert f"rgb.lrq: needs model {store.find('photo').fingerprint.hex()}" in of(tab, "message", "textContent")
    assert of(tab, "picture", "hidden")
    drop(tab, photo_lrqm=modelfile.save(store.find("photo").load()))
    shows(tab, "rgb")
    assert of(tab, "message", "hidden") and of(tab, "files", "hidden")
    drop(tab, mnist_lrq=vector("mnist"), mnist_lrqm=modelfile.save(store.find("mnist").load()))
    shows(tab, "mnist")
    assert tab.run("[...document.getElementById('files')].map(o => o.text)") == ["rgb.lrq", "mnist.lrq"]
    tab.run("{ const f = document.getElementById('files'); f.value = '0'; f.dispatchEvent(new Event('change')); }")
    shows(tab, "rgb")
    drop(tab, other_png=(VECTORS / "row" / "reference.png").read_bytes())
    tab.wait("!document.getElementById('share').hidden")
    assert details(tab)["original"].endswith("(stretched to the size of the picture)")


def test_damaged_files_take_one_line(tab: Browser, tmp_path: Path):
    visit(tab, write(tmp_path / "page.html", "rgb"), "rgb")
    for name, data, what in (
        ("a_lrq", b"", "not a valid .lrq file"),
        ("b_lrq", vector("rgb")[:10], "not a valid .lrq file"),
        ("c_lrq", DAMAGED.read_bytes(), "not a valid .lrq file"),
        ("d_lrqm", modelfile.save(store.find("mnist").load())[:-1], "not a model"),
        ("e_txt", b"text", "neither an .lrq file, nor a model, nor an image"),
    ):
        drop(tab, **{name: data})
        tab.wait(f"document.getElementById('message').textContent.startsWith('{name.replace('_', '.')}: ')")
        assert what in of(tab, "message", "textContent") and not of(tab, "message", "hidden")
        assert tab.run("document.title") == "rgb.lrq – lrq" and not of(tab, "picture", "hidden")


def test_what_cannot_be_read(tab: Browser, tmp_path: Path):
    """A folder that is dropped is such a file."""
    visit(tab, write(tmp_path / "page.html", "rgb"), "rgb")
    tab.run("File.prototype.arrayBuffer = () => Promise.reject(new DOMException('a folder', 'NotFoundError'))")
    drop(tab, folder_d=b"")
    tab.wait("document.getElementById('message').textContent == 'folder.d: cannot be read'")


def test_the_sources_of_the_page_work_on_a_server(tab: Browser):
    with server(ROOT / "formats" / "web") as made:
        tab.open(f"{made.url}/viewer.html")
        tab.wait("!document.getElementById('hint').hidden")
        drop(tab, photo_lrqm=modelfile.save(store.find("photo").load()), rgb_lrq=vector("rgb"))
        shows(tab, "rgb")
        tab.wait("document.getElementById('details').textContent.includes('first time')")
    tab.errors = [error for error in tab.errors if "404" not in error]  # of favicon.ico, which a server may have


def test_incomplete_files_are_drawn_with_a_notice(tab: Browser, tmp_path: Path):
    visit(tab, write(tmp_path / "page.html", "rgb"), "rgb")
    drop(tab, cut_lrq=vector("rgb")[:-20])
    shows(tab, "cut")
    assert "cut.lrq is cut short or damaged" in of(tab, "notice", "textContent") and of(tab, "message", "hidden")


def test_decoding_at_a_lower_resolution(tab: Browser, tmp_path: Path):
    visit(tab, write(tmp_path / "page.html", "rgb"), "rgb")
    before = tab.run("document.getElementById('decoded').getBoundingClientRect().toJSON()")
    tab.run("{ const s = document.getElementById('shrink'); s.value = '8'; s.dispatchEvent(new Event('change')); }")
    assert [of(tab, "decoded", "width"), of(tab, "decoded", "height")] == [6, 5]
    assert tab.run("document.getElementById('decoded').getBoundingClientRect().toJSON()") == before


def test_opening(tab: Browser, tmp_path: Path):
    """By the button, which is a file input."""
    path = write(tmp_path / "page.html", "grey")
    visit(tab, path, "grey")
    document = tab.call("DOM.getDocument")["root"]["nodeId"]
    node = tab.call("DOM.querySelector", nodeId=document, selector="#open")["nodeId"]
    (tmp_path / "rgb.lrq").write_bytes(vector("rgb"))
    tab.call("DOM.setFileInputFiles", files=[str(tmp_path / "rgb.lrq")], nodeId=node)
    shows(tab, "rgb")


def test_for_screen_readers(tab: Browser, tmp_path: Path):
    """Everything that takes the focus, and the picture, has a name."""
    visit(tab, write(tmp_path / "page.html", "rgb", "grey", original="rgb"), "rgb")
    tab.wait("!document.getElementById('share').hidden")
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    seen = [node for node in tree if not node.get("ignored")]
    nameless = [
        node["role"]["value"]
        for node in seen
        if any(p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", []))
        and node["role"]["value"] != "RootWebArea"
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    names = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in seen}
    assert ("image", "rgb.lrq, 45 × 37 pixels") in names or ("img", "rgb.lrq, 45 × 37 pixels") in names
    assert tab.run("document.documentElement.lang") == "en"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height", "scale"), [(1200, 800, 1), (390, 844, 3), (320, 568, 2)])
def test_layout(width: int, height: int, scale: float, dark: bool, tab: Browser, tmp_path: Path):
    """Nothing is wider than the window, the stage is large, and text is told from its background."""
    path = write(tmp_path / "page.html", "rgb", "grey", original="rgb")
    tab.size(width, height, scale, dark)
    visit(tab, path, "rgb")
    tab.wait("!document.getElementById('share').hidden")
    assert tab.run("document.documentElement.scrollWidth") <= width
    stage = tab.run("document.getElementById('stage').getBoundingClientRect().toJSON()")
    assert stage["width"] >= 0.75 * width and stage["height"] >= 0.5 * height
    colours = tab.run("['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])")
    back, text = (sum(map(int, re.findall(r"\d+", colour))) / 3 for colour in colours)
    assert (back < 60 and text > 200) if dark else (back > 200 and text < 60)
