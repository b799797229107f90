"""The page that shows .lrq files in a browser: formats/web/viewer.html, with all that it needs in one file.

It needs neither server nor network: decoder, files and models are inside, as base64. Its policy lets it load nothing.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parent
SCRIPTS = ("lrq.js", "zoom.js", "viewer.js")
"""In the order in which they are joined: each uses those before it."""
MARK = "<!-- Written by lrq view. -->"


def page(files: Iterable[tuple[str, bytes]]) -> bytes:
    """The page with files inside, (name, content) each: .lrq files, their models (.lrqm), and an original to compare.

    The first .lrq file is shown, beside the last original. What else a file may be, the page finds out.
    """
    folder = next(path for path in (PACKAGE / "web", PACKAGE.parent / "formats" / "web") if path.is_dir())
    style, *scripts = ((folder / name).read_text(encoding="utf-8") for name in ("viewer.css", *SCRIPTS))
    script = "\n".join(re.sub(r'^import .* from "\./.*";\n', "", text, flags=re.MULTILINE) for text in scripts)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_source(script)} 'wasm-unsafe-eval'",
            f"style-src {_source(style)}",
            "img-src blob:",
        )
    )
    data = [_data('id="lrqdec"', (folder / "lrqdec.wasm").read_bytes())]
    data += [_data(f'data-name="{html.escape(name)}"', content) for name, content in files]
    meta = '<meta charset="utf-8">'
    text = (folder / "viewer.html").read_text(encoding="utf-8")
    for place, content in {
        "<!doctype html>": f"<!doctype html>\n{MARK}",
        meta: f'{meta}\n<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<link rel="stylesheet" href="viewer.css">': f"<style>{style}</style>",
        '<script type="module" src="viewer.js"></script>': "\n".join(
            [*data, f'<script type="module">{script}</script>']
        ),
    }.items():
        text = text.replace(place, content, 1)
    return text.encode(errors="replace")  # a name may be no text


def is_page(path: Path) -> bool:
    """Whether there is a file of this name which `page` made."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(100)
    except OSError:
        return False


def _source(text: str) -> str:
    """The source expression of a policy that allows this text, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(attribute: str, content: bytes) -> str:
    """An element that holds bytes; a script of a type that no browser runs."""
    return f'<script type="application/octet-stream" {attribute}>{base64.b64encode(content).decode()}</script>'
