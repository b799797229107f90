"""constriction's range coder where it is installed, else the same in Python."""

try:
    from constriction import stream
except ModuleNotFoundError:
    from .plain_range_coder import Categorical, RangeDecoder, RangeEncoder
else:
    Categorical = stream.model.Categorical  # type: ignore[misc]
    RangeDecoder, RangeEncoder = stream.queue.RangeDecoder, stream.queue.RangeEncoder  # type: ignore[misc]

__all__ = ["Categorical", "RangeDecoder", "RangeEncoder"]
