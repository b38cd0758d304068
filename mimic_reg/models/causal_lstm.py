"""LSTM in one direction: the features of an hour depend on it and the hours before it alone.

One pass over a stay gives the predictions of all its hours. 341,249 trainable parameters with one
output, 347,417 with 25. Biases and initial weights are those of `lstm`.

Shapes: S rows, B samples, T hours, F channels, H units, C outputs.
"""

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
)
from mimic_reg.models.lstm import initialise


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
        features: Tensor = self.site(at_hours(states, lengths))
        return features


def build(
    *, n_outputs: int, shape: tuple[int, ...], generator: torch.Generator, units: int = 256
) -> Model:
    """Return the model.

    shape: (F,) of an hour
    units: number H of units

    Raises:
        InputError: a size below 1.
    """
    n_features = hourly("causal_lstm", shape)
    require_sizes("causal_lstm", units=units)
    # on "meta", so that torch's initialisation draws nothing from the global generator
    lstm = nn.LSTM(n_features, units, batch_first=True, device="meta").to_empty(device="cpu")
    initialise(lstm, generator)
    trunk = RecurrentTrunk("causal_lstm", lstm)
    return Model(trunk, linear(units, n_outputs, generator), causal=True)
