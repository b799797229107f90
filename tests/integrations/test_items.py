"""What all engines share: lists of images and files, some of them bad, with models that are loaded once a process."""

import multiprocessing
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest

import lrcodec
from lrcodec.errors import UnsupportedError, UsageError
from lrcodec.format.metadata import Metadata
from lrcodec.image_io import write_image
from lrcodec.integrations import items
from lrcodec.integrations.items import DecodeItems, EncodeItems, attempt

ENCODE = EncodeItems(effort=0)


def test_only_bad_items_fail():
    calls = []

    def run(some):
        calls.append(len(some))
        return [1 / item for item in some]

    outcomes = attempt(run, [1, 2, 0, 4])
    assert [outcome.value for outcome in outcomes] == [1, 0.5, None, 0.25]
    assert [outcome.error for outcome in outcomes] == [None, None, "ZeroDivisionError: division by zero", None]
    assert calls == [4, 2, 2, 1, 1]
    assert attempt(run, []) == []


@pytest.mark.parametrize("error", [MemoryError(), OSError(2, "no\nfile"), UsageError("two\nlines")])
def test_every_error_is_one_line_with_its_kind(error: Exception):
    def fail(_):
        raise error

    (outcome,) = attempt(fail, [1])
    assert outcome.error.startswith(f"{type(error).__name__}: ") and len(outcome.error.splitlines()) == 1
    assert len(outcome.error) > len(type(error).__name__) + 2


def test_files_and_arrays_are_encoded_as_one_by_one(pixels, png, lrq):
    for given in (png, pixels):
        assert [outcome.value for outcome in ENCODE(given)] == lrq
    assert ENCODE([pixels[4][..., None]])[0].value == lrq[4]  # as Ray has grey images


def test_the_example(example, pixels, lrq):
    names = example("Anything else", image=pixels[0])
    assert [outcome.value for outcome in names["outcomes"]] == [lrq[0], None]
    np.testing.assert_array_equal(names["pictures"][0].value, lrcodec.decode(lrq[0]), strict=True)


def test_metadata_of_image_files_is_kept_unless_stripped(pixels):
    data = write_image(pixels[0], metadata=Metadata(xmp=b"<x/>"))
    for settings, kept in ((ENCODE, b"<x/>"), (replace(ENCODE, strip=True), None)):
        (outcome,) = settings([data])
        assert lrcodec.metadata(outcome.value).xmp == kept


def test_bad_images_are_errors_beside_the_others(pixels, lrq):
    outcomes = ENCODE([pixels[0], None, b"no image", pixels[0].astype(float), pixels[1]])
    assert [outcome.value for outcome in outcomes] == [lrq[0], None, None, None, lrq[1]]
    kinds = [outcome.error and outcome.error.split(":")[0] for outcome in outcomes]
    assert kinds == [None, "UsageError", "UsageError", "UsageError", None]


def test_images_are_read_in_groups_of_bounded_size(png, lrq, monkeypatch):
    read, most = items.read_picture, 0
    waiting: list[int] = []

    def counted(*arguments):
        nonlocal most
        waiting.append(1)
        most = max(most, len(waiting))
        return read(*arguments)

    batch = lrcodec.Encoder.encode_batch

    def emptied(*arguments, **settings):
        waiting.clear()
        return batch(*arguments, **settings)

    monkeypatch.setattr(items, "read_picture", counted)
    monkeypatch.setattr(items, "GROUP_PIXELS", 2 * 24 * 24)
    monkeypatch.setattr(lrcodec.Encoder, "encode_batch", emptied)
    assert [outcome.value for outcome in ENCODE(png)] == lrq
    assert most == 4  # the last four are smaller


def test_decoding(lrq):
    for shrink in (1, 2):
        outcomes = DecodeItems(shrink=shrink)([*lrq[:2], lrq[0][:-5], None, b"", *lrq[2:]])
        assert [outcome.error is None for outcome in outcomes] == [True, True, False, False, False, *[True] * 4]
        assert [outcome.value is None for outcome in outcomes] == [False, False, True, True, True, *[False] * 4]
        images = [outcome.value for outcome in outcomes if outcome.value is not None]
        for image, data in zip(images, lrq, strict=True):
            np.testing.assert_array_equal(image, lrcodec.decode(data, shrink=shrink), strict=True)
    assert DecodeItems(max_pixels=23 * 24)(lrq[:1])[0].error.startswith("LimitError: ")


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (EncodeItems(quality=101), UsageError),
        (EncodeItems(effort=7), UsageError),
        (EncodeItems(tune="ear"), UsageError),
        (EncodeItems(model="nothing"), UnsupportedError),
        (DecodeItems(shrink=3), UsageError),
        (DecodeItems(models=("nothing",)), UnsupportedError),
    ],
    ids=str,
)
def test_what_is_wrong_for_all_items_ends_the_job(settings, kind):
    with pytest.raises(kind):
        settings([])


def test_models_are_loaded_once_a_process_and_settings_travel(lrq, monkeypatch):
    loaded = []
    decoder = items.Decoder
    monkeypatch.setattr(items, "Decoder", lambda *a, **k: loaded.append(k["threads"]) or decoder(*a, **k))
    items._decoder.cache_clear()
    for _ in range(2):
        pickle.loads(pickle.dumps(DecodeItems()))(lrq)
    assert loaded == [1]
    assert pickle.loads(pickle.dumps(ENCODE)) == ENCODE


def _decoded(data: bytes) -> tuple[int, bytes]:
    (outcome,) = DecodeItems()([data])
    assert outcome.value is not None
    return os.getpid(), outcome.value.tobytes()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_process_that_was_forked_after_decoding_decodes(lrq):
    """With a decoder of its own."""
    mine = _decoded(lrq[0])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        theirs = pool.apply_async(_decoded, [lrq[0]]).get(timeout=120)
    assert theirs[0] != mine[0] and theirs[1] == mine[1]
