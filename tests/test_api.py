"""What `import lrcodec` offers: its names, what its functions take, and how they refuse the rest."""

import importlib.metadata
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fails
from PIL import Image

import lrcodec
from lrcodec import errors
from lrcodec.decoder import shared
from lrcodec.packs import store


@pytest.fixture(scope="module")
def data(photo_file: Path) -> bytes:
    return photo_file.read_bytes()


def test_names():
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    functions_and_classes = {"decode", "encode", "probe", "metadata", "Header", "Metadata", "Decoder", "Encoder"}
    assert {*lrcodec.__all__} == functions_and_classes | kinds
    assert {*lrcodec.__all__, "__version__"} <= {*dir(lrcodec)}
    assert [getattr(lrcodec, name).__name__ for name in lrcodec.__all__] == lrcodec.__all__
    with pytest.raises(AttributeError, match="nothing"):
        lrcodec.nothing  # noqa: B018


def test_version():
    assert lrcodec.__version__ == importlib.metadata.version("lrcodec")


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda data: memoryview(data + b"!")[:-1], np.frombuffer])
def test_any_bytes_like_object(kind: Callable[..., Any], data: bytes):
    given = kind(data, np.uint8) if kind is np.frombuffer else kind(data)
    want = lrcodec.decode(data)
    decoder = lrcodec.Decoder()
    np.testing.assert_array_equal(lrcodec.decode(given), want, strict=True)
    np.testing.assert_array_equal(decoder.decode_batch([given, data])[0], want, strict=True)
    np.testing.assert_array_equal(np.concatenate([*decoder.strips(given)]), want, strict=True)
    assert lrcodec.probe(given) == lrcodec.probe(given[:64]) == lrcodec.probe(data)
    assert lrcodec.metadata(given) == lrcodec.metadata(data)
    assert decoder.macs(given) == decoder.macs(data)


@pytest.mark.parametrize("given", ["text", None, 3, [1, 2]])
def test_other_objects_are_a_type_error(given: Any):
    for function in (lrcodec.decode, lrcodec.probe, lrcodec.metadata):
        with pytest.raises(TypeError):
            function(given)


def test_models_stay_loaded(data: bytes, monkeypatch: pytest.MonkeyPatch):
    """And threads may call it at once."""
    shared.cache_clear()
    loaded = []
    load = store.by_fingerprint
    monkeypatch.setattr(store, "by_fingerprint", lambda *given: loaded.append(1) or load(*given))
    with ThreadPoolExecutor(4) as pool:
        images = [*pool.map(lrcodec.decode, [data] * 12)]
    assert len({image.tobytes() for image in images}) == 1
    assert len(loaded) <= 4  # threads that came before there was a decoder may each have made one
    before = len(loaded)
    lrcodec.decode(data)
    lrcodec.decode(data, max_pixels=10_000)
    assert len(loaded) == before
    assert shared.cache_info().maxsize is not None


def test_the_limit_is_that_of_the_call(data: bytes):
    lrcodec.decode(data)
    with pytest.raises(lrcodec.LimitError, match="97 x 61 is more than 5916 pixels"):
        lrcodec.decode(data, max_pixels=5916)


@pytest.mark.parametrize("arguments", [{"max_pixels": 0}, {"max_pixels": -1}, {"threads": -1}])
def test_decoding_refuses_arguments(arguments: dict[str, int], data: bytes):
    with pytest.raises(lrcodec.UsageError, match=f"{[*arguments][0]} must be"):
        lrcodec.decode(data, **arguments)
    with pytest.raises(lrcodec.UsageError, match=f"{[*arguments][0]} must be"):
        lrcodec.Decoder(**arguments).decode(data)


@pytest.mark.parametrize(
    "arguments",
    [
        {"device": "gpu"},
        {"device": "CPU"},
        {"device": ""},
        {"threads": -1},
        {"effort": 3},
        {"effort": 0.5},
        {"effort": "1"},
        {"rank": 0},
        {"rank": 5},
        {"rank": 1.5},
        {"iterations": 0},
        {"iterations": 33},
        {"iterations": 2.5},
        {"iterations": "2"},
    ],
)
def test_encoding_refuses_arguments(arguments: dict[str, Any], photo: np.ndarray):
    with pytest.raises(lrcodec.UsageError, match=[*arguments][0]):
        lrcodec.encode(photo, **arguments)


@pytest.mark.parametrize("image", [[[1, 2], [3, 4]], None, "photo.png", np.zeros((4, 4)), Image.new("L", (4, 4))])
def test_what_is_no_image(image: Any):
    with pytest.raises(lrcodec.UsageError, match="uint8"):
        lrcodec.encode(image)


def test_a_missing_encoder_is_the_same_everywhere(photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    for name in [name for name in sys.modules if name.startswith("lrcodec.encoder")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(lrcodec.EncoderMissingError) as of_function:
        lrcodec.encode(photo)
    with pytest.raises(lrcodec.EncoderMissingError) as of_class:
        lrcodec.Encoder()
    line = fails(lrcodec.EncoderMissingError.exit_code, "encode", tmp_path / "photo.png", "-o", tmp_path / "photo.lrq")
    assert str(of_function.value) == str(of_class.value)
    assert 'pip install "lrcodec[encode]"' in line and line.rstrip("\n").endswith(str(of_class.value))
