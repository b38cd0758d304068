"""Clean raw event rows into measurements of the 17 variables, by the benchmark's rules.

Source: the reference's `validate_events` and `preprocessing`. Some rules look wrong but are kept,
because the published cohorts were made with them (`benchmark` mode); their docstrings say so.
`corrected` mode replaces four of them.

NumPy does the divisions: Polars multiplies by the reciprocal, and 70 x (1/100) differs from 70/100
in the last bit.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import polars as pl

from mimic_reg.clinical import schema
from mimic_reg.clinical.stays import parse_time

Mode = Literal["benchmark", "corrected"]

# The changes of `corrected` mode; the manifest holds these texts.
CORRECTIONS = {
    "inspired_oxygen": "fraction of inspired oxygen is divided by 100 only above 1",
    "temperature": "temperatures are converted by their unit and label too, not only from 79 up",
    "blood_only": "glucose and pH of urine and other fluids are left out",
    "plausible_ranges": "values outside the plausible range are dropped, or clipped to it",
}

# Variables whose text the reference leaves unchanged. Of several values at one time it uses the
# largest text, so "9" is used rather than "12". The published cohorts depend on that.
UNTOUCHED = frozenset(
    {v.name for v in schema.variables() if v.is_text}
    | {"Heart Rate", "Respiratory rate", "Mean blood pressure"}
)
# MIMIC-IV's VALUE of a laboratory row that has a comment; its number is in VALUENUM alone.
HIDDEN = "___"
_PLAIN_NUMBER = r"^(\d+(\.\d*)?|\.\d+)$"

# One cleaned measurement; `text` for the untouched variables, `number` for the others.
MEASUREMENTS = pl.Schema(
    {
        **{"subject_id": schema.ID, "icustay_id": schema.ID, "time": schema.TIME},
        "variable": pl.UInt8,  # position in schema.VARIABLES
        **{"number": pl.Float64, "text": pl.String},
    }
)


METAVISION = 220_000  # MetaVision's item ids start here; those of laboratories are about 50,000


def items(mode: Mode, *, carevue: bool = True) -> pl.DataFrame:
    """Return the benchmark's 114 items: itemid, variable (position in `VARIABLES`), label.

    carevue: also the items of CareVue, which MIMIC-IV does not have
    """
    table = pl.read_csv(schema.resource("items.csv").read_bytes())
    if not carevue:
        charted = pl.col("table") == "chartevents"
        table = table.filter(~charted | (pl.col("itemid") >= METAVISION))
    if mode == "corrected":
        table = table.filter(pl.col("fluid").fill_null("blood") == "blood")
    codes = pl.Enum(schema.VARIABLES)
    variable = pl.col("variable").cast(codes).to_physical().cast(pl.UInt8)
    return table.select("itemid", variable, "label")


def count_rows(events: pl.DataFrame) -> pl.DataFrame:
    """Return the number of rows per (subject, admission, stay), which validation counts."""
    # Neighbours mostly have the same ids, and finding runs of equal rows is faster than grouping.
    keys = ("subject_id", "hadm_id", "icustay_id")
    index = pl.col("index")
    begins = pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift()) for key in keys)
    runs = events.select(keys).with_row_index().filter(begins | (index == 0))
    lengths = runs.with_columns(rows=index.shift(-1, fill_value=events.height) - index)
    return lengths.group_by(keys).agg(pl.col("rows").sum())


def count_fates(groups: pl.DataFrame, stays: pl.DataFrame) -> dict[str, int]:
    """Return {fate: number of rows} by the reference's four checks, in its order.

    An admission belongs to a stay of the same subject. A row without ICUSTAY_ID belongs to the
    admission's stay. Times are not compared with those of the stay.

    groups: from `count_rows`
    """
    kept = stays.select("subject_id", "hadm_id", stay_id="icustay_id")
    subjects = stays.select("subject_id").unique().with_columns(known=pl.lit(True))
    stay, given = pl.col("stay_id"), pl.col("icustay_id")
    fates = {
        "subject_not_kept": pl.col("known").is_null(),
        "empty_hadm": pl.col("hadm_id").is_null(),
        "no_hadm_in_stay": stay.is_null(),
        "kept_recovered": given.is_null(),
        "icustay_missing_in_stays": given != stay,
    }
    joined = groups.join(subjects, on="subject_id", how="left")
    joined = joined.join(kept, on=["subject_id", "hadm_id"], how="left")
    counted = joined.group_by(fate=schema.first_true(fates, "kept")).agg(pl.col("rows").sum())
    return dict(sorted(counted.iter_rows()))


def keep_valid(events: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that pass validation, with the stay of their admission as ICUSTAY_ID."""
    # An admission has one stay, so join by admission and then filter by subject: this is faster. A
    # left join copies no columns.
    kept = stays.select("hadm_id", stay_id="icustay_id", stay_subject="subject_id")
    given = pl.col("icustay_id")
    return (
        events.join(kept, on="hadm_id", how="left")
        .filter(
            pl.col("subject_id") == pl.col("stay_subject"),
            given.is_null() | (given == pl.col("stay_id")),
        )
        .with_columns(icustay_id="stay_id")
        .drop("stay_id", "stay_subject")
    )


# One function per cleaning rule: (text, unit, label) -> number; unit and label in lower case.

Cleaner = Callable[[pl.Series, pl.Series, pl.Series], pl.Series]


def to_number(text: pl.Series) -> pl.Series:
    """Return each text as Float64, as Python's float() reads it; null where float() raises."""
    number = text.cast(pl.Float64, strict=False)
    unread = text.filter(number.is_null() & text.is_not_null()).unique()
    if len(unread):
        read = unread.map_elements(_python_float, return_dtype=pl.Float64)
        number = number.fill_null(text.replace_strict(unread, read, default=None))
    return number.fill_nan(None)


def _python_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _where(condition: pl.Series, then: np.ndarray, otherwise: pl.Series) -> pl.Series:
    """Return an element-wise choice; nulls stay null."""
    chosen = np.where(condition.fill_null(False).to_numpy(), then, otherwise.to_numpy())
    return pl.Series(otherwise.name, chosen).fill_nan(None)


def capillary_refill(text: pl.Series, unit: pl.Series, label: pl.Series) -> pl.Series:
    """Return 0 for normal or brisk, 1 for abnormal or delayed, else null."""
    meaning = {"Normal <3 secs": 0.0, "Brisk": 0.0, "Abnormal >3 secs": 1.0, "Delayed": 1.0}
    return text.replace_strict(meaning, default=None, return_dtype=pl.Float64)


def _pressure(part: int) -> Cleaner:
    def pressure(text: pl.Series, unit: pl.Series, label: pl.Series) -> pl.Series:
        """Return `part` of "systolic/diastolic" where there is a slash, else the number."""
        split = text.str.extract(r"^(\d+)/(\d+)$", part)
        slash = text.str.contains("/", literal=True)
        return to_number(split.zip_with(slash, text))

    return pressure


systolic_pressure = _pressure(1)
diastolic_pressure = _pressure(2)


def inspired_oxygen(text: pl.Series, unit: pl.Series, label: pl.Series) -> pl.Series:
    """Divide every value by 100 unless its unit is torr, even 0.4.

    The reference intends to leave values up to 1, but its condition is always true in Python 3.
    """
    number = to_number(text)
    percent = ~unit.str.contains("torr", literal=True)
    return _where(percent, number.to_numpy() / 100.0, number)


def inspired_oxygen_corrected(text: pl.Series, unit: pl.Series, label: pl.Series) -> pl.Series:
    """Convert percentages (above 1) to fractions."""
    number = to_number(text)
    percent = ~unit.str.contains("torr", literal=True) & (number > 1.0)
    return _where(percent, number.to_numpy() / 100.0, number)


def oxygen_saturation(text: pl.Series, unit: pl.Series, label: pl.Series) -> pl.Series:
    """Return plain numbers; convert fractions (up to 1) to percentages."""
    number = plain_number(text, unit, label)
    return _where(number <= 1.0, number.to_numpy() * 100.0, number)


def plain_number(text: pl.Series, unit: pl.Series, label: pl.Series) -> pl.Series:
    """Return plain decimal numbers; "NEG", ">500", "-3" and "1e3" become null."""
    return to_number(text.set(~text.str.contains(_PLAIN_NUMBER), None))


def _celsius(number: pl.Series) -> np.ndarray:
    return (number.to_numpy() - 32.0) * 5.0 / 9.0


def temperature(text: pl.Series, unit: pl.Series, label: pl.Series) -> pl.Series:
    """Convert values from 79 up from Fahrenheit. The reference's other checks are never true."""
    number = to_number(text)
    return _where(number >= 79.0, _celsius(number), number)


def temperature_corrected(text: pl.Series, unit: pl.Series, label: pl.Series) -> pl.Series:
    """Convert Fahrenheit by unit or label; values from 79 up also if neither says Celsius."""
    number = to_number(text)
    says_f = unit.str.contains("f", literal=True) | label.str.contains(r"\[f\]|fahrenheit| f\b")
    says_c = unit.str.contains("c", literal=True) | label.str.contains(r"\[c\]|celsius| c\b")
    return _where(says_f | (~says_c & (number >= 79.0)), _celsius(number), number)


def weight(text: pl.Series, unit: pl.Series, label: pl.Series) -> pl.Series:
    """Convert ounces and pounds, by unit or label, to kilograms."""
    number = to_number(text)
    ounces = unit.str.contains("oz", literal=True) | label.str.contains("oz", literal=True)
    pounds = unit.str.contains("lb", literal=True) | label.str.contains("lb", literal=True)
    in_pounds = _where(ounces, number.to_numpy() / 16.0, number)
    return _where(ounces | pounds, in_pounds.to_numpy() * 0.453592, number)


def height(text: pl.Series, unit: pl.Series, label: pl.Series) -> pl.Series:
    """Convert inches, by unit or label, to whole centimetres (half to even)."""
    number = to_number(text)
    inches = unit.str.contains("in", literal=True) | label.str.contains("in", literal=True)
    return _where(inches, np.round(number.to_numpy() * 2.54), number)


CLEANERS: dict[str, Cleaner] = {
    "Capillary refill rate": capillary_refill,
    "Diastolic blood pressure": diastolic_pressure,
    "Systolic blood pressure": systolic_pressure,
    "Fraction inspired oxygen": inspired_oxygen,
    "Oxygen saturation": oxygen_saturation,
    "Glucose": plain_number,
    "pH": plain_number,
    "Temperature": temperature,
    "Weight": weight,
    "Height": height,
}
CORRECTED_CLEANERS = CLEANERS | {
    "Fraction inspired oxygen": inspired_oxygen_corrected,
    "Temperature": temperature_corrected,
}


def clean(events: pl.DataFrame, mode: Mode) -> tuple[pl.DataFrame, dict[str, dict[str, int]]]:
    """Return the measurements (`MEASUREMENTS`) of valid rows, and counts of rows by variable.

    events: valid rows of mapped items: subject_id, icustay_id, itemid, charttime, value, valueuom;
            of MIMIC-IV's LABEVENTS also valuenum
    mode:   `benchmark`, or `corrected` (see `CORRECTIONS`)

    Returns:
        The measurements, and {variable: {mapped, empty, unreadable, no_time, ...: rows}}.
    """
    if "valuenum" in events.columns:
        hidden = (pl.col("value") == HIDDEN) & pl.col("valuenum").is_not_null()
        shown = pl.when("hidden").then("valuenum").otherwise("value")
        events = events.with_columns(hidden=hidden).with_columns(value=shown)
    named = events.join(items(mode), on="itemid", how="left")  # copies no columns
    return clean_named(named.filter(pl.col("variable").is_not_null()), mode)


def clean_named(events: pl.DataFrame, mode: Mode) -> tuple[pl.DataFrame, dict[str, dict[str, int]]]:
    """Do what `clean` does with rows that name their variable (its position) and label."""
    times = parse_time(events["charttime"]).alias("time")
    events = events.drop("hadm_id", "itemid", "charttime", strict=False).with_columns(times)
    parts, counts = [], {}
    for (code,), rows in events.partition_by("variable", as_dict=True).items():
        name = schema.VARIABLES[code]
        part, counts[name] = _clean_variable(rows, name, mode)
        parts.append(part)
    return pl.concat([pl.DataFrame(schema=MEASUREMENTS), *parts]), counts


def _clean_variable(
    rows: pl.DataFrame, name: str, mode: Mode
) -> tuple[pl.DataFrame, dict[str, int]]:
    present = rows.filter(~pl.col("value").is_in(schema.MISSING_TEXTS))
    count = {"mapped": rows.height, "empty": rows.height - present.height}
    if "hidden" in rows.columns:
        count["from_valuenum"] = int(rows["hidden"].sum())
    if name in UNTOUCHED:
        number, text = pl.Series([None] * present.height, dtype=pl.Float64), present["value"]
    else:
        cleaner = (CORRECTED_CLEANERS if mode == "corrected" else CLEANERS)[name]
        unit = present["valueuom"].fill_null("").str.to_lowercase()
        number = cleaner(present["value"], unit, present["label"].str.to_lowercase())
        text = pl.Series([None] * present.height, dtype=pl.String)
        count["unreadable"] = number.null_count()
    cleaned = present.with_columns(number.alias("number"), text.alias("text"))
    cleaned = cleaned.filter(pl.any_horizontal(pl.col("number", "text").is_not_null()))
    if mode == "corrected":
        cleaned, changed = _plausible(cleaned, name)
        count |= changed
    timed = cleaned.filter(pl.col("time").is_not_null())
    count |= {"no_time": cleaned.height - timed.height, "kept": timed.height}
    return timed.select(MEASUREMENTS.names()), count


def _plausible(rows: pl.DataFrame, name: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """Drop values outside the outlier range, clip the rest to the valid range, and count both."""
    variable = next(v for v in schema.variables() if v.name == name)
    if variable.outlier is None or variable.valid is None:
        return rows, {}
    number = rows["number"] if name not in UNTOUCHED else to_number(rows["text"])
    inside = number.is_between(*variable.outlier).fill_null(False)
    kept, number = rows.filter(inside), number.filter(inside)
    clipped = number.clip(*variable.valid)
    moved = clipped != number
    counts = {"implausible": rows.height - kept.height, "clipped": int(moved.sum())}
    if name not in UNTOUCHED:
        return kept.with_columns(clipped.alias("number")), counts
    text = clipped.cast(pl.String).zip_with(moved, kept["text"])
    return kept.with_columns(text.alias("text")), counts


def add_counts(total: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return the sum of two nested dictionaries of counts."""
    merged = dict(total)
    for key, value in part.items():
        if isinstance(value, dict):
            merged[key] = add_counts(merged.get(key, {}), value)
        else:
            merged[key] = merged.get(key, 0) + value
    return merged
