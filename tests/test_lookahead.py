"""Codings of a patch are chosen by what they leave to the next finer scale."""

import numpy as np
import torch
from skimage import data

from lrcodec import decode
from lrcodec.encoder import EFFORTS, Encoder
from lrcodec.encoder.codebook import Codebook
from lrcodec.encoder.convolutions import Convolutions
from lrcodec.encoder.lookahead import ScaleSearch, choose
from lrcodec.encoder.pyramid import from_patches, guess_from, to_patches
from lrcodec.encoder.search import Bits, beam_search, best_paths, reconstruct
from lrcodec.format.grid import Scale
from lrcodec.measure.metrics import mse


def free(scale: Scale) -> Bits:
    """Bits that depend on the shape and the depth alone."""
    depths = torch.arange(len(scale.shapes) + 1.0)[None]
    shapes = [torch.linspace(2, 6, count)[None] for count in scale.shapes]
    return Bits(depths, shapes, [torch.zeros(count, 1) for count in scale.shapes])


def test_the_best_of_several_codings_is_taken():
    """One patch of colour over four of luma: every coding is tried, by hand."""
    torch.manual_seed(0)
    coarse, fine = Scale(2, 8, (16, 16)), Scale(1, 8, (16, 16), luma_only=True)
    books = {s: [Codebook(torch.randn(n, 64 * s.channels(3)), 8) for n in s.shapes] for s in (coarse, fine)}
    finest = 2 * torch.randn(1, 1, 16, 16)
    predictor = Convolutions(1, 2, 4)
    torch.nn.init.normal_(predictor.second.weight, std=0.1)
    guess, lam = torch.randn(1, 3, 8, 8), 3.0
    importance = torch.full((8, 3, 8), 0.5)
    importance[:, 1:] = 1.5
    minded = {coarse: importance.flatten(), fine: torch.ones(64)}
    wanted = 0.7 * books[coarse][0].shapes[3] + 0.7 * books[coarse][1].shapes[5] + 0.5 * torch.randn(192)
    target = guess + from_patches(wanted[None, None], 8, 3, 8, 8)[0]
    searches = {
        s: ScaleSearch(
            *(s, planes, predictor, minded[s], books[s], free(s)),
            torch.full((count,), lam / s.scale**2),
            None,
        )
        for s, planes, count in ((coarse, target, 1), (fine, finest, 4))
    }
    patches = to_patches(target - guess, 8)[0]
    paths, costs = searches[coarse].paths(patches, 12, 12)
    count = int(costs.isfinite().sum())
    assert 4 <= count <= 12 and len({tuple(path) for path in paths[0, :count].tolist()}) == count
    with torch.no_grad():
        found = choose(paths, costs, patches, guess, searches[coarse], searches[fine])
        totals = []
        for path, cost in zip(paths[0, :count], costs[0], strict=False):
            drawn = reconstruct(path[None], books[coarse])
            decoded = guess + from_patches(drawn[None], 8, 3, 8, 8)
            rest = to_patches(finest - guess_from(decoded, finest, predictor), 8)[0]
            below = beam_search(rest, books[fine], free(fine), lam, 1)[1].sum()
            bits = (cost - ((patches - drawn).square() @ minded[coarse]).sum()) / (lam / 4)
            totals.append(below + 4 * 1.5 * (target - decoded)[:, 1:].square().sum() + lam * bits)
    best = torch.stack(totals).argmin()
    assert best > 0  # not what is best for the coarse scale alone
    assert found.tolist() == [paths[0, best].tolist()]


def test_several_results_of_a_search():
    """They are in order, J is right, and the first is that of the search for one."""
    torch.manual_seed(0)
    scale = Scale(1, 2, (4, 4))
    books = [Codebook(torch.randn(4, 4), 2) for _ in range(2)]
    patches, lam = torch.randn(30, 4) * 2, 0.3
    paths, costs = best_paths(patches, books, free(scale), lam, 16, 5)
    every = [(0, 0), *((a, 0) for a in range(1, 5)), *((a, b) for a in range(1, 5) for b in range(1, 5))]
    bits = free(scale)
    for patch, of_patch, cost in zip(patches, paths, costs, strict=True):
        wanted = {}
        for path in every:
            rate = bits.depths[0, sum(index > 0 for index in path)]
            rate = rate + sum(bits.shapes[i][0, index - 1] for i, index in enumerate(path) if index)
            wanted[path] = (patch - reconstruct(torch.tensor([path]), books)[0]).square().sum() + lam * rate
        known = [(tuple(path), value) for path, value in zip(of_patch.tolist(), cost, strict=True) if value.isfinite()]
        assert known and [value for _, value in known] == sorted(value for _, value in known)
        for path, value in known:
            torch.testing.assert_close(value, wanted[path], rtol=1e-4, atol=1e-4)
        assert known[0][0] == tuple(beam_search(patch[None], books, bits, lam, 16)[0][0].tolist())


def test_looking_ahead_pays(monkeypatch):
    photo = np.ascontiguousarray(data.coffee()[100:340, 150:407])
    encoder = Encoder(device="cpu")
    costs = []
    for tried in (1, 4):
        monkeypatch.setitem(EFFORTS, 1, ((1, 1), (8, tried)))
        file = encoder.encode(photo, tune="psnr")
        error = 3 * photo[..., 0].size * 255**2 * mse(photo, decode(file))
        costs.append(error + encoder.lam(50) * 8 * len(file))
    assert costs[1] < 0.99 * costs[0]
