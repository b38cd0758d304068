"""VGG-16 (Simonyan and Zisserman 2015), torchvision's, with a new head; 134,301,514 parameters.

A site behind each of the two layers of 4,096 units, where the original has dropout.
"""

from typing import Any

import torch
from torch import nn

from mimic_reg.models._pretrained import build_from
from mimic_reg.models.base import Model, Site

UNITS = 4096


def _trunk(network: Any) -> tuple[nn.Module, int]:
    dense = [layer for layer in network.classifier if isinstance(layer, nn.Linear)][:2]
    blocks = [nn.Sequential(layer, nn.ReLU(), Site(UNITS)) for layer in dense]
    return nn.Sequential(network.features, network.avgpool, nn.Flatten(), *blocks), UNITS


def build(
    *,
    n_outputs: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    weights: str = "imagenet",
    size: int = 224,
) -> Model:
    """The model; weights: imagenet, none, or a file; size: edge of the images it sees, pixels."""
    return build_from(
        "vgg16",
        _trunk,
        n_outputs=n_outputs,
        shape=shape,
        generator=generator,
        weights=weights,
        size=size,
        least=32,  # which five poolings halve to one
    )
