"""The benchmark paper's standard LSTM: bidirectional layers, then one of a single direction.

The features are the last state of the last layer. Published sizes (units, layers): in-hospital
mortality 16, 2; decompensation 128, 1; length of stay 64, 1; phenotyping 256, 1. With `depth: 1` or
`bidirectional: false` it is causal: it trains by whole stays, and with `target_replication`. 7,569
trainable parameters with one output, 7,977 with 25.

Notes:
- The published model has a dropout of 0.3 on inputs and states of most tasks. Here the method
  `dropout` acts after each layer, not on the inputs.
- Biases and initial weights are those of `lstm`.

Paper: Harutyunyan et al., "Multitask learning and benchmarking with clinical time series data",
Scientific Data 6 (2019).

Shapes: S rows, B samples, T hours, F channels, H units, C outputs.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mimic_reg.errors import InputError
from mimic_reg.models._recurrent import Layer
from mimic_reg.models.base import Model, Site, at_hours, check_hours, hourly, linear, require_sizes


class StackedTrunk(nn.Module):
    """(S, T, F) -> (B, H): the last layer's state at each sample's last hour.

    There is a site after each layer.
    """

    def __init__(self, n_features: int, layers: Sequence[Layer], units: int) -> None:
        super().__init__()
        self.n_features = n_features
        self.layers = nn.ModuleList(layers)
        self.inner = nn.ModuleList(Site(units) for _ in layers[1:])
        self.site = Site(units)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, H)."""
        check_hours(x, "standard_lstm", self.n_features)
        *before, last = self.layers
        for layer, site in zip(before, self.inner, strict=True):
            x = site(layer(x, lengths))
        return self.site(at_hours(last(x, lengths), lengths))


def stack(sizes: Sequence[int], generator: torch.Generator, *, bidirectional: bool) -> list[Layer]:
    """Return layers from each size to the next; the last has one direction.

    Raises:
        InputError: a bidirectional layer has an odd number of units.
    """
    last = len(sizes) - 2
    return [
        Layer(n_in, units, generator, bidirectional=bidirectional and number < last)
        for number, (n_in, units) in enumerate(pairwise(sizes))
    ]


def require_even(model: str, units: int) -> None:
    """Refuse an odd number of units, which two directions cannot share.

    Raises:
        InputError: see above.
    """
    if units % 2:
        raise InputError(
            f"{model}: the two directions share the units, so units must be even, got {units}. "
            "Change it, or set bidirectional: false."
        )


def build(
    *,
    n_outputs: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    units: int = 16,
    depth: int = 2,
    bidirectional: bool = True,
) -> Model:
    """Return the model.

    shape: (F,) of an hour
    units: number H of units of each layer; of a bidirectional one half for each direction
    depth: number of layers
    bidirectional: whether the layers before the last read in both directions

    Raises:
        InputError: a size below 1; an odd number of units for two directions.
    """
    n_features = hourly("standard_lstm", shape)
    require_sizes("standard_lstm", units=units, depth=depth)
    bidirectional = bidirectional and depth > 1
    if bidirectional:
        require_even("standard_lstm", units)
    layers = stack([n_features, *[units] * depth], generator, bidirectional=bidirectional)
    trunk = StackedTrunk(n_features, layers, units)
    return Model(trunk, linear(units, n_outputs, generator), causal=not bidirectional)
