"""Threads and memory of PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def memory_errors() -> Iterator[None]:
    """Makes MemoryError of PyTorch's errors for memory that has run out, on the processor or the GPU."""
    try:
        yield
    except RuntimeError as error:
        # PyTorch has a kind of its own for the GPU alone.
        texts = "can't allocate memory", "not enough memory", "bad_alloc", "bad allocation"
        if isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in texts):
            raise MemoryError from None
        raise


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch has so many threads within, 0: as before."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count:
            torch.set_num_threads(before)
