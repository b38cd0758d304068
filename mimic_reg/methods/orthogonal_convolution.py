"""Orthogonal convolution: make each convolution keep lengths, as an orthogonal matrix does.

Formula, with a kernel K of size k and stride S in each layer::

    L + weight * sum_l ||Conv(K, K, padding P, stride S) - I||²,   P = floor((k - 1) / S) * S

This is the convolution of the filters with each other at all shifts at which they overlap. The
target is 1 for a filter with itself at no shift, else 0. If there are more filters M than rows that
can be orthogonal (C * S²), the smallest possible value, M - C * S², is subtracted. `dense` adds
||W W' - I||², on the smaller side, of hidden dense layers.

Use it with convolutional networks trained from scratch.

Notes:
- Squared norm and padding are those of the paper. Its code takes the norm itself and always padding
  1, which misses overlaps at larger shifts, such as those of opposite corners of a 3 x 3 kernel.
- Grouped convolutions (depthwise ones) and the head are left out.

Kind: penalty

Paper: Wang, Chen, Chakraborty, Yu, "Orthogonal convolutional neural networks", CVPR 2020.

Shapes: M filters, C channels, k kernel size, S stride.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimic_reg.errors import InputError
from mimic_reg.methods._penalty import Penalty
from mimic_reg.methods.base import Fit, Step
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


class OrthogonalConvolution(Penalty):
    """Penalise layers that are not orthogonal.

    weight: weight of the penalty
    dense:  include hidden dense layers
    """

    def __init__(self, weight: float = 0.1, dense: bool = False) -> None:
        super().__init__(weight)
        self.dense = dense

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
        self.layers = [layer for layer in trunk if self.dense and isinstance(layer, nn.Linear)]
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        if self.weight == 0:
            return loss
        for layer in self.convolutions:
            stride = layer.stride[0], layer.stride[1]
            loss = loss + self.weight * convolution_penalty(layer.weight, stride)
        for dense in self.layers:
            loss = loss + self.weight * dense_penalty(dense.weight)
        return loss


build = OrthogonalConvolution
