"""Spoil some charted rows, as in real tables, and mark the rows that the benchmark uses."""

from collections.abc import Callable

import numpy as np
import polars as pl

from mimic_reg.clinical.datasets import EVENT_TABLES
from mimic_reg.clinical.events import METAVISION
from mimic_reg.simulation.charting import RATES, Charting

UNKNOWN_HADM_ID = 99_999  # below MIMIC-III's range
NO_NUMBERS = ("ERROR", "NotDone", ">500", "NEG", "TR")
NUM_CAREGIVERS = 300
# The kinds that an oddity may change. On others the reference would stop, or it changes nothing.
TEXTS_FOR_NUMBERS = ("saturation", "glucose", "ph")
TWO_VALUES = ("heart_rate", "respiratory_rate", "systolic", "diastolic", "mean_pressure", "glucose")
OUTLIERS = (*TWO_VALUES, "saturation", "temperature", "weight")
NOT_USED = ("other", "output")  # kinds outside the 17 variables

Happens = Callable[[float], pl.Expr]  # a rate -> whether it happens, drawn for each row


def tables(stays: pl.DataFrame, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Return the rows of the three event tables, without ROW_ID, with `stay`, `seconds`, `usable`.

    usable: whether the benchmark uses the row
    """
    charted = Charting(stays, rng).run()
    return {name: _spoil(name, charted[name], stays, rng) for name in EVENT_TABLES}


def _spoil(
    name: str, rows: pl.DataFrame, stays: pl.DataFrame, rng: np.random.Generator
) -> pl.DataFrame:
    rows = _second_values(rows, rng)

    def happens(rate: float) -> pl.Expr:
        return pl.lit(pl.Series(rng.random(rows.height) < rate))

    rows = rows.with_columns(VALUE=_spoilt_value(happens, rows.height, rng))
    ids = stays.select("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "neighbour_id")[rows["stay"]]
    rows = _identify(name, rows.hstack(ids), happens)
    caregiver = pl.Series(14_000 + 17 * rng.integers(NUM_CAREGIVERS, size=rows.height))
    at, delay = pl.from_epoch("seconds"), pl.Series(rng.integers(1, 90, rows.height))
    return rows.with_columns(
        VALUENUM=_number(),
        CGID=caregiver,
        CHARTTIME=at,
        STORETIME=at + pl.duration(minutes=pl.lit(delay)),
        **_flags(name, happens),
    )


def _second_values(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Chart some measurements a second time at the same moment, with another value."""
    chosen = pl.lit(pl.Series(rng.random(rows.height) < RATES["two values at one time"]))
    twins = rows.filter(chosen & pl.col("kind").is_in(TWO_VALUES))
    twins = twins.filter(pl.col("VALUE").str.contains(r"^\d+$"))
    value = twins["VALUE"].cast(pl.Int64) + pl.Series(rng.integers(-3, 13, twins.height))
    twins = twins.with_columns(VALUE=value.clip(lower_bound=0).cast(pl.String))
    return pl.concat([rows, twins]).sort("stay", "seconds", "ITEMID", maintain_order=True)


def _spoilt_value(happens: Happens, num: int, rng: np.random.Generator) -> pl.Expr:
    value, kind = pl.col("VALUE"), pl.col("kind")
    slip = happens(0.5) | value.str.contains(".", literal=True)
    outlier = happens(RATES["outlier"]) & kind.is_in(OUTLIERS)
    fraction = happens(RATES["saturation as a fraction"]) & (kind == "saturation")
    no_number = happens(RATES["text for a number"]) & kind.is_in(TEXTS_FOR_NUMBERS)
    text = pl.Series(NO_NUMBERS).gather(rng.integers(len(NO_NUMBERS), size=num))
    return (
        pl.when(happens(RATES["no VALUE"]))
        .then(None)
        .when(no_number)
        .then(text)
        .when(fraction & (value.str.len_bytes() == 2))
        .then("." + value)
        .when(outlier & slip)
        .then(pl.when(kind == "mean_pressure").then(pl.lit("-8")).otherwise(pl.lit("0")))
        .when(outlier)
        .then(value + "0")  # one digit too many
        .otherwise(value)
    )


def _number() -> pl.Expr:
    """Return VALUENUM: VALUE as a number, or the score that a text of the coma scale means."""
    value = pl.col("VALUE")
    plain = value.str.strip_chars_end("0").str.strip_chars_end(".")  # laboratories write 7.40
    number = pl.when(pl.col("kind") == "ph").then(plain).otherwise(value)
    score = pl.when(value.is_not_null()).then("score").cast(pl.String)
    return pl.coalesce(pl.when(_is_number(value)).then(number), score)


def _is_number(value: pl.Expr) -> pl.Expr:
    return value.cast(pl.Float64, strict=False).is_not_null()


def _identify(name: str, rows: pl.DataFrame, happens: Happens) -> pl.DataFrame:
    """Return the rows with their ids, of which some are missing or wrong, and `usable`."""
    in_labs = name == "LABEVENTS"  # it has no ICUSTAY_ID, so it cannot name another stay
    unknown, other = happens(RATES["unknown HADM_ID"]), happens(RATES["other ICUSTAY_ID"])
    no_hadm = happens(RATES["no HADM_ID in LABEVENTS" if in_labs else "no HADM_ID"])
    no_icustay = happens(RATES["no ICUSTAY_ID"])
    hadm = pl.when(unknown).then(UNKNOWN_HADM_ID).otherwise("HADM_ID")
    icustay = pl.when(other).then("neighbour_id").otherwise("ICUSTAY_ID")

    kind, value = pl.col("kind"), pl.col("VALUE")
    own = ~unknown & ~no_hadm & (~other | no_icustay | in_labs)
    readable = ~kind.is_in(TEXTS_FOR_NUMBERS) | _is_number(value)
    used = ~kind.is_in(NOT_USED) & value.is_not_null() & (value != "Other/Remarks")
    return rows.with_columns(
        HADM_ID=pl.when(~no_hadm).then(hadm),
        ICUSTAY_ID=pl.when(~no_icustay).then(icustay),
        usable=(own & readable & used).fill_null(False),
    )


def _flags(name: str, happens: Happens) -> dict[str, pl.Expr]:
    """Return the flags of the rows, such as MetaVision's ERROR; the benchmark ignores them."""
    if name == "LABEVENTS":
        return {"FLAG": pl.when(happens(0.35)).then(pl.lit("abnormal"))}
    if name == "OUTPUTEVENTS":
        return {}
    metavision = pl.col("ITEMID") >= METAVISION
    final = ~metavision & pl.col("kind").is_in(("glucose", "ph"))
    return {
        "WARNING": pl.when(metavision).then(happens(RATES["WARNING"]).cast(pl.Int8)),
        "ERROR": pl.when(metavision).then(happens(RATES["ERROR"]).cast(pl.Int8)),
        "RESULTSTATUS": pl.when(final).then(pl.lit("Final")),
        "STOPPED": pl.when(~metavision).then(pl.lit("NotStopd")),
    }
