"""The benchmark paper's channel-wise LSTM: an LSTM for each variable, and one over their states.

An LSTM for each variable reads its channels, with the one that tells when it was measured. Their
states are concatenated at each hour, and an LSTM of one direction reads them. Published sizes
(units, size): in-hospital mortality 8, 4; decompensation 16, 4; length of stay and phenotyping 16,
8. 26,817 trainable parameters with one output, 27,609 with 25.

With `bidirectional: false` it is causal: it trains by whole stays, and with `target_replication`.
So is the trunk of the paper's multitask model: train several tasks with it, with the strategy
`joint`.

Notes:
- The published model has a dropout of 0.3 on inputs and states of some tasks. Here the method
  `dropout` acts on the concatenated states and on the features, not on the inputs.
- The variables, and their channels, are those of the cohort.
- Biases and initial weights are those of `lstm`.

Paper: Harutyunyan et al., "Multitask learning and benchmarking with clinical time series data",
Scientific Data 6 (2019).

Shapes: S rows, B samples, T hours, F channels, V variables, D units of a variable, H of the last
layer, C outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mimic_reg.models._recurrent import Layer
from mimic_reg.models.base import Model, Site, at_hours, check_hours, hourly, linear, require_sizes
from mimic_reg.models.standard_lstm import require_even, stack
from mimic_reg.samples.variables import variables
from mimic_reg.store.spec import Channel


class ChannelWiseTrunk(nn.Module):
    """(S, T, F) -> (B, H): the last layer's state at each sample's last hour.

    There is a site for the concatenated states, and one after the last layer.

    channels: the positions of each variable's channels
    each:     the layers of each variable
    together: the layers after them
    """

    def __init__(
        self,
        channels: Sequence[Sequence[int]],
        each: Sequence[Sequence[Layer]],
        together: Sequence[Layer],
        sizes: tuple[int, int],
    ) -> None:
        super().__init__()
        self.channels = [list(positions) for positions in channels]
        self.each = nn.ModuleList(nn.ModuleList(layers) for layers in each)
        self.together = nn.ModuleList(together)
        self.concatenated, self.site = Site(sizes[0]), Site(sizes[1])

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, H)."""
        check_hours(x, "channel_wise_lstm", sum(map(len, self.channels)))
        states = []
        for positions, layers in zip(self.channels, self.each, strict=True):
            z = x[..., positions]
            for layer in layers:  # type: ignore[attr-defined]
                z = layer(z, lengths)
            states.append(z)
        z = self.concatenated(torch.cat(states, dim=2))
        for layer in self.together:
            z = layer(z, lengths)
        return self.site(at_hours(z, lengths))


def build(
    *,
    n_outputs: int,
    shape: tuple[int, ...],
    cohort_channels: Sequence[Channel],
    generator: torch.Generator,
    units: int = 8,
    size: int = 4,
    depth: int = 1,
    bidirectional: bool = True,
) -> Model:
    """Return the model.

    shape: (F,) of an hour
    cohort_channels: its channels (F,)
    units: number D of units of each variable; of two directions half for each
    size:  the layers after them have H = size * D units
    depth: number of layers of each variable, and of layers after them
    bidirectional: whether all layers but the last read in both directions

    Raises:
        InputError: a size below 1; an odd number of units for two directions.
    """
    hourly("channel_wise_lstm", shape)
    require_sizes("channel_wise_lstm", units=units, size=size, depth=depth)
    if bidirectional:
        require_even("channel_wise_lstm", units)
    positions = [variable.channels for variable in variables(cohort_channels)]
    each = [
        [
            Layer(n_in, units, generator, bidirectional=bidirectional)
            for n_in in (len(own), *[units] * (depth - 1))
        ]
        for own in positions
    ]
    last, concatenated = size * units, units * len(positions)
    together = stack([concatenated, *[last] * depth], generator, bidirectional=bidirectional)
    trunk = ChannelWiseTrunk(positions, each, together, (concatenated, last))
    return Model(trunk, linear(last, n_outputs, generator), causal=not bidirectional)
