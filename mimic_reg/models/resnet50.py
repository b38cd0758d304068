"""ResNet-50 (He et al. 2016) of torchvision, with a new head; 23,528,522 parameters.

A site follows the global average pooling.
"""

from typing import Any

from torch import nn

from mimic_reg.models._pretrained import builder
from mimic_reg.models.base import Site


def _trunk(network: Any) -> tuple[nn.Module, int]:
    dim: int = network.fc.in_features
    network.fc = Site(dim)
    return network, dim


build = builder("resnet50", _trunk)
