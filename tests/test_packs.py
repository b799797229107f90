"""Model packs are not trusted blindly: whatever is wrong with one is one error, and runs, reads or crashes nothing."""

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import fails
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from lrcodec import decoder, entropy
from lrcodec.decoder import Decoder
from lrcodec.encoder import Encoder
from lrcodec.errors import FormatError, UnsupportedError
from lrcodec.format import container, grid
from lrcodec.format.container import Chunk, Header
from lrcodec.packs import store, tablefile
from lrcodec.packs.pack import CARD, CODEWORDS, ENCODER, TEXT_BYTES, Pack, PackFolder, fingerprint

ROOT = Path(__file__).parent.parent
SMALL = "mnist"
pytestmark = pytest.mark.usefixtures("user_folder")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole pack in a folder of its own."""
    return Path(shutil.copytree(ROOT / "models" / SMALL, tmp_path / "pack"))


def npz(arrays: dict[str, np.ndarray], pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.savez(out, allow_pickle=pickled, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def with_tables(pack: Pack, data: bytes) -> Pack:
    """The pack with another tables.npz, loaded as from disk."""
    entry = PackFolder(pack.name, Path("unused"))
    entry.__dict__["blobs"] = {**pack.graphs, "tables.npz": data}
    return entry.load()


def refuses(pack: Pack, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(UnsupportedError, match="cannot be read"):
        with_tables(pack, npz(arrays))


# ---- tables.npz


@pytest.mark.parametrize("name", [entry.name for entry in store.packs()])
def test_shipped_tables_keep_the_rules(name: str):
    blob = store.find(name).blobs["tables.npz"]
    arrays, _ = tablefile.load(blob)
    with np.load(io.BytesIO(blob)) as file:
        assert set(arrays) == set(file.files)


@pytest.mark.parametrize("name", [entry.name for entry in store.packs()])
def test_shipped_tables_are_written_as_they_were_read(name: str):
    blobs = store.find(name).blobs
    arrays, scales = tablefile.load(blobs["tables.npz"])
    written = tablefile.save(arrays)
    again, _ = tablefile.load(written)
    assert {k: (a.dtype, a.shape) for k, a in again.items()} == {k: (a.dtype, a.shape) for k, a in arrays.items()}
    assert fingerprint({**blobs, "tables.npz": written}) == fingerprint(blobs)
    described = tablefile.describe(scales, int(arrays["channels"]), int(arrays["bands"]))
    assert tablefile.save({**arrays, **described}) == written


def test_tables_that_cannot_be_written(random_pack):
    tables = random_pack[0].tables
    for wrong, error, message in (
        ({"bands": 300}, ValueError, "bands is not within"),
        ({"bands": 2**40}, ValueError, "bands has values that int32 cannot hold"),
        ({"u1": tables["u1"].astype(float)}, TypeError, "float64"),
        ({"u1": tables["u1"][1:]}, ValueError, "u1 has the wrong shape"),
        ({"u8": tables["u1"]}, ValueError, "has no u8"),
    ):
        with pytest.raises(error, match=message):
            tablefile.save({**tables, **wrong})
    with pytest.raises(KeyError, match="energy1"):
        tablefile.save({name: array for name, array in tables.items() if name != "energy1"})


def test_every_array_is_checked(random_pack):
    """Whichever array is missing, or has another type, rank or length: the pack is refused."""
    pack, _ = random_pack
    with_tables(pack, npz(pack.tables))
    for name, array in pack.tables.items():
        others = {k: v for k, v in pack.tables.items() if k != name}
        refuses(pack, others)
        refuses(pack, {**others, name: array.astype(np.int64)})
        refuses(pack, {**others, name: array.astype(array.dtype.newbyteorder(">") if array.itemsize > 1 else "V1")})
        refuses(pack, {**others, name: array[None]})
        for axis in range(array.ndim):
            if name.startswith("clusters") and axis == 1 or name.startswith("depths") and axis == 2:
                continue  # more context classes than are used do no harm
            refuses(pack, {**others, name: np.pad(array, [(0, int(axis == other)) for other in range(array.ndim)])})


@pytest.mark.parametrize(
    "name, value",
    [("channels", 2), ("channels", 0), ("channels", 4), ("bands", 0), ("bands", 17), ("shared", 2), ("luma_only", -1)],
)
def test_numbers_out_of_range(random_pack, name: str, value: int):
    refuses(random_pack[0], {**random_pack[0].tables, name: np.array(value, np.int32)})


@pytest.mark.parametrize(
    "scales",
    [
        [(4, 4, 1), (2, 8, 1), (1, 0, 1)],
        [(4, 4, 1), (2, 8, 1), (1, -8, 1)],
        [(4, 4, 1), (2, 8, 1), (1, 7, 1)],
        [(4, 4, 1), (1, 8, 1)],
        [(2**30, 4, 1)],
        [],
    ],
)
def test_scales_out_of_range(random_pack, scales: list[tuple[int, int, int]]):
    refuses(random_pack[0], {**random_pack[0].tables, "scales": np.array(scales, np.int32).reshape(-1, 3)})


def test_patches_that_would_take_much_memory(random_pack):
    pack, _ = random_pack
    side = tablefile.MAX_SPAN + 2
    arrays = {**pack.tables, "scales": np.array([[1, side, 1]], np.int32), "luma_only": np.array(0, np.int32)}
    with pytest.raises(UnsupportedError, match="not within|spans more"):
        with_tables(pack, npz(arrays))
    arrays["scales"] = np.array([[4, 512, 1], [2, 512, 1], [1, 512, 1]], np.int32)
    with pytest.raises(UnsupportedError, match="spans more"):
        with_tables(pack, npz(arrays))


def test_shapes_and_iterations_are_bounded(random_pack):
    pack, _ = random_pack
    most = tablefile.MAX_CODEWORDS // pack.scales[1].symmetries
    for shapes in (
        [1],
        [0],
        [-64],
        [most + 1],
        [tablefile.MAX_CODEWORDS + 1],
        [2] * (tablefile.MAX_ITERATIONS + 1),
        [],
    ):
        refuses(pack, {**pack.tables, "shapes2": np.array(shapes, np.int32)})


@pytest.mark.parametrize("convolutions", ["smooth_w1 smooth_b1 smooth_w2", "first2 first_bias2 second2"])
def test_hidden_channels_are_bounded(random_pack, convolutions: str):
    pack, _ = random_pack

    def with_hidden(count: int) -> dict[str, np.ndarray]:
        shapes = ((name, list(pack.tables[name].shape)) for name in convolutions.split())
        arrays = {}
        for axis, (name, shape) in zip((0, 0, 1), shapes, strict=True):
            shape[axis] = count
            arrays[name] = np.zeros(shape, np.int32)
        return {**pack.tables, **arrays}

    for count in (0, tablefile.MAX_HIDDEN):
        with_tables(pack, npz(with_hidden(count)))
    refuses(pack, with_hidden(tablefile.MAX_HIDDEN + 1))


@pytest.mark.parametrize("symmetries", [0, 3, 4, 16, 32])
def test_symmetries_out_of_range(random_pack, symmetries: int):
    """Sixteen, because scale 2 has chroma."""
    pack, _ = random_pack
    scales, costs = pack.tables["scales"].copy(), np.zeros((pack.scales[1].rows, symmetries), np.uint8)
    scales[1, 2] = symmetries
    refuses(pack, {**pack.tables, "scales": scales, "symmetries2": costs})


@pytest.mark.parametrize(
    "name, value",
    [("orientation1", 9), ("frequency2", 0), ("frequency2", 9), ("features4", 13), ("v1", -32768)],
)
def test_values_out_of_range(random_pack, name: str, value: int):
    wrong = random_pack[0].tables[name].copy()
    wrong.flat[-1] = value
    refuses(random_pack[0], {**random_pack[0].tables, name: wrong})


def test_classes_out_of_range(random_pack):
    """A class that has no costs would be looked up out of bounds."""
    pack, _ = random_pack
    for name, array in pack.tables.items():
        for row in range(len(array) if "classes" in name else 0):
            wrong = array.copy()
            wrong[row, -1] = 200
            refuses(pack, {**pack.tables, name: wrong})


def test_clusters_that_do_not_divide(random_pack):
    pack, _ = random_pack
    clusters, members = pack.tables["clusters2_0"], pack.tables["members2_0"]
    refuses(pack, {**pack.tables, "clusters2_0": clusters[:, :, :7], "members2_0": members[:, :7]})


def test_pickles_are_never_loaded(random_pack, tmp_path: Path):
    pack, _ = random_pack
    ran = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(ran),)

    for name in ("u1", "scales", "extra"):
        data = npz({**pack.tables, name: np.array([Payload()], object)}, pickled=True)
        if name == "extra":  # is not even read
            assert set(with_tables(pack, data).tables) == set(pack.tables)
        else:
            with pytest.raises(UnsupportedError):
                with_tables(pack, data)
    with pytest.raises(UnsupportedError):
        with_tables(pack, pickle.dumps(Payload()))
    assert not ran.exists()
    pickle.loads(pickle.dumps(Payload()))
    assert ran.exists()  # so it would have been seen


@pytest.mark.parametrize(
    "method, megabytes, message",
    [
        (zipfile.ZIP_DEFLATED, 257, "holds more than"),
        (zipfile.ZIP_BZIP2, 1, "packed in a way"),
        (zipfile.ZIP_LZMA, 1, "packed in a way"),
    ],
)
def test_archives_that_inflate_too_far(method: int, megabytes: int, message: str, monkeypatch: pytest.MonkeyPatch):
    """Refused by what the archive says of itself, before anything is inflated."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file, file.open("u1.npy", "w") as member:
        for _ in range(megabytes):
            member.write(bytes(2**20))
    assert len(out.getvalue()) < 2**19
    monkeypatch.setattr(np, "load", pytest.fail)
    with pytest.raises(ValueError, match=message):
        tablefile.load(out.getvalue())


def test_an_array_that_claims_to_be_huge(random_pack):
    """The archive's own sizes are small, the array's header says a terabyte."""
    pack, _ = random_pack
    out = io.BytesIO(npz({k: v for k, v in pack.tables.items() if k != "u1"}))
    with zipfile.ZipFile(out, "a") as file, file.open("u1.npy", "w") as member:
        header = {"descr": "|i1", "fortran_order": False, "shape": (2**40, 4, 8)}
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises((UnsupportedError, MemoryError)):
        with_tables(pack, out.getvalue())


def test_what_is_no_archive(random_pack):
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    for data in (b"", b"PK", array.getvalue(), npz({}), npz(random_pack[0].tables)[:-30]):
        with pytest.raises(UnsupportedError):
            with_tables(random_pack[0], data)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), payload=st.binary(max_size=200))
def test_any_valid_tables_decode_anything(random_pack, seed: int, payload: bytes):
    """Tables that pass the checks, with any content, look up nothing out of bounds, whatever a file holds."""
    pack, _ = random_pack
    random = np.random.default_rng(seed)
    fixed = ("scales", "channels", "shared", "luma_only", "bands", "shapes")
    limits = {field.name.removesuffix("{s}"): field.limits for field in tablefile.SCALE if field.limits}
    arrays = {}
    for name, array in pack.tables.items():
        bounds = np.iinfo(array.dtype)
        low, high = limits.get(name.rstrip("0123456789"), (bounds.min, bounds.max))
        low, high = (0, array.max() + 1) if "classes" in name else (low, high + 1)
        arrays[name] = array if name.startswith(fixed) else random.integers(low, high, array.shape, array.dtype)
    wild = with_tables(pack, npz(arrays))
    header = Header(37, 21, container.RGB, 1, 4, 32, 1, wild.fingerprint)
    try:
        planes = entropy.decode([payload], wild, header, 21)
    except FormatError:
        return
    for plane, scale in zip(planes, wild.scales, strict=True):
        assert (plane >= 0).all() and (plane <= scale.codewords).all()
    image = decoder.Graph(wild, container.RGB, True, threads=1).run(planes, 4, 21, 37)
    assert (image.dtype, image.shape) == (np.uint8, (1, 21, 37, 3))


# ---- graphs


def graph_of(nodes, outputs, initializers=()) -> bytes:
    graph = helper.make_graph(nodes, "g", [], outputs, list(initializers))
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def with_graph(pack: Pack, graph: bytes) -> Pack:
    """Of which every graph is this one, but that of codewords."""
    graphs = {**dict.fromkeys(pack.graphs, graph), CODEWORDS: pack.codewords_graph}
    return Pack("odd", {**graphs, "tables.npz": npz(pack.tables)})


@pytest.mark.parametrize("nested", [False, True])
def test_graphs_cannot_read_other_files(random_pack, nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "private").write_bytes(bytes(4))
    monkeypatch.chdir(tmp_path)
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[1, 1, 2, 2], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "private"
    node = helper.make_node("Constant", [], ["w"], value=tensor)
    nodes = [node] * nested + [helper.make_node("Identity", ["w"], ["pixels"])]
    output = helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, 1, 2, 2])
    graph = graph_of(nodes, [output], [tensor] * (not nested))
    with pytest.raises(UnsupportedError, match="refer to other files"):
        with_graph(random_pack[0], graph)


def run(pack: Pack, random_planes, rank: int = 2) -> np.ndarray:
    header = Header(20, 12, container.RGB, 1, rank, 4, 0, pack.fingerprint)
    return decoder.Graph(pack, container.RGB, True, threads=1).run(random_planes(pack, header, 1), rank, 12, 20)


@pytest.mark.parametrize("shape, kind", [([1, 12, 8, 16], "FLOAT"), ([1, 12, 8], "UINT8"), ([1, 4, 8, 16], "UINT8")])
def test_graphs_that_draw_something_else(random_pack, random_planes, shape: list[int], kind: str):
    pack, _ = random_pack
    inputs = onnx.load_from_string(pack.graph(container.RGB, True)).graph.input
    data_type = getattr(TensorProto, kind)
    value = helper.make_tensor("v", data_type, shape, np.zeros(shape).reshape(-1).tolist())
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["pixels"], value=value)],
        "g",
        inputs,
        [helper.make_tensor_value_info("pixels", data_type, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(UnsupportedError, match="broken graph"):
        run(with_graph(pack, model.SerializeToString()), random_planes)


def test_graphs_of_other_inputs_or_that_fail(random_pack, random_planes, capfd: pytest.CaptureFixture[str]):
    pack, _ = random_pack
    output = helper.make_tensor_value_info("pixels", TensorProto.UINT8, None)
    unit = helper.make_tensor("v", TensorProto.UINT8, [1, 1, 1, 1], [0])
    foreign = graph_of([helper.make_node("Constant", [], ["pixels"], value=unit)], [output])
    model = onnx.load_from_string(pack.graph(container.RGB, True))
    half = next(constant for constant in model.graph.initializer if constant.name == "f0.5")
    half.CopyFrom(numpy_helper.from_array(np.zeros(7, np.float32), half.name))  # as if all planes had seven columns
    for graph in (foreign, model.SerializeToString()):
        with pytest.raises(UnsupportedError, match="graph"):
            run(with_graph(pack, graph), random_planes)
    assert capfd.readouterr().err == ""  # the error itself is the only line


def test_only_onnx_is_loaded(random_pack, tmp_path: Path):
    """ONNX Runtime would take its own format too, which it guesses from the bytes."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(random_pack[0].graph(container.RGB, True), options, providers=["CPUExecutionProvider"])
    ort_format = (tmp_path / "model.ort").read_bytes()
    ort.InferenceSession(ort_format, providers=["CPUExecutionProvider"])
    with pytest.raises(UnsupportedError, match="broken graph"):
        decoder.Graph(with_graph(random_pack[0], ort_format), container.RGB, True)


# ---- fingerprints and SHA-256


def test_a_file_names_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The four bytes are compared, never used as a name."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "models" / SMALL, tmp_path / "pic")
    for model in (b"pic\0", b"./pi", b"../.", b"mnis"):
        data = container.pack(Header(8, 8, container.GREY, 0, 1, 1, 0, model), [Chunk(b"I", b"")])
        with pytest.raises(UnsupportedError, match=model.hex()):
            Decoder().decode(data)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def installed(folder: Path) -> PackFolder:
    return store.install(folder, "mine")


def test_models_that_files_cannot_tell_apart(folder: Path, user_folder: Path):
    """Those of one fingerprint whose SHA-256 differ: neither is added to the other, nor used beside it."""
    (folder / "decoder-more.onnx").write_bytes(b"a model of its own")
    one = store.install(folder, "one")
    record = one.path / "sha256"
    decoder, encoder = record.read_text().splitlines()
    alike = decoder[:8] + f"{int(decoder[8], 16) ^ 1:x}" + decoder[9:]
    record.write_text(f"{alike}\n{encoder}\n")
    message = f"have one fingerprint, {decoder[:8]}: use only one of them"
    assert f"models other and one {message}" in fails(4, "models", "add", folder, "--name", "other")
    assert {path.name for path in user_folder.iterdir()} == {"one"}
    with pytest.raises(UnsupportedError, match=f"models pack and one {message}"):
        store.by_fingerprint(one.fingerprint, [folder])
    # In its place it may come; and a copy is no other model.
    assert store.install(folder, "one", replace=True).fingerprint == one.fingerprint
    assert store.install(folder, "other").fingerprint == one.fingerprint
    assert store.by_fingerprint(one.fingerprint, [folder]).name == "pack"
    # As it is with shipped ones.
    shipped = store.find(SMALL)
    shutil.copytree(ROOT / "models" / SMALL, user_folder / "small")
    (user_folder / "small" / "sha256").write_text(f"{shipped.digest.hex()[:8]}{alike[8:]}\n{encoder}\n")
    with pytest.raises(UnsupportedError, match=f"models {SMALL} and small have one fingerprint"):
        store.by_fingerprint(shipped.fingerprint)


def test_shipped_packs_have_both_hashes():
    for entry in store.shipped():
        assert fingerprint(entry.blobs).hex() == entry.sha256
        assert hashlib.sha256(entry.encoder).hexdigest() == entry.encoder_sha256


def test_a_tampered_decoder_is_refused(installed: PackFolder):
    picture = np.zeros((28, 28), np.uint8)
    data = Encoder("mine").encode(picture)
    for name in ("tables.npz", "decoder-grey.onnx"):
        intact = (installed.path / name).read_bytes()
        flip(installed.path / name)
        assert not store.find("mine").intact
        with pytest.raises(UnsupportedError, match="damaged"):
            store.find("mine").load()
        (installed.path / name).write_bytes(intact)
    assert store.find("mine").intact
    (installed.path / "decoder-more.onnx").write_bytes(b"")
    with pytest.raises(UnsupportedError, match="damaged"):
        store.find("mine").load()
    assert Decoder().decode(data).shape == picture.shape  # by the shipped pack, which is the same


def test_a_tampered_encoder_is_refused(installed: PackFolder):
    """It is no part of the fingerprint: files that it would make are decoded by what they name all the same."""
    fingerprint = store.find("mine").fingerprint
    flip(installed.path / ENCODER)
    entry = store.find("mine")
    assert entry.intact and entry.fingerprint == fingerprint and entry.load()
    with pytest.raises(UnsupportedError, match="SHA-256 of its encoder"):
        Encoder("mine")
    (installed.path / ENCODER).unlink()
    with pytest.raises(UnsupportedError, match="no usable encoder"):
        Encoder("mine")


def test_a_pack_may_come_without_encoder_and_card(folder: Path):
    (folder / ENCODER).unlink()
    (folder / CARD).unlink()
    entry = store.install(folder, "mine")
    assert entry.load() and entry.description == ""
    (entry.path / ENCODER).write_bytes((ROOT / "models" / SMALL / ENCODER).read_bytes())
    with pytest.raises(UnsupportedError, match="SHA-256 of its encoder"):  # it came with none
        Encoder("mine")


def rewrite(folder: Path, change) -> None:
    """Replace the config in the header of a pack's encoder, and nothing else."""
    path = folder / ENCODER
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    config = json.loads(header["__metadata__"]["config"])
    header["__metadata__"]["config"] = json.dumps(change(config))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


@pytest.mark.parametrize(
    "change",
    [
        lambda config: [],
        lambda config: {**config, "heads": 0},
        lambda config: {**config, "width": "wide"},
        lambda config: {**config, "width": 2 * config["width"]},
        lambda config: {**config, "scales": 5},
        lambda config: {**config, "scales": config["scales"][1:]},
        lambda config: {**config, "bands": config["bands"] + 1},
        lambda config: {**config, "smoothing": config["smoothing"] + 1},
    ],
)
def test_encoders_that_do_not_fit(folder: Path, change):
    rewrite(folder, lambda config: config)
    Encoder(folder)  # so `rewrite` itself does no damage
    rewrite(folder, change)
    with pytest.raises(UnsupportedError, match="no usable encoder"):
        Encoder(folder)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\xff" * 64, pickle.dumps({})])
def test_what_is_no_safetensors(folder: Path, content: bytes):
    (folder / ENCODER).write_bytes(content)
    with pytest.raises(UnsupportedError, match="no usable encoder"):
        Encoder(folder)


# ---- files of a pack


@pytest.mark.parametrize("name", ["tables.npz", "decoder-grey.onnx", ENCODER, CARD])
def test_links_are_not_installed(folder: Path, tmp_path: Path, user_folder: Path, name: str):
    (folder / name).rename(tmp_path / "private")
    (folder / name).symlink_to(tmp_path / "private")
    with pytest.raises(UnsupportedError, match="is a link"):
        store.install(folder, "mine")
    assert list(user_folder.iterdir()) == []
    through = tmp_path / "link"
    through.symlink_to(ROOT / "models" / SMALL)
    assert store.install(through, "mine").intact  # the folder itself may be one


@pytest.mark.skipif(sys.platform != "linux", reason="needs pipes, devices and names that are not UTF-8")
def test_files_that_are_none(folder: Path):
    """A pipe would be waited for, a device read without end."""
    for name, target in (("decoder-rgb.onnx", "/dev/zero"), (ENCODER, "/dev/zero"), (CARD, "/dev/zero")):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "decoder-more.onnx")
    (folder / os.fsdecode(b"decoder-\xff.onnx")).write_bytes(b"")
    entry = PackFolder("odd", folder)
    assert entry.fingerprint == store.find(SMALL).fingerprint
    assert entry.description == ""
    with pytest.raises(UnsupportedError, match="no usable encoder"):
        Encoder(folder)


def test_a_card_cannot_control_the_terminal(folder: Path):
    from click.testing import CliRunner

    from lrcodec.cli.main import main

    terms = b"Licence: \x1b[2Jfree\nData: \x1b[2Jnine\n"
    (folder / CARD).write_bytes(b"# card\n\n\x1b]0;title\x07\x1b[2Jhello \xff\n" + terms + b"x" * 2**20)
    result = CliRunner().invoke(main, ["models", "add", str(folder), "--name", "mine"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == result.stdout.count("\n") == 3 and all(line.isprintable() for line in lines)
    assert "hello" in lines[0] and "free" in lines[1] and "nine" in lines[2]
    assert (store.find("mine").path / CARD).stat().st_size == TEXT_BYTES


def test_grids_need_patches():
    for patch in (0, -2):
        with pytest.raises(ValueError):
            grid.check_scales((grid.Scale(1, patch, (2,)),))


def test_packs_that_a_wheel_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They are listed, and not there."""
    shipped = store.find("mnist").path
    shutil.copytree(shipped, tmp_path / "models" / "mnist")
    shutil.copy(shipped.parent / "models.toml", tmp_path / "models")
    monkeypatch.setattr(store, "PACKAGE", tmp_path)
    assert [pack.name for pack in store.packs()] == ["mnist"] and store.packs()[0].intact
    with pytest.raises(UnsupportedError, match="unknown model faces64"):
        store.find("faces64")


@pytest.mark.parametrize("entry", store.shipped(), ids=lambda entry: entry.name)
def test_models_toml_card_notice_and_readme_state_the_same_terms(entry: PackFolder):
    licence, data = entry.terms
    assert PackFolder("folder", entry.path).terms == entry.terms  # of a folder the card alone counts
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    lines = f"  Licence: {licence}\n  Data: {data}\n  Card: models/{entry.name}/card.md\n"
    assert re.search(rf"^{entry.name}\b.*\n{re.escape(lines)}", notice, re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| \[`{entry.name}`\].*\| {licence} \|$", readme, re.MULTILINE)


def test_what_the_wheel_holds():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    included = [Path(path) for path in wheel["wheel"]["force-include"]]
    packs = {path.name for path in included if path.parent == Path("models")} - {"models.toml"}
    assert packs == {entry.name for entry in store.shipped()} - {"faces64"}


def test_a_pack_that_is_not_shipped_states_its_terms_in_its_card(folder: Path):
    (folder / CARD).write_text("# bears\n\nFor bears.\n\nLicence: CC0\n\nData: 9 bears, CC0\n")
    assert store.install(folder, "bears").terms == ("CC0", "9 bears, CC0")
    (folder / CARD).write_text("# bears\n\nFor bears.\n")
    assert store.find(folder).terms == ("not stated", "not stated")
    (folder / CARD).unlink()
    assert (store.find(folder).description, store.find(folder).terms) == ("", ("not stated", "not stated"))
