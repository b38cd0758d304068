"""The hidden dense layers of a model, for methods that work on units."""

from itertools import pairwise

from torch import nn

from mimic_reg.errors import InputError
from mimic_reg.models.base import Model, Site


def dense_pairs(model: Model, method: str) -> list[tuple[nn.Linear, nn.Linear]]:
    """Return each hidden dense layer with the layer that its units feed, in their order.

    A hidden dense layer is a Linear followed by a ReLU and a site; its outputs are the units.

    Raises:
        InputError: the model has none, or its head is not a dense layer.
    """
    kinds = (nn.Linear, nn.ReLU, Site)
    blocks = [m for m in model.modules() if isinstance(m, nn.Sequential) and len(m) == len(kinds)]
    hidden = [block[0] for block in blocks if all(map(isinstance, block, kinds))]
    chain = [layer for layer in (*hidden, model.head) if isinstance(layer, nn.Linear)]
    pairs = list(pairwise(chain))
    fit = all(layer.out_features == following.in_features for layer, following in pairs)
    if not hidden or len(chain) != len(hidden) + 1 or not fit:
        raise InputError(
            f"{method} acts on units of hidden dense layers, and the model has none. Train a model "
            "with such layers: dnn, cnn, vgg16."
        )
    return pairs
