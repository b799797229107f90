"""`lrq train` on a few small photographs: a pack comes out that works, the same one every time, also after a stop."""

import numpy as np
import pytest
from PIL import Image

from lrcodec import decode, zoo
from lrcodec.encoder import Encoder
from lrcodec.encoder.train import train
from lrcodec.errors import UnsupportedError, UsageError
from lrcodec.metrics import psnr


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from skimage import data

    path = tmp_path_factory.mktemp("images")
    for name in ("chelsea", "coffee"):
        Image.fromarray(getattr(data, name)()[:192, :256]).save(path / f"{name}.png")
    return path


@pytest.fixture(scope="module")
def pack(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packs") / "mine"
    shares = []
    train(folder, out, preset="tiny", work=out.with_name("work"), progress=lambda share, line: shares.append(share))
    assert shares == sorted(shares) and shares[-1] == 1
    return out


def test_trained_pack_codes_a_photograph(pack, photo):
    with pytest.raises(UnsupportedError):
        decode(Encoder(pack).encode(photo))
    sizes, psnrs = [], []
    for quality in (0, 50, 100):
        data = Encoder(pack).encode(photo, quality=quality)
        sizes.append(len(data))
        psnrs.append(psnr(photo, decode(data, models=[pack])))
    assert sizes[0] < sizes[1] < sizes[2] and psnrs[0] < psnrs[1] < psnrs[2]
    flat = np.broadcast_to(photo.mean((0, 1)).astype(np.uint8), photo.shape)
    assert psnrs[2] > psnr(photo, flat) + 6


def test_interrupted_training_goes_on_to_the_same_pack(pack, folder, tmp_path):
    out, work = tmp_path / "mine", tmp_path / "work"

    def stop_at(share: float):
        def progress(done: float, line: str) -> None:
            if done >= share:
                raise Stop

        return progress

    for share in (0.3, 0.5, 0.86, 2.0):
        try:
            train(folder, out, preset="tiny", work=work, progress=stop_at(share))
        except Stop:
            assert not out.exists()
    assert zoo.find(out).fingerprint == zoo.find(pack).fingerprint
    assert (out / "encoder.safetensors").read_bytes() == (pack / "encoder.safetensors").read_bytes()


def test_factors_are_in_singular_value_order(pack):
    tables = zoo.find(pack).load().tables
    u, v = tables["u1"].astype(float), tables["v1"].astype(float)
    sizes = np.linalg.norm(u, axis=2) * np.linalg.norm(v, axis=2)
    ordered = sizes[:, :-1] >= 0.95 * sizes[:, 1:]
    only_rounding = sizes[:, 1:] < 0.01 * sizes[:, :1]
    assert (ordered | only_rounding).all() and not only_rounding.all()


def test_tampered_pack_is_refused(pack, photo, tmp_path):
    data = Encoder(pack).encode(photo, quality=10, effort=0)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in pack.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert decode(data, models=[copy]).shape == photo.shape
    weights = copy / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UnsupportedError, match="no usable encoder"):
        Encoder(copy)
    graph = copy / "decoder-rgb-smooth.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(UnsupportedError):
        decode(data, models=[copy])
    (copy / "tables.npz").write_bytes(b"PK")
    with pytest.raises(UnsupportedError):
        zoo.find(copy).load()


def test_bad_input(folder, tmp_path):
    with pytest.raises(UsageError, match="preset"):
        train(folder, tmp_path / "out", preset="nope", work=tmp_path / "work", progress=print)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images"):
        train(tmp_path / "empty", tmp_path / "out", preset="tiny", work=tmp_path / "work", progress=print)
    (tmp_path / "empty" / "a.png").write_bytes(b"hello")
    with pytest.raises(UsageError, match="a.png"):
        train(tmp_path / "empty", tmp_path / "out", preset="tiny", work=tmp_path / "work", progress=print)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_pack_is_never_replaced(folder, tmp_path):
    (tmp_path / "diary.txt").write_text("precious")
    with pytest.raises(UsageError, match="not a model pack"):
        train(folder, tmp_path, preset="tiny", work=tmp_path / "work", progress=print)
    assert (tmp_path / "diary.txt").read_text() == "precious"


def test_checkpoints_of_another_run_are_refused(pack, folder, tmp_path):
    with pytest.raises(UsageError, match="--work"):
        train(folder, tmp_path / "out", preset="tiny", work=pack.with_name("work"), seed=1, progress=print)


def test_tiny_images_train(folder, tmp_path):
    """Images smaller than a window of the transformer."""
    (tmp_path / "images").mkdir()
    for i in range(6):
        Image.open(folder / "coffee.png").crop((20 * i, 30, 20 * i + 20, 50)).save(tmp_path / "images" / f"{i}.png")
    train(
        tmp_path / "images", tmp_path / "out", preset="tiny", work=tmp_path / "work", steps=2, progress=lambda *_: None
    )
    image = np.asarray(Image.open(tmp_path / "images" / "3.png"))
    assert decode(Encoder(tmp_path / "out").encode(image), models=[tmp_path / "out"]).shape == (20, 20, 3)
