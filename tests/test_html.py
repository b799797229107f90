"""The page that `lrq bench --html` writes: whole in itself, valid, and working in a browser."""

import base64
import io
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from browser import find
from PIL import Image

from lrcodec.measure import html
from lrcodec.measure.bench import LRQ, Curve, Result, Row, bench, means
from lrcodec.measure.classic import classic_encode
from lrcodec.measure.curves import bd_rates
from lrcodec.measure.html import Gallery, page

NAMES = ['a & "b" <script>alert(1)</script>.png', "grey.png", "tiny.png"]
QUALITIES, ANCHORS = (10, 40, 60, 80), ("jpeg", "webp")
OURS = [Curve(LRQ, rank, "eye") for rank in (1, 2)]
VOID = {"meta", "link", "br", "input", "img"}


class Codec:
    """JPEG; at rank 2 with bytes added behind it, so that its files are a little larger."""

    def encode(self, image, quality, curve):
        return classic_encode(image, "jpeg", quality) + bytes(50 * (curve.rank - 1))

    def decode(self, data):
        return np.asarray(Image.open(io.BytesIO(data)))

    def macs(self, data):
        return SimpleNamespace(low_rank=1.0, prediction=2.5, smoothing=216.0, colour=9.0)


def picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    planes = [128 + 90 * np.sin(x / (5 + 3 * c) + y / 40) * np.cos(y / 7) for c in range(3)]
    return np.stack(planes, -1).astype(np.uint8)


class Page(HTMLParser):
    """The elements of a page as (tag, attributes), and all its text. Fails where tags do not nest."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def measured() -> SimpleNamespace:
    images = [picture(190, 210), picture(120, 100)[:, :, 0], picture(20, 28)]
    gallery, codec = Gallery(3, len(OURS) + len(ANCHORS), QUALITIES), Codec()
    assert gallery.side == html.MAX_SIDE  # of so few pictures
    gallery.side = 150  # small images, because MS-SSIM takes long
    named = zip(NAMES, images, strict=True)
    result = bench(named, OURS, QUALITIES, codec.encode, codec, ANCHORS, look=gallery.add)
    text = page(result, gallery, per_image=True, bpp=(0.01, 20))
    return SimpleNamespace(images=images, gallery=gallery, result=result, text=text, page=Page(text))


def test_everything_is_inside(measured):
    references = [
        value
        for _, attributes in measured.page.elements
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster", "style") and value
    ]
    inside = {attributes["id"] for _, attributes in measured.page.elements if "id" in attributes}
    for value in references:
        if value.startswith("#"):
            assert value[1:] in inside
        else:
            assert value.startswith("data:") or ":" in value and "url(" not in value, value[:80]
    assert {match for match in re.findall(r"url\(([^)]*)\)", measured.text)} <= {f"#{name}" for name in inside}
    assert not measured.page.all("script") and "@import" not in measured.text
    policy = next(meta["content"] for meta in measured.page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_no_id_is_used_twice(measured):
    ids = [attributes["id"] for _, attributes in measured.page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 0


def test_names_are_escaped(measured):
    assert NAMES[0] in measured.page.text
    assert any(image["alt"].startswith(NAMES[0]) for image in measured.page.all("img"))
    assert "alert(1)" in measured.text and "<script" not in measured.text


def test_what_helps_to_read_it(measured):
    assert measured.page.all("html") == [{"lang": "en"}]
    assert "<title>lrq bench: 3 images</title>" in measured.text
    for image in measured.page.all("img"):
        assert image["alt"] and int(image["width"]) > 0 and int(image["height"]) > 0
    for svg in measured.page.all("svg"):
        assert svg["role"] == "img" and svg["aria-label"]
    assert len(measured.page.all("legend")) == len(measured.page.all("fieldset")) == 2
    assert len(measured.page.all("label")) == len(measured.page.all("input"))


def test_tables_hold_the_figures(measured):
    mean_rows = means(measured.result.rows)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", measured.text)
    assert {f"{row.bpp:.4f}" for row in [*mean_rows, *measured.result.rows]} <= set(cells)
    assert {f"{row.psnr:.2f}" for row in [*mean_rows, *measured.result.rows]} <= set(cells)
    rates = bd_rates(mean_rows, (0.01, 20))
    assert {f"{bd.percent:+.1f} %" for bd in rates} <= set(cells) and rates
    assert f"where {LRQ} takes 0.01 to 20 bpp" in measured.page.text
    assert len(measured.page.all("table")) == 3
    without = page(measured.result, measured.gallery)
    assert without.count("<table>") == 2 and "where lrq takes" not in without


def test_curves_are_drawn(measured):
    assert len(measured.page.all("svg")) == 2  # MS-SSIM is known of one image
    for name in ("lrq rank 1 eye", "lrq rank 2 eye", *ANCHORS, "PSNR in dB", "MS-SSIM in dB", "bits per pixel"):
        assert name in measured.page.text


def test_the_closest_files_are_shown(measured):
    """For each rate of the first rank the file of each codec that is nearest in size, and its own picture."""
    assert measured.gallery.qualities == [10, 60, 80]
    rows = measured.result.rows
    for shown, image in zip(measured.gallery.images, measured.images, strict=True):
        assert (shown.height, shown.width) == image.shape[:2]
        own = [row for row in rows if row.image == shown.name]
        for level, quality in enumerate(measured.gallery.qualities):
            (wanted,) = (row.bytes for row in own if (row.codec, row.rank, row.setting) == (LRQ, 1, quality))
            for curve, choices in shown.choices.items():
                row, decoded = choices[level]
                files = [r for r in own if r.curve == curve]
                ratio = max(row.bytes / wanted, wanted / row.bytes)
                assert row in files and ratio == min(max(r.bytes / wanted, wanted / r.bytes) for r in files)
                assert decoded.shape == shown.original.shape
                if curve.codec == "jpeg":
                    whole = Codec().decode(classic_encode(image, "jpeg", row.setting))
                    assert any(
                        np.array_equal(decoded, whole[y : y + len(decoded), x : x + decoded.shape[1]])
                        for y in [(whole.shape[0] - len(decoded)) // 2]
                        for x in [(whole.shape[1] - decoded.shape[1]) // 2]
                    )


def test_pictures_are_what_they_say(measured):
    found = [
        Image.open(io.BytesIO(base64.b64decode(image["src"].partition("base64,")[2])))
        for image in measured.page.all("img")
    ]
    originals = [image for image, attributes in zip(found, measured.page.all("img"), strict=True)
                 if attributes["alt"].endswith(", original")]  # fmt: skip
    assert [image.size for image in originals] == [(150, 150), (100, 120), (28, 20)]
    tiny = next(a for a in measured.page.all("img") if a["alt"] == "tiny.png, original")
    assert (tiny["width"], tiny["height"]) == ("168", "120")
    assert np.array_equal(np.asarray(originals[2].convert("RGB")), measured.images[2])  # small ones are exact
    assert np.abs(np.asarray(originals[0].convert("RGB"), int) - measured.images[0][20:170, 30:180]).mean() < 6


def test_the_page_stays_small(monkeypatch):
    """Noise, which nothing makes small, and more images than are shown: about a byte for each pixel that is allowed."""
    monkeypatch.setattr(html, "PICTURE_PIXELS", 2**19)
    monkeypatch.setattr(html, "MAX_IMAGES", 4)
    random, rows = np.random.default_rng(1), []
    gallery = Gallery(7, 2, range(0, 101, 10))
    for number in range(7):
        image = random.integers(0, 256, (150, 160, 3), np.uint8)
        for codec, rank, setting, size in (
            (LRQ, 2, 0, 900),
            (LRQ, 2, 50, 2000),
            (LRQ, 2, 100, 9000),
            ("jpeg", 0, 1, 950),
        ):
            row = Row(f"{number}.png", codec, setting, rank, "eye", size, 0.1, 9.0, 1e-2, *[20.0] * 3, 0.5, *[1.0] * 7)
            gallery.add(row, image, image)
            rows.append(row)
    side = gallery.side
    assert html.MIN_SIDE < side and 4 * 7 * side**2 <= html.PICTURE_PIXELS
    assert [shown.original.shape for shown in gallery.images] == 4 * [(side, side, 3)]
    text = page(Result(rows), gallery)
    assert "3 more images are not shown" in text
    assert len(text) < html.PICTURE_PIXELS + 100_000


@pytest.mark.parametrize("images", [0, 1])
def test_little_to_show(images: int):
    """No images at all; one quality, and neither a classic codec nor MS-SSIM."""
    codec, gallery = Codec(), Gallery(images, 1, (50,))
    named = [("one.png", picture(40, 30))][:images]
    result = bench(named, OURS[:1], (50,), codec.encode, codec, (), look=gallery.add)
    text = page(result, gallery)
    assert len(Page(text).all("img")) == 2 * images
    assert text.count("<svg") == images


# ---- in a browser

PROBE = """<script>
const errors = [];
addEventListener("error", event => errors.push(event.message || "resource"), true);
addEventListener("securitypolicyviolation", event => errors.push(event.violatedDirective));
addEventListener("load", () => {
  for (const image of document.images) if (!image.complete || !image.naturalWidth) errors.push(image.alt);
  const visible = () => [...document.querySelectorAll("figure")].map(f => f.checkVisibility() ? "1" : "0").join("");
  const top = () => [...document.querySelectorAll("section")].map(s => s.getBoundingClientRect().top).join();
  const radios = name => [...document.querySelectorAll(`input[name=${name}]`)];
  const places = new Set(), seen = [];
  for (const codec of radios("codec")) for (const rate of radios("rate")) {
    codec.click(); rate.click();
    seen.push(`${codec.id}-${rate.id}:${visible()}`); places.add(top());
  }
  const wide = document.documentElement.scrollWidth > innerWidth;
  document.body.innerHTML = `<pre id=probe>${JSON.stringify({seen, errors, shifts: places.size, wide})}</pre>`;
});
</script>"""


def browse(file: Path, width: int) -> subprocess.CompletedProcess[str]:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    options += [
        f"--user-data-dir={file.parent / 'profile'}",
        f"--window-size={width},800",
        "--virtual-time-budget=20000",
    ]
    command = [find(), *options, "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_nothing_goes_wrong_in_a_browser(measured, tmp_path: Path):
    """As it is, under its own policy: nothing is logged to the console."""
    file = tmp_path / "page.html"
    file.write_text(measured.text, encoding="utf-8")
    done = browse(file, 1200)
    assert done.returncode == 0 and "lrq bench: 3 images" in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr


@pytest.mark.parametrize("width", [1200, 500])  # a headless Chromium makes no narrower windows
def test_switching_in_a_browser(measured, tmp_path: Path, width: int):
    """A copy that may run a script, which clicks through everything: one picture beside each original, in its place."""
    import json

    allowed = measured.text.replace("img-src data:;", "img-src data:; script-src 'unsafe-inline';")
    file = tmp_path / "page.html"
    file.write_text(allowed.replace("</head>", PROBE + "</head>"), encoding="utf-8")
    done = browse(file, width)
    probe = json.loads(re.findall(r"<pre id=\"probe\">(.*?)</pre>", done.stdout)[0])
    assert probe["errors"] == [] and probe["shifts"] == 1 and not probe["wide"]
    figures = [attributes.get("class", "") for attributes in measured.page.all("figure")]
    expected = [
        f"c{c}-r{r}:" + "".join(str(int(not own or {f"c{c}", f"r{r}"} <= set(own.split()))) for own in figures)
        for c in range(len(OURS) + len(ANCHORS))
        for r in range(3)
    ]
    assert probe["seen"] == expected
    assert all(line.partition(":")[2].count("1") == 2 * len(measured.images) for line in expected)
