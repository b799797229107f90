"""The encoder: quality is a knob, efforts and ranks do what they say, bad arguments are refused."""

import numpy as np
import pytest

from lrcodec import decode, probe
from lrcodec.decoder import Decoder
from lrcodec.encoder import Encoder
from lrcodec.encoder.export import colour_matrix
from lrcodec.encoder.pyramid import enlarge, from_patches, to_patches, to_planes
from lrcodec.encoder.search import beam_search, plain_costs, reconstruct
from lrcodec.errors import LimitError, LrqError, UnsupportedError, UsageError
from lrcodec.metrics import psnr


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(device="cpu")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(data.coffee()[100:291, 150:407])


def test_quality_is_monotone(encoder, picture):
    files = [encoder.encode(picture, quality=q) for q in range(0, 101, 20)]
    sizes, psnrs = [len(f) for f in files], [psnr(picture, decode(f)) for f in files]
    assert sizes == sorted(sizes) and psnrs == sorted(psnrs)
    assert sizes[-1] > 4 * sizes[0] and psnrs[-1] > psnrs[0] + 5


def test_more_effort_gives_lower_cost(encoder, picture):
    """J = D + lambda * R of whole files falls with the effort."""
    costs = []
    for effort in (0, 1, 2):
        data = encoder.encode(picture, quality=50, effort=effort)
        error = np.square(picture.astype(float) - decode(data)).sum()
        costs.append(error + encoder.lam(50) * 8 * len(data))
    assert costs[0] > costs[1] > costs[2]


def test_rank_and_iterations_cut_the_decoder(encoder, picture):
    decoder = Decoder()
    low = [decoder.macs(encoder.encode(picture, rank=rank, effort=0)).low_rank for rank in (1, 2, 4)]
    assert low[0] < low[1] < low[2]
    data = encoder.encode(picture, iterations=1, effort=0)
    assert probe(data).iterations == 1
    assert all((plane[..., 1:] == 0).all() for plane in decoder.indices(data)[1])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (67, 1, 3), (63, 65), (1, 1), (128, 64, 3)])
def test_any_size(encoder, picture, shape):
    image = np.resize(picture[: shape[0], : shape[1]], shape).astype(np.uint8)
    for smoothing in (True, False):
        pixels = decode(encoder.encode(image, quality=80, effort=1, smoothing=smoothing))
        assert pixels.shape == shape and pixels.dtype == np.uint8


def test_grey_is_close_to_the_colour_codec(encoder, picture):
    grey = picture.mean(2).round().astype(np.uint8)
    data = encoder.encode(grey, quality=60)
    assert psnr(grey, decode(data)) > 29
    colour = encoder.encode(grey[:, :, None].repeat(3, 2), quality=60)
    assert len(data) < 1.1 * len(colour)


def test_batch(encoder, picture, monkeypatch):
    """Every file is of its image, whatever the order of sizes and colour kinds and however they are cut up."""
    import lrcodec.encoder

    crops = [np.ascontiguousarray(picture[y : y + 40, x : x + 56]) for y in (0, 60, 120) for x in (0, 90)]
    images = [crops[0], crops[1][:, :, 0], crops[2], crops[3][:30], crops[4], crops[5][:, :, 1]]
    for pixels in (lrcodec.encoder.BATCH_PIXELS, 2 * 40 * 56):
        monkeypatch.setattr(lrcodec.encoder, "BATCH_PIXELS", pixels)
        for image, data in zip(images, encoder.encode_batch(images, quality=80, effort=0), strict=True):
            alone = encoder.encode(image, quality=80, effort=0)
            assert probe(data) == probe(alone)
            # Float sums of another shape may tip a choice over, but no more.
            assert psnr(image, decode(data)) == pytest.approx(psnr(image, decode(alone)), abs=0.1)
            assert len(data) == pytest.approx(len(alone), rel=0.01, abs=2)


def test_same_file_every_time(encoder, picture):
    assert encoder.encode(picture) == Encoder(device="cpu").encode(picture)


def test_bad_arguments(encoder):
    good = np.zeros((8, 8, 3), np.uint8)
    for changes in ({"quality": 101}, {"rank": 0}, {"rank": 5}, {"iterations": 0}, {"iterations": 33}, {"effort": 3}):
        with pytest.raises(UsageError, match=next(iter(changes))):
            encoder.encode(good, **changes)
    for image in (good.astype(np.float32), np.zeros((8, 8, 4), np.uint8), np.zeros(8, np.uint8)):
        with pytest.raises(UsageError, match="uint8"):
            encoder.encode(image)
    with pytest.raises(LimitError):
        encoder.encode(np.zeros((0, 8, 3), np.uint8))
    with pytest.raises(UnsupportedError):
        Encoder("no-such-model")
    assert issubclass(UsageError, LrqError)


def test_transforms_invert():
    import torch

    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    planes = to_planes(image)
    pixels = np.einsum("ij,jhw->hwi", colour_matrix(3) / 1024, planes.numpy()) + 128
    assert np.abs(pixels - image).max() < 0.5
    assert torch.equal(from_patches(to_patches(planes, 8), 8, 3, 32, 48), planes)
    # Orthonormal: squared error in planes is squared error in pixels.
    assert planes.square().sum().item() == pytest.approx(np.square(image - 128.0).sum(), rel=1e-3)
    flat = torch.full((3, 5, 7), 9.0)
    assert torch.allclose(enlarge(flat), torch.full((3, 10, 14), 9.0))


def test_beam_search_finds_the_best_path():
    """Against all paths of a tiny problem, with a beam wide enough to be exhaustive.

    Only a path whose first step does not pay for itself may be missed: that is where the search gives up.
    """
    import itertools

    import torch

    torch.manual_seed(0)
    books = [torch.randn(3, 4) for _ in range(2)]
    bits = [torch.rand(4) * 3 for _ in range(2)]
    targets, lam, checked = torch.randn(20, 4) * 1.5, 0.4, 0
    indices, cost = beam_search(targets, books, plain_costs(bits, 20), lam, beam=9)
    for target, path, found in zip(targets, indices, cost, strict=True):
        costs = {}
        for option in itertools.product(range(4), repeat=2):
            if option[0] == 0 and option[1]:
                continue
            drawn = sum((b[k - 1] for b, k in zip(books, option, strict=True) if k), torch.zeros(4))
            spent = bits[0][option[0]] + (bits[1][option[1]] if option[0] else 0)
            costs[option] = ((target - drawn).square().sum() + lam * spent).item()
        codewords = [b[k - 1] for b, k in zip(books, path.tolist(), strict=True) if k]
        assert torch.allclose(reconstruct(path[None], books)[0], sum(codewords, torch.zeros(4)))
        assert costs[tuple(path.tolist())] == pytest.approx(found.item(), abs=1e-4)
        stopped = costs[0, 0]
        pays = any(costs[a, 0] - lam * bits[1][0].item() < stopped for a in range(1, 4))
        if pays:
            assert found.item() == pytest.approx(min(costs.values()), abs=1e-4)
            checked += 1
    assert checked > 5
