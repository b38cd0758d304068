"""GRU in one direction (Cho et al., 2014), with the reset gate after the matrix product.

The features of an hour depend on it and the hours before it alone, so one pass over a stay gives
the predictions of all its hours. 256,769 trainable parameters with one output, 262,937 with 25.
Initial weights are as in Keras: Glorot-uniform, orthogonal in the recurrence, zero biases.

Shapes: T hours, F channels, H units, C outputs.
"""

import torch
from torch import nn

from mimic_reg.models.base import Model, glorot_uniform_, hourly, linear, require_sizes
from mimic_reg.models.causal_lstm import RecurrentTrunk


def build(
    *, n_outputs: int, shape: tuple[int, ...], generator: torch.Generator, units: int = 256
) -> Model:
    """Return the model.

    shape: (F,) of an hour
    units: number H of units

    Raises:
        InputError: a size below 1.
    """
    n_features = hourly("gru", shape)
    require_sizes("gru", units=units)
    # on "meta", so that torch's initialisation draws nothing from the global generator
    gru = nn.GRU(n_features, units, batch_first=True, device="meta").to_empty(device="cpu")
    for name, parameter in gru.named_parameters():
        if name.startswith("weight_ih"):
            glorot_uniform_(parameter, (n_features, 3 * units), generator)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)
    trunk = RecurrentTrunk("gru", gru)
    return Model(trunk, linear(units, n_outputs, generator), causal=True)
