"""Is one method better than another? Paired tests over seeds, corrected for how many were made.

Trials that share task, model, supervision level and seed are a pair: equal initial weights and
batches, different method. Two-sided paired t-test, at least three pairs, Holm's correction
over the baselines of a method.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

MIN_PAIRS = 3
LEVEL = 0.05


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (ddof 1; None for one value) of n scores."""

    n: int
    mean: float
    sd: float | None


@dataclass(frozen=True)
class Comparison:
    """A method against a baseline, over the seeds that both have.

    n:          pairs
    difference: mean of method - baseline
    interval:   its 95 % interval (t distribution); None below two pairs or without variance
    effect:     Cohen's d of the differences (mean / sd); None without variance
    t, p:       paired t-test, two-sided; None where it is undefined, with the reason
    p_holm:     p after Holm's correction; set by `compare`
    reason:     why p is None
    """

    n: int
    difference: float
    interval: tuple[float, float] | None = None
    effect: float | None = None
    t: float | None = None
    p: float | None = None
    p_holm: float | None = None
    reason: str | None = None

    @property
    def significant(self) -> bool:
        """Whether the corrected test tells the two apart at the 5 % level."""
        return self.p_holm is not None and self.p_holm < LEVEL


def summarise(scores: Sequence[float]) -> Summary:
    """Mean, standard deviation and number of scores."""
    values = np.asarray(scores, dtype=np.float64)
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return Summary(len(values), float(values.mean()) if len(values) else math.nan, sd)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of a mean (t distribution); None below two values or without variance."""
    found = summarise(values)
    if not found.sd:
        return None
    half = float(stats.t.ppf(1 - LEVEL / 2, found.n - 1)) * found.sd / math.sqrt(found.n)
    return found.mean - half, found.mean + half


def paired(method: Mapping[int, float], baseline: Mapping[int, float]) -> Comparison:
    """Compare scores by seed; seeds that only one of them has are left out.

    Where all differences are exactly 0, p is 1. Where they are all the same but not 0, the test has
    no variance to measure against, and p is undefined.
    """
    seeds = sorted(method.keys() & baseline.keys())
    differences = np.array([method[s] - baseline[s] for s in seeds], dtype=np.float64)
    n = len(differences)
    if n == 0:
        return Comparison(0, math.nan, reason="no seed in common")
    mean = float(differences.mean())
    if n < 2:
        return Comparison(n, mean, reason=f"fewer than {MIN_PAIRS} pairs")
    if not differences.any():
        return Comparison(n, 0.0, t=0.0, p=1.0) if n >= MIN_PAIRS else _too_few(n, 0.0)
    sd = float(differences.std(ddof=1))
    if sd <= 1e-12 * abs(mean):
        return Comparison(n, mean, reason="every difference is the same: no variance")
    result = Comparison(n, mean, interval(differences.tolist()), mean / sd)
    if n < MIN_PAIRS:
        return replace(result, reason=f"fewer than {MIN_PAIRS} pairs")
    test = stats.ttest_1samp(differences, 0.0)
    return replace(result, t=float(test.statistic), p=float(test.pvalue))


def _too_few(n: int, mean: float) -> Comparison:
    return Comparison(n, mean, reason=f"fewer than {MIN_PAIRS} pairs")


def holm(p_values: Sequence[float], num_tests: int | None = None) -> list[float]:
    """Holm's step-down correction (1979), in the order given.

    num_tests: how many tests these were chosen from; None: these are all. The ranks are those among
               these, which is never less strict than among all.
    """
    count = len(p_values) if num_tests is None else num_tests
    order = np.argsort(p_values, kind="stable")
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = running
    return corrected


def compare(
    method: Mapping[int, float],
    baselines: Mapping[str, Mapping[int, float]],
    num_tests: int | None = None,
) -> dict[str, Comparison]:
    """The method against every baseline, corrected over the baselines whose test is defined.

    num_tests: how many tests these were chosen from, if there were more
    """
    return corrected({n: paired(method, scores) for n, scores in baselines.items()}, num_tests)


def corrected(
    found: Mapping[str, Comparison], num_tests: int | None = None
) -> dict[str, Comparison]:
    """Return the comparisons with `p_holm`, Holm's correction over those that have a test.

    num_tests: see `holm`
    """
    adjusted = iter(holm([c.p for c in found.values() if c.p is not None], num_tests))
    return {n: replace(c, p_holm=None if c.p is None else next(adjusted)) for n, c in found.items()}


def compare_best(best: str, scores: Mapping[str, Mapping[int, float]]) -> dict[str, Comparison]:
    """The method of the best mean against every other one, corrected over all pairs of methods.

    It was chosen by these very scores. Corrected over its own comparisons only, the best of 16
    equal methods is found better than another in 13 of 100 experiments with 5 seeds, not in 5.
    """
    others = {name: values for name, values in scores.items() if name != best}
    return compare(scores[best], others, math.comb(len(scores), 2))


def winner(scores: Mapping[str, Mapping[int, float]]) -> str | None:
    """The method that is significantly better than every other one, if there is any.

    All of its tests have to tell, so that it was chosen by its scores needs no further correction:
    of two equal methods, one would win in 5 of 100 experiments, of more in fewer.
    """
    best = max(scores, key=lambda name: summarise(list(scores[name].values())).mean, default=None)
    if best is None or len(scores) < 2:
        return None
    others = {name: values for name, values in scores.items() if name != best}
    against = compare(scores[best], others).values()
    return best if all(c.significant and c.difference > 0 for c in against) else None
