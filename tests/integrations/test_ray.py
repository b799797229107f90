"""Ray Data: adapters within a Ray of this machine, and the example, of which a worker and then all of it is killed."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import engines
import numpy as np
import pytest

import lrcodec
from lrcodec.errors import LrqError
from lrcodec.integrations.ray import Decode, Encode

pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
ray = pytest.importorskip("ray", reason="needs Ray")
pytest.importorskip("ray.data", reason="needs Ray Data")
EXAMPLE = Path(__file__).parents[2] / "examples/ray_files.py"


# ---- what the adapters do to a batch


def test_images_become_files_and_errors(png, lrq):
    batch = pa.table({"path": ["a", "b", "c"], "bytes": pa.array([png[0], b"no image", None], pa.binary())})
    coded = Encode(effort=0)(batch)
    schema = pa.schema({"path": pa.string(), "lrq": pa.binary(), "error": pa.string()})
    assert coded.schema == schema and coded["path"] == batch["path"]
    assert coded["lrq"].to_pylist() == [lrq[0], None, None]
    assert [error and error.split(":")[0] for error in coded["error"].to_pylist()] == [None, "UsageError", "UsageError"]


@pytest.mark.parametrize("data", [[], [b"no image"]], ids=["no row", "only a bad row"])
def test_the_schema_depends_on_no_row(data):
    coded = Encode(effort=0)(pa.table({"bytes": pa.array(data, pa.binary())}))
    assert coded.schema == pa.schema({"lrq": pa.binary(), "error": pa.string()})


def test_a_batch_of_bad_files_alone(lrq):
    decoded = Decode()(pa.table({"lrq": pa.array([lrq[0][:-1], None], pa.binary())}))
    assert decoded.schema.names == ["image", "error"]
    assert [image.shape for image in decoded["image"].chunk(0).to_numpy(zero_copy_only=False)] == [(0, 0, 1)] * 2


def test_a_column_of_another_name(png, lrq):
    coded = Encode("lrq", effort=0)(pa.table({"lrq": pa.array(png[:1], pa.binary())}))
    assert coded["lrq"].to_pylist() == lrq[:1]


# ---- in Ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engines.ENVIRONMENT.items():
            patch.setenv(name, value)
        ray.init(num_cpus=3, include_dashboard=False, object_store_memory=200 * 2**20, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
        ray.shutdown()


def mapped(data, function, **settings):
    return data.map_batches(
        function,
        fn_constructor_kwargs=settings,
        batch_format="pyarrow",
        batch_size=3,
        compute=ray.data.ActorPoolStrategy(size=1),
    )


def test_a_folder_is_encoded_and_decoded(cluster, folder, lrq):
    """Image files of several kinds, one of them none, to files and back to images, in one pipeline."""
    coded = mapped(ray.data.read_binary_files(str(folder), include_paths=True), Encode, effort=0).materialize()
    rows = {Path(row["path"]).stem: row for row in coded.take_all()}
    assert [rows[str(n)]["lrq"] for n in range(7)] == [*lrq, None]
    assert [rows[str(n)]["error"] is None for n in range(7)] == [True] * 6 + [False]
    decoded = {Path(row["path"]).stem: row for row in mapped(coded, Decode).iter_rows()}
    for number, data in enumerate(lrq):
        want = lrcodec.decode(data)
        image = decoded[str(number)]["image"]
        np.testing.assert_array_equal(image, want.reshape(*want.shape[:2], -1), strict=True)
    assert decoded["6"]["image"].size == 0 and decoded["6"]["error"].startswith("UsageError")


def test_images_that_ray_has_read_are_encoded(cluster, tmp_path, pixels, png, lrq):
    """Tensors of one shape, and of several."""
    for names in ((0, 1, 2), (0, 3)):
        images = tmp_path / str(names)
        images.mkdir()
        for number in names:
            (images / f"{number}.png").write_bytes(png[number])
        rows = mapped(ray.data.read_images(str(images)), Encode, column="image", effort=0).take_all()
        assert sorted(row["lrq"] for row in rows) == sorted(lrq[number] for number in names)


def test_the_example_of_the_docs(cluster, example, folder, lrq):
    rows = {Path(row["path"]).stem: row for row in example("Ray Data", folder=str(folder))["images"].iter_rows()}
    want = lrcodec.decode(lrq[0])
    np.testing.assert_array_equal(rows["0"]["image"], want, strict=True)


# ---- the example


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_job_goes_on_after_a_worker_and_the_job_were_killed(folder, png, lrq, tmp_path):
    for number in range(150):
        (folder / f"more{number}.png").write_bytes(png[number % 3])
    out = tmp_path / "out"
    command = [sys.executable, EXAMPLE, folder, out, "--effort", "0", "--workers", "2", "--batch", "4"]

    def written() -> int:
        return len(list(out.glob("*.lrq")))

    with engines.started(command) as job:

        def half_way() -> bool:
            assert job.poll() is None, "the job has ended too soon"
            return written() >= 20

        engines.kill_one_worker(job.pid, half_way)
        while written() < 60:
            assert job.poll() is None, "the job has ended because of one worker"
            time.sleep(0.02)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.lrq")}
    assert 60 <= len(before) < 156
    printed = engines.finished(command)
    assert f"{156 - len(before)} written, 1 failed" in printed and "6.png: UsageError: not an image" in printed
    assert written() == 156
    assert before.items() <= {path: path.stat().st_mtime_ns for path in out.glob("*.lrq")}.items()
    for number in range(150):
        assert (out / f"more{number}.png.lrq").read_bytes() == lrq[number % 3]
    shutil.rmtree(out)


def test_settings_that_cannot_be_used_end_the_job():
    with pytest.raises(LrqError, match="quality"):
        Encode(quality=200)(pa.table({"bytes": pa.array([b""], pa.binary())}))
