"""Temporal convolutional network: blocks of dilated causal convolutions (Bai et al., 2018).

A block has two convolutions with ReLU, and adds its input, through a dense layer where the number
of channels changes. The dilation doubles with each block, so six blocks of kernel 3 see 253 hours.
The features of an hour depend on it and the hours before it alone, so one pass over a stay gives
the predictions of all its hours. 155,521 trainable parameters with one output, 157,081 with 25.

Notes:
- Without the paper's weight normalisation and dropout: methods regularise.
- Initial weights are Glorot-uniform, biases zero, as in the other models here.

Shapes: S rows, B samples, T hours, F channels of the data, D of the network, C outputs.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimic_reg.models.base import (
    Model,
    Site,
    at_hours,
    check_hours,
    convolution,
    hourly,
    linear,
    require_sizes,
)


class CausalConvolution(nn.Conv1d):
    """Convolution over an hour and hours before it: (S, D, T) -> (S, D', T)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (S, D', T); hours before the first are zero."""
        before = self.dilation[0] * (self.kernel_size[0] - 1)
        return super().forward(F.pad(x, (before, 0)))


class Block(nn.Module):
    """Two convolutions, added to the input: (S, T, D) -> (S, T, D')."""

    def __init__(
        self, n_in: int, n_out: int, kernel: int, dilation: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.first, self.second = (
            convolution(CausalConvolution, channels, n_out, kernel, generator, dilation=dilation)
            for channels in (n_in, n_out)
        )
        self.site = Site(n_out)
        self.skip = linear(n_in, n_out, generator) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (S, T, D')."""
        out = self.second(self.first(x.transpose(1, 2)).relu()).relu()
        summed: Tensor = self.site(out.transpose(1, 2)) + self.skip(x)
        return summed.relu()


class TCNTrunk(nn.Module):
    """(S, T, F) -> (B, D): the blocks' output at each sample's last hour.

    There is a site in each block and one after them.
    """

    def __init__(self, n_features: int, blocks: Sequence[Block], channels: int) -> None:
        super().__init__()
        self.n_features = n_features
        self.blocks = nn.Sequential(*blocks)
        self.site = Site(channels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, D)."""
        check_hours(x, "tcn", self.n_features)
        return self.site(at_hours(self.blocks(x), lengths))


def build(
    *,
    n_outputs: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    channels: int = 64,
    blocks: int = 6,
    kernel: int = 3,
) -> Model:
    """Return the model.

    shape:    (F,) of an hour
    channels: number D of channels of each block
    blocks:   number of blocks; block i has the dilation 2^i, from i = 0
    kernel:   hours that a convolution sees

    Raises:
        InputError: a size below 1.
    """
    n_features = hourly("tcn", shape)
    require_sizes("tcn", channels=channels, blocks=blocks, kernel=kernel)
    sizes = [n_features, *[channels] * blocks]
    stack = [
        Block(n_in, n_out, kernel, 2**level, generator)
        for level, (n_in, n_out) in enumerate(pairwise(sizes))
    ]
    trunk = TCNTrunk(n_features, stack, channels)
    return Model(trunk, linear(channels, n_outputs, generator), causal=True)
