"""LSTM in one direction: the features of an hour depend on it and the hours before it alone.

One pass over a stay gives the predictions of all its hours. 341,249 trainable parameters with one
output, 347,417 with 25. Biases and initial weights are those of `lstm`.

Shapes: F channels, H units.
"""

from torch import nn

from mimic_reg.models._recurrent import one_direction

build = one_direction("causal_lstm", nn.LSTM)
