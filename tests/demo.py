"""`make demo`: encode and decode a photograph that scikit-image ships, and say what it took."""

import time
from collections.abc import Callable
from typing import Any

from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from lrcodec.decoder import Decoder
from lrcodec.encoder import Encoder


def main() -> None:
    """Print size, quality, decoder work and times for the photograph of an astronaut (512 x 512)."""
    image = data.astronaut()
    height, width = image.shape[:2]
    encoder, decoder = Encoder(), Decoder()
    encoded, encode_seconds = timed(lambda: encoder.encode(image))
    decoder.decode(encoded)  # loads the model
    decoded, decode_seconds = timed(lambda: decoder.decode(encoded))
    macs = decoder.macs(encoded)

    print(f"image        {width} x {height}, {image.nbytes:,} bytes of pixels")
    print(f"file         {len(encoded):,} bytes, {8 * len(encoded) / (height * width):.3f} bits per pixel")
    print(f"PSNR         {peak_signal_noise_ratio(image, decoded):.2f} dB")
    print(
        f"decoder      {macs.low_rank:.1f} low-rank + {macs.prediction:.1f} prediction + "
        f"{macs.smoothing:.1f} smoothing + {macs.colour:.1f} colour MACs per pixel"
    )
    print(f"encode time  {encode_seconds:.2f} s")
    print(f"decode time  {1000 * decode_seconds:.1f} ms")


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What `call` returns, and the seconds it took."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


if __name__ == "__main__":
    main()
