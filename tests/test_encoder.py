"""The encoder: quality is a knob, efforts and ranks do what they say, bad arguments are refused."""

import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import reference
import torch

import lrcodec.encoder
from lrcodec import decode, entropy, probe
from lrcodec.decoder import Decoder
from lrcodec.encoder import Encoder
from lrcodec.encoder.codebook import Codebook
from lrcodec.encoder.convolutions import Convolutions, no_convolutions, predictors_of, tables_of
from lrcodec.encoder.pyramid import enlarge, from_patches, guess_from, to_patches, to_pixels, to_planes
from lrcodec.encoder.quantizer import pack_bits, unpack_bits
from lrcodec.encoder.search import Bits, Labels, _least, beam_search, reconstruct
from lrcodec.encoder.transformer import Smoothing
from lrcodec.errors import LimitError, LrqError, UnsupportedError, UsageError
from lrcodec.format.fixed import colour_matrix
from lrcodec.format.grid import Scale
from lrcodec.format.symmetry import SYMMETRIES, TRANSPOSED
from lrcodec.measure.metrics import psnr
from lrcodec.training.presets import PRESETS


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(device="cpu")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(data.coffee()[100:291, 150:407])


@pytest.fixture(scope="module")
def small_picture(picture) -> np.ndarray:
    """A part of it, for what shows in a part as well."""
    return np.ascontiguousarray(picture[:97, :131])


def test_quality_is_monotone(encoder, small_picture):
    files = [encoder.encode(small_picture, quality=q) for q in range(0, 101, 20)]
    sizes, psnrs = [len(f) for f in files], [psnr(small_picture, decode(f)) for f in files]
    assert sizes == sorted(sizes) and psnrs == sorted(psnrs)
    assert sizes[-1] > 4 * sizes[0] and psnrs[-1] > psnrs[0] + 5


@pytest.mark.parametrize("effort", [0, 1])
def test_sizes_do_not_jump_where_the_rate_band_changes(encoder, picture, effort):
    for quality in [16, 33] if effort else [8, 16, 33, 41, 49, 66, 83]:
        small, between, large = (
            len(encoder.encode(picture, q, effort=effort)) for q in (quality, quality + 0.5, quality + 1)
        )
        assert small < between < large < 1.06 * small


def test_sizes_of_small_images_do_not_jump_either():
    """Summed over some: of one alone, a byte is much."""
    from skimage import data

    tiles = [np.ascontiguousarray(data.astronaut()[:64, x : x + 64]) for x in range(0, 512, 64)]
    encoder = Encoder("faces64", device="cpu")
    for quality in (16, 33, 49, 66):
        small, large = (sum(map(len, encoder.encode_batch(tiles, q, effort=0))) for q in (quality, quality + 1))
        assert small < large < 1.06 * small


def test_the_file_has_the_rate_band_that_codes_it_in_fewer_bytes(encoder, picture):
    """Near the middle of a band that is this one, halfway to the next either of the two."""
    bands = [probe(encoder.encode(picture, quality, effort=0)).band for quality in (0, 5, 17, 25, 42, 58, 75, 95, 100)]
    assert bands[2] in (0, 1)  # halfway
    assert bands == [0, 0, bands[2], 1, 2, 3, 4, 5, 5]
    data = encoder.encode(picture, 33.4, effort=0)
    header, planes = Decoder().indices(data)
    sizes = [len(entropy.encode(planes, encoder.pack, replace(header, band=band))[0]) for band in (1, 2)]
    assert min(sizes) == sizes[header.band - 1] < max(sizes)


@pytest.mark.parametrize(
    ("share", "around"),
    [(0, (0, 0, 0)), (0.125, (0, 0, 0)), (0.25, (0, 1, 0.5)), (0.4375, (1, 2, 0.25)), (1, (3, 3, 0))],
)
def test_rate_bands_around_a_quality(share, around):
    assert replace(PRESETS["tiny"], bands=4).bands_around(share) == around


@pytest.mark.parametrize(("side", "scales", "hidden"), [(64, (4, 2, 1), (4, 2)), (63, (2, 1), (2,)), (28, (1,), ())])
def test_scales_that_small_images_do_without(side: int, scales: tuple[int, ...], hidden: tuple[int, ...]):
    config = PRESETS["small"].fitted_to(side)
    assert tuple(scale.scale for scale in config.scales) == scales and config.prediction == hidden


def test_more_effort_gives_lower_cost(encoder, picture):
    """J = D + lambda * R of whole files falls with the effort."""
    costs = []
    for effort in (0, 1, 2):
        data = encoder.encode(picture, quality=50, effort=effort, tune="psnr")
        error = np.square(picture.astype(float) - decode(data)).sum()
        costs.append(error + encoder.lam(50) * 8 * len(data))
    assert costs[0] > costs[1] > costs[2]


def test_rank_and_iterations_cut_the_decoder(encoder, small_picture):
    decoder = Decoder()
    low = [decoder.macs(encoder.encode(small_picture, rank=rank, effort=0)).low_rank for rank in (1, 2, 4)]
    assert low[0] < low[1] < low[2]
    data = encoder.encode(small_picture, iterations=1, effort=0)
    assert probe(data).iterations == 1
    assert all((plane[..., 1:] == 0).all() for plane in decoder.indices(data)[1])


def test_codebooks_of_few_ranks_are_kept(encoder, small_picture, monkeypatch: pytest.MonkeyPatch):
    """The latest used: as many as the bound allows, and the files are the same."""
    wanted = [encoder.encode(small_picture, rank=rank, effort=0) for rank in (1, 2, 3, 4, 1)]
    largest = max(size for _, size in encoder._quantizers._values.values())
    monkeypatch.setattr(lrcodec.encoder, "QUANTIZER_BYTES", 2 * largest)
    little = Encoder(encoder.pack.name, "cpu")
    for rank, data in zip((1, 2, 3, 4, 1), wanted, strict=True):
        assert little.encode(small_picture, rank=rank, effort=0) == data
        assert 0 < little._quantizers.bytes <= 2 * largest


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (67, 1, 3), (63, 65), (1, 1), (128, 64, 3)])
def test_any_size(encoder, small_picture, shape):
    image = np.resize(small_picture[: shape[0], : shape[1]], shape).astype(np.uint8)
    for smoothing in (True, False):
        pixels = decode(encoder.encode(image, quality=80, effort=1, smoothing=smoothing))
        assert pixels.shape == shape and pixels.dtype == np.uint8


def test_grey_is_close_to_the_colour_codec(encoder, small_picture):
    grey = small_picture.mean(2).round().astype(np.uint8)
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


def test_same_file_every_time(encoder, small_picture):
    assert encoder.encode(small_picture) == Encoder(device="cpu").encode(small_picture)


def test_bad_arguments(encoder):
    good = np.zeros((8, 8, 3), np.uint8)
    for name, values in (
        ("quality", (-0.5, 100.5, 101, math.nan, math.inf, "50", True, np.True_, None, 1j)),
        ("rank", (0, 5, 1.0, "1", True)),
        ("iterations", (0, 33, 2.5)),
        ("effort", (3, 0.5, True)),
    ):
        for value in values:
            with pytest.raises(UsageError, match=f"^{name} must be .* to .*, not {re.escape(repr(value))}$"):
                encoder.encode(good, **{name: value})
            with pytest.raises(UsageError, match=name):
                encoder.encode_batch([good], **{name: value})
    for value in ("ssim", "", None, 1):
        with pytest.raises(UsageError, match=f"^tune must be eye or psnr, not {re.escape(repr(value))}$"):
            encoder.encode(good, tune=value)
    for image in (good.astype(np.float32), np.zeros((8, 8, 5), np.uint8), np.zeros(8, np.uint8)):
        with pytest.raises(UsageError, match="uint8"):
            encoder.encode(image)
    with pytest.raises(LimitError):
        encoder.encode(np.zeros((0, 8, 3), np.uint8))
    with pytest.raises(UnsupportedError):
        Encoder("no-such-model")
    assert issubclass(UsageError, LrqError)


def test_transforms_invert():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    planes = to_planes(image)
    pixels = np.einsum("ij,jhw->hwi", colour_matrix(3) / 1024, planes.numpy()) + 128
    assert np.abs(pixels - image).max() < 0.5
    assert (to_pixels(planes[None])[0] + 128 - torch.from_numpy(image).movedim(-1, 0)).abs().max() < 0.5
    assert torch.equal(from_patches(to_patches(planes, 8), 8, 3, 32, 48), planes)
    # Orthonormal: squared error in planes is squared error in pixels.
    assert planes.square().sum().item() == pytest.approx(np.square(image - 128.0).sum(), rel=1e-3)
    flat = torch.full((3, 5, 7), 9.0)
    assert torch.allclose(enlarge(flat), torch.full((3, 10, 14), 9.0))
    # A scale without chroma starts from the luma of the coarser one.
    target = torch.zeros(1, 1, 8, 10)
    assert torch.equal(guess_from(planes[None, :, :5, :7], target), enlarge(planes[None, :1, :5, :7])[..., :8, :10])


@pytest.mark.parametrize(("fine", "channels"), [(1, 3), (3, 3), (1, 1)], ids=["luma", "rgb", "grey"])
def test_what_training_smooths_is_what_the_decoder_does(fine, channels):
    """`Smoothing`, in float, against the integers of SPEC.md: the same but for the rounding between the steps."""
    torch.manual_seed(0)
    scales = (Scale(2, 8, (2,)), Scale(1, 8, (2,), luma_only=fine < channels))
    network = Smoothing(scales, channels, 4)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    # So large that the decoder clips some planes, and hidden values.
    finest = torch.randint(-2600, 2600, (2, fine, 16, 24)) / 8
    coarser = torch.randint(-2600, 2600, (2, channels, 16, 16)) / 8
    weights = network.integers()
    network.change = Convolutions.of_integers(weights)
    got = network(finest, coarser).detach().numpy() + 128
    assert got.shape == (2, channels, 16, 24)
    for image, fine_plane, coarse_plane in zip(got, finest.numpy(), coarser.numpy(), strict=True):
        x, chroma = (
            (8 * plane).astype(np.int64).clip(-2047, 2047) for plane in (fine_plane, coarse_plane[fine:, :8, :12])
        )
        inputs = np.concatenate([x[:, i // 2 :: 2, i % 2 :: 2] for i in range(4)])
        inputs = inputs.reshape(4, fine, 8, 12).swapaxes(0, 1).reshape(-1, 8, 12)
        inputs = np.concatenate([inputs, chroma])
        smoothed = reference.smoothing(inputs, *weights)
        assert np.abs(smoothed - inputs).max() > 80
        luma, coarse = smoothed[: 4 * fine].reshape(fine, 4, 8, 12), smoothed[4 * fine :]
        value = np.zeros((fine, 16, 24), np.int64)
        for i in range(4):
            value[:, i // 2 :: 2, i % 2 :: 2] = luma[:, i]
        value = np.concatenate([value, reference.interpolate(coarse)])
        level = np.einsum("jc,cyx->jyx", reference.MATRIX[:channels, :channels], value)
        np.testing.assert_allclose(image, level / 2**13 + 128, atol=0.2)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_training_predicts_is_what_the_decoder_does(channels):
    """`guess_from`, in float, against the integers of SPEC.md: the same but for the rounding between the steps."""
    random = np.random.default_rng(0)
    integers = (
        random.integers(-200, 201, (4, channels, 3, 3)),
        random.integers(-400, 401, 4),
        random.integers(-200, 201, (4 * channels, 4, 3, 3)),
        random.integers(-400, 401, 4 * channels),
    )
    predictor = Convolutions.of_integers(integers)
    for array, again in zip(integers, predictor.integers(), strict=True):
        np.testing.assert_array_equal(array, again)
    plane = random.integers(-2047, 2048, (3, 9, 11))  # so large that some hidden values are clipped
    target = torch.zeros(1, channels, 16, 20)
    got = guess_from(torch.from_numpy(plane / 8).float()[None], target, predictor)[0].numpy()
    enlarged, change = 4 * reference.enlarge(plane[:channels]), reference.change(plane[:channels], *integers)
    assert np.abs(change).mean() > 0.1 * np.abs(enlarged).mean()
    np.testing.assert_allclose(got, (enlarged + change)[:, :16, :20] / 2**12, atol=0.3)


def test_predictors_by_name():
    torch.manual_seed(0)
    scales = (Scale(4, 4, (2,)), Scale(2, 8, (2,)), Scale(1, 8, (2,), luma_only=True))
    predictors = [None, None, Convolutions(1, 2, 4)]
    torch.nn.init.normal_(predictors[2].second.weight)
    tables = tables_of(predictors, scales, 3)
    assert {name: array.shape for name, array in tables.items() if name.startswith("second")} == {
        **{"second2": (12, 0, 3, 3), "second1": (4, 2, 3, 3)},
        **{"second_bias2": (12,), "second_bias1": (4,)},
    }
    for channels in (1, 3):
        nothing, none, same = predictors_of(tables, scales, channels)
        assert nothing is none is None
        for array, again in zip(predictors[2].integers(), same.integers(), strict=True):
            np.testing.assert_array_equal(array, again)
    assert [len(no_convolutions(3, 12)[n]) for n in range(4)] == [0, 0, 12, 12]


@pytest.mark.parametrize(("channels", "symmetries"), [(1, 1), (3, 2), (3, 8), (1, 8), (1, 16)])
def test_products_with_codewords(channels, symmetries):
    """The short ways that a codebook takes, against products with every codeword."""
    torch.manual_seed(0)
    book = Codebook(torch.randn(6, 64 * channels), 8, symmetries)
    patches = torch.randn(9, 64 * channels)
    products = (patches @ book.codewords.T).reshape(9, 6, symmetries)
    torch.testing.assert_close(book.largest(patches), products.amax(2), atol=1e-4, rtol=1e-4)
    shapes = torch.randint(0, 6, (9,))
    wanted = products[torch.arange(9), shapes]
    torch.testing.assert_close(book.products(patches, shapes), wanted, atol=1e-4, rtol=1e-4)


def test_bits_by_name():
    torch.manual_seed(0)
    scales = (Scale(2, 8, (4, 4), symmetries=8), Scale(1, 8, (8,)))
    costs = [[torch.rand(k, s.symmetries) for k in s.shapes] for s in scales]
    bands = [
        [
            Bits(torch.rand(1, len(s.shapes) + 1), [torch.rand(1, k) for k in s.shapes], symmetries)
            for s, symmetries in zip(scales, costs, strict=True)
        ]
        for _ in range(2)
    ]
    named = [pack_bits(bits, scales) for bits in bands]
    stacked = {key: torch.stack([arrays[key] for arrays in named]) for key in named[0]}
    for band, bits in enumerate(bands):
        for got, want in zip(unpack_bits(stacked, costs, scales, band), bits, strict=True):
            assert torch.equal(got.depths, want.depths)
            assert all(torch.equal(a, b) for a, b in zip(got.shapes, want.shapes, strict=True))
            assert got.symmetries is want.symmetries


def all_costs(target, books, bits, lam, depth_class, index_classes) -> dict[tuple[int, ...], float]:
    """J of every path of every depth, without what its depth costs."""
    out = {}
    for depth in range(len(books) + 1):
        for path in itertools.product(*(range(1, len(book) + 1) for book in books[:depth])):
            drawn = sum((book.shapes[k - 1] for book, k in zip(books, path, strict=False)), torch.zeros_like(target))
            spent = sum(float(bits.shapes[i][index_classes[i], k - 1]) for i, k in enumerate(path))
            out[path] = (target - drawn).square().sum().item() + lam * spent
    return out


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_beam_search_finds_the_best_path(labelled, seed):
    """Against all paths of a tiny problem, with a beam wide enough to be exhaustive.

    It gives a patch up where going on cannot yet pay at the cheapest depth, so a path may be missed that only pays
    one iteration later: then it is the best of those before.
    """
    torch.manual_seed(seed)
    count, iterations, lam = 40, 3, 0.15
    classes = (3, 2) if labelled else (1, 1)
    books = [Codebook(torch.randn(3, 4) * (0.8**i), 2) for i in range(iterations)]
    # Three codewords are one cluster: classes differ in what that costs.
    indices_bits = [torch.rand(classes[1], 1) * 2 + torch.rand(3) * 2 for _ in books]
    bits = Bits(torch.rand(classes[0], iterations + 1) * 4, indices_bits, [torch.zeros(3, 1)] * iterations)
    labels = Labels(torch.randint(classes[0], (count,)), torch.randint(classes[1], (count, iterations)))
    targets = torch.randn(count, 4) * 1.5
    indices, cost = beam_search(targets, books, bits, lam, 27, labels if labelled else None)
    best, depths = 0, set()
    for target, path, found, a, b in zip(targets, indices, cost, labels.depths, labels.shapes, strict=True):
        costs = all_costs(target, books, bits, lam, a, b)
        of_depth = (lam * bits.depths[a]).tolist()
        depth = int((path > 0).sum())
        assert (path[:depth] > 0).all() and not path[depth:].any()
        codewords = [book.shapes[k - 1] for book, k in zip(books, path.tolist(), strict=True) if k]
        assert torch.allclose(reconstruct(path[None], books)[0], sum(codewords, torch.zeros(4)))
        assert costs[tuple(path[:depth].tolist())] + of_depth[depth] == pytest.approx(found.item(), abs=1e-4)
        least = [min(j for p, j in costs.items() if len(p) == d) for d in range(iterations + 1)]
        wanted = least[0] + of_depth[0]
        for d in range(1, iterations + 1):
            if least[d] + min(of_depth[d:]) >= wanted:
                break
            wanted = min(wanted, least[d] + of_depth[d])
        assert found.item() == pytest.approx(wanted, abs=1e-4)
        best += found.item() < min(map(sum, zip(least, of_depth, strict=True))) + 1e-4
        depths.add(depth)
    assert best > count / 3 and len(depths) > 2


@pytest.mark.parametrize("symmetries", SYMMETRIES)
def test_narrow_beams_are_no_better_and_chunks_do_not_matter(symmetries):
    torch.manual_seed(1)
    books = [Codebook(torch.randn(512 // symmetries, 16), 4, symmetries) for _ in range(3)]
    count = len(books[0].shapes)
    bits = Bits(
        torch.rand(2, 4) * 3,
        [torch.rand(2, count) * 8 for _ in books],
        [torch.rand(count, symmetries) * (symmetries > 1) for _ in books],
    )
    labels = Labels(torch.randint(2, (700,)), torch.randint(2, (700, 3)))
    targets = torch.randn(700, 16) * 2
    found = {beam: beam_search(targets, books, bits, 0.3, beam, labels) for beam in (1, 2, 4, 8)}
    costs = [cost.mean().item() for _, cost in found.values()]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1]
    for beam, (indices, cost) in found.items():
        drawn = (targets - reconstruct(indices, books)).square().sum(1)
        depth = (indices > 0).sum(1)
        spent = bits.depths[labels.depths, depth]
        for i in range(3):
            shape, symmetry = (indices[:, i] - 1).clamp(min=0) // symmetries, (indices[:, i] - 1) % symmetries
            costs = bits.shapes[i][labels.shapes[:, i], shape] + bits.symmetries[i][shape, symmetry]
            spent += (indices[:, i] > 0) * costs
        assert torch.allclose(drawn + 0.3 * spent, cost, rtol=1e-3, atol=1e-3)
        rows = slice(300, 310)
        part = Labels(labels.depths[rows], labels.shapes[rows])
        alone, _ = beam_search(targets[rows], books, bits, 0.3, beam, part)
        assert (alone == indices[rows]).all(1).float().mean() > 0.8  # float sums may tip a choice over


@pytest.mark.parametrize("symmetries", SYMMETRIES)
def test_one_step_finds_the_best_of_all_codewords(symmetries):
    """Against the J of each, and that lambda may be another for each patch."""
    torch.manual_seed(3)
    book = Codebook(torch.randn(16, 16), 4, symmetries)
    costs, lam = torch.rand(16) * 6, torch.rand(200) * 3
    bits = Bits(torch.tensor([[math.inf, 0.0]]), [costs[None]], [torch.full((16, symmetries), math.log2(symmetries))])
    targets = torch.randn(200, 16) * 1.5
    indices, cost = beam_search(targets, [book], bits, lam, 1)
    every = (targets[:, None] - book.codewords).square().sum(2)
    every += lam[:, None] * (costs.repeat_interleave(symmetries) + math.log2(symmetries))
    assert torch.allclose(cost, every.amin(1), rtol=1e-4, atol=1e-4)
    assert torch.allclose(every.gather(1, indices - 1)[:, 0], cost, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("symmetries", SYMMETRIES)
def test_codebooks_draw_what_the_decoder_draws(symmetries):
    random = np.random.default_rng(symmetries)
    channels = 1 if symmetries == TRANSPOSED else 3
    u, v = random.integers(-127, 128, (5, 2, 8)), random.integers(-999, 1000, (5, 2, channels * 8))

    def draw(left: np.ndarray, right: np.ndarray) -> torch.Tensor:
        product = np.einsum("krp,krq->kpq", left.astype(np.int64), right.astype(np.int64))
        return torch.from_numpy(product).float().flatten(1)

    book = Codebook(draw(u, v), 8, symmetries)
    indices = torch.arange(1, len(book) + 1)
    assert torch.equal(book.codewords, draw(*reference.codewords(u, v, symmetries)))
    assert torch.equal(book.draw(indices), book.codewords)
    assert torch.equal(book.aligned(book.codewords, indices), book.shapes.repeat_interleave(symmetries, 0))


def test_depths_that_are_not_allowed():
    """An infinite cost forbids a depth."""
    torch.manual_seed(2)
    books = [Codebook(torch.randn(6, 4), 2) for _ in range(3)]
    for allowed in range(4):
        depths = torch.full((1, 4), math.inf)
        depths[0, allowed] = 0
        bits = Bits(depths, [torch.zeros(1, 6)] * 3, [torch.zeros(6, 1)] * 3)
        indices, cost = beam_search(torch.randn(30, 4), books, bits, 1e-6, 2)
        assert ((indices > 0).sum(1) == allowed).all() and cost.isfinite().all()


@pytest.mark.parametrize("blocks", [1, 8, 96])
@pytest.mark.parametrize("count", [1, 3, 16])
def test_least_scores(blocks, count):
    torch.manual_seed(blocks + count)
    scores, costs = torch.randn(50, 96), torch.randn(50, blocks)
    totals = scores + costs.repeat_interleave(96 // blocks, 1)
    values, places = _least(scores, costs, count)
    assert torch.equal(values, totals.topk(count, largest=False)[0])
    assert torch.equal(totals.gather(1, places), values)
