"""Tells other programs of this user of .lrq files: entries of formats/, written where each program looks, or taken out.

A file of ours alone is written and deleted. In one that the user may have as well, ours is a block between two marks,
and all else stays byte for byte as it is. Done twice it is done once.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import LrqError, UsageError
from .files import write_file

PACKAGE = Path(__file__).parent
UPDATE_MIME = "update-mime-database"
GENERATED = (
    *("aliases", "generic-icons", "globs", "globs2", "icons", "magic", "mime.cache", "subclasses", "treemagic"),
    *("types", "version", "XMLnamespaces", "image/x-lrq.xml"),
)
"""What update-mime-database makes in its folder of the packages there, if ours is the only one."""


def integrate() -> Iterator[str]:
    """Write all entries; tells in a line each what was written, or left out and why.

    Raises UsageError where there is no program `lrq` to name in them, LrqError for a file of the user's that is not of
    the kind that its name says, OSError.
    """
    command = program()
    for entry in _entries(command):
        yield from entry.put()
    if not all(Path(path).resolve().is_relative_to("/usr") for path in (command, sys.prefix)):
        yield f"note: GNOME's file manager shows no thumbnails, since it runs programs below /usr alone, not {command}"


def remove() -> Iterator[str]:
    """Take all entries out again; tells in a line each what was taken out. Raises LrqError, OSError."""
    for entry in _entries("lrq"):
        yield from entry.take_out()


def program() -> str:
    """The absolute path of the program `lrq`: the one that runs, or that of this Python. Raises UsageError."""
    for path in (Path(sys.argv[0]), Path(sysconfig.get_path("scripts"), "lrq")):
        if path.name == "lrq" and path.is_file() and os.access(path, os.X_OK):
            if re.search(r"""["'`$%\\<>&;|]|[^\S ]""", str(path.absolute())):
                raise UsageError(f"{path.absolute()} has characters that entries of other programs cannot hold")
            return str(path.absolute())
    raise UsageError(
        "there is no program lrq that other programs could call: install lrcodec with pip, on Linux or another Unix"
    )


def _entries(command: str) -> "list[OwnFile | Block]":
    """All there are, for programs that shall call `command`."""
    data, magic = _xdg("XDG_DATA_HOME", ".local/share"), Path.home() / ".magic"
    thumbnailer = _text("lrq.thumbnailer").replace("TryExec=lrq", f"TryExec={command}")
    thumbnailer = thumbnailer.replace("\nExec=lrq", f'\nExec="{command}"')
    head, tag, rest = _text("lrq.delegates.xml").partition("<delegatemap>")
    lines, foot = rest.strip().removesuffix("</delegatemap>").rstrip(), "\n</delegatemap>\n"
    lines = lines.replace("&quot;lrq&quot;", f"&quot;{command}&quot;")
    made = "<!-- Made by lrq integrate. -->\n"
    return [
        OwnFile(data / "mime" / "packages" / "lrq.xml", _text("lrq.xml"), lambda: _update_mime(data / "mime")),
        OwnFile(data / "thumbnailers" / "lrq.thumbnailer", thumbnailer),
        Block(
            _xdg("XDG_CONFIG_HOME", ".config") / "ImageMagick" / "delegates.xml",
            f"\n<!-- begin: lrq integrate -->\n  {lines}\n<!-- end: lrq integrate -->",
            alone=(head + made + tag, foot),
            behind=rb"<delegatemap\s*>",
            check=_check_delegates,
        ),
        Block(
            magic,
            f"# begin: lrq integrate\n{_text('lrq.magic')}# end: lrq integrate\n",
            alone=("", "# Made by lrq integrate.\n"),
            instead=magic.with_name(".magic.mgc"),
        ),
    ]


def _text(name: str) -> str:
    """An entry of formats/, which a wheel has in the package."""
    folder = next(path for path in (PACKAGE / "desktop-entries", PACKAGE.parent / "formats") if path.is_dir())
    return (folder / name).read_text(encoding="utf-8")


def _xdg(variable: str, otherwise: str) -> Path:
    """A folder of this user: that of the variable or, as the XDG Base Directory Specification asks, the usual one."""
    folder = Path(os.environ.get(variable, ""))
    return folder if folder.is_absolute() else Path.home() / otherwise


@dataclass(frozen=True)
class OwnFile:
    """A file that is ours. changed: is called once it is written or deleted, and tells what it left out."""

    path: Path
    text: str
    changed: Callable[[], Iterator[str]] = lambda: iter(())

    def put(self) -> Iterator[str]:
        """Write it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self.path, self.text.encode())
        yield f"wrote {self.path}"
        yield from self.changed()

    def take_out(self) -> Iterator[str]:
        """Delete it, if it is there."""
        if self.path.is_file():
            self.path.unlink()
            yield f"removed {self.path}"
            yield from self.changed()
            _prune(self.path.parent)


@dataclass(frozen=True)
class Block:
    """Lines of ours in a file that may have others.

    text: from the line of its first mark to that of its last. alone: the file where there is none, before and after
    the block. behind: what the block follows in a file that is there; its start by default. check: raises LrqError for
    a content that is not of the file's kind. instead: what programs read in place of the file where it is there.
    """

    path: Path
    text: str
    alone: tuple[str, str]
    behind: bytes = b""
    check: Callable[[Path, bytes], None] = lambda path, content: None
    instead: Path | None = None

    def put(self) -> Iterator[str]:
        """Write it."""
        other = self.path if self.path.is_dir() else self.instead
        if other and other.exists():
            yield f"left out: {self.path}, since {other} is read in place of such a file"
            return
        rest = self._rest(self.path.read_bytes()) if self.path.exists() else "".join(self.alone).encode()
        place = re.search(self.behind, rest)
        content = rest[: place.end()] + self.text.encode() + rest[place.end() :] if place else rest
        self.check(self.path, content)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self.path, content)
        yield f"wrote {self.path}"

    def take_out(self) -> Iterator[str]:
        """Take it out, and delete the file if it was made for it alone."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        rest = self._rest(content)
        if rest == content:
            return
        if rest == "".join(self.alone).encode():
            self.path.unlink()
            _prune(self.path.parent)
            yield f"removed {self.path}"
        else:
            write_file(self.path, rest)
            yield f"took our lines out of {self.path}"

    def _rest(self, content: bytes) -> bytes:
        """What is not ours. Raises LrqError if one mark is there without the other."""
        first, last = (re.escape(mark) for mark in self._marks)
        rest = re.sub(first + b".*?" + last, b"", content, count=1, flags=re.DOTALL)
        if any(mark.strip() in rest for mark in self._marks):
            raise LrqError(f"{self.path} has a mark of lrq integrate too many or too few: take it out by hand")
        return rest

    @property
    def _marks(self) -> tuple[bytes, bytes]:
        lines = self.text.encode().splitlines(keepends=True)
        return b"".join(lines[: 2 if lines[0] == b"\n" else 1]), lines[-1]


def _check_delegates(path: Path, content: bytes) -> None:
    """Raise LrqError unless ImageMagick will find our delegates in this file."""
    try:
        root = ET.fromstring(content)
    except ET.ParseError as error:
        raise LrqError(f"{path} is not XML, and was left as it is: {error}") from None
    if root.tag != "delegatemap" or not [child for child in root if child.get("decode") == "lrq"]:
        raise LrqError(f"{path} is no list of ImageMagick's delegates, and was left as it is")


def _update_mime(folder: Path) -> Iterator[str]:
    """Make the database of types anew, or remove it if no package is left."""
    if not any((folder / "packages").iterdir()):
        for name in GENERATED:
            (folder / name).unlink(missing_ok=True)
        _prune(folder / "image")
    elif tool := shutil.which(UPDATE_MIME):
        result = subprocess.run([tool, str(folder)], capture_output=True, text=True, check=False)
        if result.returncode:
            reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise LrqError(f"{UPDATE_MIME} failed: {reason}")
    else:
        yield f"left out: {UPDATE_MIME} is not installed (package shared-mime-info), so programs do not see the type"


def _prune(folder: Path) -> None:
    """Remove empty folders, from this one up to, but without, those that the system gives a user."""
    given = {Path.home(), *(Path(os.environ.get(name, "/")) for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"))}
    with suppress(OSError):
        while folder not in given:
            folder.rmdir()
            folder = folder.parent
