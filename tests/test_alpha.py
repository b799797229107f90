"""Alpha and metadata: what the payloads hold, damage and bombs in them, and both in whole files, bit for bit."""

import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

import lrcodec
from lrcodec import entropy
from lrcodec.decoder import Decoder
from lrcodec.errors import FormatError, LimitError, UsageError
from lrcodec.format import grid
from lrcodec.format.alpha import AlphaReader, pack_alpha
from lrcodec.format.container import ALPHA, GREY, INDICES, RGB, Chunk, Header, pack, unpack
from lrcodec.format.metadata import MAX_METADATA, Metadata, pack_metadata, unpack_metadata
from lrcodec.packs import store

METADATA = Metadata(b"profile" * 9, b"MM\0*exif", b"<x:xmpmeta/>")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def headed(height: int, width: int, **fields) -> Header:
    given = dict(colour=RGB, smoothing=1, rank=2, iterations=3, band=0, model=bytes(4)) | fields
    return Header(width=width, height=height, **given)


# ---- payloads of alpha


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    width=st.integers(1, 9),
    levels=st.sampled_from([1, 2, 255]),
    kind=st.integers(0, 2),
)
def test_every_filter_round_trips(sizes: list[int], width: int, levels: int, kind: int):
    """Read in pieces of any sizes, also where the writer would have picked another filter."""
    alpha = noise(sum(sizes), width) % np.uint8(levels)
    signed = np.pad(alpha.astype(int), ((1, 0), (1, 0)))
    earlier = {0: 0, 1: signed[1:, :-1], 2: signed[:-1, 1:]}[kind]
    payload = bytes([kind]) + zlib.compress(((alpha.astype(int) - earlier) % 256).astype(np.uint8).tobytes())
    head = headed(*alpha.shape)
    for either in (payload, pack_alpha(alpha)):
        reader = AlphaReader(either, *alpha.shape)
        pieces = [reader.read(rows) for rows in sizes]
        assert [len(piece) for piece in pieces] == sizes
        np.testing.assert_array_equal(np.concatenate(pieces), alpha)
        np.testing.assert_array_equal(reference.alpha(either, head), alpha)


@pytest.mark.parametrize(
    ("alpha", "kind"),
    [
        (noise(40, 50), 0),
        (np.tile(np.cumsum(noise(50, 1) % 7, dtype=np.uint8), (40, 1)) + noise(40, 1), 1),
        (np.cumsum(noise(40, 50) % 2, 0, np.uint8) + noise(50), 2),
    ],
    ids=["noise", "along rows", "along columns"],
)
def test_the_shortest_payload_is_kept(alpha: np.ndarray, kind: int):
    payload = pack_alpha(alpha)
    assert payload[0] == kind and len(payload) <= 1 + len(zlib.compress(alpha.tobytes(), 9))


def test_opaque_alpha_is_small():
    assert len(pack_alpha(np.full((64, 64), 255, np.uint8))) < 32


def test_skipped_rows():
    alpha = noise(300, 9000)
    for top in (1, 233, 299):
        reader = AlphaReader(pack_alpha(alpha), *alpha.shape)
        reader.skip(top)
        np.testing.assert_array_equal(reader.read(1)[0], alpha[top])


def read_alpha(payload: bytes, height: int = 3, width: int = 4) -> None:
    AlphaReader(payload, height, width).read(height)


def test_damaged_alpha():
    stream = zlib.compress(bytes(range(12)))
    read_alpha(b"\2" + stream)
    for length in range(len(stream)):
        with pytest.raises(FormatError, match="alpha"):
            read_alpha(b"\2" + stream[:length])
    for payload in (b"", b"\3" + stream, b"\xff" + stream, b"\0" + stream + b"\0", b"\0" + stream + stream):
        with pytest.raises(FormatError, match="alpha"):
            read_alpha(payload)
    for count in (0, 1, 11, 13, 100_000):
        with pytest.raises(FormatError, match="alpha"):
            read_alpha(b"\0" + zlib.compress(bytes(count)))


@given(st.integers(0, 99), st.integers(0, 7))
def test_alpha_with_a_flipped_bit(byte: int, bit: int):
    """The zlib stream's own check finds it, or it is in bits that do not matter; the filter has the chunk's CRC-32."""
    payload = bytearray(pack_alpha(noise(9, 9)))
    payload[1 + byte % (len(payload) - 1)] ^= 1 << bit
    with suppress(FormatError):
        np.testing.assert_array_equal(AlphaReader(bytes(payload), 9, 9).read(9), noise(9, 9))


def peak(call: Callable[[], object]) -> int:
    """Bytes that the call held at most."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_of_alpha_costs_no_more_than_the_image():
    bomb = b"\0" + zlib.compress(bytes(2**27), 9)

    def explode() -> None:
        with pytest.raises(FormatError, match="longer"):
            read_alpha(bomb)

    assert peak(explode) < 2**20


# ---- metadata


def test_metadata_round_trips():
    for number in range(8):
        metadata = Metadata(*(content if number >> bit & 1 else None for bit, content in enumerate(METADATA)))
        assert unpack_metadata(pack_metadata(metadata)) == metadata
    assert pack_metadata(Metadata(b"", b"", b"")) == []
    assert unpack_metadata(pack_metadata(Metadata(exif=b"Exif\0\0II*\0"))) == Metadata(exif=b"II*\0")


@pytest.mark.parametrize(("tag", "what"), [(b"c", "ICC profile"), (b"e", "EXIF"), (b"x", "XMP")])
def test_damaged_metadata(tag: bytes, what: str):
    stream = zlib.compress(b"a profile, or what else there is")
    damaged = [stream[:length] for length in range(len(stream))]
    damaged += [stream + b"\0", stream + stream, b"no stream", stream[:9] + b"\xff" + stream[10:]]
    for payload in damaged:
        with pytest.raises(FormatError, match=f"the {what} is"):
            unpack_metadata([Chunk(tag, payload)])


@pytest.mark.parametrize("name", Metadata._fields)
def test_too_much_metadata_is_not_written(name: str):
    with pytest.raises(LimitError, match="16,777,216 bytes"):
        pack_metadata(Metadata(**{name: bytes(MAX_METADATA + 1)}))


def test_a_bomb_of_metadata_costs_no_more_than_the_limit():
    largest = Metadata(xmp=bytes(MAX_METADATA))
    assert unpack_metadata(pack_metadata(largest)) == largest
    bomb = zlib.compress(bytes(2**26), 9)
    for payload in (bomb, bomb + b"damaged", bomb[:-9]):

        def explode(payload: bytes = payload) -> None:
            with pytest.raises(LimitError, match="XMP is larger than 16,777,216 bytes"):
                unpack_metadata([Chunk(b"x", payload)])

        assert peak(explode) < 3 * MAX_METADATA


# ---- whole files


Make = Callable[..., bytes]


@pytest.fixture
def make(random_pack, random_planes, monkeypatch: pytest.MonkeyPatch) -> Make:
    """make(header, *chunks): a file of random indices and these chunks. Strips are rows of patches, or a few."""
    model = random_pack[0]
    for module in (grid, reference):
        monkeypatch.setattr(module, "STRIP_PIXELS", 2000)
    monkeypatch.setattr(store, "by_fingerprint", lambda wanted, extra=(): SimpleNamespace(load=lambda: model))

    def make(header: Header, *chunks: Chunk) -> bytes:
        planes = random_planes(model, header, seed=1)
        indices = []
        for top, bottom in grid.strips(model.scales, header.height, header.width):
            part = [p[:, top // s.span : -(-bottom // s.span)] for p, s in zip(planes, model.scales, strict=True)]
            indices.append(Chunk(INDICES, *entropy.encode(part, model, header)))
        return pack(header, [*chunks, *indices])

    return make


@pytest.mark.parametrize("colour", [GREY, RGB])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (61, 97), (33, 1)])
def test_decoding_equals_the_reference(height: int, width: int, colour: int, make: Make, random_pack):
    """Whole, in a batch with others and strip by strip, also of some rows; the colours are those without alpha."""
    alpha = noise(height, width)
    head = headed(height, width, colour=colour, alpha=1)
    data = make(head, Chunk(ALPHA, pack_alpha(alpha)))
    decoder = Decoder()
    want = reference.decode(data, random_pack[0].tables)
    assert want.shape == head.shape
    np.testing.assert_array_equal(want[..., -1], alpha)
    np.testing.assert_array_equal(decoder.decode(data), want)
    plain = decoder.decode(make(headed(height, width, colour=colour)))
    np.testing.assert_array_equal(plain.reshape(height, width, -1), want[..., :-1])
    for got, same in zip(decoder.decode_batch([data, make(headed(5, 5)), data]), (want, None, want), strict=True):
        assert same is None or (got == same).all()
    strips = [*decoder.strips(data)]
    assert (len(strips) > 1) == (height * width > 2000)
    np.testing.assert_array_equal(np.concatenate(strips), want)
    top, bottom = height // 3, height // 2 + 1
    np.testing.assert_array_equal(np.concatenate([*decoder.strips(data, (top, bottom))]), want[top:bottom])


def test_alpha_may_come_behind_the_indices(make: Make):
    head = headed(61, 97, alpha=1)
    chunk = Chunk(ALPHA, pack_alpha(noise(61, 97)))
    first = make(head, chunk)
    chunks = unpack(first)[1]
    last = pack(head, [chunk for chunk in chunks if chunk.tag == INDICES] + [chunk])
    np.testing.assert_array_equal(Decoder().decode(last), Decoder().decode(first))


@pytest.mark.parametrize("height", [61, 10], ids=["strips", "one strip"])
def test_files_with_damaged_alpha(height: int, make: Make):
    """Are refused, but for the rows above the damage, which strips may have given."""
    head = headed(height, 97, alpha=1)
    rows = zlib.compressobj()
    stream = rows.compress(bytes(97 * (height - 3))) + rows.flush()
    for payload in (b"", b"\3", b"\0" + stream, pack_alpha(noise(height, 97)) + b"\0"):
        data = make(head, Chunk(ALPHA, payload))
        with pytest.raises(FormatError, match="alpha"):
            Decoder().decode(data)
        with pytest.raises(FormatError, match="alpha"):
            list(Decoder().strips(data))
    (part,) = Decoder().strips(make(head, Chunk(ALPHA, b"\0" + stream)), (0, 5))
    assert part.shape == (5, 97, 4) and not part[..., 3].any()


def test_the_limit_of_pixels_comes_first():
    """No model is looked for, and nothing inflated."""
    bomb = Chunk(ALPHA, b"\0" + zlib.compress(bytes(2**24)))
    data = pack(headed(65535, 65535, alpha=1), [bomb, Chunk(INDICES, b"")])

    def explode() -> None:
        with pytest.raises(LimitError, match="65535 x 65535"):
            lrcodec.decode(data)

    assert peak(explode) < 2**20


# ---- encoding


@pytest.fixture(scope="module")
def encoder():
    return lrcodec.Encoder("photo", "cpu")


def four(photo: np.ndarray) -> list[np.ndarray]:
    """`photo` in all modes: L, LA, RGB and RGBA."""
    grey, alpha = photo[..., 1], photo[..., 0]
    return [grey, np.dstack([grey, alpha]), photo, np.dstack([photo, alpha])]


def test_all_modes_round_trip(photo: np.ndarray, encoder):
    """The colours do not depend on the alpha, which is kept as it is; one by one or in a batch."""
    images = four(photo)
    files = encoder.encode_batch(images, effort=0, metadata=[METADATA] * 4)
    decoded = [lrcodec.decode(data) for data in files]
    assert [image.shape for image in decoded] == [image.shape for image in images]
    assert [lrcodec.probe(data[:64]).alpha for data in files] == [0, 1, 0, 1]
    assert [lrcodec.probe(data).shape for data in files] == [image.shape for image in images]
    assert [lrcodec.metadata(data) for data in files] == [METADATA] * 4
    for plain, both in (decoded[:2], decoded[2:]):
        np.testing.assert_array_equal(both[..., -1], photo[..., 0])
        np.testing.assert_array_equal(both[..., :-1].reshape(plain.shape), plain)
    assert encoder.encode(images[1], effort=0, metadata=METADATA) == files[1]
    tables = encoder.pack.tables
    np.testing.assert_array_equal(decoded[3], reference.decode(files[3], tables))


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 1, 2), (3, 130, 4)])
def test_small_images_with_alpha(shape: tuple[int, ...]):
    image = noise(*shape)
    data = lrcodec.encode(image, effort=0, icc_profile=b"c", exif=b"Exif\0\0e", xmp=b"x")
    decoded = lrcodec.decode(data)
    assert decoded.shape == shape
    np.testing.assert_array_equal(decoded[..., -1], image[..., -1])
    assert lrcodec.metadata(data) == Metadata(b"c", b"e", b"x")


def test_what_cannot_be_encoded(encoder, photo: np.ndarray):
    for image in (noise(4), noise(4, 4, 1), noise(4, 4, 5), noise(4, 4, 3, 3), noise(4, 4).astype(np.uint16)):
        with pytest.raises(UsageError, match="uint8"):
            encoder.encode(image)
    with pytest.raises(LimitError, match="XMP"):
        encoder.encode(photo, metadata=Metadata(xmp=bytes(MAX_METADATA + 1)))


# ---- the package


def test_probing_imports_nothing_heavy(photo_file):
    code = (
        "import sys, lrcodec; data = open(sys.argv[1], 'rb').read(); lrcodec.probe(data); lrcodec.metadata(data);"
        "assert not {'torch', 'onnxruntime', 'PIL'} & {*sys.modules};"
        "assert lrcodec.Decoder().decode(data).ndim == 3 and 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code, photo_file], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")


def test_many_threads_decode_as_one_does(make: Make, monkeypatch: pytest.MonkeyPatch):
    """Eight start at once with a decoder that has loaded nothing; every model and graph is loaded once."""
    sizes = [(61, 97), (10, 40), (1, 1), (50, 100)]
    heads = [headed(*size, colour=c, alpha=a) for size in sizes for c in (GREY, RGB) for a in (0, 1)]
    files = [make(head, *[Chunk(ALPHA, pack_alpha(noise(head.height, head.width)))] * head.alpha) for head in heads]
    want = [image.tobytes() for image in Decoder(threads=1).decode_batch(files)]
    loaded = []
    load = store.by_fingerprint
    monkeypatch.setattr(store, "by_fingerprint", lambda *given: loaded.append(1) or load(*given))
    decoder, start = Decoder(threads=2), threading.Barrier(8)

    def work(number: int) -> list[bytes]:
        start.wait(60)
        order = np.random.default_rng(number).permutation(len(files))
        got = {i: decoder.decode(files[i]) if i % 2 else np.concatenate([*decoder.strips(files[i])]) for i in order}
        batch = decoder.decode_batch(files)
        assert all((batch[i] == got[i]).all() for i in order)
        return [got[i].tobytes() for i in range(len(files))]

    with ThreadPoolExecutor(8) as pool:
        assert all(result == want for result in pool.map(work, range(8)))
    assert len(loaded) == 1
    assert len(decoder._graphs) == len({id(graph) for graph in decoder._graphs.values()}) == 4
