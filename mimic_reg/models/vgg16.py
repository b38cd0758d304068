"""VGG-16 (Simonyan and Zisserman 2015) of torchvision, with a new head; 134,301,514 parameters.

A site follows each of the two layers of 4,096 units, where the original has dropout.
"""

from typing import Any

from torch import nn

from mimic_reg.models._pretrained import builder
from mimic_reg.models.base import Site

UNITS = 4096


def _trunk(network: Any) -> tuple[nn.Module, int]:
    dense = [layer for layer in network.classifier if isinstance(layer, nn.Linear)][:2]
    blocks = [nn.Sequential(layer, nn.ReLU(), Site(UNITS)) for layer in dense]
    return nn.Sequential(network.features, network.avgpool, nn.Flatten(), *blocks), UNITS


build = builder("vgg16", _trunk, least=32)  # five poolings halve it to one
