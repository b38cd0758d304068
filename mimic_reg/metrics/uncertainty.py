"""One interval for two sources of chance, and what it would take to make it narrower.

A mean over seeds would differ with other seeds, and with other test subjects. All seeds share their
test subjects, so the variances of the two add:

    Var(mean) = s^2 / n + e^2

s is the standard deviation over n seeds, and e the standard error over test subjects of the mean,
from a bootstrap or from DeLong. The interval has Student's t with the degrees of freedom of
Satterthwaite (Biometrics Bulletin 2, 1946). With two or three seeds these are often too many, so
the interval is never narrower than that over seeds alone. Both terms contain the chance of a seed
on a subject, which makes it slightly too wide rather than too narrow.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Combined:
    """The 95 % interval of a mean over seeds, for other seeds and other test subjects.

    seeds, subjects: the two standard errors
    freedom:         degrees of freedom of the t distribution
    """

    low: float
    high: float
    seeds: float
    subjects: float
    freedom: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Return both ends."""
        return self.low, self.high


def combined(values: Sequence[float], error: float, num_subjects: int) -> Combined | None:
    """Return the interval of the mean of values, one a seed; None for one seed.

    error: standard error of the mean over test subjects; num_subjects: how many there are
    """
    n = len(values)
    if n < 2 or num_subjects < 2 or not math.isfinite(error):
        return None
    mean, of_seeds = float(np.mean(values)), float(np.var(values, ddof=1)) / n
    total = of_seeds + error**2
    if not total:
        return None
    freedom = total**2 / (of_seeds**2 / (n - 1) + error**4 / (num_subjects - 1))
    half = max(
        float(stats.t.ppf(1 - LEVEL / 2, freedom)) * math.sqrt(total),
        float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * math.sqrt(of_seeds),
    )
    return Combined(mean - half, mean + half, math.sqrt(of_seeds), error, freedom)


def power(delta: float, sd: float, n: int) -> float:
    """Return how often a two-sided paired t-test of n seeds finds a true difference of delta.

    sd: standard deviation of the differences over seeds
    """
    shift, bound = abs(delta) / sd * math.sqrt(n), float(stats.t.ppf(1 - LEVEL / 2, n - 1))
    found = stats.nct.sf(bound, n - 1, shift) + stats.nct.cdf(-bound, n - 1, shift)
    return float(found) if math.isfinite(found) else 1.0


def seeds_needed(delta: float, sd: float) -> int | None:
    """Return the fewest seeds with which a paired t-test has `POWER`; None above `MOST_SEEDS`.

    As many as `comparison.MIN_PAIRS` are needed at least.
    """
    if not sd:
        return 3
    numbers = range(3, MOST_SEEDS + 1)
    place = bisect_left(numbers, POWER, key=lambda n: power(delta, sd, n))
    return numbers[place] if place < len(numbers) else None


def subjects_needed(delta: float, error: float, num_subjects: int) -> int:
    """Return with how many test subjects a difference of delta is found with `POWER`.

    error: standard error with `num_subjects`; it shrinks with the square root of their number
    """
    wide = float(stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER))
    return max(2, math.ceil(num_subjects * (wide * error / delta) ** 2))
