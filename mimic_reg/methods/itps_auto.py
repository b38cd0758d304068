"""ITPS with an automatic threshold: choose tau anew for each epoch, by what validation rewarded.

It is `itps` with a bandit over `taus` within one fit (UCB1). For each epoch it plays the tau with
the highest upper confidence bound; each tau is played once first, in the order of the list::

    bound(tau) = wins / plays + sqrt(2 * log(all plays) / plays)

An epoch is a win if its validation score is better than all before it. J, and what is selected,
carry over from epoch to epoch; only the threshold changes.

Use it in place of `itps` if you cannot afford a search over tau.

Notes:
- This variant is ours. The paper names a bandit over tau within one fit as future work.
- It decides by validation scores only, and draws no random numbers.
- Rewards change during a fit: late epochs win less often, with every tau.
- `beta`, `mode`, `latch` and `track_ever` are those of `itps`.

Kind: selection

Paper: Auer, Cesa-Bianchi, Fischer, "Finite-time analysis of the multiarmed bandit problem", Machine
Learning 47 (2002).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mimic_reg.methods.base import Event, Fit, require
from mimic_reg.methods.itps import ITPS, Mode, interval

EXCLUDES = dict.fromkeys(("itps", "itps_rank"), "each selects the parameters to train.")


def best_arm(wins: Sequence[int], plays: Sequence[int]) -> int:
    """Return the arm with the highest upper confidence bound, the first one among equals."""
    if 0 in plays:
        return plays.index(0)
    explore = 2 * math.log(sum(plays))
    bounds = [w / n + math.sqrt(explore / n) for w, n in zip(wins, plays, strict=True)]
    return bounds.index(max(bounds))


class ITPSAuto(ITPS):
    """Choose the threshold for each epoch, select parameters, and record the selection.

    taus:  thresholds to choose from
    beta:  rate of the accounting variable
    mode:  what masking does to the optimiser's moments: see the notes of `itps`
    latch: keep a parameter selected once it was
    track_ever: record which parameters were ever selected; one byte for each parameter
    """

    neutral = {"taus": [0.0]}
    remembered = ("started", "wins", "plays", "arm", "best")

    def __init__(
        self,
        taus: Sequence[float] = (0.01, 0.05, 0.15, 0.25),
        beta: float = 0.1,
        mode: Mode = "grad",
        latch: bool = False,
        track_ever: bool = True,
    ) -> None:
        different = len(taus) == len(set(taus)) > 0
        require(different, "itps_auto", "taus must be one or more different numbers", list(taus))
        for tau in taus:
            interval(tau)
        super().__init__(beta, taus[0], mode, latch, track_ever)
        self.taus, self.arm, self.best = tuple(taus), 0, -math.inf
        self.wins, self.plays = [0] * len(taus), [0] * len(taus)

    def tick(self, event: Event, fit: Fit) -> None:
        """Choose the threshold of an epoch; count whether it won."""
        super().tick(event, fit)
        if event == "epoch_start":
            self.arm = best_arm(self.wins, self.plays)
            self._use_arm()
        elif event == "epoch_end":
            fit.record("tau", self.taus[self.arm])
            self.plays[self.arm] += 1
            if fit.score is not None and fit.score > self.best:
                self.wins[self.arm] += 1
                self.best = fit.score

    def _use_arm(self) -> None:
        self.wrapper.low, self.wrapper.high = interval(self.taus[self.arm])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._use_arm()


build = ITPSAuto
