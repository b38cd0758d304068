"""Orthogonal convolution: a layer should keep lengths, as an orthogonal matrix does.

Wang, Chen, Chakraborty, Yu, "Orthogonal convolutional neural networks", CVPR 2020:
L + weight * sum over layers of ||Conv(K, K, padding P, stride S) - I||², with
P = floor((k - 1) / S) S: the filters convolved with each other at all shifts at which they overlap,
against 1 at no shift with itself. With more filters than rows can be orthogonal (M > C S²) the
smallest value is M - C S², which is taken off. `dense` adds ||W W' - I||², on the smaller side, of
hidden dense layers.

Rulings: squared norm and this padding, as in the paper. Its code takes the norm itself and always
padding 1, which misses overlaps of larger shifts, such as those of opposite corners of a 3 x 3
kernel. Grouped convolutions (depthwise ones) are left alone, and so is the head.

Shapes: M filters, C channels, k kernel size, S stride.
"""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Fit, Options, Regulariser, Step, require
from mimic_reg.models.base import Model


def convolution_penalty(kernel: Tensor, stride: tuple[int, int]) -> Tensor:
    """Return how far a convolution is from orthogonal; kernel: (M, C, k, k)."""
    filters, channels, *sizes = kernel.shape
    padding = tuple((size - 1) // s * s for size, s in zip(sizes, stride, strict=True))
    overlaps = F.conv2d(kernel, kernel, stride=stride, padding=padding)  # (M, M, shifts, shifts)
    target = torch.zeros_like(overlaps)
    centre = tuple(size // 2 for size in overlaps.shape[2:])
    target[:, :, centre[0], centre[1]] = torch.eye(
        filters, dtype=kernel.dtype, device=kernel.device
    )
    least = max(0, filters - channels * stride[0] * stride[1])
    return (overlaps - target).square().sum() - least


def dense_penalty(weight: Tensor) -> Tensor:
    """Return ||W W' - I||² of a matrix, over its smaller side."""
    if weight.shape[0] > weight.shape[1]:
        weight = weight.mT
    identity = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    return (weight @ weight.mT - identity).square().sum()


@final
class OrthogonalConvolution(Regulariser):
    """Adds the penalty."""

    neutral: ClassVar[Options] = {"weight": 0.0}

    def __init__(self, weight: float, dense: bool) -> None:
        require(weight >= 0, "orthogonal_convolution", "weight must be at least 0", weight)
        self.weight, self.dense = weight, dense
        self.convolutions: list[nn.Conv2d] = []
        self.layers: list[nn.Linear] = []

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Find the layers.

        Raises:
            InputError: the model has no convolution.
        """
        trunk = list(model.trunk.modules())
        convolutions = [layer for layer in trunk if isinstance(layer, nn.Conv2d)]
        self.convolutions = [c for c in convolutions if c.groups == 1 and set(c.dilation) == {1}]
        if not self.convolutions:
            raise InputError(
                "orthogonal_convolution: the model has no convolutions. Train a model with them: "
                "cnn, vgg16, resnet50, efficientnet_b0."
            )
        if self.dense:
            self.layers = [layer for layer in trunk if isinstance(layer, nn.Linear)]
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the penalty."""
        if self.weight == 0:
            return loss
        for layer in self.convolutions:
            stride = layer.stride[0], layer.stride[1]
            loss = loss + self.weight * convolution_penalty(layer.weight, stride)
        for dense in self.layers:
            loss = loss + self.weight * dense_penalty(dense.weight)
        return loss


def build(weight: float = 0.1, dense: bool = False) -> OrthogonalConvolution:
    """The method; `dense`: hidden dense layers, too."""
    return OrthogonalConvolution(weight, dense)
