"""The inside of the simulated patients: traits, phenotypes, severity, death, and vital signs.

Traits are hidden and constant during a stay. Phenotypes are drawn from them, and so are vital
signs, apart from each other: given the traits, the vital signs tell nothing more about a phenotype.
Severity is hidden too; it wanders about a mean that the traits decide, and every hour it decides
the chances of death and of leaving. So the true risks follow from traits and severity alone.

Shapes: N stays, H full hours since admission to the unit, F traits, K phenotypes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.special import ndtr

from mimic_reg.schema import PHENOTYPES, phenotypes
from mimic_reg.simulation.parameters import Bools, Floats, Ints, parameters

_FACTS = parameters("physiology")
TRAITS: dict[str, dict[str, float]] = _FACTS["traits"]
CHRONIC = np.array([t.get("chronic", False) for t in TRAITS.values()])
EXCLUSIVE: list[list[str]] = _FACTS["exclusive"]

# --- traits and phenotypes ------------------------------------------------------------------------


def weigh(traits: Floats, weights: Mapping[str, float]) -> Floats:
    """(N,) weighted sum of traits; not by BLAS, whose last bits depend on the number of threads."""
    vector = np.array([weights.get(trait, 0.0) for trait in TRAITS])
    result: Floats = np.einsum("nf,f->n", traits, vector)
    return result


def draw_traits(age: Floats, subject: Ints, rng: np.random.Generator) -> Floats:
    """(N, F) traits of stays; chronic ones are the same for all stays of a `subject`.

    age:     in standard deviations from the mean, the same for all stays of a subject
    subject: 0, 1, ... of each stay
    """
    own = rng.normal(size=(len(age), len(TRAITS)))
    shared = rng.normal(size=(int(subject.max()) + 1, len(TRAITS)))[subject]
    correlation = np.array([t.get("age", 0.0) for t in TRAITS.values()])
    free = np.sqrt(1 - correlation**2) * np.where(CHRONIC, shared, own)
    traits: Floats = correlation * age[:, None] + free
    return traits


def phenotype_risk(traits: Floats) -> Floats:
    """(N, K) true probability of each phenotype given the traits, at the published prevalence."""
    risk: dict[str, Floats] = {}
    first_of = {second: first for first, second in EXCLUSIVE}
    for name in sorted(PHENOTYPES, key=lambda name: name in first_of):
        free = 1.0 - (risk[first_of[name]] if name in first_of else np.zeros(len(traits)))
        push = weigh(traits, _FACTS["phenotypes"][name])
        risk[name] = _at_prevalence(push, free, phenotypes()[name]["prevalence"])
    return np.stack([risk[name] for name in PHENOTYPES], axis=1)


def _at_prevalence(push: Floats, free: Floats, prevalence: float) -> Floats:
    """(N,) `free` x Phi(push - threshold), the threshold such that its mean is the prevalence."""

    def risk(threshold: float) -> Floats:
        result: Floats = free * ndtr(push - threshold)
        return result

    return risk(brentq(lambda t: risk(t).mean() - prevalence, -10, 10, xtol=1e-14))


def draw_phenotypes(risk: Floats, luck: Floats) -> Bools:
    """(N, K) which phenotypes a stay has, by uniform `luck`; exclusive pairs by the same draw."""
    drawn = luck < risk
    for pair in EXCLUSIVE:
        a, b = map(PHENOTYPES.index, pair)
        drawn[:, b] = ~drawn[:, a] & (luck[:, a] < risk[:, a] + risk[:, b])
    return drawn


# --- severity and what it decides -----------------------------------------------------------------


@dataclass(frozen=True)
class Course:
    """Rules of a hospital stay after admission to the unit.

    Severity is `mean + deviation`; the deviation is an Ornstein-Uhlenbeck process seen hourly.
    The hazard of an event, per hour, is exp(base + slope x severity).
    """

    memory_hours: float = 30.0
    spread: float = 0.9  # of the deviation in the long run
    start: tuple[float, float] = (0.5, 0.6)  # mean and spread of the deviation at admission
    death: tuple[float, float] = (-11.6, 2.4)  # base and slope
    leave_unit: tuple[float, float] = (-4.3, -0.7)
    leave_ward: tuple[float, float] = (-4.7, -0.5)
    settling_hours: int = 8  # in these nobody but one in ten leaves the unit
    settling: float = 0.1
    max_hours_in_unit: int = 480
    max_hours_on_ward: int = 360

    @property
    def persistence(self) -> float:
        """Correlation of the deviation with itself an hour before."""
        return float(np.exp(-1.0 / self.memory_hours))

    @property
    def step(self) -> float:
        """Standard deviation of the deviation given itself an hour before."""
        return float(self.spread * np.sqrt(1.0 - self.persistence**2))


COURSE = Course()


def chance(rule: tuple[float, float], severity: Floats, times: float = 1.0) -> Floats:
    """Probability of an event within an hour; `times` its hazard."""
    base, slope = rule
    return -np.expm1(-times * np.exp(base + slope * severity))


def leaving_unit(severity: Floats, hour: int) -> Floats:
    """Probability that a patient leaves the unit alive in the hour after full `hour`."""
    if hour >= COURSE.max_hours_in_unit - 1:
        return np.ones_like(severity)
    settling = hour < COURSE.settling_hours
    return chance(COURSE.leave_unit, severity, COURSE.settling if settling else 1.0)


def mean_severity(traits: Floats, age: Floats, rng: np.random.Generator) -> Floats:
    """(N,) mean severity of stays."""
    weights = {name: trait.get("severity", 0.0) for name, trait in TRAITS.items()}
    others = _FACTS["severity"]
    return weigh(traits, weights) + others["age"] * age + others["own"] * rng.normal(size=len(age))


def simulate(mean: Floats, rng: np.random.Generator, start: Floats | None = None) -> pl.DataFrame:
    """Run every stay, hour by hour, until the patient left the hospital or died.

    Args:
        mean: (N,) mean severity.
        rng: of everything random.
        start: (N,) the deviation at admission; drawn if None.

    Returns:
        N rows, times in hours since admission to the unit: `mean`; `severity`, (H,) at full hours,
        also after the stay's end; `unit_hours`, when the patient left the unit, or died in it;
        `hours`, when the patient left the hospital, or died; `died`, in the hospital.
    """
    num, rules = len(mean), COURSE
    deviation = rng.normal(*rules.start, size=num) if start is None else start
    severity = np.zeros((num, rules.max_hours_in_unit + 4), np.float32)
    unit_hours, hours, died = np.full(num, np.inf), np.full(num, np.inf), np.zeros(num, bool)
    for hour in range(rules.max_hours_in_unit + rules.max_hours_on_ward + 1):
        now = mean + deviation
        if hour < severity.shape[1]:
            severity[:, hour] = now
        elif not np.isinf(hours).any():
            break
        moment = hour + rng.uniform(0.1, 1.0, num)
        death, leaving = rng.random(num), rng.random(num)
        in_unit, present = np.isinf(unit_hours), np.isinf(hours)
        discharged = hour - unit_hours >= rules.max_hours_on_ward - 1
        leaving_ward = np.where(discharged, 1.0, chance(rules.leave_ward, now))
        dies = present & (death < chance(rules.death, now))
        leaves = leaving < np.where(in_unit, leaving_unit(now, hour), leaving_ward)
        leaves &= present & ~dies
        died |= dies
        unit_hours = np.where(in_unit & (dies | leaves), moment, unit_hours)
        hours = np.where(dies | (leaves & ~in_unit), moment, hours)
        deviation = rules.persistence * deviation + rules.step * rng.normal(size=num)
    columns = {"mean": mean, "unit_hours": unit_hours, "hours": hours, "died": died}
    return pl.DataFrame({**columns, "severity": severity})


# --- vital signs ----------------------------------------------------------------------------------

_DRIFT_MEMORY_HOURS = 8.0
_AFTER_OPERATION_HOURS = 10.0  # then patients are no longer cold and ventilated


@dataclass(frozen=True)
class Vital:
    """A vital sign; `resources/physiology.yaml` tells what its numbers mean."""

    level: float
    severity: float
    own: float
    drift: float
    noise: float
    limits: tuple[float, float]
    traits: Mapping[str, float]
    unsteady: Mapping[str, float] = field(default_factory=dict)
    after_operation: float = 0.0


VITALS = {name: Vital(**facts) for name, facts in _FACTS["vitals"].items()}


class VitalSigns:
    """The vital signs of some stays, at any hour."""

    def __init__(
        self, traits: Floats, severity: NDArray[np.float32], rng: np.random.Generator
    ) -> None:
        self._rng = rng
        self._unsteadiness = {n: np.exp(weigh(traits, v.unsteady)) for n, v in VITALS.items()}
        self._paths = {name: self._path(name, traits, severity) for name in VITALS}

    def _path(
        self, name: str, traits: Floats, severity: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(N, H) at full hours, without a measurement's noise."""
        vital = VITALS[name]
        num, hours = severity.shape
        mean = vital.level + weigh(traits, vital.traits) + vital.own * self._rng.normal(size=num)
        path = mean[:, None] + vital.severity * severity
        operated = np.maximum(traits[:, list(TRAITS).index("surgical")], 0)
        decay = np.exp(-np.arange(hours) / _AFTER_OPERATION_HOURS)
        path += vital.after_operation * operated[:, None] * decay
        spread = vital.drift * self._unsteadiness[name]
        path += spread[:, None] * self._wandering(num, hours)
        return path.astype(np.float32)

    def _wandering(self, num: int, hours: int) -> Floats:
        """(N, H) first-order autoregression of unit variance."""
        persistence = np.exp(-1.0 / _DRIFT_MEMORY_HOURS)
        steps = self._rng.normal(size=(hours, num)) * np.sqrt(1 - persistence**2)
        steps[0] = self._rng.normal(size=num)
        path: Floats = lfilter([1.0], [1.0, -persistence], steps, axis=0).T
        return path

    def measure(self, name: str, stay: Ints, hours: Floats) -> Floats:
        """Values of the vital sign `name` at `hours` (any, also before 0) of `stay` (0, 1, ...)."""
        vital, path = VITALS[name], self._paths[name]
        position = np.clip(hours, 0, path.shape[1] - 1.001)
        hour = position.astype(np.int64)
        share = position - hour
        value = (1 - share) * path[stay, hour] + share * path[stay, hour + 1]
        noise = self._rng.normal(size=len(stay)) * vital.noise
        return np.clip(value + noise * self._unsteadiness[name][stay], *vital.limits)
