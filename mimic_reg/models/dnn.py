"""The paper's fully connected network for Fashion-MNIST: 784-1024-512-256-128-10, ReLU.

1,494,154 parameters with ten outputs.

Shapes: B samples, C outputs, N units of a layer.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from mimic_reg.models.base import Model, Site, linear


class DNNTrunk(nn.Module):
    """(B, ...) -> (B, N): flattened, then the hidden layers; a site behind each ReLU."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        blocks = [nn.Sequential(layer, nn.ReLU(), Site(layer.out_features)) for layer in layers]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, N); images have no lengths."""
        features: Tensor = self.blocks(x.flatten(1))
        return features


def build(
    *,
    n_outputs: int,
    generator: torch.Generator,
    n_features: int = 784,
    hidden: tuple[int, ...] = (1024, 512, 256, 128),
) -> Model:
    """The model; `hidden` holds the sizes of the hidden layers."""
    sizes = pairwise((n_features, *hidden))
    trunk = DNNTrunk([linear(n_in, n_out, generator) for n_in, n_out in sizes])
    return Model(trunk, linear(hidden[-1], n_outputs, generator))
