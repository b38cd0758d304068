"""ResNet-50 (He et al. 2016), torchvision's, with a new head; 23,528,522 parameters.

A site behind the global average pooling.
"""

from typing import Any

import torch
from torch import nn

from mimic_reg.models._pretrained import build_from
from mimic_reg.models.base import Model, Site


def _trunk(network: Any) -> tuple[nn.Module, int]:
    dim: int = network.fc.in_features
    network.fc = Site(dim)
    return network, dim


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
        "resnet50",
        _trunk,
        n_outputs=n_outputs,
        shape=shape,
        generator=generator,
        weights=weights,
        size=size,
    )
