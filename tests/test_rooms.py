"""The rooms of the package, and that imports go one way: from what users call down to what the format fixes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lrcodec"
FLOORS = (
    ("cli", "plugin", "integrations", "__init__", "__main__"),
    ("paper", "selftest"),
    ("training", "measure"),
    ("encoder",),
    ("decoder",),
    ("entropy", "image_files"),
    ("packs", "image_io"),
    ("strips", "desktop"),
    ("format",),
    ("runtime", "files", "targets", "viewer"),
    ("errors",),
)
"""Rooms, folders and single modules, from the top: each imports from lower floors alone, and from itself."""
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").parts for path in PACKAGE.rglob("*.py"))
MEASURING = {"matplotlib", "scipy", "skimage", "bjontegaard", "tabulate", "jinja2", "ssimulacra2"}
ENGINES = {"torch", "ray", "pyspark", "webdataset", "pandas", "pyarrow"}
HEAVY = {"torch", "onnx", "safetensors"} | MEASURING


def imports(module: tuple[str, ...]) -> set[tuple[str, ...]]:
    """All that a module imports, at its top or in functions: parts of dotted names, ours without lrcodec."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE.joinpath(*module)).with_suffix(".py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {tuple(name.name.split(".")) for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = ("lrcodec", *module[:-1])[: len(module) - node.level + 1] if node.level else ()
            base = (*start, *(node.module.split(".") if node.module else ()))
            found |= {(*base, name.name) for name in node.names}
    return found


def ours(module: tuple[str, ...]) -> set[str]:
    """The rooms that a module imports from. What the package itself offers counts as the top."""
    rooms = {name[1] for name in imports(module) if name[0] == "lrcodec" and len(name) > 1}
    return {room if room in FLOOR else "__init__" for room in rooms}


def test_every_module_is_in_a_room():
    assert {module[0] for module in MODULES} == {*FLOOR}


@pytest.mark.parametrize("module", MODULES, ids=".".join)
def test_imports_go_down(module: tuple[str, ...]):
    here = module[0]
    lower = {room for room, floor in FLOOR.items() if floor > FLOOR[here]}
    top = {*FLOORS[0]} if here in FLOORS[0] else set()
    assert ours(module) - lower - {here} <= top


@pytest.mark.parametrize(
    ("rooms", "never"),
    [
        (
            ("format", "packs", "entropy", "decoder", "errors", "runtime", "files", "targets", "desktop", "selftest"),
            HEAVY | {"PIL"},
        ),
        (("encoder",), HEAVY - {"torch", "safetensors"}),
        (("measure",), {"torch", "onnx"}),
        (("training",), {"matplotlib", "click"}),
        (("integrations",), HEAVY - {"torch"}),  # see below
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_rooms_do_without(rooms: tuple[str, ...], never: set[str]):
    for module in MODULES:
        if module[0] in rooms:
            assert not {name[0] for name in imports(module)} & never, module


def test_who_imports_pytorch():
    """The rooms that encode and train, and of the engines' adapters that of PyTorch itself, which gives tensors."""
    users = {module for module in MODULES if "torch" in {name[0] for name in imports(module)}}
    assert {module[0] for module in users} == {"encoder", "training", "paper", "integrations"}
    assert {module for module in users if module[0] == "integrations"} == {("integrations", "torch")}


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("lrcodec.decoder", {"torch", "onnx", "PIL"}),
        ("lrcodec.encoder", {"onnx", "onnxruntime", "matplotlib"}),
        *((f"lrcodec.integrations.{name}", ENGINES) for name in ("ray", "spark", "webdataset", "torch")),
    ],
)
def test_what_importing_brings(module: str, never: set[str]):
    """By whatever way: other packages included."""
    code = f"import sys, {module}; print({never!r} & {{*sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout == "set()\n", result.stderr
