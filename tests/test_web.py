"""The decoder of formats/web, in a browser and in Node.js: pixels of all vectors, errors of all damaged files.

And the element `lrq-img`, which behaves like `img`.
"""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser as browsing
import pytest
from browser import Browser, Server
from PIL import Image

import lrcodec
from lrcodec.format import container, grid
from lrcodec.packs import modelfile, store

ROOT = Path(__file__).parent.parent
WEB = ROOT / "formats" / "web"
VECTORS = sorted(path.parent for path in ROOT.glob("formats/vectors/*/case.json"))
CORRUPT = json.loads((ROOT / "formats/corrupt/cases.json").read_text(encoding="utf-8"))

PROBE = """
async function probe(lrq, read, cases) {
  const models = {};
  const results = {};
  for (const {name, model, options} of cases) {
    models[model] ??= await lrq.openModel(await read(`models/${model}.lrqm`));
    const bytes = await read(`files/${name}.lrq`);
    try {
      const {data, width, height, incomplete} = lrq.decode(bytes, models[model], options);
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
      const sha256 = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      results[name] = {width, height, sha256, incomplete};
    } catch (error) {
      results[name] = error instanceof lrq.LrqError ? error.code : `${error.stack}`;
    }
  }
  return results;
}
"""
"""What comes of each case: size and SHA-256 of its pixels, the code of an error, or what must not happen."""


def case_of(folder: Path) -> dict[str, Any]:
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    options = {name: case[name] for name in ("shrink", "partial") if name in case}
    return {"name": folder.name, "model": case["model"], "options": options}


def wanted(folder: Path) -> dict[str, Any]:
    with Image.open(folder / "reference.png") as image:
        sha256 = hashlib.sha256(image.convert("RGBA").tobytes()).hexdigest()
        return {"width": image.width, "height": image.height, "sha256": sha256}


def model_of(file: str) -> str:
    """The model that a damaged file names, if that can still be read; else any."""
    names = {entry.fingerprint: entry.name for entry in store.shipped()}
    try:
        return names.get(lrcodec.probe((ROOT / "formats/corrupt" / file).read_bytes()).model, "photo")
    except lrcodec.LrqError:
        return "photo"


CASES = [case_of(folder) for folder in VECTORS] + [{"name": name, "model": model_of(name)} for name in CORRUPT]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it could be on a server: web/, models/ and files/."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(WEB, folder / "web")
    (folder / "models").mkdir()
    (folder / "files").mkdir()
    for entry in store.shipped():
        (folder / "models" / f"{entry.name}.lrqm").write_bytes(modelfile.save(entry.load()))
    for vector in VECTORS:
        shutil.copy(vector / "image.lrq", folder / "files" / f"{vector.name}.lrq")
    for name in CORRUPT:
        shutil.copy(ROOT / "formats/corrupt" / name, folder / "files" / f"{name}.lrq")
    data = (VECTORS[0].parent / "rgb" / "image.lrq").read_bytes()
    (folder / "files" / "cut.lrq").write_bytes(data[:-20])
    return folder


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[Server]:
    with browsing.server(site) as made:
        yield made


@pytest.fixture
def quiet(chromium: Browser, server: Server) -> Iterator[Browser]:
    """The browser, which must not have logged any error or warning at the end."""
    chromium.errors.clear()
    yield chromium
    server.policy = ""
    assert chromium.errors == []


def node(site: Path, script: str) -> Any:
    """What a module for Node.js returns, in JSON: it has `lrq`, `read(path)` and `probe`."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("no Node.js here")
    start = f"""
      import {{ readFile }} from "node:fs/promises";
      const lrq = await import("{(site / "web" / "lrq.js").as_uri()}");
      const read = (path) => readFile("{site}/" + path);
      lrq.loadDecoder(await read("web/lrqdec.wasm"));
      {PROBE}
      console.log(JSON.stringify(await (async () => {{ {script} }})()));
    """
    (site / "package.json").write_text('{"type": "module"}')  # what .js files are
    done = subprocess.run([program, "--input-type=module", "-e", start], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=["browser", "node"])
def decoded(request: pytest.FixtureRequest, site: Path) -> dict[str, Any]:
    """What comes of each of `CASES`."""
    cases = json.dumps(CASES)
    if request.param == "node":
        return node(site, f"return probe(lrq, read, {cases});")
    tab: Browser = request.getfixturevalue("chromium")
    server: Server = request.getfixturevalue("server")
    (site / "empty.html").write_text("<!doctype html><title>empty</title>")
    tab.open(f"{server.url}/empty.html")
    read = "async (path) => (await fetch('/' + path)).arrayBuffer()"
    return tab.run(f"(async () => {{ {PROBE} return probe(await import('/web/lrq.js'), {read}, {cases}); }})()")


def test_pixels_of_all_vectors(decoded: dict[str, Any]):
    found = {folder.name: decoded[folder.name] for folder in VECTORS}
    assert {name: type(result) for name, result in found.items() if not isinstance(result, dict)} == {}
    incomplete = {name for name, result in found.items() if result.pop("incomplete")}
    assert found == {folder.name: wanted(folder) for folder in VECTORS}
    assert incomplete <= {case["name"] for case in CASES if case.get("options", {}).get("partial")}


def test_errors_of_all_damaged_files(decoded: dict[str, Any]):
    """Metadata is left unread, as SPEC.md allows."""
    found = {name: decoded[name] for name in CORRUPT}
    pixels = {name for name, result in found.items() if isinstance(result, dict)}
    assert pixels == {name for name, case in CORRUPT.items() if case["metadata"]}
    assert {name: code for name, code in found.items() if name not in pixels} == {
        name: case["exit"] for name, case in CORRUPT.items() if not case["metadata"]
    }


# ---- the module


def test_errors_say_what_is_wrong(site: Path):
    """Each with its code."""
    header = container.Header(65535, 65535, 1, 0, 4, 12, 0, store.find("photo").fingerprint)
    (site / "files" / "huge.lrq").write_bytes(container.pack(header, [container.Chunk(b"I", b"")]))
    found = node(
        site,
        """
        const photo = await lrq.openModel(await read("models/photo.lrqm"));
        const rgb = await read("files/rgb.lrq");
        const damaged = await read("models/photo.lrqm");
        damaged[5000] ^= 1;
        const closed = await lrq.openModel(await read("models/mnist.lrqm"));
        closed.close();
        const attempts = {
          shrink: () => lrq.decode(rgb, photo, {shrink: 3}),
          memory: async () => lrq.decode(await read("files/huge.lrq"), photo, {maxPixels: 2 ** 32}),
          limit: () => lrq.decode(rgb, photo, {maxPixels: 45 * 37 - 1}),
          none: () => lrq.decode(rgb, photo, {maxPixels: 0}),
          bytes: () => lrq.decode("text", photo),
          closed: () => lrq.decode(rgb, closed),
          cut: () => lrq.decode(rgb.subarray(0, rgb.length - 20), photo),
          other: async () => lrq.decode(await read("files/mnist.lrq"), photo),
          model: () => lrq.openModel(damaged),
          noModel: () => lrq.openModel(rgb),
          header: () => lrq.readHeader(rgb.subarray(0, 10)),
        };
        const found = {};
        for (const [name, attempt] of Object.entries(attempts)) {
          try {
            await attempt();
          } catch (error) {
            found[name] = [error.name, error.code, error.message];
          }
        }
        return found;
        """,
    )
    codes = {"memory": 1, "shrink": 2, "limit": 5, "none": 2, "bytes": 2, "closed": 2, "cut": 3, "other": 4}
    codes |= {"model": 4, "noModel": 4, "header": 3}
    assert {name: code for name, (_, code, _) in found.items()} == codes
    assert all(name == "LrqError" and message and "\n" not in message for name, _, message in found.values())
    assert store.find("mnist").fingerprint.hex() in found["other"][2]


def test_headers(site: Path):
    files = ["rgb", "grey-alpha", "mnist", "iterations-32", "prime-sides"]
    found = node(
        site,
        f"""
        const found = {{}};
        for (const name of {files}) {{
          const start = (await read(`files/${{name}}.lrq`)).subarray(0, 64);
          found[name] = await lrq.readHeader(start);
        }}
        return found;
        """,
    )
    assert found == {name: lrcodec.probe((site / "files" / f"{name}.lrq").read_bytes()).describe() for name in files}


def test_incomplete_files_are_drawn_if_asked_for(site: Path):
    found = node(
        site,
        """
        const model = await lrq.openModel(await read("models/photo.lrqm"));
        const {width, height, incomplete} = lrq.decode(await read("files/cut.lrq"), model, {partial: true});
        const whole = lrq.decode(await read("files/rgb.lrq"), model, {partial: true});
        return [width, height, incomplete, whole.incomplete];
        """,
    )
    assert found == [45, 37, True, False]


def test_shrinking(site: Path):
    found = node(
        site,
        """
        const model = await lrq.openModel(await read("models/photo.lrqm"));
        const rgb = await read("files/rgb.lrq");
        return lrq.SHRINKS.map((shrink) => {
          const {data, width, height} = lrq.decode(rgb, model, {shrink});
          return [width, height, data.length];
        });
        """,
    )
    sizes = [(-(-45 // s), -(-37 // s)) for s in (1, 2, 4, 8, 16)]
    assert found == [[w, h, 4 * w * h] for w, h in sizes]


def test_memory_is_freed(site: Path):
    """Many images take no more than one; after a large one the decoder starts anew."""
    pack = store.find("photo").load()
    header = container.Header(4096, 4096, 1, 0, 4, 12, 0, pack.fingerprint)
    strips = grid.strips(pack.scales, 4096, 4096)
    large = site / "files" / "large.lrq"
    large.write_bytes(container.pack(header, [container.Chunk(b"I", b"") for _ in strips]))
    found = node(
        site,
        """
        const Real = WebAssembly.Instance, made = [];
        WebAssembly.Instance = class { constructor(module) { made.push(new Real(module)); return made.at(-1); } };
        const size = () => made.at(-1).exports.memory.buffer.byteLength;
        const model = await lrq.openModel(await read("models/photo.lrqm"));
        const rgb = await read("files/rgb.lrq"), large = await read("files/large.lrq");
        lrq.decode(rgb, model);
        const first = size();
        for (let i = 0; i < 200; i++) lrq.decode(rgb, model);
        const many = size();
        const {width, height} = lrq.decode(large, model);
        const grown = size();
        lrq.decode(rgb, model);
        return {first, many, grown, again: size(), instances: made.length, width, height};
        """,
    )
    assert found["first"] == found["many"] == found["again"] < found["grown"]
    assert (found["instances"], found["width"], found["height"]) == (2, 4096, 4096)
    assert found["first"] < 2 * (site / "models" / "photo.lrqm").stat().st_size + 2**23


def test_a_fault_spoils_nothing(site: Path):
    """A decoder that fails as none should is given up: the next image gets another."""
    found = node(
        site,
        """
        const Real = WebAssembly.Instance;
        let faults = 1;
        const decode = (real) => (...given) => {
          if (faults-- > 0) throw new WebAssembly.RuntimeError("unreachable");
          return real(...given);
        };
        WebAssembly.Instance = function (module) {
          const { exports } = new Real(module);
          return { exports: { ...exports, decode: decode(exports.decode) } };
        };
        const model = await lrq.openModel(await read("models/photo.lrqm")), rgb = await read("files/rgb.lrq");
        let fault = null;
        try {
          lrq.decode(rgb, model);
        } catch (error) {
          fault = error.name;
        }
        return [fault, lrq.decode(rgb, model).width];
        """,
    )
    assert found == ["RuntimeError", 45]


# ---- docs/web.md

PAGE = (ROOT / "docs" / "web.md").read_text(encoding="utf-8")


@pytest.fixture
def documented(site: Path) -> Path:
    """A folder of the server as docs/web.md has it."""
    folder = site / "documented"
    if not folder.exists():
        (folder / "lrq").mkdir(parents=True)
        for name in ("lrq.js", "lrq-img.js", "lrqdec.wasm"):
            shutil.copy(WEB / name, folder / "lrq")
        shutil.copy(site / "models" / "photo.lrqm", folder)
        shutil.copy(site / "files" / "rgb.lrq", folder / "photo.lrq")
    return folder


def example(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return text


def test_the_element_of_the_documentation(documented: Path, quiet: Browser, server: Server):
    (documented / "element.html").write_text(example("html"))
    quiet.open(f"{server.url}/documented/element.html")
    quiet.wait("[...document.querySelectorAll('lrq-img')].every(image => image.naturalWidth)")
    sizes = "[...document.querySelectorAll('lrq-img')].map(image => [image.naturalWidth, image.naturalHeight])"
    assert quiet.run(sizes) == [[45, 37], [6, 5]]


def test_the_module_of_the_documentation(documented: Path, quiet: Browser, server: Server):
    server.policy = "script-src 'self' 'wasm-unsafe-eval'"
    (documented / "example.js").write_text(example("js") + "window.seen = [width, height, fingerprint, model, image];")
    html = "<!doctype html><canvas></canvas><script type=module src=example.js></script>"
    (documented / "module.html").write_text(html)
    quiet.open(f"{server.url}/documented/module.html")
    quiet.wait("window.seen")
    assert quiet.run("seen.slice(0, 2)") == [45, 37] and quiet.run("seen[2] == seen[3].fingerprint")
    pixels = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 45, 37).data.join()"
    assert quiet.run(pixels) == quiet.run("seen[4].data.join()")


# ---- the file lrqdec.wasm


def test_the_decoder_is_small():
    assert (WEB / "lrqdec.wasm").stat().st_size <= 60_000


def test_the_decoder_is_what_the_makefile_makes(tmp_path: Path):
    """If not: `make -C formats/web`, and commit the new lrqdec.wasm."""
    made_by = re.search(r"clang and wasm-ld ([\d.]+\d)", (WEB / "Makefile").read_text(encoding="utf-8"))
    assert made_by
    for program in ("clang", "wasm-ld", "make"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here")
        version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        if program != "make" and f" {made_by[1]}" not in version:
            pytest.skip(f"lrqdec.wasm was made by {program} {made_by[1]}, and here is another version")
    made = tmp_path / "made.wasm"
    subprocess.run(["make", "--silent", "-C", WEB, f"OUT={made}"], check=True)
    assert made.read_bytes() == (WEB / "lrqdec.wasm").read_bytes()


# ---- the element

POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; style-src 'self'"


def show(tab: Browser, server: Server, site: Path, body: str) -> None:
    """Open a page with elements in it, under a strict policy, which notes their events in `seen`."""
    (site / "note.js").write_text(
        "window.seen = [];\n"
        "for (const type of ['load', 'error'])\n"
        "  document.addEventListener(type, ({target}) => target.id && seen.push(`${type} ${target.id}`), true);\n"
    )
    (site / "page.html").write_text(
        "<!doctype html><title>page</title><script src='note.js'></script>"
        f"<script type='module' src='web/lrq-img.js'></script><body>{body}"
    )
    server.policy, server.asked = POLICY, []
    tab.size(1000, 800)
    tab.open(f"{server.url}/page.html")


def value(tab: Browser, name: str, of: str = "one") -> Any:
    return tab.run(f"document.getElementById('{of}').{name}")


def test_the_element_loads(quiet: Browser, server: Server, site: Path):
    """Two share a model, of which one does not name it; the pixels are those of the file."""
    show(
        quiet,
        server,
        site,
        "<lrq-img id=one src=files/rgb.lrq model=models/photo.lrqm alt='A photograph'></lrq-img>"
        "<lrq-img id=two src=files/rgba.lrq model=models/photo.lrqm alt=''></lrq-img>"
        "<lrq-img id=three src=files/rgb.lrq shrink=8 alt='Small'></lrq-img>",
    )
    quiet.wait("seen.length == 3")
    assert sorted(quiet.run("seen")) == ["load one", "load three", "load two"]
    assert server.asked.count("/models/photo.lrqm") == 1
    for name, size in (("one", [45, 37]), ("three", [6, 5])):
        assert [value(quiet, "naturalWidth", name), value(quiet, "naturalHeight", name)] == size
        box = value(quiet, "getBoundingClientRect().toJSON()", name)
        assert [box["width"], box["height"]] == size
    assert value(quiet, "complete") and value(quiet, "error") is None and not value(quiet, "incomplete")
    drawn = "getContext('2d').getImageData(0, 0, 45, 37).data"
    pixels = quiet.run(f"[...document.getElementById('one').shadowRoot.querySelector('canvas').{drawn}]")
    with Image.open(VECTORS[0].parent / "rgb" / "reference.png") as image:
        assert bytes(pixels) == image.convert("RGBA").tobytes()
    tree = quiet.call("Accessibility.getFullAXTree")["nodes"]
    images = [node["name"]["value"] for node in tree if node.get("role", {}).get("value") in ("image", "img")]
    assert sorted(images) == ["A photograph", "Small"]


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ("width=90", [90, 74]),
        ("height=74", [90, 74]),
        ("width=30 height=20", [30, 20]),
        ("class=wide width=30", [120, 37 * 120 / 45]),
    ],
)
def test_size_of_the_element(attributes: str, size: list[float], quiet: Browser, server: Server, site: Path):
    """As that of img: attributes, which give way to style sheets, and the ratio of the picture."""
    (site / "style.css").write_text(".wide { width: 120px }")
    show(
        quiet,
        server,
        site,
        "<link rel=stylesheet href=style.css>"
        f"<lrq-img id=one {attributes} src=files/rgb.lrq model=models/photo.lrqm></lrq-img>",
    )
    quiet.wait("seen.length == 1")
    box = value(quiet, "getBoundingClientRect().toJSON()")
    assert [box["width"], box["height"]] == pytest.approx(size, abs=0.1)


def test_room_is_kept_before_the_picture_comes(quiet: Browser, server: Server, site: Path):
    show(quiet, server, site, "<lrq-img id=one width=300 height=200></lrq-img>")
    quiet.wait("document.getElementById('one').shadowRoot")
    box = value(quiet, "getBoundingClientRect().toJSON()")
    assert [box["width"], box["height"]] == [300, 200]


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ("src=files/03-crc.lrq.lrq model=models/photo.lrqm", 3),
        ("src=files/cut.lrq model=models/photo.lrqm", 3),
        ("src=files/mnist.lrq model=models/photo.lrqm", 4),
        ("src=files/rgb.lrq", 4),
        ("src=files/rgb.lrq model=files/rgb.lrq", 4),
        ("src=files/rgb.lrq model=models/photo.lrqm shrink=5", 2),
    ],
)
def test_the_element_fails(attributes: str, code: int, quiet: Browser, server: Server, site: Path):
    """With an event, a reason, and the description in place of the picture; then another file loads."""
    show(quiet, server, site, f"<lrq-img id=one {attributes} alt='Not there'></lrq-img>")
    quiet.wait("seen.length == 1")
    assert quiet.run("seen") == ["error one"] and value(quiet, "error.code") == code
    assert value(quiet, "complete") and value(quiet, "naturalWidth") == 0
    assert value(quiet, "shadowRoot.textContent") == "Not there"
    assert quiet.run("document.getElementById('one').decode().catch(error => error.code)") == code
    quiet.run(
        "{ const one = document.getElementById('one'); one.src = 'files/rgb.lrq';"
        " one.setAttribute('model', 'models/photo.lrqm'); one.removeAttribute('shrink'); }"
    )
    quiet.wait("seen.length == 2")
    assert quiet.run("seen") == ["error one", "load one"] and value(quiet, "shadowRoot.textContent") == ""
    assert value(quiet, "error") is None and value(quiet, "naturalWidth") == 45


def test_files_that_are_missing(chromium: Browser, server: Server, site: Path):
    """The browser itself logs them, as for img."""
    show(chromium, server, site, "<lrq-img id=one src=files/none.lrq model=models/photo.lrqm alt=x></lrq-img>")
    chromium.wait("seen.length == 1")
    assert value(chromium, "error.code") == 1 and "404" in value(chromium, "error.message")
    server.policy = ""


def test_an_incomplete_file_in_the_element(quiet: Browser, server: Server, site: Path):
    show(quiet, server, site, "<lrq-img id=one src=files/cut.lrq model=models/photo.lrqm partial></lrq-img>")
    quiet.wait("seen.length == 1")
    assert quiet.run("seen") == ["load one"] and value(quiet, "incomplete") and value(quiet, "naturalWidth") == 45


def test_lazy_loading(quiet: Browser, server: Server, site: Path):
    (site / "style.css").write_text(".far { height: 5000px }")
    show(
        quiet,
        server,
        site,
        "<link rel=stylesheet href=style.css><lrq-img id=one src=files/rgb.lrq model=models/photo.lrqm></lrq-img>"
        "<p class=far></p><lrq-img id=two src=files/rgba.lrq model=models/photo.lrqm loading=lazy></lrq-img>",
    )
    quiet.wait("seen.includes('load one')")
    assert "/files/rgba.lrq" not in server.asked and not value(quiet, "complete", "two")
    quiet.run("document.getElementById('two').scrollIntoView()")
    quiet.wait("seen.includes('load two')")


def test_the_last_of_many_changes_counts(quiet: Browser, server: Server, site: Path):
    show(quiet, server, site, "<lrq-img id=one src=files/rgb.lrq model=models/photo.lrqm></lrq-img>")
    quiet.wait("document.getElementById('one').shadowRoot")
    quiet.run("for (const name of ['grey', 'column', 'row']) document.getElementById('one').src = `files/${name}.lrq`")
    quiet.wait("document.getElementById('one').complete && document.getElementById('one').naturalWidth")
    with Image.open(VECTORS[0].parent / "row" / "reference.png") as image:
        assert [value(quiet, "naturalWidth"), value(quiet, "naturalHeight")] == [*image.size]
