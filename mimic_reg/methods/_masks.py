"""Masks of gradients from what is accounted for each parameter, in few passes over memory."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

TOGETHER = {"cuda": 1 << 20}  # numbers of the largest parameter that is masked with others


def parts(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Return the parameters in the parts that are accounted and masked together.

    On the CPU each is alone: its J and gradient are then still in the cache when they are masked.
    On a GPU small ones of a kind are together, since a kernel takes as long to start as to run on
    them.
    """
    found: dict[Any, list[Tensor]] = {}
    for i, p in enumerate(parameters):
        small = p.numel() <= TOGETHER.get(p.device.type, 0)
        found.setdefault((p.device, p.dtype) if small else i, []).append(p)
    return list(found.values())


def mask_(gradient: Tensor, J: Tensor, low: float, high: float) -> None:
    """Set the gradients of parameters that are not selected to zero, in place.

    Derivatives of two activation functions do this in one fast pass, without a mask. A product with
    a mask would turn an infinite gradient into NaN.
    """
    low, high = _rounded(low, J.dtype), _rounded(high, J.dtype)
    if low == -high and J.dtype in (torch.float32, torch.float64):
        # keeps `gradient` where |J| > bound, strictly, so the bound is the number before `high`
        bound = _before(high, J.dtype) if high > 0 else -1.0
        torch.ops.aten.hardshrink_backward.grad_input(gradient, J, bound, grad_input=gradient)
    else:
        # subtract what lies between; it is never infinite, since J was updated with it
        gradient.sub_(torch.ops.aten.hardtanh_backward(gradient, J, low, high))


def mask_part_(gradients: list[Tensor], accounts: list[Tensor], low: float, high: float) -> None:
    """Mask the gradients of a part as `mask_` does: several in a copy of all."""
    if len(gradients) == 1:
        mask_(gradients[0], accounts[0], low, high)
        return
    together = _flat(gradients)
    mask_(together, _flat(accounts), low, high)
    torch._foreach_copy_(gradients, _parted(together, gradients))


def or_(ever: list[Tensor], gradients: list[Tensor]) -> None:
    """Set the masks `ever` to True where a gradient is not zero."""
    if len(ever) == 1:
        ever[0] |= gradients[0].bool()
    else:  # a sum of booleans is their "or"
        now = _flat(gradients).bool()
        torch._foreach_add_(ever, _parted(now, ever))


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _parted(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Return the parts of a flat tensor, in the shapes of others."""
    parted = torch.split(flat, [tensor.numel() for tensor in like])
    return [part.view_as(tensor) for part, tensor in zip(parted, like, strict=True)]


@lru_cache(128)  # few different thresholds; a small tensor's round trip costs 10 microseconds
def _rounded(value: float, dtype: torch.dtype) -> float:
    """Return the number of `dtype` with which torch compares a tensor to `value`."""
    return torch.tensor(value, dtype=dtype).item()


@lru_cache(128)
def _before(value: float, dtype: torch.dtype) -> float:
    """Return the number of `dtype` next to `value`, towards zero."""
    number = torch.tensor(value, dtype=dtype)
    return torch.nextafter(number, torch.zeros_like(number)).item()
