"""EfficientNet-B0 (Tan and Le 2019) of torchvision, with a new head; 4,020,358 parameters.

A site follows the global average pooling, in place of its dropout. Its stochastic depth is off, so
that the baseline has no regularisation.
"""

from typing import Any

from torch import nn

from mimic_reg.models._pretrained import builder
from mimic_reg.models.base import Site


def _trunk(network: Any) -> tuple[nn.Module, int]:
    dim: int = network.classifier[-1].in_features
    network.classifier = Site(dim)
    return network, dim


build = builder("efficientnet_b0", _trunk, stochastic_depth_prob=0.0)
