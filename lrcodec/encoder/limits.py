"""Threads and memory of PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raises MemoryError in place of PyTorch's errors when memory runs out, that of the GPU included."""
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
    """PyTorch computes with `count` threads within, or, if it is 0, with as many as before."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count:
            torch.set_num_threads(before)
