"""EfficientNet-B0 (Tan and Le 2019), torchvision's, with a new head; 4,020,358 parameters.

A site behind the global average pooling, in the place of its own dropout; without its stochastic
depth, so that the baseline is a baseline.
"""

from typing import Any

import torch
from torch import nn

from mimic_reg.models._pretrained import build_from
from mimic_reg.models.base import Model, Site


def _trunk(network: Any) -> tuple[nn.Module, int]:
    dim: int = network.classifier[-1].in_features
    network.classifier = Site(dim)
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
        "efficientnet_b0",
        _trunk,
        n_outputs=n_outputs,
        shape=shape,
        generator=generator,
        weights=weights,
        size=size,
        stochastic_depth_prob=0.0,
    )
