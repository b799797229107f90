"""The decoder in a browser beside the same as a program: `python tests/web_speed.py LRQDEC FILE.lrq...`.

LRQDEC: the program that `make -C formats/c` makes. Prints the milliseconds that a warm decode takes, with the model
open: medians of several rounds, in which browser and program take turns. Also what comes first in a browser: opening
the model, and the first decode.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path
from statistics import median

import browser

import lrcodec
from lrcodec.packs import modelfile, store

WEB = Path(__file__).parent.parent / "formats" / "web"
ROUNDS, RUNS = 7, 15

OPEN = """(async () => {
  window.lrq = await import("/lrq.js");
  const read = async (path) => (await fetch(path)).arrayBuffer();
  const [bytes, file] = [await read("/model.lrqm"), await read("/image.lrq")];
  await lrq.readHeader(file);  // the decoder is compiled
  const start = performance.now();
  const model = await lrq.openModel(bytes);
  const opened = performance.now();
  lrq.decode(file, model);
  window.time = () => {
    const start = performance.now();
    lrq.decode(file, model);
    return performance.now() - start;
  };
  return [opened - start, performance.now() - opened];
})()"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lrqdec", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    for path in arguments.files:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model, image = folder / "site" / "model.lrqm", folder / "site" / "image.lrq"
            shutil.copytree(WEB, folder / "site")
            image.write_bytes(path.read_bytes())
            model.write_bytes(modelfile.save(store.by_fingerprint(lrcodec.probe(image.read_bytes()).model).load()))
            (folder / "site" / "empty.html").write_text("<!doctype html><title>empty</title>")
            command = [arguments.lrqdec.resolve(), "--time", str(RUNS), model, image]
            inside, beside = [], []
            with browser.browser(folder / "profile") as tab, browser.server(folder / "site") as server:
                tab.open(f"{server.url}/empty.html")
                opened, first = tab.run(OPEN)
                for _ in range(ROUNDS):
                    inside.append(tab.run(f"Array.from({{length: {RUNS}}}, time).sort((a, b) => a - b)[{RUNS // 2}]"))
                    beside.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        ratio = median(one / other for one, other in zip(inside, beside, strict=True))
        print(
            f"{path.name}: {median(inside):.1f} ms in a browser, {median(beside):.1f} ms by lrqdec, {ratio:.2f} times;"
            f" model opened in {opened:.0f} ms, first decode {first:.0f} ms"
        )


if __name__ == "__main__":
    main()
