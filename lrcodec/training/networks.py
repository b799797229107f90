"""What is trained end to end: transformer, smoothing and, where all iterations share it, the codebook."""

from dataclasses import dataclass

import torch
from torch import nn

from ..encoder.config import Config
from ..encoder.convolutions import LEVELS
from ..encoder.transformer import Smoothing, Transformer
from ..errors import LrqError
from .refine import Codebooks
from .work import Tensors


class Factors(nn.Module):
    """A codebook as trainable factors: shape k is u[k] @ v[k].

    shapes: float32 (S, p * C * p), what it starts from. p: rows of a shape. rank: of the factors.
    """

    def __init__(self, shapes: torch.Tensor, p: int, rank: int):
        super().__init__()
        left, singular, right = torch.linalg.svd(shapes.reshape(len(shapes), p, -1) / LEVELS, full_matrices=False)
        root = singular[:, None, :rank].sqrt()
        self.u = nn.Parameter(left[:, :, :rank] * root)
        self.v = nn.Parameter(right[:, :rank] * root.mT)

    def forward(self, rank: int | None = None) -> torch.Tensor:
        """The shapes, float32 (S, p * C * p), drawn with a rank. None: with all of it."""
        return (LEVELS * self.u[:, :, :rank] @ self.v[:, :rank]).flatten(1)


@dataclass(frozen=True)
class Networks:
    """The networks of a training. codebook: None where each iteration has its own codebook."""

    transformer: Transformer
    smoothing: Smoothing
    codebook: Factors | None

    @classmethod
    def untrained(cls, config: Config, channels: int, codebooks: Codebooks) -> "Networks":
        """New networks for images of 1 or 3 channels. Their weights are drawn by torch's global generator."""
        transformer = Transformer(config, channels)
        smoothing = Smoothing(config.scales, channels, config.smoothing)
        codebook = None
        if config.shared:
            patch = config.scales[0].patch
            codebook = Factors(codebooks.books[0][0].shapes, patch, min(config.rank, patch))
        return cls(transformer, smoothing, codebook)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks that there are, by name."""
        modules: dict[str, nn.Module] = {"transformer": self.transformer, "smoothing": self.smoothing}
        return modules | ({"codebook": self.codebook} if self.codebook else {})

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [parameter for module in self.modules.values() for parameter in module.parameters()]

    def to(self, device: torch.device) -> None:
        """Move all networks to a device."""
        for module in self.modules.values():
            module.to(device)

    def check_finite(self) -> None:
        """Raise LrqError if a weight is no finite number: what follows would be of no use."""
        for name, module in self.modules.items():
            if not all(parameter.isfinite().all() for parameter in module.parameters()):
                raise LrqError(
                    f"the weights of the {name} are no numbers any more: train with another --seed or --preset, "
                    "and another --work"
                )

    def to_tensors(self) -> Tensors:
        """All weights by name, each beginning with that of its network."""
        return {f"{name}.{key}": v for name, module in self.modules.items() for key, v in module.state_dict().items()}

    def load(self, tensors: Tensors) -> "Networks":
        """Take the weights of `to_tensors`. Returns these networks, ready for use."""
        for name, module in self.modules.items():
            prefix = f"{name}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
            module.eval()
        return self
