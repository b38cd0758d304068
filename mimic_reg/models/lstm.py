"""The paper's LSTM (its Fig. 5): bidirectional, 256 units, both last states in one dense layer.

It is reconstructed from the published numbers of trainable parameters: 682,497 with one output,
694,809 with 25. They fit Keras, which has one bias where torch has two. So `bias_hh` stays zero and
frozen; otherwise the bias would learn at twice the rate.

Shapes: B samples, T hours, F channels, H units, C outputs.
"""

import torch
from torch import Tensor, nn

from mimic_reg.models.base import (
    Model,
    Recurrence,
    Site,
    check_hours,
    glorot_uniform_,
    hourly,
    linear,
    require_sizes,
    uninitialised,
)


class LSTMTrunk(nn.Module):
    """(B, T, F) -> (B, 2H): the last state of each direction; one site after it."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.recurrence = Recurrence(lstm)
        self.site = Site(2 * lstm.hidden_size)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, 2H)."""
        check_hours(x, "lstm", self.recurrence.lstm.input_size)
        return self.site(self.recurrence(x, lengths))


def initialise(layer: nn.RNNBase, generator: torch.Generator) -> None:
    """Initialise as Keras does, whose matrices hold the gates side by side.

    The Glorot limit is that of the whole input matrix, (F, 4H) of an LSTM; the recurrent matrix is
    orthogonal as a whole, not gate by gate. An LSTM has the bias 1 at the forget gate (its gates
    are i, f, g, o), and one bias: torch's second one is zero and frozen.
    """
    for name, parameter in layer.named_parameters():
        if name.startswith("weight_ih"):
            fan_out, fan_in = parameter.shape
            glorot_uniform_(parameter, (fan_in, fan_out), generator)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)
            if isinstance(layer, nn.LSTM):
                if name.startswith("bias_ih"):
                    nn.init.ones_(parameter.data[layer.hidden_size : 2 * layer.hidden_size])
                else:
                    parameter.requires_grad_(False)


def build(
    *, n_outputs: int, shape: tuple[int, ...], generator: torch.Generator, units: int = 256
) -> Model:
    """Return the model.

    shape: (F,) of an hour
    units: number H of units of each direction

    Raises:
        InputError: a size below 1.
    """
    n_features = hourly("lstm", shape)
    require_sizes("lstm", units=units)
    lstm = uninitialised(nn.LSTM, n_features, units, batch_first=True, bidirectional=True)
    initialise(lstm, generator)
    return Model(LSTMTrunk(lstm), linear(2 * units, n_outputs, generator))
