"""Model packs: folders with decoder graphs, tables and encoder weights, named by the content of the first two.

A pack folder holds `decoder-{grey,rgb}[-smooth].onnx` and `tables.npz` (all that decoding reads, and all
that the fingerprint covers), `encoder.safetensors` (encoding only) and `card.md`. `models/models.toml`
lists the shipped packs with the SHA-256 of each.
"""

import hashlib
import io
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from . import container
from .container import Header
from .errors import FormatError, UnsupportedError
from .grid import Scale, check_scales

HERE = Path(__file__).parent


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
        self.scales = tuple(
            Scale(int(s), int(p), tuple(map(int, self.tables[f"codewords{s}"]))) for s, p in self.tables["scales"]
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
        return 2 * self.tables["smooth_w1"][:, : 4 * channels].size

    def factors(self, rank: int, channels: int) -> dict[str, np.ndarray]:
        """The graph's inputs u{s} int8 (rows, rank, p) and v{s} int16 (rows, rank, channels * p)."""
        key = rank, channels
        if key not in self._factors:
            self._factors[key] = {
                f"{factor}{s.scale}": np.ascontiguousarray(
                    self.tables[f"{factor}{s.scale}"][:, :rank, : s.patch * (channels if factor == "v" else 1)]
                )
                for s in self.scales
                for factor in "uv"
            }
        return self._factors[key]


@dataclass(frozen=True)
class Entry:
    """A pack on disk: its name, folder, and, for a shipped one, the SHA-256 it must have."""

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
        if self.sha256 and fingerprint(blobs).hex() != self.sha256:
            raise UnsupportedError(f"model {self.name} is damaged: its SHA-256 is not the one in models.toml")
        return blobs

    @property
    def fingerprint(self) -> bytes:
        """The 8 bytes that files name this model by."""
        return bytes.fromhex(self.sha256)[:8] if self.sha256 else fingerprint(self.blobs)[:8]

    @property
    def description(self) -> str:
        """First line of text of the pack's card."""
        card = self.path / "card.md"
        lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
        return next((line for line in lines if line and not line.startswith("#")), "")

    def load(self) -> Pack:
        """Read and check the pack."""
        try:
            return Pack(self.name, self.blobs)
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise UnsupportedError(f"model {self.name} cannot be read: {error}") from None


def fingerprint(blobs: dict[str, bytes]) -> bytes:
    """SHA-256 (32 bytes) over name, length and content of the decoder's files, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(blobs):
        digest.update(f"{name}\0{len(blobs[name])}\0".encode())
        digest.update(blobs[name])
    return digest.digest()


def packs(extra: Sequence[str | Path] = ()) -> list[Entry]:
    """The packs at the folders `extra`, then the shipped ones."""
    folder = next(path for path in (HERE / "models", HERE.parent / "models") if path.is_dir())
    shipped = tomllib.loads((folder / "models.toml").read_text(encoding="utf-8"))
    return [Entry(Path(path).name, Path(path)) for path in extra] + [
        Entry(name, folder / name, entry["sha256"]) for name, entry in shipped.items()
    ]


def find(name_or_path: str | Path) -> Entry:
    """A shipped pack by name, or the pack in a folder. Raises UnsupportedError."""
    for entry in packs():
        if entry.name == str(name_or_path):
            return entry
    if Path(name_or_path).is_dir():
        return Entry(Path(name_or_path).name, Path(name_or_path))
    raise UnsupportedError(f"unknown model {name_or_path}: neither a shipped model nor a folder")


def by_fingerprint(wanted: bytes, extra: Sequence[str | Path] = ()) -> Entry:
    """The pack that a file names by its 8-byte fingerprint. Raises UnsupportedError."""
    for entry in packs(extra):
        if entry.fingerprint == wanted:
            return entry
    raise UnsupportedError(f"the file needs model {wanted.hex()}, which is not here (add its folder with --model)")
