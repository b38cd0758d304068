"""GRU in one direction (Cho et al., 2014), with the reset gate after the matrix product.

The features of an hour depend on it and the hours before it alone, so one pass over a stay gives
the predictions of all its hours. 256,769 trainable parameters with one output, 262,937 with 25.
Initial weights are as in Keras: Glorot-uniform, orthogonal in the recurrence, zero biases.

Shapes: F channels, H units.
"""

from torch import nn

from mimic_reg.models._recurrent import one_direction

build = one_direction("gru", nn.GRU)
