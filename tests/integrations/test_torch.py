"""torch.utils.data: datasets of .lrq files, and DataLoaders that decode them in workers that were forked or spawned."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import lrcodec
from lrcodec.errors import FormatError
from lrcodec.integrations.torch import LrqFiles, to_tensor


@pytest.fixture
def paths(lrq: list[bytes], tmp_path: Path) -> list[Path]:
    """The three files of one size, twice."""
    paths = [tmp_path / f"{number}.lrq" for number in range(6)]
    for path, data in zip(paths, 2 * lrq[:3], strict=True):
        path.write_bytes(data)
    return paths


def test_a_tensor_has_its_channels_first(pixels):
    for image in pixels:
        tensor = to_tensor(image)
        channels = (*image.shape, 1)[2]
        assert tensor.dtype == torch.uint8 and tensor.shape == (channels, *image.shape[:2]) and tensor.is_contiguous()
        np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy().reshape(image.shape), image)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_decode(start, paths, lrq):
    """Also workers that were forked from a process with a decoder and PyTorch at work."""
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"needs {start}")
    dataset = LrqFiles(paths)
    want = [to_tensor(lrcodec.decode(data)) for data in 2 * lrq[:3]]
    assert len(dataset) == 6 and torch.equal(dataset[4], want[4])
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context=start, timeout=120)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [4, 2]
    assert torch.equal(torch.cat(batches), torch.stack(want))


def test_a_batch_is_decoded_together(paths, monkeypatch):
    counts = []
    batch = lrcodec.Decoder.decode_batch
    monkeypatch.setattr(
        lrcodec.Decoder, "decode_batch", lambda self, files, *a: counts.append(len(files)) or batch(self, files, *a)
    )
    assert len(list(DataLoader(LrqFiles(paths, shrink=2, transform=lambda t: t.float()), batch_size=3))) == 2
    assert counts == [3, 3]


def test_transform_and_settings(paths):
    (tensor, *_) = LrqFiles(paths, transform=lambda tensor: tensor / 255, shrink=2)
    assert tensor.shape == (3, 12, 12) and tensor.dtype == torch.float32 and tensor.max() <= 1


def test_the_example(example, paths):
    (batch,) = example("torch.utils.data", paths=paths)["loader"]
    assert batch.shape == (6, 3, 24, 24)


def test_a_bad_file_is_named(paths):
    paths[2].write_bytes(paths[2].read_bytes()[:-3])
    for workers in (0, 1):
        with pytest.raises(FormatError, match="2.lrq"):
            list(DataLoader(LrqFiles(paths), batch_size=4, num_workers=workers))
