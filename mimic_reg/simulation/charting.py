"""What is charted of simulated stays: CHARTEVENTS, LABEVENTS and OUTPUTEVENTS, oddities included.

Nurses chart by the clock: vital signs every hour, the coma scale every four, laboratories at four
in the morning. What is charted is then spoilt a little, as real tables are.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from mimic_reg.simulation.items import (
    CAPILLARY_REFILL,
    COMA_SCALE,
    COMA_TOTAL,
    ITEMS,
    LABS,
    OTHER_CHARTS,
    OTHER_LABS,
    URINE_GLUCOSE,
    URINE_GLUCOSE_TEXTS,
    Item,
)
from mimic_reg.simulation.physiology import TRAITS, Bools, Floats, Ints, VitalSigns
from mimic_reg.simulation.records import Stays

# How often the oddities of the real tables occur: share of the rows, unless it says otherwise.
RATES = {
    "missed": 0.05,  # of the hourly measurements
    "minutes": 0.10,  # of the hours: charted in between, not at the full hour
    "before INTIME": 0.2,  # of the stays
    "after OUTTIME": 0.1,  # of the stays
    "no ICUSTAY_ID": 0.005,
    "other ICUSTAY_ID": 0.01,
    "no HADM_ID": 0.002,
    "no HADM_ID in LABEVENTS": 0.05,
    "unknown HADM_ID": 0.005,
    "no VALUE": 0.002,
    "text for a number": 0.003,  # of saturations, glucose and pH; elsewhere the reference stops
    "saturation as a fraction": 0.001,
    "outlier": 0.0003,
    "two values at one time": 0.004,
    "ERROR": 0.002,
    "WARNING": 0.02,
    "Celsius under a Fahrenheit item": 0.002,
    "oxygen as a fraction": 0.02,  # of the stays
    "weight in another unit": 0.05,  # of the stays
    "manual pressure": 0.004,  # of the hours
    "pressure as 120/80": 0.5,  # of the manual ones
    "capillary refill": 0.06,  # of CareVue's stays
    "height": 0.4,  # of the stays
    "Celsius": 0.1,  # of the stays
}
NO_NUMBERS = ("ERROR", "NotDone", ">500", "NEG", "TR")
UNKNOWN_HADM_ID = 99_999  # below MIMIC-III's range
NUM_CAREGIVERS = 300
SEDATION = 1.3  # what a ventilated patient's consciousness is less
TRACHEOSTOMY = 1.7  # from this tracheal trait up, a patient breathes through a tube
# Which kinds an oddity befalls; elsewhere the reference would stop, or it would change nothing.
TEXTS_FOR_NUMBERS = ("saturation", "glucose", "ph")
TWO_VALUES = ("heart_rate", "respiratory_rate", "systolic", "diastolic", "mean_pressure", "glucose")
OUTLIERS = (*TWO_VALUES, "saturation", "temperature", "weight")
NOT_USED = ("other", "output")  # kinds that are none of the 17 variables
_PLAIN_NUMBER = r"^(\d+(\.\d*)?|\.\d+)$"
_MINUTE, _HOUR, _DAY_HOURS = 60, 3600, 24


# --- hours and rows -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """Moments at which something may be charted: `seconds` since 1970, `hours` since INTIME."""

    stay: Ints
    seconds: Ints
    hours: Floats
    hour_of_day: Ints

    def pick(self, chosen: Bools) -> "Times":
        """Some of them."""
        return Times(
            stay=self.stay[chosen],
            seconds=self.seconds[chosen],
            hours=self.hours[chosen],
            hour_of_day=self.hour_of_day[chosen],
        )


def clock(stays: Stays, begin: Ints, end: Ints, minutes: Floats) -> Times:
    """The full hours between `begin` and `end` of each stay, some shifted by minutes.

    minutes: (2, at least the number of hours): which are shifted, and by which part of an hour
    """
    first = -(-begin // _HOUR)
    num = np.maximum(end // _HOUR - first + 1, 0)
    stay = np.repeat(np.arange(len(stays)), num)
    count = np.arange(len(stay)) - np.repeat(np.cumsum(num) - num, num)
    seconds = (first[stay] + count) * _HOUR
    shift = (minutes[1, : len(stay)] * 60).astype(np.int64) * _MINUTE
    seconds = seconds + np.where(minutes[0, : len(stay)] < RATES["minutes"], shift, 0)
    hours = (seconds - stays.intime[stay]) / _HOUR
    times = Times(stay, seconds, hours, seconds // _HOUR % _DAY_HOURS)
    return times.pick(seconds <= end[stay])


def spell(values: Floats, item: Item) -> pl.Series:
    """Numbers as the system writes them."""
    if item.decimals == 0:
        return pl.Series(np.rint(values).astype(np.int64)).cast(pl.String)
    different, which = np.unique(np.round(values, item.decimals), return_inverse=True)
    if item.single:
        texts = [f"{float(np.float32(v)):.17g}" for v in different]
    else:
        texts = [f"{v:.{item.decimals}f}".rstrip("0").rstrip(".") for v in different]
    return pl.Series(texts, dtype=pl.String).gather(which)


class Sheet:
    """Rows of one table, as they come."""

    def __init__(self, stays: Stays) -> None:
        self.stays = stays
        self._parts: list[pl.DataFrame] = []

    def write(
        self, kind: str, item: Item, at: Times, text: pl.Series, number: pl.Series | None = None
    ) -> None:
        """Rows of one item; `number`: what VALUENUM holds, if not the text."""
        frame = pl.DataFrame(
            {
                "stay": at.stay,
                "seconds": at.seconds,
                "VALUE": text,
                "VALUENUM": text if number is None else number,
            }
        )
        self._parts.append(
            frame.with_columns(
                pl.lit(kind.split(" ")[0]).alias("kind"),
                pl.lit(item.itemid).alias("ITEMID"),
                pl.lit(item.unit, pl.String).alias("VALUEUOM"),
            )
        )

    def chart(self, kind: str, at: Times, values: Floats) -> None:
        """Rows of `kind`, each under the item of the stay's system."""
        for carevue, item in zip((True, False), ITEMS[kind], strict=True):
            rows = self.stays.carevue[at.stay] == carevue
            if item is not None:
                self.write(kind, item, at.pick(rows), spell(values[rows], item))

    def rows(self) -> pl.DataFrame:
        """All rows, by stay and time."""
        return pl.concat(self._parts).sort("stay", "seconds", "ITEMID", maintain_order=True)


class Charting:
    """Charts some stays."""

    def __init__(self, stays: Stays, rng: np.random.Generator) -> None:
        self.stays, self.rng = stays, rng
        self.signs = VitalSigns(stays.traits, stays.severity, rng)
        self.sheet, self.labs, self.outputs = Sheet(stays), Sheet(stays), Sheet(stays)
        self.times = self._times()

    def _times(self) -> Times:
        """The hours of the stays, and a few around some of them."""
        stays, rng = self.stays, self.rng
        num = len(stays)
        before = (rng.random(num) < RATES["before INTIME"]) * rng.integers(1, 4, num)
        after = (rng.random(num) < RATES["after OUTTIME"]) * rng.integers(1, 3, num)
        end = np.minimum(stays.outtime + after * _HOUR, stays.left)
        return self._clock(stays.intime - before * _HOUR, end)

    def _clock(self, begin: Ints, end: Ints) -> Times:
        most = int(((end - begin) // _HOUR + 2).sum())
        return clock(self.stays, begin, end, self.rng.random((2, most)))

    def _some(self, at: Times, share: ArrayLike) -> Times:
        return at.pick(self.rng.random(len(at.stay)) < np.asarray(share))

    def _flag(self, share: float) -> Bools:
        flags: Bools = self.rng.random(len(self.stays)) < share
        return flags

    def _trait(self, name: str) -> Floats:
        trait: Floats = self.stays.traits[:, list(TRAITS).index(name)]
        return trait

    def _measure(self, name: str, at: Times) -> Floats:
        return self.signs.measure(name, at.stay, at.hours)

    def run(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Rows of CHARTEVENTS, LABEVENTS and OUTPUTEVENTS."""
        self._hourly()
        self._pressures()
        self._temperature()
        self._breathing()
        self._coma_scale()
        self._glucose_and_blood_gases()
        self._body()
        self._capillary_refill()
        self._others()
        self._laboratory()
        self.outputs.chart("output", at := self._some(self.times, 0.4), self._urine(at))
        return self.sheet.rows(), self.labs.rows(), self.outputs.rows()

    def _urine(self, at: Times) -> Floats:
        failure = np.exp(-0.3 * self._trait("renal")[at.stay])
        return self.rng.gamma(2.0, 35.0, len(at.stay)) * failure

    def _hourly(self) -> None:
        for kind in ("heart_rate", "respiratory_rate", "saturation"):
            at = self._some(self.times, 1 - RATES["missed"])
            self.sheet.chart(kind, at, self._measure(kind, at))

    def _pressures(self) -> None:
        line = self.stays.mean + self.rng.normal(size=len(self.stays)) > 0.5
        with_line = line[self.times.stay]
        cuff = self._some(self.times, np.where(with_line, 0.12, 1 - RATES["missed"]))
        arterial = self._some(self.times, with_line * (1 - RATES["missed"]))
        for suffix, at in (("", cuff), (" arterial", arterial)):
            systolic, diastolic = self._pressure(at)
            mean = (systolic + 2 * diastolic) / 3
            self.sheet.chart("systolic" + suffix, at, systolic)
            self.sheet.chart("diastolic" + suffix, at, diastolic)
            self.sheet.chart("mean_pressure" + suffix, at, mean)
        self._manual_pressure(self._some(self.times, RATES["manual pressure"]))

    def _pressure(self, at: Times) -> tuple[Floats, Floats]:
        systolic = np.rint(self._measure("systolic", at))
        return systolic, np.minimum(np.rint(self._measure("diastolic", at)), systolic - 8)

    def _manual_pressure(self, at: Times) -> None:
        """Under both items as "120/80", or as the numbers they are."""
        systolic, diastolic = self._pressure(at)
        both = pl.select(pl.format("{}/{}", systolic.astype(int), diastolic.astype(int)))
        slash = pl.Series(self.rng.random(len(at.stay)) < RATES["pressure as 120/80"])
        for kind, values in (("systolic manual", systolic), ("diastolic manual", diastolic)):
            for carevue, item in zip((True, False), ITEMS[kind], strict=True):
                assert item is not None
                rows = self.stays.carevue[at.stay] == carevue
                number = spell(values, item).set(slash, None)
                text = both.to_series().zip_with(slash, spell(values, item))
                self.sheet.write(kind, item, at.pick(rows), text.filter(rows), number.filter(rows))

    def _temperature(self) -> None:
        routine = np.where(self.times.hour_of_day % 4 == 0, 0.9, 0.12)
        at = self._some(self.times, routine)
        celsius = self._measure("temperature", at)
        in_celsius = self._flag(RATES["Celsius"])[at.stay]
        rounded, fahrenheit = np.round(celsius, 1), np.round(celsius * 1.8 + 32, 1)
        wrong = self.rng.random(len(celsius)) < RATES["Celsius under a Fahrenheit item"]
        written = np.where(wrong, rounded, fahrenheit)
        chart, f, c = self.sheet.chart, ~in_celsius, in_celsius
        chart("temperature F", at.pick(f), written[f])
        chart("temperature C computed", at.pick(f), (fahrenheit[f] - 32) / 1.8)
        chart("temperature C", at.pick(c), rounded[c])
        chart("temperature F computed", at.pick(c), rounded[c] * 1.8 + 32)

    def _breathing(self) -> None:
        """The ventilator: oxygen of all who need help, breaths of those who are ventilated."""
        support = self._measure("support", self.times)
        self.ventilated = support > 0
        at = self._some(self.times, np.where(self.ventilated, 0.2, 0.02))
        fraction = np.round(self._measure("oxygen", at) * 20) / 20
        style = self.rng.random(len(self.stays))[at.stay]
        carevue = self.stays.carevue[at.stay]
        as_fraction = style < np.where(carevue, 0.15, RATES["oxygen as a fraction"])
        vision = carevue & (style > 0.85)
        percent = ~as_fraction & ~vision
        self.sheet.chart("oxygen fraction", at.pick(as_fraction), fraction[as_fraction])
        self.sheet.chart("oxygen vision", at.pick(vision), fraction[vision] * 100)
        self.sheet.chart("oxygen", at.pick(percent), fraction[percent] * 100)
        at = self._some(self.times, self.ventilated * 0.2)
        rate = self._measure("respiratory_rate", at)
        self.sheet.chart("respiratory_rate total", at, rate)
        own = np.maximum(rate - self.rng.integers(8, 20, len(rate)), 0)
        self.sheet.chart("respiratory_rate spontaneous", at, own)

    def _coma_scale(self) -> None:
        tube = self._trait("tracheal")[self.times.stay] > TRACHEOSTOMY
        routine = np.where(self.times.hour_of_day % 4 == 0, 0.85, 0.12)
        chosen = self.rng.random(len(tube)) < routine
        at, ventilated = self.times.pick(chosen), self.ventilated[chosen]
        tube = tube[chosen] | ventilated
        level = self._measure("consciousness", at) - SEDATION * ventilated
        total = np.zeros(len(level), np.int64)
        for name, scale in COMA_SCALE.items():
            which = (level[:, None] < np.array(scale.levels)).sum(1)
            score = len(scale.levels) + 1 - which
            if name == "verbal":  # who has a tube cannot speak: one text more, and one point
                which = np.where(tube, len(scale.levels) + 1, which)
                score = np.where(tube, 1, score)
            total += score
            for carevue, (itemid, texts) in ((True, scale.carevue), (False, scale.metavision)):
                rows = self.stays.carevue[at.stay] == carevue
                text = pl.Series(texts).gather(which[rows])
                number = pl.Series(score[rows]).cast(pl.String)
                self.sheet.write(name, Item(itemid), at.pick(rows), text, number)
        rows = self.stays.carevue[at.stay]
        text = pl.Series(total[rows]).cast(pl.String)
        self.sheet.write("total", Item(COMA_TOTAL, "points"), at.pick(rows), text)

    def _glucose_and_blood_gases(self) -> None:
        sugar = np.exp(0.5 * self._trait("glycaemic"))[self.times.stay]
        at = self._some(self.times, np.minimum(0.09 * sugar, 0.5))
        self.sheet.chart("glucose finger", at, np.exp(self._measure("log_glucose", at)))

        at = self._some(self.times, np.where(self.ventilated, 0.18, 0.03))
        ph = self._measure("ph", at)
        venous = self.rng.random(len(ph)) < 0.08
        self.sheet.chart("ph venous", at.pick(venous), ph[venous] - 0.04)
        for kind in ("ph arterial", "ph arterial again"):
            self.sheet.chart(kind, at.pick(~venous), ph[~venous])
        self._lab("ph", at, np.where(venous, ph - 0.04, ph))
        glucose = np.exp(self._measure("log_glucose", at))
        saturation = self._measure("saturation", at)
        some = self.rng.random((2, len(ph))) < 0.3
        self.sheet.chart("glucose blood gas", at.pick(some[0]), glucose[some[0]])
        self._lab("glucose blood gas", at.pick(some[0]), glucose[some[0]])
        self.sheet.chart("saturation arterial", at.pick(some[1]), saturation[some[1]])
        self._lab("saturation", at.pick(some[1]), saturation[some[1]])

    def _lab(self, name: str, at: Times, values: Floats) -> None:
        item = LABS[name]
        text = spell(values, item)
        if name == "ph":  # laboratories write 7.40
            text = pl.Series([f"{v:.2f}" for v in values], dtype=pl.String)
        self.labs.write(name, item, at, text, spell(values, item))

    def _body(self) -> None:
        """Weight at admission and in some mornings, height at admission."""
        num = len(self.stays)
        first = self._admission_times()
        weight, height = self.stays.weight, self.stays.height
        style = self.rng.random(num) / RATES["weight in another unit"]
        some = self._flag(0.5)
        chart = self.sheet.chart
        for kind, factor, chosen in (
            ("weight kg", 1.0, (style >= 0.6) & some),
            ("weight lb", 1 / 0.453592, np.where(self.stays.carevue, style < 0.3, some)),
            ("weight oz", 16 / 0.453592, (style >= 0.3) & (style < 0.6)),
        ):
            chart(kind, first.pick(chosen), weight[chosen] * factor)
        tall = self._flag(RATES["height"])
        chart("height inch", first.pick(tall), height[tall] / 2.54)
        chart("height cm", first.pick(tall), height[tall])

        at = self._some(self.times, np.where(self.times.hour_of_day == 5, 0.45, 0.0))
        kilograms = weight[at.stay] + self.rng.normal(0, 0.8, len(at.stay))
        pounds = (style[at.stay] >= 0.6) & (style[at.stay] < 1) & self.stays.carevue[at.stay]
        chart("weight daily", at.pick(~pounds), kilograms[~pounds])
        chart("weight daily lb", at.pick(pounds), kilograms[pounds] / 0.453592)

    def _admission_times(self) -> Times:
        """One moment a stay, within its first hours."""
        stay = np.arange(len(self.stays))
        length = np.minimum(self.stays.outtime - self.stays.intime, 3 * _HOUR)
        since = (self.rng.random(len(stay)) * length).astype(np.int64)
        seconds = self.stays.intime + since
        return Times(stay, seconds, since / _HOUR, seconds // _HOUR % _DAY_HOURS)

    def _capillary_refill(self) -> None:
        watched = (self._flag(RATES["capillary refill"]) & self.stays.carevue)[self.times.stay]
        at = self._some(self.times, watched * np.where(self.times.hour_of_day % 4 == 0, 0.9, 0.0))
        slow = self._measure("systolic", at) < 100
        which = np.where(slow, 2, 0) + (self.rng.random(len(slow)) < 0.3)
        which = np.where(self.rng.random(len(slow)) < 0.05, 4, which)
        text = pl.Series(CAPILLARY_REFILL).gather(which)
        nothing = pl.Series([None] * len(text), dtype=pl.String)
        for itemid in (115, 8377, 3348):
            self.sheet.write("capillary_refill", Item(itemid), at, text, nothing)

    def _others(self) -> None:
        for other in OTHER_CHARTS:
            at = self._some(self.times, other.share)
            usual = self.rng.integers(len(other.texts), size=len(self.stays))[at.stay]
            change = self.rng.random(len(usual)) < 0.1
            text = pl.Series(other.texts).gather((usual + change) % len(other.texts))
            number = text.cast(pl.Float64, strict=False).is_null()
            for carevue, itemid in zip((True, False), other.itemids, strict=True):
                rows = self.stays.carevue[at.stay] == carevue
                self.sheet.write(
                    *("other", Item(itemid, other.unit), at.pick(rows), text.filter(rows)),
                    text.set(number, None).filter(rows),
                )

    def _laboratory(self) -> None:
        """Blood in the mornings, also on the ward before and after; urine now and then."""
        stays = self.stays
        begin = np.maximum(stays.intime - _DAY_HOURS * _HOUR, stays.admitted)
        end = np.minimum(stays.outtime + _DAY_HOURS * _HOUR, stays.left)
        hours = self._clock(begin, end)
        schedule = np.full(_DAY_HOURS, 0.03)
        schedule[[4, 16]] = 0.9, 0.35
        at = self._some(hours, schedule[hours.hour_of_day])
        glucose = np.exp(self._measure("log_glucose", at))
        self._lab("glucose", at, glucose)
        inside = (at.seconds >= stays.intime[at.stay]) & (at.seconds <= stays.outtime[at.stay])
        for kind in ("glucose serum", "glucose serum again"):
            self.sheet.chart(kind, at.pick(inside), glucose[inside])
        for item, mean, spread in OTHER_LABS:
            values = np.abs(self.rng.normal(mean, spread, len(at.stay)))
            self.labs.write("other", item, at, spell(values, item))
        at = self._some(hours, 0.008)
        sugar = (np.exp(self._measure("log_glucose", at)) - 140) / 60
        which = np.clip(sugar, 0, len(URINE_GLUCOSE_TEXTS) - 1).astype(np.int64)
        text = pl.Series(URINE_GLUCOSE_TEXTS).gather(which)
        number = text.set(~text.str.contains(r"^\d+$"), None)
        self.labs.write("glucose urine", URINE_GLUCOSE, at, text, number)
        self._lab("ph urine", at, np.clip(self.rng.normal(5.8, 0.7, len(which)), 5, 9))


# --- oddities -------------------------------------------------------------------------------------


def spoil(
    rows: pl.DataFrame, stays: Stays, rng: np.random.Generator, *, hadm_rate: float
) -> pl.DataFrame:
    """The rows with the oddities of real tables, the ids, and `usable`: whether they survive them.

    hadm_rate: share of the rows without HADM_ID
    """
    rows = _second_values(rows, rng)
    num = rows.height

    def share(rate: float) -> pl.Series:
        return pl.Series(rng.random(num) < rate)

    rows = _spoil_values(rows, rng)
    stay = rows["stay"].to_numpy()
    hadm = pl.Series(stays.hadm_id[stay]).set(share(RATES["unknown HADM_ID"]), UNKNOWN_HADM_ID)
    other = pl.Series(stays.neighbour_id[stay])
    icustay = pl.Series(stays.icustay_id[stay]).zip_with(~share(RATES["other ICUSTAY_ID"]), other)
    rows = rows.with_columns(
        pl.Series("SUBJECT_ID", stays.subject_id[stay]),
        hadm.set(share(hadm_rate), None).alias("HADM_ID"),
        icustay.set(share(RATES["no ICUSTAY_ID"]), None).alias("ICUSTAY_ID"),
        pl.Series("own", stays.icustay_id[stay]),
        pl.Series("own_hadm", stays.hadm_id[stay]),
        (pl.col("seconds") * 1_000_000).cast(pl.Datetime("us")).alias("CHARTTIME"),
        pl.Series("CGID", 14_000 + 17 * rng.integers(NUM_CAREGIVERS, size=num)),
        pl.Series("delay", rng.integers(1, 90, num)),
    )
    return rows.with_columns(
        (pl.col("CHARTTIME") + pl.duration(minutes="delay")).alias("STORETIME"), _usable()
    )


def _usable() -> pl.Expr:
    """Whether the benchmark takes the row."""
    kind, value = pl.col("kind"), pl.col("VALUE")
    readable = ~kind.is_in(TEXTS_FOR_NUMBERS) | value.str.contains(_PLAIN_NUMBER)
    return (
        ~kind.is_in(NOT_USED)
        & value.is_not_null()
        & readable
        & (value != CAPILLARY_REFILL[-1])
        & (pl.col("HADM_ID") == pl.col("own_hadm")).fill_null(False)
        & (pl.col("ICUSTAY_ID") == pl.col("own")).fill_null(True)
    ).alias("usable")


def _second_values(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Some measurements twice at the same time, with another value."""
    chosen = pl.Series(rng.random(rows.height) < RATES["two values at one time"])
    whole = pl.col("kind").is_in(TWO_VALUES) & pl.col("VALUE").str.contains(r"^\d+$")
    twins = rows.filter(chosen & rows.select(whole).to_series())
    value = twins["VALUE"].cast(pl.Int64) + pl.Series(rng.integers(-3, 13, twins.height))
    text = value.clip(lower_bound=0).cast(pl.String)
    twins = twins.with_columns(VALUE=text, VALUENUM=text)
    return pl.concat([rows, twins]).sort("stay", "seconds", "ITEMID", maintain_order=True)


def _spoil_values(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    num = rows.height

    def some(rate: str, *kinds: str) -> pl.Expr:
        return pl.lit(pl.Series(rng.random(num) < RATES[rate])) & pl.col("kind").is_in(kinds)

    value, dot = pl.col("VALUE"), pl.col("VALUE").str.contains(".", literal=True)
    slip = pl.lit(pl.Series(rng.random(num) < 0.5)) | dot
    outlier = some("outlier", *OUTLIERS)
    fraction = some("saturation as a fraction", "saturation") & (value.str.len_bytes() == 2)
    no_number = some("text for a number", *TEXTS_FOR_NUMBERS)
    which = pl.Series(NO_NUMBERS).gather(rng.integers(len(NO_NUMBERS), size=num))
    nothing = pl.lit(pl.Series(rng.random(num) < RATES["no VALUE"]))
    changed = (
        pl.when(nothing)
        .then(None)
        .when(no_number)
        .then(which)
        .when(fraction)
        .then(pl.lit(".") + value)
        .when(outlier & (pl.col("kind") == "mean_pressure") & slip)
        .then(pl.lit("-8"))
        .when(outlier & slip)
        .then(pl.lit("0"))
        .when(outlier)
        .then(value + pl.lit("0"))  # a digit too many
        .otherwise("VALUE")
    )
    number = pl.when(nothing | no_number).then(None).when(fraction | outlier).then(changed)
    return rows.with_columns(changed.alias("VALUE"), number.otherwise("VALUENUM").alias("VALUENUM"))


# --- tables ---------------------------------------------------------------------------------------


def tables(stays: Stays, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Rows of the three event tables, without ROW_ID but with `stay`, `seconds` and `usable`."""
    charts, labs, outputs = Charting(stays, rng).run()
    rate = RATES["no HADM_ID"]
    return {
        "CHARTEVENTS": _flags(spoil(charts, stays, rng, hadm_rate=rate), rng),
        "LABEVENTS": _lab_flags(
            spoil(labs, stays, rng, hadm_rate=RATES["no HADM_ID in LABEVENTS"]), rng
        ),
        "OUTPUTEVENTS": spoil(outputs, stays, rng, hadm_rate=rate).with_columns(
            pl.lit(None, pl.String).alias(c) for c in ("STOPPED", "NEWBOTTLE", "ISERROR")
        ),
    }


def _flags(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """MetaVision flags warnings and errors (which the benchmark ignores), CareVue does not."""
    metavision = pl.col("ITEMID") >= 220_000
    flags = {
        name: pl.Series((rng.random(rows.height) < RATES[name]).astype(np.int8))
        for name in ("WARNING", "ERROR")
    }
    final = ~metavision & pl.col("kind").is_in(("glucose", "ph"))
    return rows.with_columns(
        *(pl.when(metavision).then(pl.lit(f)).alias(name) for name, f in flags.items()),
        pl.when(final).then(pl.lit("Final")).alias("RESULTSTATUS"),
        pl.when(~metavision).then(pl.lit("NotStopd")).alias("STOPPED"),
    )


def _lab_flags(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    abnormal = pl.Series(rng.random(rows.height) < 0.35)
    # LABEVENTS has no ICUSTAY_ID, so it cannot name another stay.
    own = pl.col("own").alias("ICUSTAY_ID")
    return rows.with_columns(own).with_columns(
        pl.when(abnormal).then(pl.lit("abnormal")).alias("FLAG"), _usable()
    )
