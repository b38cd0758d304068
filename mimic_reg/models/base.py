"""What every model is made of: a trunk, a head, and sites where dropout-like methods act.

Shapes: B samples, T hours, F channels, D features, C outputs.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from mimic_reg.errors import InputError
from mimic_reg.tasks.base import Target


class Site(nn.Sequential):
    """A place where dropout-like methods act; the identity until a method appends a module.

    dim: size of the last axis of what passes here: (B, dim) or (B, T, dim)
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim


class Model(nn.Module):
    """A trunk and a head. Trunks can be shared between tasks, heads cannot.

    trunk: (x, lengths) -> features (B, D)
    head:  (B, D) -> logits (B, C)
    """

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def features(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, D), what the head sees."""
        features: Tensor = self.trunk(x, lengths)
        return features

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, C).

        x:       (B, T, F) float32; what lies beyond a sample's length is ignored
        lengths: (B,) int64, at least 1; on the CPU, where packing needs them, or x's device
        """
        logits: Tensor = self.head(self.features(x, lengths))
        return logits

    @property
    def sites(self) -> list[Site]:
        """The sites, in the order in which data passes them."""
        return [module for module in self.modules() if isinstance(module, Site)]


class Recurrence(nn.Module):
    """A one-layer LSTM, in one or two directions, that returns its last states.

    Methods that change the recurrence replace this module by one that owns the same `lstm`, so the
    parameters and their names stay.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F) -> (B, directions x H): the state after each direction's last valid hour."""
        lengths = lengths.cpu()
        shortest, longest = int(lengths.min()), int(lengths.max())
        if shortest == longest:  # nothing to mask: packing would only cost time
            _, (state, _) = self.lstm(x[:, :longest])
        else:
            packed = nn.utils.rnn.pack_padded_sequence(
                x[:, :longest], lengths, batch_first=True, enforce_sorted=False
            )
            _, (state, _) = self.lstm(packed)
        return torch.cat(tuple(state), dim=-1)


def linear(
    n_in: int,
    n_out: int,
    generator: torch.Generator,
    fans: tuple[int, int] | None = None,
) -> nn.Linear:
    """A linear layer as Keras starts it: Glorot-uniform weights, zero bias.

    fans: (fan_in, fan_out) where they are not (n_in, n_out)
    """
    # skip_init: the layer's own start would draw from the global generator
    layer: nn.Linear = skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]
    glorot_uniform_(layer.weight, fans or (n_in, n_out), generator)
    nn.init.zeros_(layer.bias)
    return layer


def glorot_uniform_(weight: Tensor, fans: tuple[int, int], generator: torch.Generator) -> None:
    """Fill `weight` in place from U(-a, a) with a² = 6 / (fan_in + fan_out)."""
    limit = math.sqrt(6 / sum(fans))
    nn.init.uniform_(weight, -limit, limit, generator=generator)


def loss_of(target: Target, logits: Tensor, y: Tensor) -> Tensor:
    """Per-sample data losses (B,), from logits; the data loss is their mean.

    Means throughout (over labels here, over the batch later): ITPS integrates gradients, so a sum
    would change what its thresholds mean.

    logits: (B, C); y: (B, C), or (B,) integer classes; soft targets (B, C) serve every target.

    Raises:
        InputError: the shapes of logits and y do not belong together.
    """
    if target == "multiclass":
        return F.cross_entropy(logits, y, reduction="none")
    if logits.shape != y.shape:
        raise InputError(
            f"A {target} target needs labels of the logits' shape {tuple(logits.shape)}, "
            f"got {tuple(y.shape)}."
        )
    losses: dict[str, Callable[..., Tensor]] = {
        "binary": F.binary_cross_entropy_with_logits,
        "multilabel": F.binary_cross_entropy_with_logits,
        "regression": F.mse_loss,
    }
    return losses[target](logits, y, reduction="none").mean(dim=1)
