"""Random changes of activations or weights that act in training only."""

from collections.abc import Callable

from torch import Tensor, nn


class InTraining(nn.Module):
    """Apply `change` in training; the identity in evaluation."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(x) if self.training else x
