"""The optimiser of all networks."""

import torch
from torch import nn


class Descent:
    """AdamW over one cycle of the learning rate.

    parameters: all that it moves. rate: peak of the learning rate. steps: of the cycle. done: steps that were taken.
    """

    def __init__(self, parameters: list[nn.Parameter], rate: float, steps: int):
        self.parameters, self.done = parameters, 0
        self.optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-5)
        # A rise of exactly one step makes PyTorch divide by zero.
        rise = 0.1 if steps != 9 else 0.2
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, rate, steps + 1, pct_start=rise)

    def step(self, loss: torch.Tensor, limit: float | None = None) -> None:
        """Move the parameters against the gradient of a loss, float32 (). limit: of its norm; None for none."""
        self.optimiser.zero_grad()
        loss.backward()
        if limit is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, limit)
        self.optimiser.step()
        self.schedule.step()
        self.done += 1

    def state(self) -> dict:
        """All of it, for `load`."""
        return {"optimiser": self.optimiser.state_dict(), "schedule": self.schedule.state_dict(), "done": self.done}

    def load(self, state: dict) -> None:
        """Go on from a `state`."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.done = state["done"]
