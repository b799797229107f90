"""How long `lrqdec` takes, beside AVIF, WebP and JPEG in Pillow: `python formats/c/speed.py IMAGE...`

Files of the classic codecs are those nearest in size to the .lrq file. All run in turns on one thread; figures are
medians over the rounds.
Needs a compiled lrqdec beside this script.
"""

import argparse
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from lrcodec.encoder import Encoder
from lrcodec.image_io import read_image
from lrcodec.measure.classic import CLASSIC, classic_decode, classic_encode
from lrcodec.measure.speed import nearest
from lrcodec.measure.timing import Call, rounds
from lrcodec.packs import modelfile, store

LRQDEC = Path(__file__).with_name("lrqdec")
ROUNDS, CALLS = 15, 9
"""Rounds, and decodes of lrqdec in each, of which it prints the median."""
OTHERS = ("avif", "webp", "jpeg")


def lrqdec(*arguments: object) -> float:
    """Milliseconds that `lrqdec --time` prints."""
    done = subprocess.run([LRQDEC, *map(str, arguments)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("-q", "--quality", type=float, default=50)
    parser.add_argument("-m", "--model", default="photo")
    parser.add_argument("--effort", type=int, default=0)
    arguments = parser.parse_args()
    encoder = Encoder(arguments.model, "cpu")
    names = ("lrqdec", "lrqdec --shrink 8", *OTHERS)
    print(f"{'image':<20} {'bytes':>8} " + " ".join(f"{name:>18}" for name in names) + f" {'of AVIF':>8}")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder, "model.lrqm"), Path(folder, "image.lrq")
        model.write_bytes(modelfile.save(store.find(arguments.model).load()))
        for path in arguments.images:
            image = read_image(path.read_bytes())
            data = encoder.encode(image, arguments.quality, effort=arguments.effort)
            file.write_bytes(data)
            ms: dict[str, list[float]] = {name: [] for name in names}
            calls = {
                Call(codec, 1): partial(classic_decode, nearest(encode, CLASSIC[codec].scale, len(data))[1], False)
                for codec in OTHERS
                for encode in [partial(classic_encode, image, codec)]
            }
            for _ in range(ROUNDS):
                for call, seconds in rounds(calls, CALLS).items():
                    ms[call.what].append(1000 * median(seconds))
                ms["lrqdec"].append(lrqdec("--time", CALLS, model, file))
                ms["lrqdec --shrink 8"].append(lrqdec("--shrink", 8, "--time", CALLS, model, file))
            figures = [median(ms[name]) for name in names]
            ratios.append(median(a / b for a, b in zip(ms["lrqdec"], ms["avif"], strict=True)))
            print(
                f"{path.name:<20} {len(data):>8,} "
                + " ".join(f"{figure:>18.2f}" for figure in figures)
                + f" {ratios[-1]:>8.2f}",
                flush=True,
            )
    print(f"lrqdec takes {median(ratios):.2f} times as long as AVIF (median over the images)")


if __name__ == "__main__":
    main()
