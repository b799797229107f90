"""The time of whole processes that decode a small image, and of the steps inside them."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from ..errors import LrqError
from ..format import container
from .timing import Call, rounds

ROUNDS = 7
COMMAND, REFERENCE = "from lrcodec.cli.main import main; main()", "import numpy, PIL"
STEPS = (
    (REFERENCE, "import numpy, PIL.Image"),
    ("import onnxruntime", "import onnxruntime"),
    ("import lrcodec", "import lrcodec.cli, lrcodec.decoder, lrcodec.image_io"),
    ("load the pack", "decoder = lrcodec.decoder.Decoder(models); decoder.pack(lrcodec.probe(data))"),
    ("make the session", "decoder.graph(lrcodec.probe(data))"),
    ("decode", "pixels = decoder.decode(data)"),
    ("make the PNG", "lrcodec.image_io.write_image(pixels, '.png')"),
)
"""What `lrq decode` does, in order: name, and statements that see `data`, the file, and `models`, folders of packs."""
CHILD = """\
import json, sys, time
given = json.loads(sys.argv[1])
names, times = {"data": bytes.fromhex(given["data"]), "models": given["models"]}, {}
for name, code in given["steps"]:
    start = time.perf_counter()
    exec(code, names)
    times[name] = 1000 * (time.perf_counter() - start)
print(json.dumps(times))
"""


@dataclass(frozen=True)
class Process:
    """Milliseconds of whole processes: `lrq decode` of a small image, and Python with the statement `REFERENCE`.

    width, height: of the image, in pixels.
    steps: what `lrq decode` does, measured inside a process of its own, and last what is left of that process.
    """

    width: int
    height: int
    decode_ms: float
    reference_ms: float
    steps: dict[str, float]


def measure_process(data: bytes, models: Sequence[Path] = ()) -> Process:
    """The times of whole processes that decode a file, medians over `ROUNDS`. Raises LrqError if one fails.

    models: folders of packs that `lrq decode` must be told of.
    """
    header = container.unpack_header(data)
    given = {"data": data.hex(), "models": [str(path.resolve()) for path in models], "steps": STEPS}
    inside: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "small.lrq")
        source.write_bytes(data)
        options = [word for path in models for word in ("--model", path.resolve())]
        target = source.with_suffix(".png")
        calls: dict[Call, Callable[[], object]] = {
            Call("decode", 0): partial(_python, "-c", COMMAND, "decode", source, "-o", target, *options),
            Call("reference", 0): partial(_python, "-c", REFERENCE),
            Call("inside", 0): lambda: inside.append(json.loads(_python("-c", CHILD, json.dumps(given)))),
        }
        ms = {call.what: 1000 * median(values) for call, values in rounds(calls, ROUNDS).items()}
    timed = inside[1::2]  # see `rounds`
    steps = {name: median(times[name] for times in timed) for name, _ in STEPS}
    steps["start and end of Python, the rest"] = ms["inside"] - sum(steps.values())
    return Process(header.width, header.height, ms["decode"], ms["reference"], steps)


def _python(*arguments: object) -> str:
    """What a new process of Python prints. Raises LrqError if it fails."""
    command = [sys.executable, *map(str, arguments)]
    # In the folder of the package it is found, installed or not.
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    if done.returncode:
        raise LrqError(f"a process that was to be timed failed: {done.stderr.strip()[-200:]}")
    return done.stdout
