"""Build the decoder's graphs of the shipped packs anew from their tables, and record the SHA-256 in models.toml:

    python models/export_graphs.py

It needs lrcodec[encode]. A change of the graphs alone needs no training, but gives packs other fingerprints: rebuild
the conformance vectors afterwards.
"""

import re
from pathlib import Path

from lrcodec.packs import tablefile
from lrcodec.packs.pack import CODEWORDS, fingerprint
from lrcodec.packs.tablefile import PREDICTION
from lrcodec.training import export

HERE = Path(__file__).parent
SMOOTHING = ("smooth_w1", "smooth_b1", "smooth_w2", "smooth_b2")


def main() -> None:
    """Replace the graphs of every pack, and `sha256` in its entry of models.toml."""
    listed = HERE / "models.toml"
    entries = re.split(r"(?m)^(?=\[)", listed.read_text(encoding="utf-8"))
    for number, entry in enumerate(entries[1:], 1):
        folder = HERE / entry[1 : entry.index("]")]
        export_graphs(folder)
        blobs = {path.name: path.read_bytes() for path in [*folder.glob("decoder-*.onnx"), folder / "tables.npz"]}
        entries[number] = re.sub('(?m)^sha256 = ".*"$', f'sha256 = "{fingerprint(blobs).hex()}"', entry)
    listed.write_text("".join(entries), encoding="utf-8")


def export_graphs(folder: Path) -> None:
    """Replace the graphs of a pack."""
    tables, scales = tablefile.load((folder / "tables.npz").read_bytes())
    all_predictions: list[export.Integers | None] = [None]
    for scale in scales[1:]:
        w1, b1, w2, b2 = (tables[field.name.format(s=scale.scale)] for field in PREDICTION)
        all_predictions.append((w1, b1, w2, b2))
    w1, b1, w2, b2 = (tables[name] for name in SMOOTHING)
    (folder / CODEWORDS).write_bytes(export.build_codewords_graph())
    for path in {*folder.glob("decoder-*.onnx")} - {folder / CODEWORDS}:
        channels = 3 if "rgb" in path.name else 1
        predictions, smoothing = all_predictions, (w1, b1, w2, b2)
        if channels < tables["channels"]:
            predictions, smoothing = export.grey_predictions(predictions), export.grey_smoothing(smoothing)
        graph = export.build_graph(scales, channels, predictions, smoothing if "smooth" in path.name else None)
        path.write_bytes(graph)


if __name__ == "__main__":
    main()
