"""Spark: UDFs in a Spark of this machine, and the example, of which a worker and then all of it is killed."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import engines
import numpy as np
import pytest

import lrcodec
from lrcodec.integrations.spark import DECODED, ENCODED, decode, encode

pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
pytest.importorskip("pandas", reason="needs pandas")
sql = pytest.importorskip("pyspark.sql", reason="needs Spark")
if not shutil.which("java"):
    pytest.skip("needs Java", allow_module_level=True)
EXAMPLE = Path(__file__).parents[2] / "examples/spark_parquet.py"
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def spark() -> Iterator["sql.SparkSession"]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engines.ENVIRONMENT.items():
            patch.setenv(name, value)
        builder = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
        session = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 3).getOrCreate()
        yield session
        session.stop()


@pytest.fixture(scope="module")
def coded(spark, png, tmp_path_factory) -> list:
    """Rows of `png`, and of two that are no images, encoded once for all tests."""
    rows = [(str(number), data) for number, data in enumerate([*png, b"no image", None])]
    images = spark.createDataFrame(rows, "name string, content binary").coalesce(1)
    files = images.select("name", encode(effort=0)("content").alias("coded")).select("name", "coded.*")
    path = str(tmp_path_factory.mktemp("coded") / "out")
    files.write.parquet(path)
    return sorted(spark.read.parquet(path).collect(), key=lambda row: row.name)


def test_images_become_files_and_errors(coded, lrq):
    assert [row.lrq for row in coded] == [*lrq, None, None]
    assert [row.error and row.error.split(":")[0] for row in coded] == [None] * 6 + ["UsageError"] * 2


def test_schemas_are_as_documented(spark):
    for udf, schema in ((encode(), ENCODED), (decode(), DECODED)):
        assert udf.returnType == sql.types.StructType.fromDDL(schema)
        assert not udf.deterministic


def test_files_become_pixels(spark, coded, lrq):
    frame = spark.createDataFrame([(row.name, row.lrq) for row in coded], "name string, lrq binary").coalesce(1)
    rows = frame.select("name", decode(shrink=2)("lrq").alias("image")).select("name", "image.*").collect()
    for row, data in zip(sorted(rows, key=lambda row: row.name), lrq, strict=False):
        want = lrcodec.decode(data, shrink=2)
        assert row.error is None and row.channels == (*want.shape, 1)[2]
        pixels = np.frombuffer(row.pixels, np.uint8).reshape(row.height, row.width, row.channels)
        np.testing.assert_array_equal(pixels, want.reshape(pixels.shape), strict=True)
    bad = [row for row in rows if row.name > "5"]
    assert all(row.pixels is row.height is None and row.error for row in bad) and len(bad) == 2


def test_a_filter_by_the_error_encodes_nothing_twice(spark, png):
    """Spark would run a deterministic UDF once to filter, and again for the file."""
    images = spark.createDataFrame([(data,) for data in png], "content binary")
    plan = images.select(encode(effort=0)("content").alias("coded")).select("coded.*").where("error IS NULL")
    text = plan._jdf.queryExecution().executedPlan().toString()
    assert text.count("ArrowEvalPython") == 1


def test_settings_that_cannot_be_used_end_the_job(spark, png):
    frame = spark.createDataFrame([(png[0],)], "content binary")
    with pytest.raises(Exception, match="UsageError.*quality must be"):
        frame.select(encode(quality=200)("content")).collect()


def test_the_example_of_the_docs(example, spark, folder, lrq):
    rows = {Path(row.path).stem: row for row in example("Spark", spark=spark, folder=str(folder))["pixels"].collect()}
    assert bytes(rows["0"].pixels) == lrcodec.decode(lrq[0]).tobytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_job_goes_on_after_a_worker_and_the_job_were_killed(folder, png, lrq, tmp_path):
    for number in range(300):
        (folder / f"more{number}.png").write_bytes(png[number % 3])
    out = tmp_path / "out"
    submit = [sys.executable, "-m", "pyspark.find_spark_home"]
    home = subprocess.run(submit, capture_output=True, text=True, check=True).stdout.strip()
    options = ["--master", "local[2,4]", "--conf", "spark.ui.enabled=false"]
    # A file counts as 4 MiB: twelve a task.
    options += ["--conf", "spark.sql.files.maxPartitionBytes=48m"]
    arguments = [EXAMPLE, folder, out, "--effort", "0", "--batch", "4"]
    command = [f"{home}/bin/spark-submit", *options, *arguments]

    def rows() -> list[dict]:
        return [row for path in out.glob("*.parquet") for row in pq.read_table(path).to_pylist()]

    with engines.started(command) as job:

        def half_way() -> bool:
            assert job.poll() is None, "the job has ended too soon"
            return any(out.glob("*.parquet"))

        engines.kill_one_worker(job.pid, half_way)
        while len(list(out.glob("*.parquet"))) < 5:
            assert job.poll() is None, "the job has ended because of one worker"
            time.sleep(0.02)
    before = rows()
    assert 0 < len(before) < 307
    printed = engines.finished(command)
    assert "306 written, 1 failed" in printed and "6.png: UsageError: not an image" in printed
    after = {Path(row["path"]).stem: row for row in rows()}
    assert len(after) == len(rows()) == 307
    assert all(after[Path(row["path"]).stem] == row for row in before)
    for number in range(300):
        assert after[f"more{number}"]["lrq"] == lrq[number % 3]
    assert after["6"]["lrq"] is None
