"""formats/c/lrq.h, compiled into a library and called through ctypes."""

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Mapping
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import cache
from pathlib import Path

import numpy as np

from lrcodec.errors import LrqError

FOLDER = Path(__file__).parent.parent / "formats" / "c"
_found = {Path(path).resolve(): name for name in ("cc", "clang", "gcc") if (path := shutil.which(name))}
COMPILERS = [] if sys.platform == "win32" else sorted(_found.values(), reverse=True)
"""Different ones, gcc before clang."""
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
OK, INCOMPLETE = 0, 7


class Header(Structure):
    """lrq_header."""

    _fields_ = [
        ("width", c_uint32),
        ("height", c_uint32),
        *((name, c_int) for name in ("colour", "smoothing", "rank", "iterations", "band", "alpha")),
        ("model", c_uint8 * 4),
    ]


class Options(Structure):
    """lrq_options."""

    _fields_ = [("shrink", c_int), ("partial", c_int), ("max_pixels", c_uint64)]


ALLOCATE, RELEASE = CFUNCTYPE(c_void_p, c_void_p, c_size_t), CFUNCTYPE(None, c_void_p, c_void_p)


class Allocator(Structure):
    """lrq_allocator."""

    _fields_ = [("allocate", ALLOCATE), ("release", RELEASE), ("user", c_void_p)]


def compile_c(compiler: str, source: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Compile one file; every warning is an error."""
    command = [compiler, *WARNINGS, *flags, "-o", str(out), "-x", "c", str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@cache
def compile_library(folder: Path, *flags: str) -> "Library":
    """lrq.h as a library, by the first compiler there is. The same flags give the same one."""
    path = folder / f"lrq{len(list(folder.iterdir()))}.so"
    result = compile_c(COMPILERS[0], FOLDER / "lrq.h", path, "-O2", "-shared", "-fPIC", "-DLRQ_IMPLEMENTATION", *flags)
    assert result.returncode == 0, result.stderr
    return Library(path)


class Library:
    """The functions of lrq.h."""

    def __init__(self, path: Path):
        self.c = ctypes.CDLL(str(path))
        self.c.lrq_size.restype = c_uint64
        self.c.lrq_size.argtypes = [POINTER(Header), c_int]
        self.c.lrq_read_header.argtypes = [POINTER(Header), c_char_p, c_size_t]
        self.c.lrq_model_open.argtypes = [POINTER(c_void_p), c_char_p, c_size_t, POINTER(Allocator)]
        self.c.lrq_model_close.argtypes = [c_void_p]
        self.c.lrq_decode.argtypes = [
            *(c_void_p, c_size_t, c_void_p, c_char_p, c_size_t, POINTER(Options), POINTER(Allocator))
        ]

    def size(self, data: bytes, shrink: int = 1) -> tuple[int, ...]:
        """The shape of the pixels, as NumPy has it; () if the header is not valid."""
        header = Header()
        if self.c.lrq_read_header(byref(header), data, len(data)) != OK:
            return ()
        rows, columns = self.c.lrq_rows(byref(header), shrink), self.c.lrq_columns(byref(header), shrink)
        channels = self.c.lrq_channels(byref(header))
        assert self.c.lrq_size(byref(header), shrink) == rows * columns * channels
        return (rows, columns) if channels == 1 else (rows, columns, channels)


class Model:
    """An opened model file."""

    def __init__(self, library: Library, data: bytes):
        self.library, self.data, self.handle = library, data, c_void_p()
        self.code = library.c.lrq_model_open(byref(self.handle), data, len(data), None)

    def __del__(self) -> None:
        self.library.c.lrq_model_close(self.handle)

    def decode(
        self,
        data: bytes,
        shrink: int = 1,
        partial: bool = False,
        *,
        max_pixels: int = 0,
        capacity: int | None = None,
        allocator: Allocator | None = None,
    ) -> tuple[int, np.ndarray]:
        """The result and the pixels, which are undefined after most results."""
        shape = self.library.size(data, shrink) if shrink in (1, 2, 4, 8, 16) else ()
        if np.prod(shape, dtype=np.int64) > 2**27:
            shape = ()  # the limit is checked before the capacity
        # What lies behind the pixels must stay as it is.
        pixels = np.full(int(np.prod(shape, dtype=np.int64)) + 64, 0xA5, np.uint8)
        room = len(pixels) - 64 if capacity is None else capacity
        options = Options(shrink, partial, max_pixels)
        code = self.library.c.lrq_decode(
            pixels.ctypes.data,
            room,
            self.handle,
            data,
            len(data),
            byref(options),
            byref(allocator) if allocator else None,
        )
        assert (pixels[-64:] == 0xA5).all()
        return code, pixels[:-64].reshape(shape)


class Decoder:
    """Decodes with whichever model a file names, and raises as lrcodec.Decoder does."""

    def __init__(self, models: Mapping[bytes, Model]):
        """models: by their fingerprints."""
        self.models = models

    def decode(
        self, data: bytes, shrink: int = 1, partial: bool = False, max_pixels: int = 0
    ) -> tuple[np.ndarray, bool]:
        """The pixels, and whether the file was complete."""
        code, pixels = self.model_of(data).decode(data, shrink, partial, max_pixels=max_pixels)
        if code not in (OK, INCOMPLETE):
            raise next(kind for kind in _kinds(LrqError) if kind.exit_code == code)(f"lrq_decode: {code}")
        return pixels, code == OK

    def model_of(self, data: bytes) -> Model:
        """The model that the file names, or any if it is not here."""
        header = Header()
        library = next(iter(self.models.values())).library
        library.c.lrq_read_header(byref(header), data, len(data))
        return self.models.get(bytes(header.model), next(iter(self.models.values())))


def _kinds(kind: type[LrqError]) -> list[type[LrqError]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in _kinds(below))]
