"""The processes that train together, one a GPU, as torchrun starts them. Without torchrun there is one.

Only the networks are trained together. All else is done by the first process, while the others wait, and then read its
results from the work folder.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed, nn

from ..errors import UsageError

PATIENCE = timedelta(days=30)
"""How long processes wait for each other: the first works alone for hours."""


@contextmanager
def joined() -> Iterator[None]:
    """Within, this process works with the others that torchrun has started, if it has.

    Raises UsageError if this machine has GPUs, but fewer than processes.
    """
    if not distributed.is_torchelastic_launched():
        yield
        return
    if torch.cuda.is_available():
        here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > gpus:
            raise UsageError(f"{here} processes need as many GPUs, and here are {gpus}: use --nproc-per-node {gpus}")
        torch.cuda.set_device(device())
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def device() -> torch.device:
    """Where this process refines codebooks and trains networks: on a GPU of its own, if there is one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]) if distributed.is_torchelastic_launched() else 0)


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def first() -> bool:
    """Whether this is the process that does all that is not done together."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def wait() -> None:
    """Return when all processes have come here."""
    if count() > 1:
        distributed.all_reduce(torch.zeros(1))  # not a barrier, which would keep a GPU busy


def share(batch: torch.Tensor) -> torch.Tensor:
    """The images of a batch (b, ...) that this process looks at, on its device."""
    return batch[distributed.get_rank() :: count()].to(device()) if count() > 1 else batch.to(device())


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes, which all call this at once."""
    if count() > 1:
        values = values.clone()
        distributed.all_reduce(values)
    return values


def averaged(module: nn.Module) -> nn.Module:
    """The module with the weights of the first process, whose gradients will be means over all processes."""
    if count() == 1:
        return module
    return nn.parallel.DistributedDataParallel(module, [device()] if device().type == "cuda" else None)
