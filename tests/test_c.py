"""The decoder in C: the same pixels, or the same kind of error, as the decoder of this package."""

import json
import subprocess
from ctypes import addressof, c_void_p, sizeof
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random

import c_decoder
import numpy as np
import pytest
import reference
from c_decoder import ALLOCATE, COMPILERS, FOLDER, INCOMPLETE, OK, RELEASE, Allocator, Model, compile_c, compile_library
from fuzz import mutations, seeds
from PIL import Image

import lrcodec
from lrcodec import entropy, errors
from lrcodec.format import container, grid
from lrcodec.format.container import GREY, RGB, Chunk, Header
from lrcodec.packs import modelfile, store

FORMATS = FOLDER.parent
VECTORS = sorted(path.parent for path in FORMATS.glob("vectors/*/case.json"))
CORRUPT = json.loads((FORMATS / "corrupt" / "cases.json").read_text(encoding="utf-8"))
MEMORY, USAGE, NOT_SUPPORTED, LIMIT = 1, 2, 4, 5
MUTANTS, PARTS = 10_000, 8
MOST_PIXELS = 20_000
"""Of the images that are changed: larger ones take long, and have nothing else to get wrong."""
LIMIT_PIXELS = 1_000_000
"""Of what they are changed into."""

pytestmark = pytest.mark.skipif(not COMPILERS, reason="there is no C compiler")


@pytest.fixture(scope="session")  # tests with random packs are run apart from others, and would compile all anew
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("c")


@pytest.fixture(scope="session")
def model_files() -> dict[bytes, bytes]:
    """The shipped models as model files, by their fingerprints."""
    packs = [entry.load() for entry in store.shipped()]
    return {pack.fingerprint: modelfile.save(pack) for pack in packs}


def decoder(folder: Path, files: dict[bytes, bytes], *flags: str) -> c_decoder.Decoder:
    library = compile_library(folder, *flags)
    return c_decoder.Decoder({name: Model(library, data) for name, data in files.items()})


@pytest.fixture(scope="module", params=["", "-DLRQ_PLAIN"], ids=["vectors", "plain"])
def c(request: pytest.FixtureRequest, folder: Path, model_files: dict[bytes, bytes]) -> c_decoder.Decoder:
    """With vector instructions, where the processor has some, and without."""
    return decoder(folder, model_files, *([request.param] if request.param else []))


@pytest.fixture(scope="module", params=["-O3", "-m32"])
def program(request: pytest.FixtureRequest, folder: Path) -> Path:
    """lrqdec, also in 32 bits."""
    path = folder / f"lrqdec{request.param}"
    skip_without(COMPILERS[0], request.param, folder)
    result = compile_c(COMPILERS[0], FOLDER / "lrqdec.c", path, request.param)
    assert (result.returncode, result.stderr) == (0, "")
    return path


def skip_without(compiler: str, flag: str, folder: Path) -> None:
    """Skips the test if the compiler makes no program with this flag: -m32 needs a C library of 32 bits."""
    empty = folder / "empty.c"
    empty.write_text("#include <stdlib.h>\nint main(void) { return 0; }\n")
    if compile_c(compiler, empty, folder / "empty", flag).returncode:
        pytest.skip(f"{compiler} {flag} does not work here")


@pytest.fixture(scope="module")
def photo_model(folder: Path) -> Path:
    path = folder / "photo.lrqm"
    path.write_bytes(modelfile.save(store.find("photo").load()))
    return path


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("flags", [("-O2",), ("-O3", "-DLRQ_PLAIN"), ("-m32", "-O2")], ids=" ".join)
def test_compiles_without_a_warning(compiler: str, flags: tuple[str, ...], tmp_path: Path):
    skip_without(compiler, flags[0], tmp_path)
    result = compile_c(compiler, FOLDER / "lrqdec.c", tmp_path / "lrqdec", *flags)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("folder_of_vector", VECTORS, ids=lambda path: path.name)
def test_vector(folder_of_vector: Path, c: c_decoder.Decoder):
    case = json.loads((folder_of_vector / "case.json").read_text(encoding="utf-8"))
    shrink, partial = case.get("shrink", 1), case.get("partial", False)
    data = (folder_of_vector / "image.lrq").read_bytes()
    pixels, complete = c.decode(data, shrink, partial)
    with Image.open(folder_of_vector / "reference.png") as image:
        np.testing.assert_array_equal(pixels, np.asarray(image), strict=True)
    if not partial:
        assert complete
        again, complete = c.decode(data, shrink, True)
        assert complete and np.array_equal(pixels, again)


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt_file(name: str, c: c_decoder.Decoder):
    data = (FORMATS / "corrupt" / name).read_bytes()
    if CORRUPT[name]["metadata"]:  # which it does not read
        assert c.decode(data)[1]
    else:
        with pytest.raises(getattr(errors, CORRUPT[name]["error"])):
            c.decode(data)


@pytest.mark.parametrize("part", range(PARTS))
def test_mutants(part: int, folder: Path, model_files: dict[bytes, bytes]):
    """Whole, in part, and reduced, in turn."""
    in_c = decoder(folder, model_files, f"-DLRQ_STRIP_PIXELS={seeds.STRIP_PIXELS}")
    ours = lrcodec.Decoder(max_pixels=LIMIT_PIXELS, threads=1)
    files = [(vector / "image.lrq").read_bytes() for vector in VECTORS]
    originals = [mutations.Seed.of(data) for data in files if len(data) < 3000 and unpacks(data)]
    originals = [seed for seed in originals if seed.header.width * seed.header.height < MOST_PIXELS]
    outcomes = set()
    with seeds.small_strips():
        for number in range(part, MUTANTS, PARTS):
            data = mutations.mutate(Random(number), originals).data
            partial, shrink = number // PARTS % 2 == 1, (1, 1, 2, 4, 8, 16)[number // PARTS % 6]
            try:
                if partial:
                    pixels, missing = ours.preview(data, shrink)
                else:
                    pixels, missing = ours.decode(data, shrink), None
            except errors.LrqError as error:
                with pytest.raises(errors.LrqError) as raised:
                    in_c.decode(data, shrink, partial, LIMIT_PIXELS)
                assert raised.type is type(error), number
                outcomes.add(type(error))
            else:
                in_pixels, complete = in_c.decode(data, shrink, partial, LIMIT_PIXELS)
                assert complete == (missing is None), number
                np.testing.assert_array_equal(in_pixels, pixels, str(number), strict=True)
                outcomes.add(complete)
    assert outcomes >= {True, False, errors.FormatError, errors.UnsupportedError, errors.LimitError}


def unpacks(data: bytes) -> bool:
    try:
        return bool(container.unpack(data))
    except errors.LrqError:
        return False


@pytest.mark.parametrize("colour", [GREY, RGB], ids=["grey", "rgb"])
def test_random_model(colour: int, random_pack, random_planes, folder: Path):
    """Other scales, ranks, symmetries and predictions than shipped models have, at several sizes."""
    pack, _ = random_pack
    for number, (height, width) in enumerate(((1, 1), (16, 16), (17, 50), (40, 33))):
        header = Header(width, height, colour, number % 2, 1 + number, 32, number % 2, pack.fingerprint)
        planes = random_planes(pack, header, number)
        data = container.pack(header, [Chunk(container.INDICES, entropy.encode(planes, pack, header)[0])])
        for shrink in (1, 2, 4, 8):
            want = reference.decode(data, pack.tables, shrink)
            for flags in ((), ("-DLRQ_PLAIN",)):
                model = Model(compile_library(folder, *flags), modelfile.save(pack))
                code, pixels = model.decode(data, shrink)
                assert (model.code, code) == (OK, OK)
                np.testing.assert_array_equal(pixels, want, strict=True)


def test_every_prefix(c: c_decoder.Decoder):
    """In part, as the decoder of this package."""
    data = (FORMATS / "vectors" / "rgba" / "image.lrq").read_bytes()
    ours = lrcodec.Decoder(threads=1)
    for length in range(0, len(data), 3):
        try:
            pixels, missing = ours.preview(data[:length])
        except errors.LrqError as error:
            with pytest.raises(type(error)):
                c.decode(data[:length], partial=True)
        else:
            in_c, complete = c.decode(data[:length], partial=True)
            assert not complete and missing
            np.testing.assert_array_equal(in_c, pixels, strict=True)


def test_damaged_model_files(folder: Path, random_pack):
    """Refused, or no worse than another model: with the checksum repaired, nothing else tells."""
    pack, _ = random_pack
    library, good = compile_library(folder, "-O1"), modelfile.save(pack)
    for length in (0, 4, 8, 39, 40, len(good) - 1):
        assert Model(library, good[:length]).code == NOT_SUPPORTED
    at = 8
    for array in map(pack.tables.get, modelfile._order(pack)):
        for axis in range(array.ndim):
            empty = bytearray(good[:-32])
            empty[at + 4 * axis : at + 4 * axis + 4] = bytes(4)
            assert array.shape[axis] == 0 or Model(library, bytes(empty) + sha256(empty).digest()).code == NOT_SUPPORTED
        at += 4 * array.ndim + array.nbytes
        at += -at % 4
    random = Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(good[:-32])
        # The first bytes hold lengths, which matter most.
        damaged[random.randrange(random.choice((400, len(damaged))))] ^= 1 << random.randrange(8)
        assert Model(library, bytes(damaged) + good[-32:]).code == NOT_SUPPORTED
        refused += Model(library, bytes(damaged) + sha256(damaged).digest()).code == NOT_SUPPORTED
    assert 50 < refused < 400


def test_memory_that_runs_out(c: c_decoder.Decoder):
    """At any allocation: all that was taken is given back."""
    data = (FORMATS / "vectors" / "everything" / "image.lrq").read_bytes()
    model = c.model_of(data)
    for count in range(1000):
        heap = Heap(count)
        code, _ = model.decode(data, allocator=heap.allocator)
        assert not heap.blocks
        if code == OK:
            break
        assert code == MEMORY
    assert count > 20


@pytest.mark.parametrize(("height", "width"), [(512, 768), (4000, 6000), (60000, 40)])
def test_memory_beside_pixels_and_model(height: int, width: int, c: c_decoder.Decoder):
    """At most 8 MiB. Nothing that a payload holds makes it more."""
    pack = store.find("photo").load()
    header = Header(width, height, RGB, 0, 4, 32, 0, pack.fingerprint)
    strips = grid.strips(pack.scales, height, width)
    data = container.pack(header, [Chunk(container.INDICES, b"")] * len(strips))
    heap = Heap()
    assert c.model_of(data).decode(data, allocator=heap.allocator)[0] == OK
    assert 2**17 < heap.peak <= 2**23


class Heap:
    """An allocator that counts, and has no more memory after some blocks."""

    def __init__(self, left: int = 1000):
        self.left, self.blocks, self.peak = left, {}, 0
        self.allocator = Allocator(ALLOCATE(self.allocate), RELEASE(self.release), None)

    def allocate(self, user: int | None, size: int) -> int | None:
        self.left -= 1
        if self.left < 0:
            return None
        block = (c_void_p * (size // 8 + 2))()
        self.blocks[addressof(block)] = block
        self.peak = max(self.peak, sum(sizeof(each) for each in self.blocks.values()))
        return addressof(block)

    def release(self, user: int | None, memory: int) -> None:
        del self.blocks[memory]


def test_options(c: c_decoder.Decoder):
    data = (FORMATS / "vectors" / "rgb" / "image.lrq").read_bytes()
    model = c.model_of(data)
    size = int(np.prod(model.library.size(data)))
    assert model.decode(data, 3)[0] == model.decode(data, 0)[0] == model.decode(data, capacity=size - 1)[0] == USAGE
    pixels = size // 3
    assert model.decode(data, max_pixels=pixels)[0] == OK
    assert model.decode(data, max_pixels=pixels - 1)[0] == LIMIT
    header, chunks = container.unpack(data)
    other = container.pack(replace(header, model=bytes(4)), chunks)
    assert model.decode(other)[0] == NOT_SUPPORTED


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "suffix"), [("rgb", "ppm"), ("grey", "pgm"), ("rgb", "pam"), ("rgba", "pam")])
def test_program(name: str, suffix: str, program: Path, photo_model: Path, tmp_path: Path):
    vector, out = FORMATS / "vectors" / name, tmp_path / f"out.{suffix}"
    result = run(program, photo_model, vector / "image.lrq", out)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    with Image.open(vector / "reference.png") as want:
        (width, height), depth, pixels = want.size, len(want.getbands()), want.tobytes()
    types = {"rgb": "RGB", "rgba": "RGB_ALPHA"}
    head = f"P{5 if suffix == 'pgm' else 6}\n{width} {height}\n255\n"
    if suffix == "pam":
        head = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL 255\nTUPLTYPE {types[name]}\nENDHDR\n"
    assert out.read_bytes() == head.encode() + pixels


def test_program_tells_the_time(program: Path, photo_model: Path):
    result = run(program, "--time", 3, photo_model, FORMATS / "vectors" / "rgb" / "image.lrq")
    assert result.returncode == 0 and result.stderr == "" and float(result.stdout) > 0


def test_program_in_part(program: Path, photo_model: Path, tmp_path: Path):
    data, cut, out = (
        (FORMATS / "vectors" / "rgb" / "image.lrq").read_bytes(),
        tmp_path / "cut.lrq",
        tmp_path / "out.ppm",
    )
    cut.write_bytes(data[:-20])
    assert run(program, photo_model, cut, out).returncode == 3 and not out.exists()
    result = run(program, "--partial", "--shrink", 4, photo_model, cut, out)
    assert (result.returncode, result.stderr) == (INCOMPLETE, f"lrqdec: {cut} is incomplete\n")
    with Image.open(out) as image:
        header = container.unpack_header(data)
        assert image.size == (-(-header.width // 4), -(-header.height // 4))


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ("{model}", "{vectors}/rgb/image.lrq")),
        (2, ("--shrink", "3", "{model}", "{vectors}/rgb/image.lrq", "{out}.ppm")),
        (2, ("--time", "0", "{model}", "{vectors}/rgb/image.lrq")),
        (2, ("--what", "{model}", "{vectors}/rgb/image.lrq", "{out}.ppm")),
        (2, ("{model}", "{vectors}/rgb/image.lrq", "{out}.png")),
        (2, ("{model}", "{vectors}/rgb/image.lrq", "{out}.pgm")),
        (2, ("{model}", "{vectors}/rgba/image.lrq", "{out}.ppm")),
        (1, ("{model}.none", "{vectors}/rgb/image.lrq", "{out}.ppm")),
        (1, ("{model}", "{vectors}/none.lrq", "{out}.ppm")),
        (1, ("{model}", "{vectors}/rgb/image.lrq", "{out}/none/out.ppm")),
        (4, ("{vectors}/rgb/image.lrq", "{vectors}/rgb/image.lrq", "{out}.ppm")),
        (4, ("{model}", "{vectors}/faces64-rgb/image.lrq", "{out}.ppm")),
        (3, ("{model}", "{vectors}/rgb/case.json", "{out}.ppm")),
    ],
)
def test_program_refuses(code: int, arguments: tuple[str, ...], program: Path, photo_model: Path, tmp_path: Path):
    places = {"model": photo_model, "vectors": FORMATS / "vectors", "out": tmp_path / "out"}
    result = run(program, *(argument.format(**places) for argument in arguments))
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith(("lrqdec: error: ", "usage: lrqdec "))
    assert list(tmp_path.iterdir()) == []
