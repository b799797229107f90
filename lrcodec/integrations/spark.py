"""Spark: iterator pandas UDFs over a binary column.

    files = spark.read.format("binaryFile").load(folder)
    coded = files.select("path", encode(quality=60)("content").alias("coded")).select("path", "coded.*")

Each Python worker of Spark loads the model once, for all its tasks, and works with one thread. A row that cannot be
coded has nulls, and an error.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import extra
from .items import DecodeItems, EncodeItems, Outcome

if TYPE_CHECKING:
    from pyspark.sql.udf import UserDefinedFunction

ENCODED = "lrq binary, error string"
DECODED = "height int, width int, channels int, pixels binary, error string"


def encode(**settings: Any) -> "UserDefinedFunction":
    """A UDF from image files, binary, to the struct `ENCODED`: one of the two is null.

    settings: those of `items.EncodeItems`. Raises EncoderMissingError without the extra `spark`. The job fails with
    an LrqError if the model or the settings cannot be used at all.
    """
    return _udf(EncodeItems(**settings), lambda outcome: (outcome.value,), ENCODED)


def decode(**settings: Any) -> "UserDefinedFunction":
    """A UDF from .lrq files, binary, to the struct `DECODED`: all others are null, or the error is.

    pixels: uint8 (height, width, channels), row by row. channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
    settings: those of `items.DecodeItems`. Raises EncoderMissingError without the extra `spark`. The job fails with an
    LrqError if a model or the settings cannot be used at all.
    """
    return _udf(DecodeItems(**settings), _image, DECODED)


def _image(outcome: Outcome) -> tuple:
    if outcome.value is None:
        return (None,) * 4
    height, width, channels = (*outcome.value.shape, 1)[:3]
    return height, width, channels, outcome.value.tobytes()


def _udf(items: EncodeItems | DecodeItems, values: Callable[[Outcome], tuple], schema: str) -> "UserDefinedFunction":
    """A UDF that makes rows of this schema: what `values` gives, and the error."""
    with extra("spark"):
        import pandas as pd
        from pyspark.sql.functions import pandas_udf

    names = [field.split()[0] for field in schema.split(", ")]

    def rows(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            outcomes = items(batch)
            # Not as numbers: pandas has no null among integers.
            yield pd.DataFrame([(*values(o), o.error) for o in outcomes], columns=names, dtype=object)

    # Else Spark may run it twice, once to filter by the error, and again for the file.
    return pandas_udf(rows, schema).asNondeterministic()
