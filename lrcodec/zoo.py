"""Model packs: folders with decoder graphs, tables and encoder weights, named by the content of the first two.

A pack folder holds `decoder-{grey,rgb}[-smooth].onnx` and `tables.npz` (all that decoding reads, and all
that the fingerprint covers), `encoder.safetensors` (encoding only) and `card.md`. `models/models.toml`
lists the shipped packs with the SHA-256 of each. A pack that the user installed has its own in the file `sha256`.
"""

import hashlib
import io
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from . import container
from .container import Header
from .errors import FormatError, LrqError, UnsupportedError, UsageError
from .grid import Scale, check_scales

HERE = Path(__file__).parent
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""Names of installed packs. Nothing else in their folder counts, such as the hidden ones that are being written."""
SHA256 = re.compile(r"[0-9a-f]{64}")


class Pack:
    """A loaded model: what the decoder reads, checked.

    scales: coarse to fine. channels: 3, or 1 for a grey-only model. bands: number of rate bands. rank: of the factors.
    tables: the arrays of tables.npz (SPEC.md, "Tables").
    """

    def __init__(self, name: str, blobs: dict[str, bytes]):
        self.name, self.fingerprint = name, fingerprint(blobs)[:8]
        self.graphs = {key: value for key, value in blobs.items() if key.endswith(".onnx")}
        with np.load(io.BytesIO(blobs["tables.npz"]), allow_pickle=False) as tables:
            self.tables = {key: tables[key] for key in tables.files}
        shared = bool(self.tables["shared"])
        luma_only = bool(self.tables["luma_only"])
        self.scales = tuple(
            Scale(int(s), int(p), tuple(map(int, self.tables[f"codewords{s}"])), shared, luma_only and int(s) == 1)
            for s, p in self.tables["scales"]
        )
        check_scales(self.scales)
        self.channels = int(self.tables["channels"])
        self.bands = int(self.tables["bands"])
        self.rank = self.tables["u1"].shape[1]
        self.entropy_tables: dict[int, list] = {}
        """For each rate band what `entropy.tables` made of it."""
        self._factors: dict[tuple[int, int], dict[str, np.ndarray]] = {}

    def check(self, header: Header) -> None:
        """Raise FormatError if the header asks for what this model does not have."""
        if header.band >= self.bands:
            raise FormatError(f"rate band {header.band}: model {self.name} has {self.bands}")
        if header.rank > self.rank:
            raise FormatError(f"rank {header.rank}: model {self.name} has {self.rank}")
        self.graph(header.colour, bool(header.smoothing))

    def graph(self, colour: int, smoothing: bool) -> bytes:
        """The serialised ONNX graph for a colour kind, with or without smoothing."""
        name = f"decoder-{'rgb' if colour == container.RGB else 'grey'}{'-smooth' if smoothing else ''}.onnx"
        if name not in self.graphs:
            raise FormatError(f"model {self.name} has no {name}")
        return self.graphs[name]

    def smoothing_weights(self, channels: int) -> int:
        """Weights of the smoothing pair: multiply-accumulates for each 2 x 2 block of pixels of this many channels."""
        hidden = len(self.tables["smooth_w1"])
        return 9 * hidden * (self.inputs(channels) + 4 * channels)

    def inputs(self, channels: int) -> int:
        """Planes at half resolution that smoothing and colour transform start from, for this many channels."""
        fine = self.scales[-1].channels(channels)
        return 4 * fine + channels - fine

    def factors(self, rank: int, channels: int) -> dict[str, np.ndarray]:
        """The graph's inputs u{s} int8 (rows, rank, p) and v{s} int16 (rows, rank, channels * p)."""
        key = rank, channels
        if key not in self._factors:
            self._factors[key] = {
                f"{factor}{s.scale}": np.ascontiguousarray(
                    self.tables[f"{factor}{s.scale}"][
                        :, :rank, : s.patch * (s.channels(channels) if factor == "v" else 1)
                    ]
                )
                for s in self.scales
                for factor in "uv"
            }
        return self._factors[key]


@dataclass(frozen=True)
class Entry:
    """A pack on disk: its name, folder, and, for a shipped or installed one, the SHA-256 it must have."""

    name: str
    path: Path
    sha256: str | None = None

    @cached_property
    def blobs(self) -> dict[str, bytes]:
        """The files that decoding reads. Raises UnsupportedError if the pack is not whole or was tampered with."""
        paths = sorted([*self.path.glob("decoder-*.onnx"), *self.path.glob("tables.npz")])
        if not paths or paths[-1].name != "tables.npz":
            raise UnsupportedError(f"no model pack at {self.path}")
        blobs = {path.name: path.read_bytes() for path in paths}
        if self.sha256 is not None and fingerprint(blobs).hex() != self.sha256:
            raise UnsupportedError(f"model {self.name} is damaged: its SHA-256 is not the one it came with")
        return blobs

    @property
    def intact(self) -> bool:
        """Whether all that decoding reads is there and, of a shipped or installed pack, as it came."""
        try:
            return bool(self.blobs)
        except (UnsupportedError, OSError):
            return False

    @property
    def fingerprint(self) -> bytes:
        """The 8 bytes that files name this model by."""
        return (fingerprint(self.blobs) if self.sha256 is None else bytes.fromhex(self.sha256))[:8]

    @property
    def description(self) -> str:
        """First line of text of the pack's card."""
        try:
            lines = (self.path / "card.md").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return next((line for line in lines if line and not line.startswith("#")), "")

    def load(self) -> Pack:
        """Read and check the pack. Raises UnsupportedError."""
        try:
            return Pack(self.name, self.blobs)
        except (LrqError, MemoryError):
            raise
        except Exception as error:  # NumPy raises many kinds on damaged archives, and documents none
            raise UnsupportedError(f"model {self.name} cannot be read: {error}") from None


def fingerprint(blobs: dict[str, bytes]) -> bytes:
    """SHA-256 (32 bytes) over name, length and content of the decoder's files, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(blobs):
        digest.update(f"{name}\0{len(blobs[name])}\0".encode())
        digest.update(blobs[name])
    return digest.digest()


def packs(extra: Sequence[str | Path] = ()) -> list[Entry]:
    """The packs at the folders `extra`, then the shipped ones, then those that the user installed."""
    return [Entry(Path(path).name, Path(path)) for path in extra] + _shipped() + _installed()


def _shipped() -> list[Entry]:
    folder = next(path for path in (HERE / "models", HERE.parent / "models") if path.is_dir())
    listed = tomllib.loads((folder / "models.toml").read_text(encoding="utf-8"))
    return [Entry(name, folder / name, entry["sha256"]) for name, entry in listed.items()]


def _installed() -> list[Entry]:
    """The installed packs by name; none if their folder cannot be read. Of each only the file `sha256` is read."""
    try:
        paths = sorted(path for path in user_folder().iterdir() if NAME.fullmatch(path.name) and path.is_dir())
    except OSError:
        return []
    return [Entry(path.name, path, _recorded(path)) for path in paths]


def _recorded(pack: Path) -> str:
    """The SHA-256 that an installed pack came with, or "", which no pack has, if it cannot be read."""
    try:
        text = (pack / "sha256").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return text if SHA256.fullmatch(text) else ""


def user_folder() -> Path:
    """Where packs are installed: $LRCODEC_MODELS, or lrcodec/models in the user's data folder."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(os.environ.get("LRCODEC_MODELS") or Path(data, "lrcodec", "models"))


def install(path: Path, name: str | None = None, replace: bool = False) -> Entry:
    """Copy the pack in a folder, whole or not at all, to where `find` and `by_fingerprint` look for it.

    name: the folder's own by default. replace: whether it may take the place of an installed pack of that name.
    Raises UnsupportedError if it is not a valid pack, UsageError if it cannot have the name, OSError.
    """
    name = path.resolve().name if name is None else name
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a model: use letters, digits, '-', '_' and, not in front, '.'")
    if name in [entry.name for entry in _shipped()]:
        raise UsageError(f"model {name} is a shipped one: choose another name with --name")
    target = user_folder() / name
    if os.path.lexists(target) and not replace:
        raise UsageError(f"model {name} is installed already: choose another name with --name, or add -f")
    source = Entry(name, path)
    source.load()
    user_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".add-", dir=user_folder()) as temporary:
        new = Path(temporary, "new")
        new.mkdir()
        for file, blob in source.blobs.items():
            (new / file).write_bytes(blob)
        for file in ("encoder.safetensors", "card.md"):
            if (path / file).is_file():
                shutil.copyfile(path / file, new / file)
        (new / "sha256").write_text(fingerprint(source.blobs).hex() + "\n", encoding="ascii")
        if os.path.lexists(target):
            os.replace(target, Path(temporary, "old"))
        os.replace(new, target)
    return find(name)


def remove(name: str) -> None:
    """Remove an installed pack. Raises UnsupportedError if there is none of that name, UsageError for a shipped one."""
    entry = next((entry for entry in _installed() if entry.name == name), None)
    if entry is None and name in [entry.name for entry in _shipped()]:
        raise UsageError(f"model {name} is a shipped one and cannot be removed")
    if entry is None:
        raise UnsupportedError(f"no model {name} is installed")
    # It is gone at once: an interrupted removal leaves no half of a pack behind.
    with tempfile.TemporaryDirectory(prefix=".remove-", dir=entry.path.parent) as temporary:
        os.replace(entry.path, Path(temporary, "old"))


def find(name_or_path: str | Path) -> Entry:
    """A shipped or installed pack by name, or the pack in a folder. Raises UnsupportedError."""
    for entry in packs():
        if entry.name == str(name_or_path):
            return entry
    if Path(name_or_path).is_dir():
        return Entry(Path(name_or_path).name, Path(name_or_path))
    raise UnsupportedError(f"unknown model {name_or_path}: neither a shipped or installed model nor a folder")


def by_fingerprint(wanted: bytes, extra: Sequence[str | Path] = ()) -> Entry:
    """The pack that a file names by its 8-byte fingerprint. Raises UnsupportedError.

    Damage to an installed pack shows when it is loaded, so it is in the way of no other pack.
    """
    for entry in packs(extra):
        if entry.fingerprint == wanted:
            return entry
    raise UnsupportedError(
        f"the file needs model {wanted.hex()}, which is not here: use lrq models add, or add its folder with --model"
    )
