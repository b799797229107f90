"""webdataset: shards of .lrq files are written and read."""

from pathlib import Path

import numpy as np
import pytest

import lrcodec
from lrcodec.errors import FormatError
from lrcodec.integrations.webdataset import Decode

webdataset = pytest.importorskip("webdataset", reason="needs webdataset")


def shard(path: Path, files: list[bytes]) -> str:
    with webdataset.TarWriter(str(path)) as writer:
        for number, data in enumerate(files):
            writer.write({"__key__": f"{number:04}", "lrq": data, "small.lrq": data, "cls": number})
    return str(path)


def samples(path: str, **settings) -> "webdataset.WebDataset":
    return webdataset.WebDataset(path, shardshuffle=False).decode(Decode(), **settings)


def test_a_shard_is_decoded(tmp_path, lrq):
    found = list(samples(shard(tmp_path / "images.tar", lrq)))
    assert [sample["cls"] for sample in found] == [*range(len(lrq))]
    for sample, data in zip(found, lrq, strict=True):
        np.testing.assert_array_equal(sample["lrq"], lrcodec.decode(data), strict=True)
        np.testing.assert_array_equal(sample["small.lrq"], sample["lrq"], strict=True)


def test_at_a_part_of_the_size(lrq):
    np.testing.assert_array_equal(Decode(shrink=4)(".lrq", lrq[0]), lrcodec.decode(lrq[0], shrink=4), strict=True)


def test_the_example(example, lrq, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ((image, number),) = example("webdataset", data=lrq[0])["samples"]
    np.testing.assert_array_equal(image, lrcodec.decode(lrq[0]), strict=True)
    assert number == 3


def test_a_bad_file_is_for_webdataset_to_handle(tmp_path, lrq):
    path = shard(tmp_path / "images.tar", [lrq[0], lrq[1][:-4], lrq[2]])
    with pytest.raises(webdataset.autodecode.DecodingError) as error:
        list(samples(path))
    assert isinstance(error.value.__context__, FormatError)
    kept = samples(path, handler=webdataset.ignore_and_continue)
    assert [sample["cls"] for sample in kept] == [0, 2]
