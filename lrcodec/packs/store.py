"""Where model packs are: those that are shipped, those that the user installed, and folders.

`models/models.toml` lists the shipped packs: of each its licence, its data, and two SHA-256, of what decoding reads and
of the encoder. An installed pack has the SHA-256 in the file `sha256`, a line each, and its terms in its card.
"""

import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_data_path

from ..errors import UnsupportedError, UsageError
from .pack import ATTRIBUTION, CARD, ENCODER, PackFolder, Terms, fingerprint, read_text

PACKAGE = Path(__file__).parent.parent
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""Names of installed packs. Nothing else in their folder counts, such as the hidden ones that are being written."""
SHA256 = re.compile(r"[0-9a-f]{64}")


def packs(extra: Sequence[str | Path] = ()) -> list[PackFolder]:
    """The packs `extra`, named as for `find`, then the shipped ones, then those that the user installed.

    Raises UnsupportedError if one of `extra` is neither.
    """
    return [find(name_or_path) for name_or_path in extra] + shipped() + installed()


def shipped() -> list[PackFolder]:
    """The packs that models.toml lists and that are here."""
    folder = next(path for path in (PACKAGE / "models", PACKAGE.parent / "models") if path.is_dir())
    listed = tomllib.loads((folder / "models.toml").read_text(encoding="utf-8"))
    return [
        PackFolder(name, folder / name, entry["sha256"], entry["encoder"], Terms(entry["licence"], entry["data"]))
        for name, entry in listed.items()
        if (folder / name).is_dir()  # a wheel leaves out faces64
    ]


def installed() -> list[PackFolder]:
    """The installed packs by name; none if their folder cannot be read. Of each only the file `sha256` is read."""
    try:
        paths = sorted(path for path in user_folder().iterdir() if NAME.fullmatch(path.name) and path.is_dir())
    except OSError:
        return []
    return [PackFolder(path.name, path, *_recorded(path)) for path in paths]


def _recorded(pack: Path) -> tuple[str, str]:
    """The two SHA-256 that an installed pack came with, or "", which nothing has, for one that cannot be read."""
    try:
        lines = (pack / "sha256").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        lines = []
    decoder, encoder = (line if SHA256.fullmatch(line) else "" for line in [*lines, "", ""][:2])
    return decoder, encoder


def user_folder() -> Path:
    """Where packs are installed: $LRCODEC_MODELS, or lrcodec/models in the folder for the user's data."""
    return Path(os.environ.get("LRCODEC_MODELS") or user_data_path("lrcodec", appauthor=False) / "models")


def install(path: Path, name: str | None = None, replace: bool = False) -> PackFolder:
    """Copy the pack in a folder, whole or not at all, to where `find` and `by_fingerprint` look for it.

    name: that of the folder by default. replace: whether it may take the place of an installed pack of that name.
    Raises UnsupportedError if it is not a valid pack, holds links or has the fingerprint of another model that is here,
    UsageError if it cannot have the name, OSError.
    """
    name = path.resolve().name if name is None else name
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a model: use letters, digits, '-', '_' and, not in front, '.'")
    if name in [entry.name for entry in shipped()]:
        raise UsageError(f"model {name} is a shipped one: choose another name with --name")
    target = user_folder() / name
    if os.path.lexists(target) and not replace:
        raise UsageError(f"model {name} is installed already: choose another name with --name, or add -f")
    source = PackFolder(name, path)
    source.load()
    for other in (entry for entry in shipped() + installed() if entry.path != target):
        _check_apart(source, other)
    encoder = source.encoder if (path / ENCODER).is_file() else b""
    files = {**source.blobs, ENCODER: encoder, **{name: read_text(path / name) for name in (CARD, ATTRIBUTION)}}
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
    entry = next((entry for entry in installed() if entry.name == name), None)
    if entry is None and name in [entry.name for entry in shipped()]:
        raise UsageError(f"model {name} is a shipped one and cannot be removed")
    if entry is None:
        raise UnsupportedError(f"no model {name} is installed")
    # It is gone at once: an interrupted removal leaves no half of a pack behind.
    with tempfile.TemporaryDirectory(prefix=".remove-", dir=entry.path.parent) as temporary:
        os.replace(entry.path, Path(temporary, "old"))


def find(name_or_path: str | Path) -> PackFolder:
    """A shipped or installed pack by name, or the pack in a folder. Raises UnsupportedError."""
    for entry in packs():
        if entry.name == str(name_or_path):
            return entry
    if Path(name_or_path).is_dir():
        return PackFolder(Path(name_or_path).name, Path(name_or_path))
    raise UnsupportedError(f"unknown model {name_or_path}: neither a shipped or installed model nor a folder")


def by_fingerprint(wanted: bytes, extra: Sequence[str | Path] = ()) -> PackFolder:
    """The pack that a file names by its 4-byte fingerprint. Raises UnsupportedError, also if two models have it.

    Damage to an installed pack shows when it is loaded, so it is in the way of no other pack.
    """
    found = [entry for entry in packs(extra) if entry.fingerprint == wanted]
    if not found:
        raise UnsupportedError(
            f"the file needs model {wanted.hex()}, which is not here: "
            "use lrq models add, or add its folder with --model"
        )
    for other in found[1:]:
        _check_apart(found[0], other)
    return found[0]


def _check_apart(one: PackFolder, other: PackFolder) -> None:
    """Raise UnsupportedError if files cannot tell two models apart. Copies of one are no trouble."""
    if one.fingerprint == other.fingerprint and one.digest != other.digest:
        raise UnsupportedError(
            f"models {one.name} and {other.name} have one fingerprint, {one.fingerprint.hex()}: use only one of them"
        )
