"""Is one method better than another? Paired tests over seeds, corrected for their number.

Trials with the same task, model, supervision level, seed and fold are a pair: they have the same
initial weights and batches, and different methods. The test is a two-sided paired t-test with at
least three pairs, with Holm's correction over the baselines of a method. In a cross-validation the
pairs of a fold count as one, their mean, and the variance is corrected: see `folds`. Wilcoxon's
signed-rank test beside it assumes no normal distribution; with five seeds its p is never below
0.0625. It has no correction for folds, so it is not made for them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from mimic_reg.metrics.folds import Repeat, by_fold, num_folds, standard_error

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
    """A method compared with a baseline, over the seeds that both have.

    n:          pairs; folds with a pair, in a cross-validation
    difference: mean of method - baseline
    interval:   its 95 % interval (t distribution); None below two pairs or without variance
    effect:     Cohen's d of the differences (mean / sd); None without variance
    t, p:       two-sided paired t-test; None if undefined, see `reason`
    p_holm:     p after Holm's correction; set by `compare`
    wilcoxon, wilcoxon_holm: p of Wilcoxon's signed-rank test, and after Holm's correction
    reason:     why p is None
    """

    n: int
    difference: float
    interval: tuple[float, float] | None = None
    effect: float | None = None
    t: float | None = None
    p: float | None = None
    p_holm: float | None = None
    wilcoxon: float | None = None
    wilcoxon_holm: float | None = None
    reason: str | None = None

    @property
    def significant(self) -> bool:
        """Return whether the corrected test is significant at the 5 % level."""
        return self.p_holm is not None and self.p_holm < LEVEL


def summarise(scores: Sequence[float]) -> Summary:
    """Return mean, standard deviation and number of scores."""
    values = np.asarray(scores, dtype=np.float64)
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return Summary(len(values), float(values.mean()) if len(values) else math.nan, sd)


def interval(values: Sequence[float], folds: int | None = None) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean (t distribution); None without variance.

    folds: see `folds.standard_error`
    """
    found = summarise(values)
    if not found.sd:
        return None
    error = standard_error(np.asarray(values, dtype=np.float64), folds)
    half = float(stats.t.ppf(1 - LEVEL / 2, found.n - 1)) * error
    return found.mean - half, found.mean + half


def paired(method: Mapping[Repeat, float], baseline: Mapping[Repeat, float]) -> Comparison:
    """Compare scores by seed and fold; those that only one of them has are left out.

    If all differences are exactly 0, p is 1. If they are all equal but not 0, there is no variance
    and p is undefined.
    """
    common = method.keys() & baseline.keys()
    folds = num_folds(common)
    by_pair = by_fold({r: method[r] - baseline[r] for r in common})
    differences = np.array(list(by_pair.values()), dtype=np.float64)
    n = len(differences)
    if n == 0:
        return Comparison(0, math.nan, reason="no seed in common")
    mean = float(differences.mean())
    if n < 2:
        return _too_few(n, mean, folds)
    if not differences.any():
        none = 1.0 if folds is None else None
        same = Comparison(n, 0.0, t=0.0, p=1.0, wilcoxon=none)
        return same if n >= MIN_PAIRS else _too_few(n, 0.0, folds)
    sd = float(differences.std(ddof=1))
    if sd <= 1e-12 * abs(mean):
        return Comparison(n, mean, reason="every difference is the same: no variance")
    result = Comparison(n, mean, interval(differences.tolist(), folds), mean / sd)
    if n < MIN_PAIRS:
        return replace(result, reason=_too_few(n, mean, folds).reason)
    t = mean / standard_error(differences, folds)
    ranked = float(stats.wilcoxon(differences).pvalue) if folds is None else None
    return replace(result, t=t, p=float(2 * stats.t.sf(abs(t), n - 1)), wilcoxon=ranked)


def _too_few(n: int, mean: float, folds: int | None) -> Comparison:
    what = "pairs" if folds is None else "folds with a pair"
    return Comparison(n, mean, reason=f"fewer than {MIN_PAIRS} {what}")


def holm(p_values: Sequence[float], num_tests: int | None = None) -> list[float]:
    """Return p values after Holm's step-down correction (1979), in the given order.

    num_tests: number of tests from which these were chosen; None if these are all. Ranks are among
               these, which is at least as strict as ranks among all.
    """
    count = len(p_values) if num_tests is None else num_tests
    order = np.argsort(p_values, kind="stable")
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = running
    return corrected


def compare(
    method: Mapping[Repeat, float],
    baselines: Mapping[str, Mapping[Repeat, float]],
    num_tests: int | None = None,
) -> dict[str, Comparison]:
    """Return the method's comparison with every baseline, corrected over the defined tests.

    num_tests: see `holm`
    """
    return corrected({n: paired(method, scores) for n, scores in baselines.items()}, num_tests)


def corrected(
    found: Mapping[str, Comparison], num_tests: int | None = None
) -> dict[str, Comparison]:
    """Return the comparisons with Holm's correction of each test over those that have it.

    num_tests: see `holm`
    """
    t = holm_defined([c.p for c in found.values()], num_tests)
    ranked = holm_defined([c.wilcoxon for c in found.values()], num_tests)
    return {
        name: replace(c, p_holm=p, wilcoxon_holm=w)
        for (name, c), p, w in zip(found.items(), t, ranked, strict=True)
    }


def holm_defined(
    p_values: Sequence[float | None], num_tests: int | None = None
) -> list[float | None]:
    """Return `holm` of the tests that are defined, and None in the place of the others."""
    adjusted = iter(holm([p for p in p_values if p is not None], num_tests))
    return [None if p is None else next(adjusted) for p in p_values]


def compare_best(best: str, scores: Mapping[str, Mapping[Repeat, float]]) -> dict[str, Comparison]:
    """Return the comparisons of the method with the best mean, corrected over all pairs of methods.

    These scores were also used to choose the method. With a correction over its own comparisons
    only, the best of 16 equal methods is found better than another in 13 of 100 experiments with 5
    seeds, not in 5.
    """
    others = {name: values for name, values in scores.items() if name != best}
    return compare(scores[best], others, math.comb(len(scores), 2))


def winner(scores: Mapping[str, Mapping[Repeat, float]]) -> str | None:
    """Return the method that is significantly better than every other one, if there is any.

    All of its tests must be significant, so choosing it by its scores needs no further correction:
    of two equal methods, one wins in 5 of 100 experiments; of more methods, in fewer.
    """
    best = max(
        scores, key=lambda name: summarise(list(by_fold(scores[name]).values())).mean, default=None
    )
    if best is None or len(scores) < 2:
        return None
    others = {name: values for name, values in scores.items() if name != best}
    against = compare(scores[best], others).values()
    return best if all(c.significant and c.difference > 0 for c in against) else None
