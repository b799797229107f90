"""Coverage-guided fuzzing with atheris: `python tests/fuzz/guided.py TARGET CORPUS [options of libFuzzer]`.

TARGET is container, entropy, file or preview. Options that matter: -max_total_time=SECONDS, -artifact_prefix=FOLDER/.
A crash is a file in that folder; given in place of CORPUS it is tried again. In an environment of its own without
torch:

    python -m venv guided && guided/bin/pip install atheris .
    python tests/fuzz/seeds.py corpus                # with an environment that has the encoder
    guided/bin/python tests/fuzz/guided.py file corpus -max_total_time=600
"""

import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["lrcodec"]):
    import seeds
    from mutations import repair

    from lrcodec import entropy
    from lrcodec.decoder import Decoder
    from lrcodec.errors import LrqError
    from lrcodec.format import container

DECODER = Decoder(threads=1, max_pixels=2**18)
"""Larger images would only take longer."""


def try_container(data: bytes) -> None:
    """The parser, on the bytes as they are and with checksums that match."""
    for form in {data, repair(data)}:
        try:
            header, chunks = container.unpack(form)
        except LrqError:
            continue
        assert container.unpack_header(form) == header
        assert container.pack(header, chunks) == form


def try_entropy(data: bytes) -> None:
    """The entropy decoder alone, on the payloads of all chunks as if they were images of one batch."""
    try:
        header, chunks = container.unpack(repair(data))
        if header.width * header.height * len(chunks) > DECODER.max_pixels:
            return
        pack = DECODER.pack(header)
        planes = entropy.decode([chunk.payload for chunk in chunks], pack, header, header.height)
    except LrqError:
        return
    for plane, scale in zip(planes, pack.scales, strict=True):
        assert plane.shape == (len(chunks), *scale.grid(header.height, header.width), len(scale.codewords))
        assert plane.min() >= 0 and (plane.max((0, 1, 2)) <= scale.codewords).all()
        depth = (plane > 0).sum(3)
        assert depth.max() <= header.iterations
        assert ((plane > 0) == (depth[..., None] > range(len(scale.codewords)))).all()


def try_file(data: bytes) -> None:
    """The whole decoder, on the bytes as they are and with checksums that match."""
    for form in {data, repair(data)}:
        try:
            image = DECODER.decode(form)
        except LrqError:
            continue
        header = container.unpack_header(form)
        assert image.shape[:2] == (header.height, header.width)


def try_preview(data: bytes) -> None:
    """What is left of the bytes, with checksums as they are and matching."""
    for form in {data, repair(data)}:
        with suppress(LrqError):
            image = DECODER.preview(form, 2).pixels
            assert image.shape == container.unpack_header(form).shrunk(2).shape


TARGETS = {"container": try_container, "entropy": try_entropy, "file": try_file, "preview": try_preview}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(__doc__)
    with seeds.small_strips():
        atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
