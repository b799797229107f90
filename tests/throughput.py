"""Many small images: `python tests/throughput.py --model faces64 --tile 64x64 MOSAIC...` prints images a second.

One process, one thread; the model is loaded, the files are in memory. The median of seven runs each.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import torch

import lrcodec
from lrcodec import image_files
from lrcodec.decoder import Decoder
from lrcodec.encoder import Encoder
from lrcodec.packs import store

RUNS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--tile")
    parser.add_argument("--quality", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = list(image_files.read(image_files.find_images(arguments.images), arguments.tile))
    pack = store.find(arguments.model).path
    encoder, decoder = Encoder(arguments.model, "cpu"), Decoder([pack], threads=1)
    for effort in (0, 1):
        start = time.perf_counter()
        files = encoder.encode_batch(images, arguments.quality, effort=effort)
        speed = len(images) / (time.perf_counter() - start)
        print(
            f"encode, effort {effort}: {speed:,.0f} images a second, {sum(map(len, files)) / len(files):.1f} bytes each"
        )
    for what, run in (
        ("batch", lambda: decoder.decode_batch(files)),
        ("one by one", lambda: [decoder.decode(file) for file in files[:200]]),
        ("by lrcodec.decode", lambda: [lrcodec.decode(file, models=[pack], threads=1) for file in files[:200]]),
    ):
        run()
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            count = len(run())
            seconds.append((time.perf_counter() - start) / count)
        print(f"decode, {what}: {1 / median(seconds):,.0f} images a second")


if __name__ == "__main__":
    main()
