"""The hidden dense layers of a model, for methods that work on units."""

from itertools import pairwise

from torch import nn

from mimic_reg.errors import InputError
from mimic_reg.models.base import Model, Site


def dense_pairs(model: Model, method: str) -> list[tuple[nn.Linear, nn.Linear]]:
    """Return each hidden dense layer with the layer that its units feed, in their order.

    A hidden dense layer is a Linear with a ReLU and a site behind it; units are its outputs.

    Raises:
        InputError: the model has none, or its head is no dense layer.
    """
    hidden = [
        block[0]
        for block in model.modules()
        if isinstance(block, nn.Sequential) and _is_hidden(block)
    ]
    chain = [layer for layer in (*hidden, model.head) if isinstance(layer, nn.Linear)]
    pairs = list(pairwise(chain))
    fit = all(layer.out_features == following.in_features for layer, following in pairs)
    if not hidden or len(chain) != len(hidden) + 1 or not fit:
        raise InputError(
            f"{method}: the model has no hidden dense layers, on whose units it works. Train a "
            "model with such layers: dnn, cnn, vgg16."
        )
    return pairs


def _is_hidden(block: nn.Sequential) -> bool:
    kinds = (nn.Linear, nn.ReLU, Site)
    return len(block) == 3 and all(map(isinstance, block, kinds))
