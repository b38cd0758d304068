"""A small convolutional network for images of any size, which trains from scratch on a CPU.

Three blocks of two 3 x 3 convolutions with ReLU and 2 x 2 max pooling, the mean over the remaining
pixels, a layer of `dense` units. 322,602 parameters with three channels and ten outputs.

Shapes: B images, C channels, H, W pixels, D features.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from mimic_reg.errors import InputError
from mimic_reg.models.base import Model, Site, convolution, images, linear, require_sizes

KERNEL = 3


class CNNTrunk(nn.Module):
    """(B, C, H, W) -> (B, D); a site after the dense layer."""

    def __init__(
        self, channels: int, filters: tuple[int, ...], dense: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.channels = channels
        blocks = [_block(*sizes, generator) for sizes in pairwise((channels, *filters))]
        self.convolutions = nn.Sequential(*blocks)
        self.dense = nn.Sequential(linear(filters[-1], dense, generator), nn.ReLU(), Site(dense))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, D); images have no lengths."""
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise InputError(
                f"The model cnn was made for images with {self.channels} channels; this batch has "
                f"the shape {tuple(x.shape)}."
            )
        return self.dense(self.convolutions(x).mean((2, 3)))


def _block(n_in: int, n_out: int, generator: torch.Generator) -> nn.Sequential:
    first, second = (
        convolution(nn.Conv2d, channels, n_out, KERNEL, generator, padding=1)
        for channels in (n_in, n_out)
    )
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))


def build(
    *,
    n_outputs: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    filters: tuple[int, ...] = (32, 64, 128),
    dense: int = 256,
) -> Model:
    """Return the model.

    shape:   (C, H, W) of an image
    filters: number of filters of each block
    dense:   units of the dense layer

    Raises:
        InputError: a size below 1, or no block.
    """
    channels = images("cnn", shape)
    require_sizes("cnn", filters=filters, dense=dense)
    trunk = CNNTrunk(channels, tuple(filters), dense, generator)
    return Model(trunk, linear(dense, n_outputs, generator))
