"""`lrq thumbnail`: small, upright, and written so that its caller sees it."""

import io
from pathlib import Path

import numpy as np
import pytest
from commands import fails, lrq
from PIL import Image

import lrcodec
from lrcodec.format import container
from lrcodec.format.metadata import Metadata, pack_metadata

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "formats" / "vectors"


def thumbnail(*arguments: object, stdin: bytes = b"") -> Image.Image:
    """The image on standard output."""
    result = lrq("thumbnail", *arguments, stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, "")
    return Image.open(io.BytesIO(result.stdout_bytes))


def with_metadata(data: bytes, **metadata: bytes) -> bytes:
    header, chunks = container.unpack(data)
    return container.pack(header, [*pack_metadata(Metadata(**metadata)), *chunks])


@pytest.mark.parametrize("vector", ["rgb", "rgba", "grey", "grey-alpha"])
def test_an_image_that_is_small_keeps_its_pixels(vector: str):
    with Image.open(VECTORS / vector / "reference.png") as want:
        image = thumbnail(VECTORS / vector / "image.lrq", "-")
        assert (image.format, image.mode) == ("PNG", want.mode)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(want))


@pytest.mark.parametrize(("size", "shrink"), [(60, 1), (25, 2), (24, 4), (12, 8), (6, 16), (1, 16)])
def test_it_is_drawn_at_a_part_of_the_size_and_scaled_down(
    size: int, shrink: int, photo_file: Path, monkeypatch: pytest.MonkeyPatch
):
    shrinks = []
    decode = lrcodec.Decoder.decode

    def note(self: lrcodec.Decoder, data: bytes, shrink: int = 1) -> np.ndarray:
        shrinks.append(shrink)
        return decode(self, data, shrink)

    monkeypatch.setattr(lrcodec.Decoder, "decode", note)
    image = thumbnail(photo_file, "-", "--size", size)
    assert shrinks == [shrink]
    assert image.size == (size, max(1, round(size * 61 / 97)))
    if size >= 12:  # no row or column is lost or moved; coarser planes are far from means
        whole = Image.fromarray(lrcodec.decode(photo_file.read_bytes())).resize(image.size, Image.Resampling.BOX)
        assert np.abs(np.asarray(image, int) - np.asarray(whole, int)).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright(orientation: int, photo_file: Path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = with_metadata(photo_file.read_bytes(), exif=exif.tobytes().removeprefix(b"Exif\0\0"), icc_profile=b"profile")
    image = thumbnail("-", "-", "--size", 48, stdin=data)
    assert image.size == ((30, 48) if orientation > 4 else (48, 30))
    assert image.info.get("icc_profile") == b"profile" and not image.getexif()
    plain = thumbnail(photo_file, "-", "--size", 48)
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Image.Transpose, as the EXIF standard has them
    turned = plain.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else plain
    np.testing.assert_array_equal(np.asarray(image), np.asarray(turned))


@pytest.mark.parametrize("exif", [b"nonsense", b"II*\0\xff\xff\xff\xff", b"MM\0*" + bytes(3)])
def test_exif_without_sense_is_none(exif: bytes, photo_file: Path):
    data = with_metadata(photo_file.read_bytes(), exif=exif)
    assert thumbnail("-", "-", "--size", 48, stdin=data).size == (48, 30)


def test_it_is_written_in_place(photo_file: Path, tmp_path: Path):
    """tumbler gives the name of a file that it holds open, and reads that."""
    out = tmp_path / "no suffix"
    out.write_bytes(b"x" * 100_000)
    with out.open("rb") as held:
        assert lrq("thumbnail", photo_file, out).exit_code == 0
        with Image.open(io.BytesIO(held.read())) as image:
            assert image.size == (97, 61)
    assert lrq("thumbnail", photo_file, tmp_path / "new.png").exit_code == 0
    assert (tmp_path / "new.png").read_bytes() == out.read_bytes()


def test_what_it_refuses(photo_file: Path, tmp_path: Path):
    out = tmp_path / "out.png"
    cut = tmp_path / "cut.lrq"
    cut.write_bytes(photo_file.read_bytes()[:-9])
    assert str(cut) in fails(3, "thumbnail", cut, out)
    fails(4, "thumbnail", ROOT / "formats/corrupt/09-model.lrq", out)
    fails(5, "thumbnail", photo_file, out, "--max-pixels", 9)
    fails(2, "thumbnail", photo_file, out, "--size", 0)
    fails(2, "thumbnail", cut, cut)
    fails(1, "thumbnail", photo_file, tmp_path / "none" / "out.png")
    assert [*tmp_path.iterdir()] == [cut]
