"""Recurrent layers that read hours one after the other, and the trunk of one such layer.

Shapes: S rows, B samples, T hours, F channels, H units.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mimic_reg.models.base import (
    Model,
    Site,
    at_hours,
    check_hours,
    hourly,
    linear,
    require_sizes,
    reverse,
    uninitialised,
)
from mimic_reg.models.lstm import initialise


def recurrence(
    kind: type[nn.LSTM] | type[nn.GRU], n_in: int, units: int, generator: torch.Generator
) -> nn.RNNBase:
    """Return a layer of one direction, batch first, initialised as in Keras."""
    layer = uninitialised(kind, n_in, units, batch_first=True)
    initialise(layer, generator)
    return layer


class Layer(nn.Module):
    """One LSTM, or two that read in opposite directions: (S, T, F) -> states (S, T, H).

    Padding is at the end. The backward LSTM reads the valid hours of a row in reverse, so no state
    of a valid hour depends on padding.
    """

    def __init__(
        self, n_in: int, units: int, generator: torch.Generator, *, bidirectional: bool
    ) -> None:
        super().__init__()
        each = units // 2 if bidirectional else units
        self.ahead = recurrence(nn.LSTM, n_in, each, generator)
        self.back = recurrence(nn.LSTM, n_in, each, generator) if bidirectional else None

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the states (S, T, H); lengths: (S,) for two directions, unused for one."""
        states: Tensor = self.ahead(x)[0]
        if self.back is None:
            return states
        return torch.cat([states, reverse(self.back(reverse(x, lengths))[0], lengths)], dim=2)


class RecurrentTrunk(nn.Module):
    """(S, T, F) -> (B, H): the state at each sample's last hour; one site after it.

    recurrence: a recurrent layer of one direction, batch first
    """

    def __init__(self, name: str, recurrence: nn.RNNBase) -> None:
        super().__init__()
        self.called, self.recurrence = name, recurrence
        self.site = Site(recurrence.hidden_size)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, H)."""
        check_hours(x, self.called, self.recurrence.input_size)
        # padding is at the end, so no state at a valid hour depends on it
        states, _ = self.recurrence(x)
        return self.site(at_hours(states, lengths))


def one_direction(name: str, kind: type[nn.LSTM] | type[nn.GRU]) -> Callable[..., Model]:
    """Return the `build` of a model of one recurrent layer of one direction."""

    def build(
        *, n_outputs: int, shape: tuple[int, ...], generator: torch.Generator, units: int = 256
    ) -> Model:
        """Return the model.

        shape: (F,) of an hour
        units: number H of units

        Raises:
            InputError: a size below 1.
        """
        n_features = hourly(name, shape)
        require_sizes(name, units=units)
        trunk = RecurrentTrunk(name, recurrence(kind, n_features, units, generator))
        return Model(trunk, linear(units, n_outputs, generator), causal=True)

    return build
