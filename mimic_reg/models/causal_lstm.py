"""LSTM in one direction: the features of an hour depend on it and the hours before it alone.

One pass over a stay gives the predictions of all its hours. 341,249 trainable parameters with one
output, 347,417 with 25. Biases and initial weights are those of `lstm`.

Shapes: F channels, H units.
"""

import torch
from torch import nn

from mimic_reg.models._recurrent import one_direction
from mimic_reg.models.base import Model


def build(
    *, n_outputs: int, shape: tuple[int, ...], generator: torch.Generator, units: int = 256
) -> Model:
    """Return the model.

    shape: (F,) of an hour
    units: number H of units

    Raises:
        InputError: a size below 1.
    """
    return one_direction("causal_lstm", nn.LSTM, n_outputs, shape, generator, units)
