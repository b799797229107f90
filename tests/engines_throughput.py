"""Ray, Spark and torch.utils.data beside a plain loop: `python tests/engines_throughput.py ray MOSAIC... --tile 64x64`.

ray, spark: images become PNG files, and these .lrq files: by plain loops, one process and two side by side, and by the
engine with one worker and two. Then once more with ten files among them that are no images and with one worker killed
half-way: every image must be there once, with a file or an error. The clock starts when `--few` images are done: what
an engine takes to start does not count.

torch: a DataLoader decodes .lrq files with one worker and two, in turns.

Everything has one thread a worker. `--count` images are the given ones over and over. Measure on an idle machine.
"""

import argparse
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median

from integrations import engines

os.environ.update(engines.ENVIRONMENT)

from lrcodec import Encoder, image_files  # noqa: E402
from lrcodec.image_io import read_picture, write_image  # noqa: E402
from lrcodec.packs import store  # noqa: E402

Seen = Callable[[str, bool], None]
"""Told the path of each file, and whether it was encoded."""
BAD = 10
"""Files that are no images, in the run with a worker killed."""


def plain_loop(paths: list[Path], settings: dict, batch: int, start, seconds) -> None:
    """What one writes without an engine: reads and encodes the files, once all loops are ready."""
    encoder = Encoder(settings["model"], "cpu", threads=1)
    options = {"quality": settings["quality"], "effort": settings["effort"]}
    encoder.encode_batch([read_picture(paths[0].read_bytes()).pixels], **options)
    start.wait()
    began = time.perf_counter()
    for at in range(0, len(paths), batch):
        pictures = [read_picture(path.read_bytes()) for path in paths[at : at + batch]]
        encoder.encode_batch([one.pixels for one in pictures], metadata=[one.metadata for one in pictures], **options)
    seconds.put(time.perf_counter() - began)


def loops(paths: list[Path], settings: dict, batch: int, count: int) -> float:
    """Images a second of plain loops side by side, all together."""
    context = get_context("spawn")
    start, seconds = context.Barrier(count), context.Queue()
    shares = [paths[at::count] for at in range(count)]
    running = [context.Process(target=plain_loop, args=(share, settings, batch, start, seconds)) for share in shares]
    for process in running:
        process.start()
    took = [seconds.get() for _ in running]
    for process in running:
        process.join()
    return len(paths) / max(took)


def with_ray(paths: list[Path], few: int, settings: dict, batch: int, workers: int, seen: Seen) -> float:
    """Encode the files, and tell of each whether there is a .lrq file or an error. Returns images a second."""
    import ray

    from lrcodec.integrations.ray import Encode

    if ray.is_initialized():
        ray.shutdown()
    ray.init(num_cpus=workers + 1, include_dashboard=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    coded = ray.data.read_binary_files([str(path) for path in paths], include_paths=True).map_batches(
        Encode,
        fn_constructor_kwargs=settings,
        batch_format="pyarrow",
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    began = 0.0
    for number, row in enumerate(coded.iter_rows()):
        assert (row["lrq"] is None) != (row["error"] is None)
        seen(row["path"], row["error"] is None)
        if number == few:
            began = time.perf_counter()
    return (len(paths) - few) / (time.perf_counter() - began)


def with_spark(paths: list[Path], few: int, settings: dict, batch: int, workers: int, seen: Seen) -> float:
    """As `with_ray`. Workers that have encoded a few files stay for the others."""
    from pyspark.sql import SparkSession

    from lrcodec.integrations.spark import encode

    if session := SparkSession.getActiveSession():
        session.stop()
    spark = (
        SparkSession.builder.master(f"local[{workers},4]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", batch)
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")

    def coded(some: list[Path]) -> list:
        files = spark.createDataFrame([(str(path), path.read_bytes()) for path in some], "path string, content binary")
        # As many parts for one worker as for the other, else one waits in the end; and few, for each takes a while.
        files = files.repartition(workers * max(1, len(some) // (16 * batch * workers)))
        return files.select("path", encode(**settings)("content").alias("coded")).select("path", "coded.*").collect()

    coded(paths[:few])
    began = time.perf_counter()
    rows = coded(paths)
    speed = len(paths) / (time.perf_counter() - began)
    for row in rows:
        assert (row.lrq is None) != (row.error is None)
        seen(row.path, row.error is None)
    return speed


def with_one_killed(run: Callable, paths: list[Path], few: int, settings: dict, batch: int, after: float) -> None:
    """Encode with two workers, of which one is killed after so many seconds of work, and check what comes."""
    found: Counter[str] = Counter()
    errors: set[str] = set()

    def seen(path: str, good: bool) -> None:
        found[path] += 1
        if not good:
            errors.add(path)

    began: list[float] = []

    def half_way() -> bool:
        if not began and len(engines.workers(os.getpid())) >= 2:
            began.append(time.monotonic())
        return bool(began) and time.monotonic() > began[0] + after

    killed: list[int] = []
    killer = threading.Thread(target=lambda: killed.append(engines.kill_one_worker(os.getpid(), half_way, 3600)))
    killer.start()
    run(paths, few, settings, batch, 2, seen)
    killer.join(timeout=1)
    assert killed, "no worker was killed: it ended too soon"
    bad = {str(path) for path in paths if path.stem.startswith("bad")}
    assert found == Counter(map(str, paths)), "an image is missing, or there twice"
    assert errors == bad, "errors are not those of the bad files"
    print(
        f"one worker killed: {len(paths):,} files, each once, {len(paths) - len(errors):,} coded, {len(errors)} errors"
    )


def encode_with(name: str, paths: list[Path], few: int, settings: dict, batch: int) -> None:
    """Print images a second beside plain loops, and what becomes of them with one worker killed."""
    run = {"ray": with_ray, "spark": with_spark}[name]
    for workers in (1, 2):
        before = loops(paths, settings, batch, workers)
        speed = run(paths, few, settings, batch, workers, lambda path, good: None)
        after = loops(paths, settings, batch, workers)
        share = speed / mean([before, after])
        line = (
            f"plain loop {before:,.1f} before and {after:,.1f} after, {name} {speed:,.1f} images a second, {share:.0%}"
        )
        print(f"{workers} at once: {line}", flush=True)
    for number in range(BAD):
        bad = paths[0].with_name(f"bad{number}.png")
        bad.write_bytes(b"no image")
        paths.insert(number * len(paths) // BAD, bad)
    with_one_killed(run, paths, few, settings, batch, len(paths) / speed / 3)


def decode_with_torch(paths: list[Path], batch: int, models: tuple[Path, ...], rounds: int) -> None:
    """Print images a second of a DataLoader with one worker and two."""
    from torch.utils.data import DataLoader

    from lrcodec.integrations.torch import LrqFiles

    loaders = {
        workers: DataLoader(
            LrqFiles(paths, models=models), batch_size=batch, num_workers=workers, persistent_workers=True
        )
        for workers in (1, 2)
    }
    speeds: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds + 1):
        for workers, loader in loaders.items():
            began = time.perf_counter()
            count = sum(len(images) for images in loader)
            if number:  # else workers start, and load the model
                speeds[workers].append(count / (time.perf_counter() - began))
    one, two = median(speeds[1]), median(speeds[2])
    print(f"torch: 1 worker {one:,.0f}, 2 workers {two:,.0f} images a second, {two / one / 2:.0%} of twice one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("ray", "spark", "torch"))
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--tile")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--quality", type=float, default=40)
    parser.add_argument("--effort", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    images = list(image_files.read(image_files.find_images(arguments.images), arguments.tile))
    pack = store.find(arguments.model).path
    settings = {"model": str(pack), "quality": arguments.quality, "effort": arguments.effort}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.engine == "torch":
            encoder = Encoder(pack, "cpu", threads=1)
            images = images[: arguments.count]
            files = encoder.encode_batch(images, arguments.quality, effort=arguments.effort)
            suffix = ".lrq"
        else:
            files, suffix = [write_image(image) for image in images[: arguments.count]], ".png"
        paths = [Path(folder, f"{number:06}{suffix}") for number in range(arguments.count)]
        for number, path in enumerate(paths):
            path.write_bytes(files[number % len(files)])
        if arguments.engine == "torch":
            decode_with_torch(paths, arguments.batch, (pack,), arguments.rounds)
        else:
            encode_with(arguments.engine, paths, arguments.few, settings, arguments.batch)


if __name__ == "__main__":
    main()
