"""ITPS by rank: train only the share of parameters with the largest summed gradients.

It is `itps` with a threshold that follows from a share: over all parameters together, those with
the largest |J| are selected::

    J <- J - g
    bound = the k-th largest |J|,   k = share * number of parameters
    g <- g where |J| >= bound, else 0;  then the step of the optimiser

Use it in place of `itps` if a fixed threshold selects nothing or everything: a share means the same
for every model, task and scale of gradients.

Notes:
- This variant is ours, not the paper's.
- The bound is computed in the first step and every 10 steps, because it takes time; in between it
  stays, so slightly more parameters than `share` may be selected. Ties are selected.
- Parameters without a gradient do not count.
- `mode`, `latch` and `track_ever` are those of `itps`. A beta would scale all J alike, so there is
  none.

Kind: selection
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mimic_reg.methods.base import Event, Fit, require
from mimic_reg.methods.itps import ITPS, ITPSOptimizer, Mode

EXCLUDES = dict.fromkeys(("itps", "itps_auto"), "each selects the parameters to train.")

RENEWED = 10  # steps between two computations of the bound


def rank_bound(accounts: Sequence[Tensor], share: float) -> float:
    """Return the smallest |J| among the share of largest ones, at least one; it is above 0."""
    sizes = torch.cat([J.abs().flatten() for J in accounts])
    largest = sizes.topk(max(1, round(share * len(sizes))), sorted=False).values
    return max(largest.min().item(), torch.finfo(sizes.dtype).tiny)


class RankOptimizer(ITPSOptimizer):
    """Select a share of the parameters instead of those outside a fixed interval."""

    renews = True

    def __init__(self, base_optimizer: Optimizer, share: float, **options: Any) -> None:
        super().__init__(base_optimizer, 1.0, 0.0 if share == 1 else math.inf, **options)
        self.selected_share, self.taken = share, 0

    def renew(self, accounts: list[Tensor]) -> None:
        if self.selected_share < 1 and self.taken % RENEWED == 0:
            self.high = rank_bound(accounts, self.selected_share)
            self.low = -self.high
        self.taken += 1

    def own_state(self) -> dict[str, Any]:
        """Return J, the bound, and the number of steps."""
        return {**super().own_state(), "bound": self.high, "taken": self.taken}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        super().load_own_state(state)
        self.high, self.taken = state["bound"], state["taken"]
        self.low = -self.high


class ITPSRank(ITPS):
    """Select a share of the parameters, and record the selection after each epoch.

    share: share of the parameters that is selected
    mode:  what masking does to the optimiser's moments: see the notes of `itps`
    latch: keep a parameter selected once it was
    track_ever: record which parameters were ever selected; one byte for each parameter
    """

    neutral = {"share": 1.0}

    def __init__(
        self, share: float = 0.01, mode: Mode = "grad", latch: bool = False, track_ever: bool = True
    ) -> None:
        require(0 < share <= 1, "itps_rank", "share must be above 0 and at most 1", share)
        super().__init__(mode=mode, latch=latch, track_ever=track_ever)
        self.options = {"mode": mode, "latch": latch, "track_ever": track_ever, "share": share}

    def wrap(self, optimizer: Optimizer) -> ITPSOptimizer:
        return RankOptimizer(optimizer, **self.options)

    def tick(self, event: Event, fit: Fit) -> None:
        super().tick(event, fit)
        if event == "epoch_end":
            fit.record("tau", self.wrapper.high)


build = ITPSRank
