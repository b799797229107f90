"""Model packs: folders with decoder graphs, tables and encoder weights, named by the content of the first two.

A pack folder holds `decoder-{grey,rgb}[-smooth].onnx` and `tables.npz` (all that decoding reads, and all
that the fingerprint covers), `encoder.safetensors` (encoding only) and `card.md`. `models/models.toml` lists the
shipped packs with two SHA-256 of each, of what decoding reads and of the encoder. A pack that the user installed has
them in the file `sha256`, a line each. Files are read once, checked, and used from memory.
"""

import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import FormatError, LrqError, UnsupportedError, UsageError
from ..format import container
from ..format.container import Header
from . import tablefile

PACKAGE = Path(__file__).parent.parent
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""Names of installed packs. Nothing else in their folder counts, such as the hidden ones that are being written."""
SHA256 = re.compile(r"[0-9a-f]{64}")
ENCODER, CARD = "encoder.safetensors", "card.md"
LICENCE = "Licence: "
CARD_BYTES = 2**16
"""More of a card is not read."""


class Pack:
    """A loaded model: what the decoder reads, checked.

    scales: coarse to fine. channels: 3, or 1 for a grey-only model. bands: number of rate bands. rank: of the factors.
    tables: the arrays of tables.npz (SPEC.md, "Tables").
    """

    def __init__(self, name: str, blobs: dict[str, bytes]):
        self.name, self.fingerprint = name, fingerprint(blobs)[:8]
        self.graphs = {key: value for key, value in blobs.items() if key.endswith(".onnx")}
        for key, graph in self.graphs.items():
            # ONNX names a file that holds a tensor's data under this key, and protobuf never splits a string.
            if b"location" in graph:
                raise UnsupportedError(f"model {name}: {key} may refer to other files")
        self.tables, self.scales = tablefile.load(blobs["tables.npz"])
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
        return 18 * len(self.tables["smooth_w1"]) * self.scales[-1].smoothed(channels)

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
    """A pack on disk: its name, folder, and, for a shipped or installed one, the SHA-256 it must have.

    sha256: of what decoding reads; None for a folder that the user named: whatever it holds is taken.
    encoder_sha256: of a shipped or installed pack's encoder; None if it has none.
    """

    name: str
    path: Path
    sha256: str | None = None
    encoder_sha256: str | None = None

    @cached_property
    def blobs(self) -> dict[str, bytes]:
        """The files that decoding reads. Raises UnsupportedError if the pack is not whole or was tampered with."""
        found = [*self.path.glob("decoder-*.onnx"), *self.path.glob("tables.npz")]
        paths = sorted(path for path in found if path.is_file() and path.name.isascii())
        if not paths or paths[-1].name != "tables.npz":
            raise UnsupportedError(f"no model pack at {self.path}")
        blobs = {path.name: path.read_bytes() for path in paths}
        if self.sha256 is not None and fingerprint(blobs).hex() != self.sha256:
            raise UnsupportedError(f"model {self.name} is damaged: its SHA-256 is not the one it came with")
        return blobs

    @cached_property
    def encoder(self) -> bytes:
        """The file that encoding reads as well. Raises UnsupportedError if it is missing or was tampered with."""
        path = self.path / ENCODER
        if not path.is_file():
            raise UnsupportedError(f"model {self.name} has no usable encoder: there is no {path}")
        data = path.read_bytes()
        if self.sha256 is not None and hashlib.sha256(data).hexdigest() != self.encoder_sha256:
            raise UnsupportedError(
                f"model {self.name} is damaged: the SHA-256 of its encoder is not the one it came with"
            )
        return data

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
        return next((line for line in self._card_lines if line and not line.startswith("#")), "")

    @property
    def licence(self) -> str:
        """What the pack may be used for, as the line of its card says that begins with "Licence: "."""
        found = (line.removeprefix(LICENCE) for line in self._card_lines if line.startswith(LICENCE))
        return next(found, "not stated")

    @property
    def _card_lines(self) -> list[str]:
        try:
            return _card(self.path).decode(errors="replace").splitlines()
        except OSError:
            return []

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
    """The packs `extra`, named as for `find`, then the shipped ones, then those that the user installed.

    Raises UnsupportedError if one of `extra` is neither.
    """
    return [find(name_or_path) for name_or_path in extra] + _shipped() + _installed()


def _shipped() -> list[Entry]:
    folder = next(path for path in (PACKAGE / "models", PACKAGE.parent / "models") if path.is_dir())
    listed = tomllib.loads((folder / "models.toml").read_text(encoding="utf-8"))
    # A wheel leaves out those that are for non-commercial use alone.
    here = {name: entry for name, entry in listed.items() if (folder / name).is_dir()}
    return [Entry(name, folder / name, entry["sha256"], entry.get("encoder")) for name, entry in here.items()]


def _installed() -> list[Entry]:
    """The installed packs by name; none if their folder cannot be read. Of each only the file `sha256` is read."""
    try:
        paths = sorted(path for path in user_folder().iterdir() if NAME.fullmatch(path.name) and path.is_dir())
    except OSError:
        return []
    return [Entry(path.name, path, *_recorded(path)) for path in paths]


def _recorded(pack: Path) -> tuple[str, str]:
    """The two SHA-256 that an installed pack came with, or "", which nothing has, for one that cannot be read."""
    try:
        lines = (pack / "sha256").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        lines = []
    own, encoder = (line if SHA256.fullmatch(line) else "" for line in [*lines, "", ""][:2])
    return own, encoder


def _card(pack: Path) -> bytes:
    """The card, as much of it as is read; nothing if it is no regular file."""
    path = pack / CARD
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(CARD_BYTES)


def user_folder() -> Path:
    """Where packs are installed: $LRCODEC_MODELS, or lrcodec/models in the user's data folder."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(os.environ.get("LRCODEC_MODELS") or Path(data, "lrcodec", "models"))


def install(path: Path, name: str | None = None, replace: bool = False) -> Entry:
    """Copy the pack in a folder, whole or not at all, to where `find` and `by_fingerprint` look for it.

    name: the folder's own by default. replace: whether it may take the place of an installed pack of that name.
    Raises UnsupportedError if it is not a valid pack or holds links, UsageError if it cannot have the name, OSError.
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
    encoder = source.encoder if (path / ENCODER).is_file() else b""
    files = {**source.blobs, ENCODER: encoder, CARD: _card(path)}
    if links := [file for file in files if (path / file).is_symlink()]:
        # Else a pack from elsewhere could take private files of this user's into one that is passed on.
        raise UnsupportedError(f"{path / links[0]} is a link: the files of a model pack must be its own")
    files["sha256"] = f"{fingerprint(source.blobs).hex()}\n{hashlib.sha256(encoder).hexdigest()}\n".encode()
    user_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".add-", dir=user_folder()) as temporary:
        new = Path(temporary, "new")
        new.mkdir()
        for file, data in files.items():
            if data:
                (new / file).write_bytes(data)
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
