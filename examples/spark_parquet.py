"""Encodes a folder of images to Parquet with Spark: `spark-submit examples/spark_parquet.py IMAGES OUT`.

OUT gets the columns path, lrq and error: where one of the last two is null, the other is not. Run again, it goes on:
what has a row in OUT is left out. A task's file takes its name when the task is done, so whatever is killed, a worker
or the whole job, nothing is lost and nothing is there twice.
"""

import argparse
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql.functions import broadcast

from lrcodec.integrations.spark import encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images")
    parser.add_argument("out")
    parser.add_argument("--batch", type=int, default=64, help="images that a worker takes at once")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--effort", type=int, default=1)
    arguments = parser.parse_args()
    settings = {name: getattr(arguments, name) for name in ("model", "quality", "effort")}
    spark = (
        SparkSession.builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", arguments.batch)
        # What a task has written stays if the job is killed later.
        .config("spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version", 2)
        .getOrCreate()
    )
    files = spark.read.format("binaryFile").option("recursiveFileLookup", True).load(arguments.images)
    files = files.select("path", "content")
    if any(Path(arguments.out).glob("*.parquet")):
        files = files.join(broadcast(spark.read.parquet(arguments.out).select("path")), "path", "left_anti")
    coded = files.select("path", encode(**settings)("content").alias("coded")).select("path", "coded.*")
    coded.write.mode("append").parquet(arguments.out)
    done = spark.read.parquet(arguments.out)
    failed = done.where("error IS NOT NULL")
    for row in failed.select("path", "error").toLocalIterator():
        print(f"{row.path}: {row.error}")
    count = failed.count()
    print(f"{done.count() - count} written, {count} failed")


if __name__ == "__main__":
    main()
