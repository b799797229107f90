"""Ray Data: callable classes for `Dataset.map_batches`, with `batch_format="pyarrow"`.

    coded = ray.data.read_binary_files(folder, include_paths=True).map_batches(
        Encode, fn_constructor_kwargs={"quality": 60}, batch_format="pyarrow", batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=2),
    )

Each actor loads its model once and works with one thread. A row that cannot be coded has null, or an image without
pixels, and an error. Other columns stay as they are.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import extra
from .items import DecodeItems, EncodeItems

if TYPE_CHECKING:
    import pyarrow


class Encode:
    """Puts the column `lrq`, binary, and the column `error`, string, in place of a column of images.

    column: image files (binary), as `ray.data.read_binary_files` reads them, or uint8 tensors (height, width[, 1 to
    4]), as `ray.data.read_images` does. settings: those of `items.EncodeItems`.
    Where `lrq` is null there is an error, and the other way round. Raises LrqError, which ends the job, if the model or
    the settings cannot be used at all.
    """

    def __init__(self, column: str = "bytes", **settings: Any):
        self.column, self.encode = column, EncodeItems(**settings)

    def __call__(self, batch: "pyarrow.Table") -> "pyarrow.Table":
        with extra("ray"):
            import pyarrow as pa

        outcomes = self.encode(_values(batch[self.column]))
        files = pa.array([outcome.value for outcome in outcomes], pa.binary())
        return _replaced(batch, self.column, "lrq", files, [outcome.error for outcome in outcomes])


class Decode:
    """Puts the column `image`, uint8 tensors (height, width, channels), and the column `error`, string, in place of a
    column of .lrq files, binary.

    A grey image has one channel. Where there is an error the image is (0, 0, 1), for a tensor column knows no null.
    settings: those of `items.DecodeItems`. Raises LrqError, which ends the job, if a model or the settings cannot be
    used at all.
    """

    def __init__(self, column: str = "lrq", **settings: Any):
        self.column, self.decode = column, DecodeItems(**settings)

    def __call__(self, batch: "pyarrow.Table") -> "pyarrow.Table":
        with extra("ray"):
            from ray.data.extensions import ArrowTensorArray

        outcomes = self.decode(_values(batch[self.column]))
        nothing = np.empty((0, 0, 1), np.uint8)
        images = np.empty(len(outcomes), object)  # NumPy would put images of one size into one array, or try to
        for number, (pixels, _) in enumerate(outcomes):
            images[number] = nothing if pixels is None else pixels[..., None] if pixels.ndim == 2 else pixels
        tensors = ArrowTensorArray.from_numpy(images)
        return _replaced(batch, self.column, "image", tensors, [outcome.error for outcome in outcomes])


def _values(column: "pyarrow.ChunkedArray") -> list[Any]:
    """The values of a column: bytes, arrays, or None."""
    return [value for chunk in column.chunks for value in chunk.to_numpy(zero_copy_only=False)]


def _replaced(batch: "pyarrow.Table", column: str, name: str, values: Any, errors: list[str | None]) -> "pyarrow.Table":
    """The batch with the column `name` and the errors in place of one column."""
    import pyarrow as pa

    kept = {other: batch[other] for other in batch.column_names if other != column}
    return pa.table(kept | {name: values, "error": pa.array(errors, pa.string())})
