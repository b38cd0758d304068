"""The cohort: which ICU stays the benchmark keeps, in its order of filters, and their facts.

Source: Harutyunyan et al. 2019; rules 1-7 of the reference's `extract_subjects`. The order matters:
transfers are removed before admissions with several stays, so an admission with one transferred
and one clean stay survives.
"""

from typing import Any

import numpy as np
import polars as pl

from mimic_reg.clinical.schema import DIAGNOSES, MISSING_TEXTS, NO_ID, STAYS, resource
from mimic_reg.errors import InputError

MIN_AGE = 18.0
# The longest stay of MIMIC-III is 173 days. An array has a row an hour, so a bound bounds memory.
MAX_DAYS = 3_650
# Ages that overflowed in the reference's early versions; MIMIC itself has none below 0.
AGE_IF_NEGATIVE = 90.0

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"  # MIMIC's own
_OTHER_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
# MIMIC's times know no zone; databases that export them as UTC say so at the end.
_UTC = r" ?(UTC|Z|\+00(:?00)?)$"


def parse_time(text: pl.Series) -> pl.Series:
    """Datetime (microseconds) of MIMIC's text, or as databases export it; null where unreadable.

    Read too: a date alone, no seconds or fractions of them, a "T" before the hour, UTC at the end.
    """
    time = _parse(text, TIME_FORMAT)
    if time.null_count() > text.null_count():
        plain = text.str.replace(r"^(\d{4}-\d\d-\d\d)T", "$1 ").str.replace(_UTC, "")
        for form in _OTHER_FORMATS:
            time = time.zip_with(time.is_not_null(), _parse(plain, form))
    return time


def _parse(text: pl.Series, form: str) -> pl.Series:
    return text.str.to_datetime(form, strict=False, exact=True, time_unit="us")


def seconds_between(later: pl.Series, earlier: pl.Series) -> np.ndarray:
    """Seconds from `earlier` to `later`; NaN where either is null.

    NumPy divides; Polars would multiply by the reciprocal, which differs in the last bit.
    """
    seconds: np.ndarray = (later - earlier).dt.total_microseconds().cast(pl.Float64).to_numpy()
    return seconds / 1e6


def hours_between(later: pl.Series, earlier: pl.Series) -> pl.Series:
    """Hours from `earlier` to `later`, by the reference's two divisions, to the last bit."""
    return pl.Series(later.name, seconds_between(later, earlier) / 60.0 / 60.0).fill_nan(None)


def attrition(stays: pl.DataFrame) -> dict[str, int]:
    """Unique stays, admissions and subjects of a table of stays."""
    columns = {"stays": "icustay_id", "admissions": "hadm_id", "subjects": "subject_id"}
    return {name: stays[column].n_unique() for name, column in columns.items()}


def select_stays(
    icustays: pl.DataFrame, admissions: pl.DataFrame, patients: pl.DataFrame
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """The kept stays (`schema.STAYS` but for the columns that events give) and the cohort flow.

    Args:
        icustays, admissions, patients: the source's tables, all but the ids as text.

    Raises:
        InputError: ids missing, or standing twice, where they must be unique; unreadable times.
    """
    icustays = _times(_checked(icustays, "ICUSTAYS", "icustay_id"), "ICUSTAYS", "intime", "outtime")
    admissions = _times(
        _checked(admissions, "ADMISSIONS", "hadm_id"),
        *("ADMISSIONS", "admittime", "dischtime", "deathtime"),
    )
    patients = _times(_checked(patients, "PATIENTS", "subject_id"), "PATIENTS", "dob", "dod")

    flow = [{"step": "all ICU stays", **attrition(icustays)}]
    stays = icustays.filter(_same("first_wardid", "last_wardid"), _same(*_CAREUNITS))
    flow.append({"step": "no transfers", **attrition(stays)})
    there = stays.height
    stays = stays.join(admissions, on=["subject_id", "hadm_id"]).join(patients, on="subject_id")
    if stays.height < there:  # never in MIMIC-III: one of the tables is not whole
        flow.append({"step": "in ADMISSIONS and PATIENTS", **attrition(stays)})
    stays = stays.filter(pl.len().over("hadm_id") == 1)
    flow.append({"step": "one stay an admission", **attrition(stays)})
    stays = stays.with_columns(_age(stays)).filter(pl.col("age") >= MIN_AGE)
    flow.append({"step": "age 18 or more", **attrition(stays)})
    return _with_facts(stays), flow


_CAREUNITS = ("first_careunit", "last_careunit")


def _checked(table: pl.DataFrame, name: str, key: str) -> pl.DataFrame:
    ids = [c for c in ("subject_id", "hadm_id", "icustay_id") if c in table.columns]
    bad = table.filter(pl.any_horizontal(pl.col(ids).is_null() | (pl.col(ids) == NO_ID))).height
    if bad:
        raise InputError(
            f"{name}: {bad:,} rows have an empty or non-numeric "
            f"{' or '.join(c.upper() for c in ids)}. Each must be a whole number, such as 145834 "
            "(not 145834.0). Is it MIMIC-III's own table?"
        )
    twice = table.height - table[key].n_unique()
    if twice:
        raise InputError(
            f"{name}: {twice:,} rows repeat an earlier {key.upper()}. "
            "Was the table written or loaded twice? Each must stand once."
        )
    return table


def _times(table: pl.DataFrame, name: str, *columns: str) -> pl.DataFrame:
    parsed = table.with_columns(parse_time(_present(table[c])) for c in columns)
    for column in columns:
        bad = parsed[column].null_count() - _present(table[column]).null_count()
        if bad:
            raise InputError(
                f"{name}: {bad:,} rows have a {column.upper()} that is no time like "
                "2130-02-04 04:00:00. Is it MIMIC-III's own table?"
            )
    return parsed


def _present(text: pl.Series) -> pl.Series:
    return text.set(text.is_in(MISSING_TEXTS), None)


def _same(first: str, last: str) -> pl.Expr:
    """Equal as text or as numbers (52 and 52.0); null where either is missing."""
    a, b = (pl.when(~pl.col(c).is_in(MISSING_TEXTS)).then(pl.col(c)) for c in (first, last))
    numbers = a.cast(pl.Float64, strict=False) == b.cast(pl.Float64, strict=False)
    return (a == b) | numbers.fill_null(False)


def _age(stays: pl.DataFrame) -> pl.Series:
    years = seconds_between(stays["intime"], stays["dob"]) / 3600.0 / 24.0 / 365.0
    return pl.Series("age", np.where(years < 0, AGE_IF_NEGATIVE, years)).fill_nan(None)


def _died_between(start: str, end: str) -> pl.Expr:
    """DOD (a midnight) or DEATHTIME in [start, end]; nulls are false. Not the EXPIRE flags."""
    return pl.any_horizontal(
        pl.col(c).is_between(start, end).fill_null(False) for c in ("dod", "deathtime")
    ).cast(pl.Int8)


def odd_length(los: pl.Series) -> tuple[int, str] | None:
    """The first LOS that is no number of days up to `MAX_DAYS`: its row, from 0, and why.

    Empty ones and "NA" are allowed, as in the reference: no task uses such a stay. "nan" is not:
    no database writes it, and the reference reads it as empty without a word. Below 0 is allowed
    as well, since no measurement lies within such a stay.
    """
    days = los.cast(pl.Float64, strict=False)
    reasons = {
        "is no finite number": (days.is_null() & _present(los).is_not_null()) | ~days.is_finite(),
        "is beyond any stay": days.is_finite() & (days > MAX_DAYS),
    }
    found = [(row[0], why) for why, odd in reasons.items() if len(row := odd.arg_true())]
    return min(found, default=None)


def count_repeated(diagnoses: pl.DataFrame, dictionary: pl.DataFrame) -> dict[str, int]:
    """Rows that repeat an earlier one, by table: the same diagnosis at the same place; a code.

    Args:
        diagnoses: DIAGNOSES_ICD, rows of the whole table.
        dictionary: D_ICD_DIAGNOSES.
    """
    tables = {"DIAGNOSES_ICD": diagnoses, "D_ICD_DIAGNOSES": dictionary.select("icd9_code")}
    coded = {name: t.drop_nulls("icd9_code") for name, t in tables.items()}
    return {name: table.height - table.n_unique() for name, table in coded.items()}


def _with_facts(stays: pl.DataFrame) -> pl.DataFrame:
    los = _present(stays["los"]).cast(pl.Float64, strict=False)
    published = pl.read_csv(resource("published_split.csv").read_bytes())
    return (
        stays.with_columns(
            (24.0 * los).alias("los_hours"),
            _died_between("admittime", "dischtime").alias("mortality"),
            _died_between("intime", "outtime").alias("mortality_inunit"),
        )
        .join(published, on="subject_id", how="left")
        .with_columns(pl.col("split").fill_null("train"))
        .sort("subject_id", "intime", "outtime", nulls_last=True, maintain_order=True)
        .with_columns(
            pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("subject_id").alias("episode")
        )
        .select(c for c in STAYS if c not in ("first_event_hours", "num_diagnoses"))
    )


def select_diagnoses(
    diagnoses: pl.DataFrame, dictionary: pl.DataFrame, stays: pl.DataFrame
) -> pl.DataFrame:
    """The kept stays' diagnoses (`schema.DIAGNOSES`): codes that are in the dictionary, as text.

    A row that repeats an earlier one counts once. The reference joins it as often as it stands, and
    comes to the same labels: it asks whether a stay has a diagnosis of a group, not how many.
    """
    known = dictionary.select("icd9_code").drop_nulls()
    return (
        diagnoses.unique()
        .join(known, on="icd9_code", how="semi")
        .join(stays.select("subject_id", "hadm_id", "icustay_id"), on=["subject_id", "hadm_id"])
        .with_columns(pl.col("seq_num").cast(pl.Float64, strict=False).cast(pl.Int32))
        .sort("icustay_id", "seq_num", "icd9_code", nulls_last=True)
        .select(DIAGNOSES.names())
    )
