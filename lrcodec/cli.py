"""The `lrq` command: files, printing and exit codes. Nothing else in lrcodec does these.

Heavy modules are imported inside the commands: `lrq --help` and `lrq decode` never import torch, and `lrq info`
imports no onnxruntime either.
"""

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from . import container
from .errors import EncoderMissingError, LrqError, UsageError

FILE = click.Path(path_type=Path)
FORCE = click.option("-f", "--force", is_flag=True, help="Replace an output that exists, where -o does not name it.")


class Lrq(click.Group):
    """A group whose commands end in one line and the error's exit code, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LrqError as error:
            _fail(str(error), error.exit_code)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly: the reader of our output has gone
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
        except MemoryError:
            _fail("out of memory", 1)
        except KeyboardInterrupt:
            _fail("interrupted", 130)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"lrq: error: {' '.join(message.split())}", err=True)
    sys.exit(code)


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Turns a failing import into EncoderMissingError, which names the optional dependencies to install."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").startswith("lrcodec"):
            raise  # our own mistake, which installing something would not mend
        raise EncoderMissingError(f'{error}; pip install "lrcodec[{name}]"') from error


def _write(path: Path, data: bytes) -> None:
    """Write the whole file or nothing: a temporary file beside it takes its name once it is complete."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        path.write_bytes(data)  # a pipe or a device, such as /dev/stdout, must not be replaced
        return
    temporary = path.with_name(f".lrq-{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _default_output(source: Path, suffix: str, force: bool) -> Path:
    """`source` with another suffix. Raises UsageError if that file exists (and is not forced) or is `source`."""
    target = source.with_suffix(suffix)
    if target == source or (target.exists() and not force):
        raise UsageError(f"{target} exists: name the output with -o" + (", or add -f" if target != source else ""))
    return target


@click.group(cls=Lrq, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lrcodec")
def main() -> None:
    """Encode and decode images as .lrq files.

    \b
    Exit codes:
      0    ok
      1    a file cannot be read or written
      2    wrong usage, or an image that cannot be encoded
      3    not a valid .lrq file
      4    unsupported version of the format, or unknown model
      5    the image exceeds a limit
      6    the encoder is not installed: pip install "lrcodec[encode]"
      130  interrupted
    """


@main.command()
@click.argument("source", metavar="IN", type=FILE)
@click.option("-o", "--output", metavar="OUT", type=FILE, help="Default: IN with the suffix .lrq.")
@FORCE
@click.option("-q", "--quality", type=click.IntRange(0, 100), default=50, show_default=True)
@click.option("--rank", type=click.IntRange(1, 4), default=2, show_default=True, help="Rank of the codewords.")
@click.option("--iterations", type=click.IntRange(1, 32), help="Cap on the depth of every scale. Default: none.")
@click.option("--model", default="photo", show_default=True, help="Name or folder of a model pack.")
@click.option(
    "--effort",
    type=click.IntRange(0, 2),
    default=1,
    show_default=True,
    help="0: transformer and one greedy pass, 1: with a search, 2: with a wider and longer one.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--no-smoothing", is_flag=True, help="Leave out the smoothing: a faster decoder.")
def encode(
    source: Path,
    output: Path | None,
    force: bool,
    quality: int,
    rank: int,
    iterations: int | None,
    model: str,
    effort: int,
    device: str,
    no_smoothing: bool,
) -> None:
    """Encode the image file IN."""
    from .pixels import read_image

    data = source.read_bytes()
    output = output or _default_output(source, ".lrq", force)
    image = read_image(data)
    with _extra("encode"):
        from .encoder import Encoder

    data = Encoder(model=model, device=device).encode(
        image, quality=quality, rank=rank, iterations=iterations, effort=effort, smoothing=not no_smoothing
    )
    _write(output, data)
    click.echo(f"{output}: {_size(data, container.unpack_header(data))}", err=True)


@main.command()
@click.argument("source", metavar="IN", type=FILE)
@click.option(
    "-o", "--output", metavar="OUT", type=FILE, help="The suffix gives the format. Default: IN with the suffix .png."
)
@FORCE
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=container.MAX_PIXELS,
    show_default=True,
    help="Refuse larger images.",
)
@click.option("--model", "models", metavar="PATH", type=FILE, multiple=True, help="Folder of another model pack.")
def decode(source: Path, output: Path | None, force: bool, max_pixels: int, models: tuple[Path, ...]) -> None:
    """Decode the .lrq file IN."""
    from . import decode as decode_bytes
    from .pixels import write_image

    data = source.read_bytes()
    output = output or _default_output(source, ".png", force)
    image = decode_bytes(data, models=models, max_pixels=max_pixels)
    _write(output, write_image(image, output.suffix))


@main.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(file: Path, as_json: bool) -> None:
    """Check FILE for damage and show its header and chunks."""
    data = file.read_bytes()
    header, chunks = container.unpack(data)
    fields = header.describe()
    if as_json:
        rows = [{"tag": chunk.tag.decode(), "bytes": len(chunk.payload)} for chunk in chunks]
        click.echo(json.dumps({**fields, "bytes": len(data), "bpp": _bpp(data, header), "chunks": rows}, indent=2))
        return
    for field in container.FIELDS:
        click.echo(f"{field.name:<11} {fields[field.name]!s:<17} {field.meaning}")
    for chunk in chunks:
        click.echo(f"chunk {chunk.tag.decode():<5} {len(chunk.payload):,} bytes")
    click.echo(f"file        {_size(data, header)}")


def _bpp(data: bytes, header: container.Header) -> float:
    return 8 * len(data) / (header.width * header.height)


def _size(data: bytes, header: container.Header) -> str:
    return f"{len(data):,} bytes, {header.width} x {header.height} pixels, {_bpp(data, header):.3f} bits per pixel"


@main.command()
def models() -> None:
    """List the model packs that are installed."""
    from . import zoo

    for pack in zoo.packs():
        click.echo(f"{pack.name:<12} {pack.fingerprint.hex()}  {pack.description}")


@main.command()
@click.argument("folder", type=FILE)
@click.option("-o", "--output", metavar="PACK", type=FILE, required=True, help="Folder of the new model pack.")
@click.option("--preset", default="photo", show_default=True, help="Settings to train with.")
@click.option("--steps", type=click.IntRange(1), help="Training steps. Default: the preset's.")
@click.option("--work", type=FILE, help="Folder of the checkpoints, where training resumes. Default: PACK.work.")
@click.option("--seed", type=int, default=0, show_default=True)
def train(folder: Path, output: Path, preset: str, steps: int | None, work: Path | None, seed: int) -> None:
    """Train a model pack on the images in FOLDER, or resume its training."""
    with _extra("encode"):
        from .encoder.train import train as run

    work = work or Path(f"{output}.work")
    with click.progressbar(length=1000, file=sys.stderr, item_show_func=lambda line: line) as bar:

        def progress(done: float, line: str) -> None:
            if sys.stderr.isatty():
                bar.update(int(1000 * done) - bar.pos, line)
            else:
                click.echo(f"{done:4.0%} {line}", err=True)

        run(folder, output, preset=preset, work=work, seed=seed, steps=steps, progress=progress)


@main.command()
@click.argument("paths", metavar="[IMAGES or FOLDERS]", type=FILE, nargs=-1)
@click.option("--rank", "ranks", type=click.IntRange(1, 4), multiple=True, default=[2], show_default=True)
@click.option(
    "-q",
    "--quality",
    "qualities",
    type=click.IntRange(0, 100),
    multiple=True,
    default=range(0, 101, 10),
    show_default="0, 10, ... 100",
)
@click.option("--effort", type=click.IntRange(0, 2), default=1, show_default=True)
@click.option("--model", default="photo", show_default=True, help="Name or folder of a model pack.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--no-transformer", is_flag=True, help="Search from block means instead of the transformer's latents.")
@click.option(
    "--anchor",
    "anchors",
    type=click.Choice(["jpeg", "webp", "avif"]),
    multiple=True,
    default=["jpeg", "webp", "avif"],
    show_default="all",
    help="A codec to compare with.",
)
@click.option("--per-image", is_flag=True, help="Print the rows of every image too.")
@click.option("--json", "json_file", metavar="FILE", type=FILE, help="Write all figures as JSON.")
@click.option("--plot", "plot_file", metavar="FILE", type=FILE, help="Write the rate-distortion curves as a PNG.")
def bench(
    paths: tuple[Path, ...],
    ranks: tuple[int, ...],
    qualities: tuple[int, ...],
    effort: int,
    model: str,
    device: str,
    no_transformer: bool,
    anchors: tuple[str, ...],
    per_image: bool,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Measure rate, distortion and speed beside JPEG, WebP and AVIF.

    Without arguments, on the photographs that scikit-image ships. --rank and -q may be given several times.
    """
    from . import bench as measuring
    from . import report, zoo

    images = measuring.find_images(paths)
    with _extra("encode"):
        from .encoder import Encoder
    from .decoder import Decoder

    encoder, decoder = Encoder(model=model, device=device), Decoder(models=[zoo.find(model).path])
    with click.progressbar(length=measuring.row_count(len(images), ranks, qualities, anchors), file=sys.stderr) as bar:
        result = measuring.bench(
            measuring.read_images(images),
            ranks,
            qualities,
            lambda image, quality, rank: encoder.encode(
                image, quality, rank, effort=effort, use_transformer=not no_transformer
            ),
            decoder,
            anchors,
            progress=lambda row: bar.update(1),
        )
    click.echo(report.table(result, per_image))
    if json_file:
        _write(json_file, report.to_json(result).encode())
    if plot_file:
        _write(plot_file, report.plot(result))


if __name__ == "__main__":
    main()
