"""The inside of the simulated patients: traits, severity, death, vital signs, and the true risks.

Traits are hidden and constant during a stay. Phenotypes are drawn from them, and so are vital
signs, apart from each other: given the traits, the vital signs tell nothing more about a phenotype.
Severity is hidden too; it wanders about a mean that the traits decide, and every hour it decides
the chances of death and of leaving. So the true risks follow from traits and severity alone.

Shapes: N stays, H full hours since admission to the unit, F traits, K phenotypes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.special import expit, logit, ndtr

from mimic_reg.schema import PHENOTYPES, phenotypes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Trait:
    """A hidden trait: standard normal over the stays.

    chronic:  the same at all admissions of a subject
    age:      correlation with age
    severity: what one unit adds to the stay's mean severity
    """

    chronic: bool = False
    age: float = 0.0
    severity: float = 0.0


TRAITS = {
    "vascular": Trait(chronic=True, age=0.4),  # stiff arteries
    "glycaemic": Trait(chronic=True),  # high and unsteady glucose
    "cardiac": Trait(chronic=True, age=0.3, severity=0.17),  # a weak pump
    "airway": Trait(chronic=True, age=0.2, severity=0.08),  # obstructed lungs
    "renal": Trait(chronic=True, age=0.2, severity=0.21),
    "hepatic": Trait(chronic=True, severity=0.25),
    "rhythm": Trait(chronic=True, age=0.4),  # an irregular heart
    "pacing": Trait(chronic=True, age=0.3),  # a slow and even one
    "tracheal": Trait(severity=0.04),
    "inflammation": Trait(severity=0.30),
    "perfusion": Trait(severity=0.42),  # its failure
    "gas_exchange": Trait(severity=0.38),  # its failure
    "neurological": Trait(severity=0.38),
    "metabolic": Trait(severity=0.17),
    "bleeding": Trait(severity=0.13),
    "surgical": Trait(severity=-0.08),
}
CHRONIC = np.array([t.chronic for t in TRAITS.values()])
SEVERITY_OF_AGE = 0.30
SEVERITY_OF_ITS_OWN = 0.38

# What the traits add to a phenotype's probit; its level is set by its prevalence.
PHENOTYPE_TRAITS = {
    "Acute and unspecified renal failure": {"renal": 0.6, "perfusion": 0.43, "metabolic": 0.34},
    "Acute cerebrovascular disease": {"neurological": 1.28, "vascular": 0.34},
    "Acute myocardial infarction": {"cardiac": 0.68, "perfusion": 0.34, "vascular": 0.26},
    "Cardiac dysrhythmias": {"rhythm": 0.85, "cardiac": 0.26},
    "Chronic kidney disease": {"renal": 0.94, "vascular": 0.26},
    "Chronic obstructive pulmonary disease and bronchiectasis": {"airway": 0.77},
    "Complications of surgical procedures or medical care": {"surgical": 0.51, "bleeding": 0.34},
    "Conduction disorders": {"pacing": 0.68, "cardiac": 0.17},
    "Congestive heart failure; nonhypertensive": {"cardiac": 0.85, "airway": 0.17, "renal": 0.17},
    "Coronary atherosclerosis and other heart disease": {
        **{"vascular": 0.51, "cardiac": 0.43, "surgical": 0.43}
    },
    "Diabetes mellitus with complications": {"glycaemic": 1.02, "renal": 0.43},
    "Diabetes mellitus without complication": {"glycaemic": 0.85},
    "Disorders of lipid metabolism": {"vascular": 0.51, "glycaemic": 0.34, "surgical": 0.17},
    "Essential hypertension": {"vascular": 0.68},
    "Fluid and electrolyte disorders": {"metabolic": 0.68, "renal": 0.17, "inflammation": 0.17},
    "Gastrointestinal hemorrhage": {"bleeding": 0.85, "hepatic": 0.34},
    "Hypertension with complications and secondary hypertension": {"renal": 0.85, "vascular": 0.51},
    "Other liver diseases": {"hepatic": 1.02, "bleeding": 0.17},
    "Other lower respiratory disease": {"airway": 0.43, "gas_exchange": 0.34},
    "Other upper respiratory disease": {"tracheal": 0.85},
    "Pleurisy; pneumothorax; pulmonary collapse": {"gas_exchange": 0.43, "surgical": 0.43},
    "Pneumonia (except that caused by tuberculosis or sexually transmitted disease)": {
        **{"inflammation": 0.6, "gas_exchange": 0.6, "airway": 0.17}
    },
    "Respiratory failure; insufficiency; arrest (adult)": {
        **{"gas_exchange": 1.19, "airway": 0.26, "tracheal": 0.17}
    },
    "Septicemia (except in labor)": {"inflammation": 1.02, "perfusion": 0.51},
    "Shock": {"perfusion": 1.28, "inflammation": 0.43},
}
# The first of a pair rules out the second: a coder gives one or the other.
EXCLUSIVE = (
    ("Diabetes mellitus with complications", "Diabetes mellitus without complication"),
    ("Hypertension with complications and secondary hypertension", "Essential hypertension"),
)


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
    free = np.where(CHRONIC, shared, own)
    correlation = np.array([t.age for t in TRAITS.values()])
    traits: Floats = correlation * age[:, None] + np.sqrt(1 - correlation**2) * free
    return traits


def phenotype_risk(traits: Floats) -> Floats:
    """(N, K) true probability of each phenotype given the traits, at the published prevalence."""
    risk: dict[str, Floats] = {}
    after = [second for _, second in EXCLUSIVE]
    for name in sorted(PHENOTYPES, key=lambda n: n in after):
        push = weigh(traits, PHENOTYPE_TRAITS[name])
        rivals = [risk[first] for first, second in EXCLUSIVE if second == name]
        free = 1.0 - sum(rivals, np.zeros(len(traits)))
        threshold = _threshold(push, free, phenotypes()[name]["prevalence"])
        risk[name] = free * ndtr(push - threshold)
    return np.stack([risk[name] for name in PHENOTYPES], axis=1)


def _threshold(push: Floats, free: Floats, prevalence: float) -> float:
    """Where the mean of `free` x Phi(push - threshold) is the prevalence (by bisection)."""
    low, high = -10.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        if (free * ndtr(push - middle)).mean() > prevalence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def draw_phenotypes(risk: Floats, luck: Floats) -> Bools:
    """(N, K) which phenotypes a stay has, by uniform `luck`; exclusive pairs by the same draw."""
    drawn = luck < risk
    for first, second in EXCLUSIVE:
        a, b = PHENOTYPES.index(first), PHENOTYPES.index(second)
        drawn[:, b] = (luck[:, a] >= risk[:, a]) & (luck[:, a] < risk[:, a] + risk[:, b])
    return drawn


# --- severity and what it decides -----------------------------------------------------------------


@dataclass(frozen=True)
class Course:
    """Rules of a hospital stay after admission to the unit; hazards are per hour.

    Severity is `mean + deviation`; the deviation is an Ornstein-Uhlenbeck process seen hourly.
    A hazard is exp(base + slope x severity).
    """

    memory_hours: float = 30.0
    spread: float = 0.9  # of the deviation in the long run
    start: tuple[float, float] = (0.5, 0.6)  # mean and spread of the deviation at admission
    death: tuple[float, float] = (-11.6, 2.4)
    death_on_ward: float = 1.0  # times the hazard in the unit
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


def _chance(rule: tuple[float, float], severity: Floats, times: Floats | float = 1.0) -> Floats:
    """Probability of an event within an hour."""
    base, slope = rule
    return -np.expm1(-times * np.exp(base + slope * severity))


@dataclass(frozen=True)
class Hospital:
    """What became of N stays; times in hours since admission to the unit.

    mean:       (N,) mean severity
    severity:   (N, H) at full hours, also after the stay's end
    unit_hours: (N,) when the patient left the unit, or died in it
    hours:      (N,) when the patient left the hospital, or died
    died:       (N,) in the hospital
    """

    mean: Floats
    severity: NDArray[np.float32]
    unit_hours: Floats
    hours: Floats
    died: Bools


def mean_severity(traits: Floats, age: Floats, rng: np.random.Generator) -> Floats:
    """(N,) mean severity of stays."""
    of_traits = weigh(traits, {name: trait.severity for name, trait in TRAITS.items()})
    own = SEVERITY_OF_ITS_OWN * rng.normal(size=len(age))
    return of_traits + SEVERITY_OF_AGE * age + own


def simulate(mean: Floats, rng: np.random.Generator, start: Floats | None = None) -> Hospital:
    """Run every stay, hour by hour, until the patient left the hospital or died.

    start: the deviation at admission; drawn if None
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
        last_hour = hour - unit_hours >= rules.max_hours_on_ward - 1
        dies = present & (death < _dying(now, in_unit))
        chance = np.where(in_unit, _leaving_unit(now, hour), _leaving_ward(now, last_hour))
        leaves = present & ~dies & (leaving < chance)
        died |= dies
        unit_hours = np.where(in_unit & (dies | leaves), moment, unit_hours)
        hours = np.where(dies | (leaves & ~in_unit), moment, hours)
        deviation = rules.persistence * deviation + rules.step * rng.normal(size=num)
    return Hospital(mean, severity, unit_hours, hours, died)


def _dying(severity: Floats, in_unit: Bools | bool) -> Floats:
    return _chance(COURSE.death, severity, np.where(in_unit, 1.0, COURSE.death_on_ward))


def _leaving_unit(severity: Floats, hour: int) -> Floats:
    if hour >= COURSE.max_hours_in_unit - 1:
        return np.ones_like(severity)
    times = COURSE.settling if hour < COURSE.settling_hours else 1.0
    return _chance(COURSE.leave_unit, severity, times)


def _leaving_ward(severity: Floats, last_hour: Bools | bool) -> Floats:
    return np.where(last_hour, 1.0, _chance(COURSE.leave_ward, severity))


class TrueRisk:
    """Probabilities of death given the present severity and its mean, for patients in the unit.

    Not estimated: the hourly rules of `Course` are followed backward in time, on a grid of mean
    and deviation, between which the log-odds are interpolated.
    """

    HORIZON = 24

    def __init__(self) -> None:
        self._means = np.linspace(-5.5, 5.5, 56)
        self._deviations = np.linspace(-4.5, 5.5, 91)
        self._severity = self._means[:, None] + self._deviations
        steps = self._deviations[:, None] * COURSE.persistence - self._deviations
        density = np.exp(-0.5 * (steps / COURSE.step) ** 2)
        self._next = density / density.sum(1, keepdims=True)
        self._tables: dict[int, RegularGridInterpolator] = {}

    def _expected(self, value: Floats) -> Floats:
        """Expectation of next hour's value."""
        result: Floats = value @ self._next.T
        return result

    def _in_unit(self, later_unit: Floats, later_ward: Floats, hour: int) -> Floats:
        """The value in the unit, by next hour's values there and on the ward."""
        dies, leaves = _dying(self._severity, True), _leaving_unit(self._severity, hour)
        lives_on = leaves * self._expected(later_ward)
        lives_on += (1 - leaves) * self._expected(later_unit)
        return dies + (1 - dies) * lives_on

    def _on_ward(self, later: Floats) -> Floats:
        dies, leaves = _dying(self._severity, False), _leaving_ward(self._severity, False)
        return dies + (1 - dies) * (1 - leaves) * self._expected(later)

    def in_hospital(self, mean: Floats, severity: Floats, hour: int) -> Floats:
        """Probability of death in hospital, for patients in the unit at full `hour`."""
        ward = np.zeros_like(self._severity)
        for _ in range(COURSE.max_hours_on_ward):
            ward = self._on_ward(ward)
        unit = ward
        for later in range(COURSE.max_hours_in_unit - 1, hour - 1, -1):
            unit = self._in_unit(unit, ward, later)
        return self._at(self._interpolator(unit), mean, severity)

    def within_24_hours(self, mean: Floats, severity: Floats, hour: Ints) -> Floats:
        """Probability of death within 24 hours, in hospital, for patients in the unit at `hour`."""
        risk = np.empty(len(mean))
        settled = np.minimum(hour, COURSE.settling_hours)
        for start in np.unique(settled):
            if start not in self._tables:
                self._tables[start] = self._soon(int(start))
            here = settled == start
            risk[here] = self._at(self._tables[start], mean[here], severity[here])
        return risk

    def _soon(self, start: int) -> RegularGridInterpolator:
        unit = ward = np.zeros_like(self._severity)
        for later in range(start + self.HORIZON - 1, start - 1, -1):
            unit, ward = self._in_unit(unit, ward, later), self._on_ward(ward)
        return self._interpolator(unit)

    def _interpolator(self, value: Floats) -> RegularGridInterpolator:
        grid = (self._means, self._deviations)
        return RegularGridInterpolator(grid, logit(np.clip(value, 1e-15, 1 - 1e-15)))

    def _at(self, table: RegularGridInterpolator, mean: Floats, severity: Floats) -> Floats:
        deviation = np.clip(severity - mean, self._deviations[0], self._deviations[-1])
        points = np.column_stack([np.clip(mean, self._means[0], self._means[-1]), deviation])
        risk: Floats = expit(table(points))
        return risk


# --- vital signs ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vital:
    """A vital sign: level + severity x (severity) + traits + what is the stay's own + noise.

    own:      spread between stays, constant during a stay
    drift:    spread of a wandering of its own, with a memory of `DRIFT_HOURS`
    noise:    spread of a single measurement
    low/high: limits of what is charted
    """

    level: float
    own: float
    drift: float
    noise: float
    low: float
    high: float
    severity: float
    traits: Mapping[str, float] = field(default_factory=dict)


DRIFT_HOURS = 8.0
VITALS = {
    "heart_rate": Vital(
        *(84, 5, 4, 2.5, 25, 210, 6.0),
        {"inflammation": 6, "perfusion": 4, "rhythm": 4, "cardiac": 4, "bleeding": 6, "pacing": -9},
    ),
    "systolic": Vital(
        *(122, 5, 5, 4, 40, 250, -7.0),
        {"vascular": 12, "perfusion": -8, "cardiac": -5, "neurological": 3, "renal": 6},
    ),
    "diastolic": Vital(
        *(61.5, 3.5, 3, 2.5, 18, 140, -3.0),
        {"vascular": -1, "perfusion": -4, "hepatic": -6, "bleeding": -4, "cardiac": 4},
    ),
    "respiratory_rate": Vital(
        *(18.5, 1.3, 1.5, 1.2, 5, 60, 2.0),
        {"gas_exchange": 1.5, "airway": 1.5, "inflammation": 1.2, "metabolic": 2.5, "cardiac": 1.0},
    ),
    "saturation": Vital(
        *(97.5, 0.5, 0.5, 0.6, 55, 100, -0.8),
        {"airway": -1.5, "gas_exchange": -1.1, "cardiac": -0.3, "surgical": 0.6},
    ),
    "temperature": Vital(
        *(36.9, 0.15, 0.2, 0.15, 32, 42, 0.0),
        {"inflammation": 0.45, "hepatic": -0.25, "surgical": -0.2, "perfusion": -0.1},
    ),
    "log_glucose": Vital(
        *(4.85, 0.08, 0.11, 0.06, 3.0, 6.8, 0.03),
        {"glycaemic": 0.26, "inflammation": 0.04, "hepatic": -0.08},
    ),
    "ph": Vital(
        *(7.385, 0.012, 0.015, 0.01, 6.8, 7.7, -0.025),
        {"renal": -0.03, "metabolic": -0.03, "airway": -0.02, "perfusion": -0.02},
    ),
    # Not charted themselves: they decide on the ventilator, its oxygen, and the coma scale.
    "support": Vital(
        *(-1.0, 0.3, 0.15, 0, -9, 9, 0.55), {"gas_exchange": 0.9, "surgical": 0.3, "tracheal": 0.2}
    ),
    "oxygen": Vital(*(0.40, 0.03, 0.03, 0, 0.21, 1, 0.06), {"gas_exchange": 0.08, "airway": 0.02}),
    "consciousness": Vital(
        *(2.2, 0.4, 0.25, 0.2, -9, 9, -0.6), {"neurological": -1.2, "hepatic": -0.3}
    ),
}
# Traits that make a vital sign unsteady: drift and noise are multiplied by exp(weight x trait).
UNSTEADY = {
    "heart_rate": {"rhythm": 0.5, "pacing": -0.4},
    "log_glucose": {"glycaemic": 0.35},
}
# After an operation patients are cold and ventilated; it passes off within hours.
AFTER_OPERATION_HOURS = 10.0
AFTER_OPERATION = {"temperature": -0.5, "support": 0.8}


class VitalSigns:
    """The vital signs of some stays, at any hour."""

    def __init__(
        self, traits: Floats, severity: NDArray[np.float32], rng: np.random.Generator
    ) -> None:
        self._traits, self._rng = traits, rng
        self._paths = {name: self._path(name, severity) for name in VITALS}

    def _unsteadiness(self, name: str) -> Floats:
        return np.exp(weigh(self._traits, UNSTEADY.get(name, {})))

    def _path(self, name: str, severity: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, H) at full hours, without a measurement's noise."""
        vital = VITALS[name]
        num, hours = severity.shape
        mean = vital.level + weigh(self._traits, vital.traits)
        mean += vital.own * self._rng.normal(size=num)
        path = mean[:, None] + vital.severity * severity
        operated = np.maximum(self._traits[:, list(TRAITS).index("surgical")], 0)
        decay = np.exp(-np.arange(hours) / AFTER_OPERATION_HOURS)
        path += AFTER_OPERATION.get(name, 0.0) * operated[:, None] * decay
        path += (vital.drift * self._unsteadiness(name))[:, None] * self._wandering(num, hours)
        return path.astype(np.float32)

    def _wandering(self, num: int, hours: int) -> Floats:
        """(N, H) first-order autoregression of unit variance."""
        persistence = np.exp(-1.0 / DRIFT_HOURS)
        steps = self._rng.normal(size=(hours, num)) * np.sqrt(1 - persistence**2)
        path = np.empty((hours, num))
        path[0] = self._rng.normal(size=num)
        for hour in range(1, hours):
            path[hour] = persistence * path[hour - 1] + steps[hour]
        return path.T

    def measure(self, name: str, stay: Ints, hours: Floats) -> Floats:
        """Values of the vital sign `name` at `hours` (any, also before 0) of `stay` (0, 1, ...)."""
        vital, path = VITALS[name], self._paths[name]
        position = np.clip(hours, 0, path.shape[1] - 1.001)
        hour = position.astype(np.int64)
        share = position - hour
        value = (1 - share) * path[stay, hour] + share * path[stay, hour + 1]
        noise = self._rng.normal(size=len(stay)) * vital.noise
        return np.clip(value + noise * self._unsteadiness(name)[stay], vital.low, vital.high)
