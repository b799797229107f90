"""Encodes a folder of images to .lrq files with Ray Data: `python examples/ray_files.py IMAGES OUT --workers 2`.

Run again, it goes on: an image whose file exists is left out. A file is written whole or not at all, and each image has
one name in OUT. So whatever is killed, a worker or the whole job, nothing is lost and nothing is there twice.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import ray

from lrcodec.files import write_file
from lrcodec.integrations.ray import Encode
from lrcodec.runtime import cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--batch", type=int, default=64, help="images that a worker takes at once")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--effort", type=int, default=1)
    arguments = parser.parse_args()
    folder, out = arguments.images.resolve(), arguments.out.resolve()
    outputs = {str(path): out / f"{path.relative_to(folder)}.lrq" for path in folder.rglob("*") if path.is_file()}
    missing = [path for path, output in outputs.items() if not output.exists()]
    print(f"{len(outputs) - len(missing)} of {len(outputs)} are there")
    if not missing:
        return

    def write(batch: pa.Table) -> pa.Table:
        for path, data in zip(batch["path"].to_pylist(), batch["lrq"].to_pylist(), strict=True):
            if data is not None:
                outputs[path].parent.mkdir(parents=True, exist_ok=True)
                write_file(outputs[path], data)
        return batch.drop_columns(["lrq"])

    # Each worker has a processor. Ray counts one more for those that read and write, which have little to do.
    ray.init(num_cpus=arguments.workers + 1, include_dashboard=False)
    done = (
        ray.data.read_binary_files(missing, include_paths=True)
        .map_batches(
            Encode,
            fn_constructor_kwargs={name: getattr(arguments, name) for name in ("model", "quality", "effort")},
            batch_format="pyarrow",
            batch_size=arguments.batch,
            compute=ray.data.ActorPoolStrategy(size=arguments.workers),
        )
        .map_batches(write, batch_format="pyarrow")
    )
    failed = 0
    for row in done.iter_rows():
        if row["error"]:
            failed += 1
            print(f"{row['path']}: {row['error']}")
    print(f"{len(missing) - failed} written, {failed} failed")


if __name__ == "__main__":
    main()
