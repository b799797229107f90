"""A model pack: a folder with decoder graphs, tables and encoder weights, named by the content of the first two.

The folder holds `decoder-codewords.onnx`, `decoder-{grey,rgb}[-smooth].onnx` and `tables.npz` (all that decoding reads,
and all that the fingerprint covers), `encoder.safetensors` (encoding only) and `card.md`. Files are read once, checked,
and used from memory.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FormatError, LrqError, UnsupportedError
from ..format import container
from ..format.container import FINGERPRINT_BYTES, Header
from ..format.grid import Scale
from . import tablefile
from .kept import Kept

CODEWORDS = "decoder-codewords.onnx"
ENCODER, CARD, ATTRIBUTION = "encoder.safetensors", "card.md", "ATTRIBUTION.tsv"
TEXT_BYTES = 2**16
"""More of a card, or of who made the training images, is not read."""


class Terms(NamedTuple):
    """What the weights of a pack may be used for, and the images that they were trained on: a line of text each."""

    licence: str
    data: str


class Pack:
    """A loaded model: what the decoder reads, checked.

    scales: coarse to fine. channels: 3, or 1 for a grey-only model. bands: number of rate bands. rank: of the factors.
    tables: the arrays of tables.npz (SPEC.md, "Tables").
    """

    def __init__(self, name: str, blobs: dict[str, bytes]):
        self.name, self.fingerprint = name, fingerprint(blobs)[:FINGERPRINT_BYTES]
        self.graphs = {key: value for key, value in blobs.items() if key.endswith(".onnx")}
        for key, graph in self.graphs.items():
            # ONNX names a file that holds a tensor's data under this key, and protobuf never splits a string.
            if b"location" in graph:
                raise UnsupportedError(f"model {name}: {key} may refer to other files")
        self.tables, self.scales = tablefile.load(blobs["tables.npz"])
        self.channels = int(self.tables["channels"])
        self.bands = int(self.tables["bands"])
        self.rank = self.tables["u1"].shape[1]
        self.entropy_contexts: list[Any] = []
        """What `entropy.cost_tables` has built that is the same in all rate bands, of every scale."""
        self.entropy_tables: dict[int, list] = {}
        """For each rate band the tables that `entropy.cost_tables` has built."""
        self.kept = Kept()
        """What decoding has made of the tables. The packs of a decoder share one."""
        self.factors: dict[int, Any] = {}
        """What `decoder.low_rank` multiplies, of every scale."""
        self.multiplier: Any = None
        """And what it multiplies them with."""

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

    @property
    def codewords_graph(self) -> bytes:
        """The serialised ONNX graph that multiplies codewords. Raises UnsupportedError if there is none."""
        if CODEWORDS not in self.graphs:
            raise UnsupportedError(f"model {self.name} has no {CODEWORDS}")
        return self.graphs[CODEWORDS]

    def smoothing_weights(self, channels: int) -> int:
        """Weights of the smoothing pair: multiply-accumulates for each 2 x 2 block of pixels of this many channels."""
        return 18 * len(self.tables["smooth_w1"]) * self.scales[-1].smoothed(channels)

    def prediction_weights(self, scale: Scale, channels: int) -> int:
        """Weights of a scale's prediction pair: multiply-accumulates for each pixel of the next coarser scale."""
        return 45 * len(self.tables[f"first{scale.scale}"]) * scale.channels(channels)


@dataclass(frozen=True)
class PackFolder:
    """A pack on disk: its name, its folder, and what is recorded of it elsewhere.

    sha256: what that of the decoder's files must be; None for a folder that the user named: all that it holds is taken.
    encoder_sha256: what that of a shipped or installed pack's encoder must be; None if it has none.
    shipped_terms: of a shipped pack. The others state theirs in their cards.
    """

    name: str
    path: Path
    sha256: str | None = None
    encoder_sha256: str | None = None
    shipped_terms: Terms | None = None

    @cached_property
    def blobs(self) -> dict[str, bytes]:
        """The files that decoding reads. Raises UnsupportedError if the pack is incomplete or was altered."""
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
        """The file that encoding reads as well. Raises UnsupportedError if it is missing or was altered."""
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

    @cached_property
    def digest(self) -> bytes:
        """The SHA-256 that tells models apart: that of the decoder's files as they came."""
        return fingerprint(self.blobs) if self.sha256 is None else bytes.fromhex(self.sha256)

    @property
    def fingerprint(self) -> bytes:
        """The 4 bytes that files name this model by."""
        return self.digest[:FINGERPRINT_BYTES]

    @property
    def description(self) -> str:
        """First line of text of the pack's card."""
        return next((line for line in self._card_lines if line and not line.startswith("#")), "")

    @property
    def terms(self) -> Terms:
        """Of a shipped pack as models.toml lists them, of another as its card states them; else "not stated"."""
        return self.shipped_terms or Terms(self._card_line("Licence: "), self._card_line("Data: "))

    def _card_line(self, start: str) -> str:
        lines = (line.removeprefix(start) for line in self._card_lines if line.startswith(start))
        return next(lines, "not stated")

    @property
    def _card_lines(self) -> list[str]:
        try:
            return read_text(self.path / CARD).decode(errors="replace").splitlines()
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


def read_text(path: Path) -> bytes:
    """A card or an attribution, as much of it as is read; nothing if it is no regular file."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(TEXT_BYTES)
