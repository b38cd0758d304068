"""The hidden state of simulated patients, and their phenotypes, deaths and vital signs.

Traits are constant during a stay. They decide the probabilities of the phenotypes and shift the
vital signs. Given the traits, vital signs tell nothing more about a phenotype. Severity varies from
hour to hour around a mean that traits and age decide; every hour it decides the chances of death
and of leaving. So the true risks follow from traits and severity alone.

Shapes: N stays, H full hours since admission to the unit, F traits, K phenotypes.
"""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.special import ndtr

from mimic_reg.clinical.schema import PHENOTYPES, phenotypes
from mimic_reg.simulation.parameters import Bools, Floats, Ints, parameters

_FACTS = parameters("physiology")
TRAITS: dict[str, dict[str, float]] = _FACTS["traits"]
CHRONIC = np.array([t.get("chronic", False) for t in TRAITS.values()])
EXCLUSIVE: list[list[str]] = _FACTS["exclusive"]
VITALS: dict[str, dict[str, Any]] = _FACTS["vitals"]
COURSE = SimpleNamespace(**_FACTS["course"])
# The deviation of severity: its correlation with the hour before, and its spread given that hour.
PERSISTENCE = float(np.exp(-1.0 / COURSE.memory_hours))
STEP = float(COURSE.spread * np.sqrt(1.0 - PERSISTENCE**2))

# --- traits and phenotypes ------------------------------------------------------------------------


def weigh(traits: Floats, weights: Mapping[str, float]) -> Floats:
    """Return the (N,) weighted sum of traits."""
    vector = np.array([weights.get(trait, 0.0) for trait in TRAITS])
    # Not by BLAS, whose last bits depend on the number of threads.
    return np.einsum("nf,f->n", traits, vector)


def draw_traits(age: Floats, subject: Ints, rng: np.random.Generator) -> Floats:
    """Return (N, F) traits of stays; chronic ones are the same for all stays of a `subject`.

    age:     in standard deviations from the mean, the same for all stays of a subject
    subject: 0, 1, ... of each stay
    """
    own = rng.normal(size=(len(age), len(TRAITS)))
    shared = rng.normal(size=(int(subject.max()) + 1, len(TRAITS)))[subject]
    correlation = np.array([t.get("age", 0.0) for t in TRAITS.values()])
    free = np.sqrt(1 - correlation**2) * np.where(CHRONIC, shared, own)
    return correlation * age[:, None] + free


def phenotype_risk(traits: Floats) -> Floats:
    """Return (N, K) probabilities of the phenotypes; their means are the published prevalences."""
    risk: dict[str, Floats] = {}
    first_of = {second: first for first, second in EXCLUSIVE}
    for name in sorted(PHENOTYPES, key=lambda name: name in first_of):
        free = 1.0 - (risk[first_of[name]] if name in first_of else np.zeros(len(traits)))
        push = weigh(traits, _FACTS["phenotypes"][name])
        threshold = _threshold(push, free, phenotypes()[name]["prevalence"])
        risk[name] = free * ndtr(push - threshold)
    return np.stack([risk[name] for name in PHENOTYPES], axis=1)


def _threshold(push: Floats, free: Floats, prevalence: float) -> Any:
    """Return the threshold at which the mean of `free` x Phi(push - threshold) is `prevalence`."""
    return brentq(lambda t: (free * ndtr(push - t)).mean() - prevalence, -10, 10, xtol=1e-14)


def draw_phenotypes(risk: Floats, luck: Floats) -> Bools:
    """Return (N, K) which phenotypes a stay has, by uniform `luck`; an exclusive pair shares it."""
    drawn = luck < risk
    for pair in EXCLUSIVE:
        a, b = map(PHENOTYPES.index, pair)
        drawn[:, b] = ~drawn[:, a] & (luck[:, a] < risk[:, a] + risk[:, b])
    return drawn


# --- severity and what it decides -----------------------------------------------------------------


def chance(rule: Sequence[float], severity: Floats, times: float = 1.0) -> Floats:
    """Return the probability of an event within an hour; `times` multiplies its hazard."""
    base, slope = rule
    return -np.expm1(-times * np.exp(base + slope * severity))


def leaving_unit(severity: Floats, hour: int) -> Floats:
    """Return the probability that a patient leaves the unit alive in the hour after full `hour`."""
    if hour >= COURSE.max_hours_in_unit - 1:
        return np.ones_like(severity)
    settling = COURSE.settling if hour < COURSE.settling_hours else 1.0
    return chance(COURSE.leave_unit, severity, settling)


def mean_severity(traits: Floats, age: Floats, rng: np.random.Generator) -> Floats:
    """Return the (N,) mean severity of stays."""
    weights = {name: trait.get("severity", 0.0) for name, trait in TRAITS.items()}
    others = _FACTS["severity"]
    own = others["own"] * rng.normal(size=len(age))
    return weigh(traits, weights) + others["age"] * age + own


def simulate(mean: Floats, rng: np.random.Generator, start: Floats | None = None) -> pl.DataFrame:
    """Run every stay, hour by hour, until the patient leaves the hospital or dies.

    mean:  (N,) mean severity
    rng:   draws everything random
    start: (N,) the deviation at admission; drawn if None

    Returns:
        N rows, with times in hours since admission to the unit: `mean`; `severity`, (H,) at full
        hours, also after the stay; `unit_hours`, when the patient left the unit or died in it;
        `hours`, when the patient left the hospital or died; `died`, in the hospital.
    """
    num, rules = len(mean), COURSE
    deviation = start if start is not None else rng.normal(rules.start[0], rules.start[1], num)
    severity = np.zeros((num, rules.max_hours_in_unit + 4), np.float32)
    unit_hours, hours, died = np.full(num, np.inf), np.full(num, np.inf), np.zeros(num, bool)
    for hour in range(rules.max_hours_in_unit + rules.max_hours_on_ward + 1):
        now = mean + deviation
        if hour < severity.shape[1]:
            severity[:, hour] = now
        elif not np.isinf(hours).any():
            break
        moment = hour + rng.uniform(0.1, 1.0, num)
        death, leaving = rng.random((2, num))
        in_unit, present = np.isinf(unit_hours), np.isinf(hours)
        discharged = hour - unit_hours >= rules.max_hours_on_ward - 1
        leaving_ward = np.where(discharged, 1.0, chance(rules.leave_ward, now))
        dies = present & (death < chance(rules.death, now))
        leaves = leaving < np.where(in_unit, leaving_unit(now, hour), leaving_ward)
        leaves &= present & ~dies
        died |= dies
        unit_hours = np.where(in_unit & (dies | leaves), moment, unit_hours)
        hours = np.where(dies | (leaves & ~in_unit), moment, hours)
        deviation = PERSISTENCE * deviation + STEP * rng.normal(size=num)
    columns = {"mean": mean, "unit_hours": unit_hours, "hours": hours, "died": died}
    return pl.DataFrame({**columns, "severity": severity})


# --- vital signs ----------------------------------------------------------------------------------

_DRIFT_MEMORY_HOURS = 8.0
_AFTER_OPERATION_HOURS = 10.0  # the time constant of cold and ventilation after an operation


class VitalSigns:
    """The vital signs of some stays, at any hour."""

    def __init__(
        self, traits: Floats, severity: NDArray[np.float32], rng: np.random.Generator
    ) -> None:
        self._traits, self._severity, self._rng = traits, severity, rng
        self._unsteadiness = {
            n: np.exp(weigh(traits, v.get("unsteady", {}))) for n, v in VITALS.items()
        }
        self._paths = {name: self._path(name) for name in VITALS}

    def _path(self, name: str) -> NDArray[np.float32]:
        """Return (N, H) values at full hours, without the noise of a measurement."""
        vital, (num, hours) = VITALS[name], self._severity.shape
        own, steps, first = np.split(self._rng.normal(size=(hours + 2, num)), [1, hours + 1])
        mean = vital["level"] + weigh(self._traits, vital["traits"]) + vital["own"] * own[0]
        path: Floats = mean[:, None] + vital["severity"] * self._severity
        operated = np.maximum(self._traits[:, list(TRAITS).index("surgical")], 0)
        decay = np.exp(-np.arange(hours) / _AFTER_OPERATION_HOURS)
        path += vital.get("after_operation", 0.0) * operated[:, None] * decay
        # The drift is a first-order autoregression of unit variance.
        persistence = np.exp(-1.0 / _DRIFT_MEMORY_HOURS)
        steps = np.vstack([first, steps[1:] * np.sqrt(1 - persistence**2)])
        wandering = lfilter([1.0], [1.0, -persistence], steps, axis=0).T
        path += (vital["drift"] * self._unsteadiness[name])[:, None] * wandering
        return path.astype(np.float32)

    def measure(self, name: str, stay: Ints, hours: Floats) -> Floats:
        """Return values of the vital sign `name` at `hours` of `stay` (0, 1, ...).

        An hour outside the path, such as one before 0, has the value at the path's end.
        """
        vital, path = VITALS[name], self._paths[name]
        position = np.clip(hours, 0, path.shape[1] - 1.001)
        hour = position.astype(np.int64)
        share = position - hour
        value = (1 - share) * path[stay, hour] + share * path[stay, hour + 1]
        noise = self._rng.normal(size=len(stay)) * vital["noise"]
        value += noise * self._unsteadiness[name][stay]
        low, high = vital["limits"]
        return np.clip(value, low, high)
