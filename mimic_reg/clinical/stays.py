"""Select the ICU stays that the benchmark keeps, with the same filters in the same order.

Source: Harutyunyan et al. 2019; rules 1-7 of the reference's `extract_subjects`. The order matters:
transfers are removed before admissions with several stays, so an admission with one transferred
and one other stay is kept.

MIMIC-IV has no wards, no dates of birth and no published split: see `_age` and `hash_split`.
"""

import hashlib
from datetime import datetime
from itertools import chain
from typing import Any, Literal

import numpy as np
import polars as pl

from mimic_reg.clinical.schema import DIAGNOSES, MISSING_TEXTS, NO_ID, STAYS, resource
from mimic_reg.errors import InputError

MIN_AGE = 18.0
# MIMIC-IV hides higher ages: it gives this one for all of them.
MAX_AGE_SHOWN, AGE_IF_HIGHER = 89.0, 91.0
# The longest stay of MIMIC-III is 173 days. An array has a row per hour, so this limits memory.
MAX_DAYS = 3_650
# Ages overflowed in early versions of the reference; MIMIC itself has none below 0.
AGE_IF_NEGATIVE = 90.0

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"  # MIMIC's own
_OTHER_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
# MIMIC's times have no time zone; some databases export them as UTC.
_UTC = r" ?(UTC|Z|\+00(:?00)?)$"


def parse_time(text: pl.Series) -> pl.Series:
    """Return times in microseconds from MIMIC's text; null where unreadable.

    Exports of databases are read too: a date alone, without seconds or with fractions of seconds, a
    "T" before the hour, UTC at the end.
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
    """Return the seconds from `earlier` to `later`; NaN where either is null.

    NumPy divides: Polars multiplies by the reciprocal, which differs in the last bit.
    """
    seconds: np.ndarray = (later - earlier).dt.total_microseconds().cast(pl.Float64).to_numpy()
    return seconds / 1e6


def hours_between(later: pl.Series, earlier: pl.Series) -> pl.Series:
    """Return the hours from `earlier` to `later`, by the two divisions of the reference."""
    return pl.Series(later.name, seconds_between(later, earlier) / 60.0 / 60.0).fill_nan(None)


def attrition(stays: pl.DataFrame) -> dict[str, int]:
    """Return the numbers of unique stays, admissions and subjects in a table of stays."""
    columns = {"stays": "icustay_id", "admissions": "hadm_id", "subjects": "subject_id"}
    return {name: stays[column].n_unique() for name, column in columns.items()}


def select_stays(
    icustays: pl.DataFrame,
    admissions: pl.DataFrame,
    patients: pl.DataFrame,
    *,
    split: Literal["published", "hash"] = "published",
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Return the kept stays (`schema.STAYS` without the columns from events) and the cohort flow.

    icustays, admissions, patients: the source's tables, with all columns except ids as text
    split: the benchmark's lists of subjects, or `hash_split`

    Raises:
        InputError: an id is missing or not unique, or a time is unreadable.
    """
    icustays = _checked(icustays, "ICUSTAYS", "icustay_id", "intime", "outtime")
    admitted = ("admittime", "dischtime", "deathtime")
    admissions = _checked(admissions, "ADMISSIONS", "hadm_id", *admitted)
    patients = _anchors(_checked(patients, "PATIENTS", "subject_id", "dob", "dod"))

    flow = [{"step": "all ICU stays", **attrition(icustays)}]
    places = [pair for pair in _PLACES if pair[0] in icustays.columns]
    stays = icustays.filter(_same(*pair) for pair in places)
    flow.append({"step": "no transfers", **attrition(stays)})
    there = stays.height
    stays = stays.join(admissions, on=["subject_id", "hadm_id"]).join(patients, on="subject_id")
    if stays.height < there:  # never in MIMIC-III: one of the tables is incomplete
        flow.append({"step": "in ADMISSIONS and PATIENTS", **attrition(stays)})
    stays = stays.filter(pl.len().over("hadm_id") == 1)
    flow.append({"step": "one stay per admission", **attrition(stays)})
    stays = stays.with_columns(_age(stays)).filter(pl.col("age") >= MIN_AGE)
    flow.append({"step": "age 18 or more", **attrition(stays)})
    return _with_facts(stays, split), flow


_PLACES = (("first_wardid", "last_wardid"), ("first_careunit", "last_careunit"))
_ANCHORS = ("anchor_age", "anchor_year")


def select_current(
    icustays: pl.DataFrame, patients: pl.DataFrame, now: datetime | None = None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return subject_id, hadm_id, icustay_id, intime, outtime of current stays; {reason: left out}.

    The criteria are those of `select_stays`, in its order, as far as they are known during a stay:
    outtime is null while the patient is in the unit, and a patient counts as transferred once the
    stay has another last unit than its first one.

    icustays, patients: the source's tables, with all columns except ids as text
    now: what the tables say of later times is not used; None: they say nothing

    Raises:
        InputError: an id is missing or not unique, or a time is unreadable.
    """
    absent = [c for c in ("outtime", *chain(*_PLACES)) if c not in icustays.columns]
    icustays = icustays.with_columns(pl.lit(None, pl.String).alias(c) for c in absent)
    icustays = _checked(icustays, "ICUSTAYS", "icustay_id", "intime", "outtime")
    patients = _anchors(_checked(patients, "PATIENTS", "subject_id", "dob"), required=False)
    excluded: dict[str, int] = {}

    def keep(stays: pl.DataFrame, condition: pl.Expr, reason: str) -> pl.DataFrame:
        kept = stays.filter(condition)
        if kept.height < stays.height:
            excluded[reason] = stays.height - kept.height
        return kept

    stays = keep(icustays, pl.col("intime").is_not_null(), "without a time of admission")
    if now is not None:
        stays = keep(stays, pl.col("intime") <= now, "not admitted yet")
        there = pl.col("outtime") > now
        unknown = ("outtime", "last_wardid", "last_careunit")
        stays = stays.with_columns(
            pl.when(~there.fill_null(False)).then(c).alias(c) for c in unknown
        )
    moved = ~pl.all_horizontal(_same(*pair) for pair in _PLACES)
    stays = keep(stays, ~moved.fill_null(False), "transferred between units")
    stays = keep(stays, pl.len().over("hadm_id") == 1, "another stay in the same admission")
    stays = stays.join(patients.with_columns(known=True), on="subject_id", how="left")
    stays = keep(stays, pl.col("known").is_not_null(), "not in PATIENTS")
    stays = stays.with_columns(_age(stays))
    stays = keep(stays, pl.col("age").is_not_null(), "of unknown age")
    stays = keep(stays, pl.col("age") >= MIN_AGE, f"younger than {MIN_AGE:g}")
    return stays.select("subject_id", "hadm_id", "icustay_id", "intime", "outtime"), excluded


def _checked(table: pl.DataFrame, name: str, key: str, *times: str) -> pl.DataFrame:
    """Return a table with whole ids, of which `key` is unique; parse those of `times` it has."""
    ids = [c for c in ("subject_id", "hadm_id", "icustay_id") if c in table.columns]
    bad = table.filter(pl.any_horizontal(pl.col(ids).is_null() | (pl.col(ids) == NO_ID))).height
    if bad:
        raise InputError(
            f"{name}: {bad:,} rows have an empty or non-numeric "
            f"{' or '.join(c.upper() for c in ids)}. Each must be a whole number, such as 145834 "
            "(not 145834.0). Is it MIMIC's own table?"
        )
    if twice := table.height - table[key].n_unique():
        raise InputError(
            f"{name}: {twice:,} rows repeat an earlier {key.upper()}. "
            "Was the table written or loaded twice? Each must be unique."
        )
    columns = [c for c in times if c in table.columns]
    parsed = table.with_columns(parse_time(_present(table[c])) for c in columns)
    for column in columns:
        if bad := parsed[column].null_count() - _present(table[column]).null_count():
            raise InputError(
                f"{name}: {bad:,} rows have a {column.upper()} that is not a time like "
                "2130-02-04 04:00:00. Is it MIMIC's own table?"
            )
    return parsed


def _anchors(patients: pl.DataFrame, *, required: bool = True) -> pl.DataFrame:
    """Return patients with `_ANCHORS` as numbers, if the table has them."""
    for column in (c for c in _ANCHORS if c in patients.columns):
        text = patients[column]
        number = text.cast(pl.Float64, strict=False).fill_nan(None)
        if odd := number.null_count() - (0 if required else _present(text).null_count()):
            raise InputError(
                f"PATIENTS: {odd:,} rows have no {column.upper()} that is a number, such as 52 or "
                "2180. Is it MIMIC-IV's own table?"
            )
        patients = patients.with_columns(number)
    return patients


def _present(text: pl.Series) -> pl.Series:
    return text.set(text.is_in(MISSING_TEXTS), None)


def _same(first: str, last: str) -> pl.Expr:
    """Return whether two columns are equal as text or numbers (52 and 52.0); null if missing."""
    a, b = (pl.when(~pl.col(c).is_in(MISSING_TEXTS)).then(pl.col(c)) for c in (first, last))
    numbers = a.cast(pl.Float64, strict=False) == b.cast(pl.Float64, strict=False)
    return (a == b) | numbers.fill_null(False)


def _age(stays: pl.DataFrame) -> pl.Series:
    """Return ages at INTIME: since DOB, or for MIMIC-IV in whole years since the anchor year.

    MIMIC-IV has ANCHOR_AGE, the age in the year ANCHOR_YEAR, and 91 for all ages above 89. A
    patient who passes 89 later gets 91 as well.
    """
    if "anchor_age" in stays.columns:
        age = pl.col("intime").dt.year() - pl.col("anchor_year") + pl.col("anchor_age")
        shown = pl.when(age > MAX_AGE_SHOWN).then(AGE_IF_HIGHER).otherwise(age)
        return stays.select(age=shown)["age"]
    years = seconds_between(stays["intime"], stays["dob"]) / 3600.0 / 24.0 / 365.0
    return pl.Series("age", np.where(years < 0, AGE_IF_NEGATIVE, years)).fill_nan(None)


def _died_between(start: str, end: str) -> pl.Expr:
    """Return whether DOD (a midnight) or DEATHTIME is in [start, end]; null is false."""
    return pl.any_horizontal(
        pl.col(c).is_between(start, end).fill_null(False) for c in ("dod", "deathtime")
    ).cast(pl.Int8)


def odd_length(los: pl.Series) -> tuple[int, str] | None:
    """Return the first LOS that is not a number of days up to `MAX_DAYS`: its row and the problem.

    Empty ones and "NA" are allowed, as in the reference: no task uses such a stay. "nan" is
    refused: no database writes it, and the reference silently reads it as empty. Numbers below 0
    are allowed, since no measurement is within such a stay. Rows are counted from 0.
    """
    days = los.cast(pl.Float64, strict=False)
    reasons = {
        "is not a finite number": (days.is_null() & _present(los).is_not_null())
        | ~days.is_finite(),
        "is too long": days.is_finite() & (days > MAX_DAYS),
    }
    found = [(row[0], why) for why, odd in reasons.items() if len(row := odd.arg_true())]
    return min(found, default=None)


def hash_split(subject_id: int) -> str:
    """Return the split of a subject of MIMIC-IV: 70 % train, 15 % val, 15 % test.

    The first 8 digits of the id's SHA-256, in hexadecimal, as a share of the largest such number.
    """
    share = int(hashlib.sha256(str(subject_id).encode()).hexdigest()[:8], 16) / 16**8
    return "train" if share < 0.7 else "val" if share < 0.85 else "test"


def count_flags_that_differ(stays: pl.DataFrame, admissions: pl.DataFrame) -> int | None:
    """Return how many stays have a HOSPITAL_EXPIRE_FLAG other than their mortality.

    The benchmark does not use the flag. None: the source has no such column.
    """
    if "hospital_expire_flag" not in admissions.columns:
        return None
    flag = pl.col("hospital_expire_flag").cast(pl.Float64, strict=False)
    joined = stays.select("hadm_id", "mortality").join(admissions, on="hadm_id")
    return joined.filter(flag.is_not_null(), flag != pl.col("mortality")).height


# What identifies a code of a diagnosis: in MIMIC-III and in MIMIC-IV.
_CODES = ("icd9_code", "icd_code", "icd_version")


def _code_of(table: pl.DataFrame) -> list[str]:
    return [c for c in _CODES if c in table.columns]


def count_repeated(diagnoses: pl.DataFrame, dictionary: pl.DataFrame) -> dict[str, int]:
    """Return the number of rows that repeat an earlier one, by table.

    diagnoses:  DIAGNOSES_ICD; a repeated row equals an earlier one in every column
    dictionary: D_ICD_DIAGNOSES; a repeated row has an earlier code
    """
    code = _code_of(dictionary)
    tables = {"DIAGNOSES_ICD": diagnoses, "D_ICD_DIAGNOSES": dictionary.select(code)}
    coded = {name: t.drop_nulls(code) for name, t in tables.items()}
    return {name: table.height - table.n_unique() for name, table in coded.items()}


def _with_facts(stays: pl.DataFrame, split: Literal["published", "hash"]) -> pl.DataFrame:
    los = _present(stays["los"]).cast(pl.Float64, strict=False)
    if split == "published":
        splits = pl.read_csv(resource("published_split.csv").read_bytes())
    else:
        subjects = stays["subject_id"].unique()
        each = pl.Series("split", map(hash_split, subjects), pl.String)
        splits = pl.DataFrame([subjects, each])
    return (
        stays.with_columns(
            (24.0 * los).alias("los_hours"),
            _died_between("admittime", "dischtime").alias("mortality"),
            _died_between("intime", "outtime").alias("mortality_inunit"),
        )
        .join(splits, on="subject_id", how="left")
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
    """Return the kept stays' diagnoses: codes in the dictionary, as text.

    The columns are `schema.DIAGNOSES`. Those of MIMIC-IV have icd_code and icd_version instead of
    icd9_code, which `icd.add_icd9` adds.

    A repeated row counts once. The reference keeps all of them, but gives the same labels, which
    tell whether a stay has a diagnosis of a group, not how many.
    """
    code = _code_of(dictionary)
    known = dictionary.select(code).drop_nulls()
    return (
        diagnoses.unique()
        .join(known, on=code, how="semi")
        .join(stays.select("subject_id", "hadm_id", "icustay_id"), on=["subject_id", "hadm_id"])
        .with_columns(pl.col("seq_num").cast(pl.Float64, strict=False).cast(pl.Int32))
        .sort("icustay_id", "seq_num", *code, nulls_last=True)
        .select(*(c for c in DIAGNOSES if c not in _CODES), *code)
    )


def count_diagnoses(diagnoses: pl.DataFrame) -> pl.DataFrame:
    """Return icustay_id and num_diagnoses; an ICD-10 code that has several parts counts once."""
    if "icd_code" in diagnoses.columns:
        diagnoses = diagnoses.drop("icd9_code").unique()
    return diagnoses.group_by("icustay_id").agg(num_diagnoses=pl.len().cast(pl.Int32))
