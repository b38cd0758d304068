"""The paper's fully connected network for Fashion-MNIST: 784-1024-512-256-128-10, ReLU.

1,494,154 parameters with ten outputs.

Shapes: B samples, C outputs, N units of a layer.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from mimic_reg.errors import InputError
from mimic_reg.models.base import Model, Site, images, linear, require_sizes

Init = Literal["glorot", "he", "torch"]


class DNNTrunk(nn.Module):
    """(B, ...) -> (B, N): flattened, then the hidden layers; a site after each ReLU."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        self.n_features = layers[0].in_features
        blocks = [nn.Sequential(layer, nn.ReLU(), Site(layer.out_features)) for layer in layers]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, N); images have no lengths."""
        x = x.flatten(1)
        if x.shape[1] != self.n_features:
            raise InputError(
                f"The model dnn was made for samples of {self.n_features} numbers, got "
                f"{x.shape[1]}."
            )
        return self.blocks(x)


def build(
    *,
    n_outputs: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    hidden: tuple[int, ...] = (1024, 512, 256, 128),
    init: Init = "glorot",
) -> Model:
    """Return the model.

    shape:  shape of an image; all its numbers are features
    hidden: sizes of the hidden layers
    init:   glorot (uniform, zero bias, as in Keras), he (uniform, zero bias), or torch (its own)

    Raises:
        InputError: a size below 1, no hidden layer.
    """
    images("dnn", shape)
    n_features = math.prod(shape)
    require_sizes("dnn", hidden=hidden)
    layers = [linear(*sizes, generator) for sizes in pairwise((n_features, *hidden, n_outputs))]
    if init != "glorot":
        for layer in layers:
            _start(layer, init, generator)
    return Model(DNNTrunk(layers[:-1]), layers[-1])


def _start(layer: nn.Linear, init: Init, generator: torch.Generator) -> None:
    """Fill a layer from uniform distributions: He's for ReLU, or torch's own."""
    bound = 1 / math.sqrt(layer.in_features)
    if init == "he":
        nn.init.uniform_(layer.weight, -math.sqrt(6) * bound, math.sqrt(6) * bound, generator)
        return
    nn.init.uniform_(layer.weight, -bound, bound, generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator)
