"""The variables of a cohort: the channels of each, and the hours in which it was measured.

Shapes: T hours, F channels, V variables.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mimic_reg.store.spec import Channel


@dataclass(frozen=True)
class Variable:
    """One variable.

    values:     positions of its continuous channels
    categories: positions of its indicators
    flag:       position of the channel that tells where it was measured; None: there is none, so it
                counts as measured in every hour
    measured:   value of that channel where it was measured: 1 of `observed`, 0 of `missing`
    """

    name: str
    values: tuple[int, ...]
    categories: tuple[int, ...]
    flag: int | None
    measured: int

    @property
    def channels(self) -> tuple[int, ...]:
        """Return the positions of all its channels."""
        flag = () if self.flag is None else (self.flag,)
        return (*self.values, *self.categories, *flag)


def variables(channels: Sequence[Channel]) -> tuple[Variable, ...]:
    """Return the variables (V,), in the order in which the channels name them first."""
    return tuple(
        _variable(name, [(i, c) for i, c in enumerate(channels) if c.variable == name])
        for name in dict.fromkeys(channel.variable for channel in channels)
    )


def _variable(name: str, channels: Sequence[tuple[int, Channel]]) -> Variable:
    flags = [(i, c.kind) for i, c in channels if c.kind in ("observed", "missing")]
    flag, kind = flags[0] if flags else (None, "observed")
    return Variable(
        name,
        values=tuple(i for i, c in channels if c.kind == "continuous"),
        categories=tuple(i for i, c in channels if c.kind == "indicator"),
        flag=flag,
        measured=int(kind == "observed"),
    )


def measured(x: Tensor, of: Sequence[Variable]) -> Tensor:
    """Return where each variable was measured, (B, T, V) bool, from hours (B, T, F)."""
    always = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
    return torch.stack(
        [always if v.flag is None else (x[..., v.flag] > 0.5) == bool(v.measured) for v in of],
        dim=-1,
    )
