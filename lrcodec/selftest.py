"""Whether every way of decoding that is here gives the pixels that the vectors of formats/vectors must have."""

import hashlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime as ort

from .decoder import Decoder
from .decoder.graph import Graph
from .decoder.session import open_session, session_options
from .errors import INCOMPLETE, LrqError
from .format.container import Header
from .packs import modelfile, store
from .packs.pack import Pack
from .runtime import cores

PACKAGE = Path(__file__).parent
LRQDEC = PACKAGE.parent / "formats" / "c" / "lrqdec"
"""Where a checkout has the decoder in C, once it is built."""
LEVELS = dict(ort.GraphOptimizationLevel.__members__)
"""Those that this version of ONNX Runtime has, by their names."""


@dataclass(frozen=True)
class Vector:
    """A file and what it decodes to. formats/README.md says what a case holds."""

    name: str
    path: Path
    case: dict[str, Any]

    @property
    def shrink(self) -> int:
        """At which part of its size it is decoded."""
        return self.case.get("shrink", 1)

    @property
    def partial(self) -> bool:
        """Whether what is left of it is decoded."""
        return self.case.get("partial", False)


class Decoded(NamedTuple):
    """pixels: one byte a sample, the channels of a pixel together. code: the exit code, 0 or `INCOMPLETE`."""

    pixels: bytes
    code: int


class Way(NamedTuple):
    """A way of decoding. start: gives the function that decodes one vector; the time that it takes counts."""

    name: str
    start: Callable[[], Callable[[Vector], Decoded]]


class Outcome(NamedTuple):
    """What a way made of all vectors. wrong: by the name of each vector that failed, how."""

    name: str
    vectors: int
    seconds: float
    wrong: dict[str, str]


def vectors() -> tuple[list[Vector], list[Vector]]:
    """Those whose models are here, and those whose models a wheel leaves out.

    Raises LrqError if one is not as it came, or if there is none to decode.
    """
    folder = next(path for path in (PACKAGE / "vectors", PACKAGE.parent / "formats" / "vectors") if path.is_dir())
    found = [_read(path) for path in sorted(folder.iterdir()) if path.is_dir()]
    here = {entry.name for entry in store.shipped()}
    known = [vector for vector in found if vector.case["model"] in here]
    if not known:
        raise LrqError("no vector can be decoded: no model that they need is here")
    return known, [vector for vector in found if vector.case["model"] not in here]


def _read(folder: Path) -> Vector:
    try:
        case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        sound = hashlib.sha256((folder / "image.lrq").read_bytes()).hexdigest() == case["file_sha256"]
        sound = sound and {"model", "pixels_sha256"} <= {*case}
    except (OSError, ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise LrqError(f"vector {folder.name} is damaged: it is not as it came")
    return Vector(folder.name, folder / "image.lrq", case)


def ways(programs: Sequence[Path] = ()) -> list[Way]:
    """ONNX Runtime at each level of optimisation and with several numbers of threads, and decoders in C.

    programs: builds of formats/c/lrqdec.c; by default that of a checkout, if it is there.
    """
    found = []
    for name, level in LEVELS.items():
        for threads in sorted({1, 2, cores()}):
            title = f"ONNX Runtime, {name}, {threads} thread{'s' * (threads > 1)}"
            found.append(Way(title, partial(_in_onnxruntime, level, threads)))
    programs = programs or [program for program in [LRQDEC] if program.is_file()]
    return found + [Way(f"C, {program}", partial(_in_c, program)) for program in programs]


def outcome(way: Way, known: Sequence[Vector]) -> Outcome:
    """Decode all vectors. Raises OSError for a program that cannot be started."""
    wrong, start = {}, time.perf_counter()
    decode = way.start()
    for vector in known:
        if what := _wrong(vector, decode):
            wrong[vector.name] = what
    return Outcome(way.name, len(known), time.perf_counter() - start, wrong)


def _wrong(vector: Vector, decode: Callable[[Vector], Decoded]) -> str | None:
    """What is wrong with what is decoded, in a line; None if nothing is."""
    try:
        pixels, code = decode(vector)
    except OSError:
        raise
    except Exception as error:  # whatever it is, the others go on
        return f"{type(error).__name__}: {error}"
    digest, want = hashlib.sha256(pixels).hexdigest(), vector.case["pixels_sha256"]
    if digest != want:
        return f"the pixels have SHA-256 {digest}, not {want}"
    expected = vector.case.get("exit", 0)
    return None if code == expected else f"the exit code is {code}, not {expected}"


class _Optimised(Decoder):
    """A decoder whose sessions ONNX Runtime optimises up to a level."""

    def __init__(self, level: ort.GraphOptimizationLevel, threads: int):
        super().__init__(threads=threads)
        self.level = level
        self._sessions: dict[tuple[bytes, int, int, int], Graph] = {}

    def _options(self, threads: int) -> ort.SessionOptions:
        options = session_options(threads)
        options.graph_optimization_level = self.level
        return options

    def pack(self, header: Header) -> Pack:
        pack = super().pack(header)
        if pack.multiplier is None:
            pack.multiplier = open_session(pack, pack.codewords_graph, self._options(1))
        return pack

    def graph(self, header: Header, threads: int | None = None) -> Graph:
        threads = threads or self.threads
        key = header.model, header.colour, header.smoothing, threads
        if key not in self._sessions:
            options = self._options(threads)
            self._sessions[key] = Graph(self.pack(header), header.colour, bool(header.smoothing), options=options)
        return self._sessions[key]


def _in_onnxruntime(level: ort.GraphOptimizationLevel, threads: int) -> Callable[[Vector], Decoded]:
    """Decodes with this package."""
    decoder = _Optimised(level, threads)

    def decode(vector: Vector) -> Decoded:
        data = vector.path.read_bytes()
        if vector.partial:
            pixels, missing = decoder.preview(data, vector.shrink)
            return Decoded(pixels.tobytes(), INCOMPLETE if missing else 0)
        return Decoded(decoder.decode(data, vector.shrink).tobytes(), 0)

    return decode


def _in_c(program: Path) -> Callable[[Vector], Decoded]:
    """Decodes with a build of formats/c/lrqdec.c."""
    folder = tempfile.TemporaryDirectory(prefix="lrq-")  # removed with the function that uses it
    models: dict[str, Path] = {}

    def decode(vector: Vector) -> Decoded:
        name = vector.case["model"]
        if name not in models:
            models[name] = Path(folder.name, f"{name}.lrqm")
            models[name].write_bytes(modelfile.save(store.find(name).load()))
        out = Path(folder.name, "out.pam")
        out.unlink(missing_ok=True)
        options = ["--shrink", str(vector.shrink)] * (vector.shrink > 1) + ["--partial"] * vector.partial
        command = [str(program.absolute()), *options, *map(str, (models[name], vector.path, out))]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if not out.is_file():
            raise LrqError(f"exit code {result.returncode}, {result.stderr.strip() or 'and no file'}")
        return Decoded(out.read_bytes().partition(b"ENDHDR\n")[2], result.returncode)

    return decode
