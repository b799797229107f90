"""What the inputs of one command are, and what their outputs are called."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from ..files import Failure


class Source(NamedTuple):
    """An input, and the folder of its output below --out-dir."""

    path: Path
    below: Path = Path()


def find(folder: Path, recursive: bool, wanted: Callable[[Path], bool]) -> list[Source]:
    """The wanted files in a folder, sorted; those that are hidden, and folders behind links, are left out.

    Raises OSError if a folder cannot be read, UsageError if there are no such files.
    """

    def refuse(error: OSError) -> None:
        raise error

    found: list[Source] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        below = Path(place).relative_to(folder)
        paths = [Path(place, name) for name in sorted(names) if not name.startswith(".")]
        found += [Source(path, below) for path in paths if wanted(path) and path.is_file()]
    if not found:
        raise UsageError("no files to convert in this folder" + ("" if recursive else ", not counting those below it"))
    return found


def name_outputs(sources: Sequence[Source], out_dir: Path | None, suffix: str) -> list[Path | Failure]:
    """The output of every source: `a.lrq` for `a.png`. Those that would share a name keep their suffix: `a.png.lrq`.

    So names depend on which files are converted together, not on their order or on what exists. Files that share a
    name even so fail. A name that ends in the suffix takes no second one.
    """
    place = cache(os.path.realpath)
    inputs = [place(source.path) for source in sources]

    def name(source: Source, stem: str) -> Path:
        folder = out_dir / source.below if out_dir else source.path.parent
        return folder / (stem if stem.lower().endswith(suffix) else stem + suffix)

    def shared(paths: list[Path]) -> list[bool]:
        """Whether others have this output. What is its own output counts for nothing: it is not converted."""
        places = [place(path) for path in paths]
        count = Counter(at for at, source in zip(places, inputs, strict=True) if at != source)
        return [count[at] > 1 for at in places]

    names = [name(source, source.path.stem) for source in sources]
    names = [
        name(source, source.path.name) if twice else path
        for source, path, twice in zip(sources, names, shared(names), strict=True)
    ]
    return [
        Failure(f"{source.path}: {path} is the output of another file too: rename one", UsageError.exit_code)
        if twice
        else path
        for source, path, twice in zip(sources, names, shared(names), strict=True)
    ]
