"""What nurses and laboratories chart of simulated stays, before `oddities` spoils some rows.

Nurses chart vital signs every hour and the coma scale every four hours. Laboratories measure mostly
at four in the morning.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from mimic_reg.simulation.items import ITEMS
from mimic_reg.simulation.parameters import DAY, HOUR, MINUTE, Bools, Floats, Ints, parameters
from mimic_reg.simulation.physiology import TRAITS, VitalSigns

_FACTS = parameters("charting")
RATES: dict[str, float] = _FACTS["rates"]
SEDATION = 1.3  # lowers the consciousness of ventilated patients
TRACHEOSTOMY = 1.7  # patients with a higher tracheal trait breathe through a tube
_POUND, _OUNCE, _INCH = 0.453592, 0.453592 / 16, 2.54  # kg, kg, cm


@dataclass(frozen=True)
class Times:
    """Moments at which something may be charted: the stay (0, 1, ...) and seconds since 1970."""

    stay: Ints
    seconds: Ints

    def __len__(self) -> int:
        return len(self.stay)

    def __getitem__(self, chosen: Bools) -> "Times":
        return Times(self.stay[chosen], self.seconds[chosen])


class Charting:
    """Charts some stays (`records.Records`)."""

    def __init__(self, stays: pl.DataFrame, rng: np.random.Generator) -> None:
        self.rng, self.num = rng, stays.height
        columns = ("intime", "outtime", "admitted", "left", "carevue", "mean", "weight", "height")
        self.stays: dict[str, Any] = {c: stays[c].to_numpy() for c in columns}
        traits = stays["traits"].to_numpy()
        self.traits = dict(zip(TRAITS, traits.T, strict=True))
        self.signs = VitalSigns(traits, stays["severity"].to_numpy(), rng)
        self.rows: dict[str, list[pl.DataFrame]] = {}
        # The hours of the stays, and a few hours before and after some of them.
        before = self._flag(RATES["before INTIME"]) * rng.integers(1, 4, self.num)
        after = self._flag(RATES["after OUTTIME"]) * rng.integers(1, 3, self.num)
        end = np.minimum(self.stays["outtime"] + after * HOUR, self.stays["left"])
        self.times = self._clock(self.stays["intime"] - before * HOUR, end)
        self.hour_of_day = self.times.seconds // HOUR % 24

    def run(self) -> dict[str, pl.DataFrame]:
        """Return the rows of CHARTEVENTS, LABEVENTS and OUTPUTEVENTS, by stay and time.

        Columns: `stay`, `seconds`, `kind` (its first word), ITEMID, VALUE, VALUEUOM, and `score`,
        the number that a text of the coma scale means.
        """
        self._hourly()
        self._pressures()
        self._temperature()
        ventilated = self._breathing()
        self._coma_scale(ventilated)
        self._glucose_and_blood_gases(ventilated)
        self._body()
        self._capillary_refill()
        self._others()
        self._laboratory()
        self._urine_output()
        return {
            table: pl.concat(parts).sort("stay", "seconds", "ITEMID", maintain_order=True)
            for table, parts in self.rows.items()
        }

    # --- how anything is charted --------------------------------------------------------------

    def _clock(self, begin: Ints, end: Ints) -> Times:
        """Return the full hours from `begin` to `end` of each stay, some moved by minutes."""
        first = -(-begin // HOUR)
        count = np.maximum(end // HOUR - first + 1, 0)
        stay = np.repeat(np.arange(self.num), count)
        position = np.arange(len(stay)) - np.repeat(np.cumsum(count) - count, count)
        most = int(((end - begin) // HOUR + 2).sum())
        shifted, part = self.rng.random((2, most))[:, : len(stay)]
        minutes = np.where(shifted < RATES["minutes"], (part * 60).astype(np.int64), 0)
        seconds = (first[stay] + position) * HOUR + minutes * MINUTE
        return Times(stay, seconds)[seconds <= end[stay]]

    def _some(self, at: Times, share: ArrayLike) -> Times:
        return at[self.rng.random(len(at)) < np.asarray(share)]

    def _flag(self, share: float) -> Bools:
        return self.rng.random(self.num) < share

    def _measure(self, name: str, at: Times) -> Floats:
        hours = (at.seconds - self.stays["intime"][at.stay]) / HOUR
        return self.signs.measure(name, at.stay, hours)

    def _chart(
        self, kind: str, at: Times, values: Any, where: Any = True, score: Ints | None = None
    ) -> None:
        """Add rows of `kind`, under the items of the stay's system, at the times `where` says.

        values: one per time: numbers, positions among the items' texts, or texts
        score:  the numbers that the texts mean
        """
        for item in ITEMS[kind]:
            rows = np.broadcast_to(where, len(at))
            if item.system:
                rows = rows & (self.stays["carevue"][at.stay] == (item.system == "carevue"))
            frame = pl.DataFrame(
                {"stay": at.stay[rows], "seconds": at.seconds[rows]}
                | {"VALUE": item.spell(values[rows])}
            ).with_columns(
                kind=pl.lit(kind.split(" ")[0]),
                ITEMID=item.itemid,
                VALUEUOM=pl.lit(item.unit, pl.String),
                score=pl.lit(None, pl.Int64) if score is None else score[rows],
            )
            self.rows.setdefault(item.table, []).append(frame)

    # --- what is charted ----------------------------------------------------------------------

    def _hourly(self) -> None:
        for kind in ("heart_rate", "respiratory_rate", "saturation"):
            at = self._some(self.times, 1 - RATES["missed"])
            self._chart(kind, at, self._measure(kind, at))

    def _pressures(self) -> None:
        line = (self.stays["mean"] + self.rng.normal(size=self.num) > 0.5)[self.times.stay]
        cuff = self._some(self.times, np.where(line, 0.12, 1 - RATES["missed"]))
        arterial = self._some(self.times, line * (1 - RATES["missed"]))
        for suffix, at in (("", cuff), (" arterial", arterial)):
            systolic, diastolic = self._pressure(at)
            self._chart("systolic" + suffix, at, systolic)
            self._chart("diastolic" + suffix, at, diastolic)
            self._chart("mean_pressure" + suffix, at, (systolic + 2 * diastolic) / 3)

        at = self._some(self.times, RATES["manual pressure"])
        systolic, diastolic = self._pressure(at)
        both = np.array([f"{s:.0f}/{d:.0f}" for s, d in zip(systolic, diastolic, strict=True)], str)
        slash = self.rng.random(len(at)) < RATES["pressure as 120/80"]
        for kind, values in (("systolic manual", systolic), ("diastolic manual", diastolic)):
            self._chart(kind, at, both, slash)
            self._chart(kind, at, values, ~slash)

    def _pressure(self, at: Times) -> tuple[Floats, Floats]:
        systolic = np.rint(self._measure("systolic", at))
        return systolic, np.minimum(np.rint(self._measure("diastolic", at)), systolic - 8)

    def _temperature(self) -> None:
        at = self._some(self.times, np.where(self.hour_of_day % 4 == 0, 0.9, 0.12))
        exact = self._measure("temperature", at)
        celsius, fahrenheit = np.round(exact, 1), np.round(exact * 1.8 + 32, 1)
        in_celsius = self._flag(RATES["Celsius"])[at.stay]
        wrong = self.rng.random(len(at)) < RATES["Celsius under a Fahrenheit item"]
        self._chart("temperature F", at, np.where(wrong, celsius, fahrenheit), ~in_celsius)
        self._chart("temperature C computed", at, (fahrenheit - 32) / 1.8, ~in_celsius)
        self._chart("temperature C", at, celsius, in_celsius)
        self._chart("temperature F computed", at, celsius * 1.8 + 32, in_celsius)

    def _breathing(self) -> Bools:
        """Chart oxygen and breaths; return at which times a patient is ventilated, (times,)."""
        ventilated: Bools = self._measure("support", self.times) > 0
        at = self._some(self.times, np.where(ventilated, 0.2, 0.02))
        fraction = np.round(self._measure("oxygen", at) * 20) / 20
        style, carevue = self.rng.random(self.num)[at.stay], self.stays["carevue"][at.stay]
        as_fraction = style < np.where(carevue, 0.15, RATES["oxygen as a fraction"])
        vision = carevue & (style > 0.85)
        self._chart("oxygen fraction", at, fraction, as_fraction)
        self._chart("oxygen vision", at, fraction * 100, vision)
        self._chart("oxygen", at, fraction * 100, ~as_fraction & ~vision)

        at = self._some(self.times, ventilated * 0.2)
        rate = self._measure("respiratory_rate", at)
        own = np.maximum(rate - self.rng.integers(8, 20, len(at)), 0)
        self._chart("respiratory_rate total", at, rate)
        self._chart("respiratory_rate spontaneous", at, own)
        return ventilated

    def _coma_scale(self, ventilated: Bools) -> None:
        share = np.where(self.hour_of_day % 4 == 0, 0.85, 0.12)
        chosen = self.rng.random(len(self.times)) < share
        at, ventilated = self.times[chosen], ventilated[chosen]
        tube = (self.traits["tracheal"][at.stay] > TRACHEOSTOMY) | ventilated
        level = self._measure("consciousness", at) - SEDATION * ventilated
        total = np.zeros(len(at), np.int64)
        for component, levels in _FACTS["coma_scale"].items():
            which = (level[:, None] < np.array(levels)).sum(1)
            score = len(levels) + 1 - which
            if component == "verbal":  # a patient with a tube cannot speak: one more text, 1 point
                which = np.where(tube, len(levels) + 1, which)
                score = np.where(tube, 1, score)
            total += score
            self._chart(f"coma {component}", at, which, score=score)
        self._chart("coma total", at, total)

    def _glucose_and_blood_gases(self, ventilated: Bools) -> None:
        often = np.exp(0.5 * self.traits["glycaemic"])[self.times.stay]
        at = self._some(self.times, np.minimum(0.09 * often, 0.5))
        self._chart("glucose finger", at, np.exp(self._measure("log_glucose", at)))

        at = self._some(self.times, np.where(ventilated, 0.18, 0.03))
        ph = self._measure("ph", at)
        venous = self.rng.random(len(at)) < 0.08
        self._chart("ph arterial", at, ph, ~venous)
        self._chart("ph venous", at, ph - 0.04, venous)
        glucose = np.exp(self._measure("log_glucose", at))
        saturation = self._measure("saturation", at)
        with_glucose, with_saturation = self.rng.random((2, len(at))) < 0.3
        self._chart("glucose blood gas", at, glucose, with_glucose)
        self._chart("saturation arterial", at, saturation, with_saturation)

    def _body(self) -> None:
        """Chart weight at admission and on some mornings, and height at admission."""
        weight, height, carevue = (self.stays[c] for c in ("weight", "height", "carevue"))
        soon = np.minimum(self.stays["outtime"] - self.stays["intime"], 3 * HOUR)
        since = (self.rng.random(self.num) * soon).astype(np.int64)
        first = Times(np.arange(self.num), self.stays["intime"] + since)
        style = self.rng.random(self.num) / RATES["weight in another unit"]
        some, tall = self._flag(0.5), self._flag(RATES["height"])
        self._chart("weight kg", first, weight, (style >= 0.6) & some)
        self._chart("weight lb", first, weight / _POUND, np.where(carevue, style < 0.3, some))
        self._chart("weight oz", first, weight / _OUNCE, (style >= 0.3) & (style < 0.6))
        self._chart("height inch", first, height / _INCH, tall)
        self._chart("height cm", first, height, tall)

        at = self._some(self.times, np.where(self.hour_of_day == 5, 0.45, 0.0))
        kilograms = weight[at.stay] + self.rng.normal(0, 0.8, len(at))
        pounds = ((style >= 0.6) & (style < 1) & carevue)[at.stay]
        self._chart("weight daily", at, kilograms, ~pounds)
        self._chart("weight daily lb", at, kilograms / _POUND, pounds)

    def _capillary_refill(self) -> None:
        watched = (self._flag(RATES["capillary refill"]) & self.stays["carevue"])[self.times.stay]
        at = self._some(self.times, watched * np.where(self.hour_of_day % 4 == 0, 0.9, 0.0))
        slow = self._measure("systolic", at) < 100
        which = np.where(slow, 2, 0) + (self.rng.random(len(at)) < 0.3)
        remark = self.rng.random(len(at)) < 0.05
        self._chart("capillary_refill", at, np.where(remark, 4, which))

    def _others(self) -> None:
        for name, share in _FACTS["other_charts"].items():
            num_texts = len(ITEMS[f"other {name}"][0].texts)
            at = self._some(self.times, share)
            usual = self.rng.integers(num_texts, size=self.num)[at.stay]
            change = self.rng.random(len(at)) < 0.1
            self._chart(f"other {name}", at, (usual + change) % num_texts)

    def _laboratory(self) -> None:
        """Chart blood in the mornings, also on the ward before and after, and urine rarely."""
        intime, outtime = self.stays["intime"], self.stays["outtime"]
        begin = np.maximum(intime - DAY, self.stays["admitted"])
        hours = self._clock(begin, np.minimum(outtime + DAY, self.stays["left"]))
        schedule = np.full(24, 0.03)
        schedule[[4, 16]] = 0.9, 0.35
        at = self._some(hours, schedule[hours.seconds // HOUR % 24])
        glucose = np.exp(self._measure("log_glucose", at))
        self._chart("glucose laboratory", at, glucose)
        inside = (at.seconds >= intime[at.stay]) & (at.seconds <= outtime[at.stay])
        self._chart("glucose serum", at, glucose, inside)
        for name, (mean, spread) in _FACTS["other_labs"].items():
            self._chart(f"other {name}", at, np.abs(self.rng.normal(mean, spread, len(at))))

        at = self._some(hours, 0.008)
        sugar = (np.exp(self._measure("log_glucose", at)) - 140) / 60
        self._chart("glucose urine", at, np.clip(sugar, 0, 4).astype(np.int64))
        self._chart("ph urine", at, np.clip(self.rng.normal(5.8, 0.7, len(at)), 5, 9))

    def _urine_output(self) -> None:
        at = self._some(self.times, 0.4)
        failure = np.exp(-0.3 * self.traits["renal"][at.stay])
        self._chart("output", at, self.rng.gamma(2.0, 35.0, len(at)) * failure)
