"""Check that a source can give a cohort: it needs rows, valid lengths of stay, and samples."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from mimic_reg.clinical.datasets import EVENT_TABLES, Dataset
from mimic_reg.clinical.stays import MAX_DAYS, odd_length
from mimic_reg.errors import InputError
from mimic_reg.extraction.audit import left_out
from mimic_reg.progress import Progress
from mimic_reg.sources.mimic3 import Table, place_of
from mimic_reg.sources.rows import Reading, check_ids

_REASONS = {
    "no_length_of_stay": "without a LOS",
    "no_diagnosis": "without a diagnosis that D_ICD_DIAGNOSES knows",
    "no_event_within_the_stay": "without a measurement of the 17 variables in the stay",
    "shorter_than_48_hours": "shorter than 48 hours",
}


def check_rows(tables: Mapping[str, Table], allow_empty: Collection[str] = ()) -> None:
    """Refuse tables that have a header but no rows.

    allow_empty: the event tables that may be empty

    Raises:
        InputError: a table is empty (all are named), or `allow_empty` names another table.
    """
    if needed := sorted(set(allow_empty) - set(EVENT_TABLES)):
        raise InputError(
            f"--allow-empty {', '.join(needed)}: only {', '.join(EVENT_TABLES)} may be empty; "
            "if another table is empty, no task has a sample."
        )
    if empty := [t for t in tables.values() if t.empty and t.name not in allow_empty]:
        events = [t.name for t in empty if t.name in EVENT_TABLES]
        wanted = f", or add --allow-empty {','.join(events)} to accept that" if events else ""
        raise InputError(
            f"{empty[0].root}: {', '.join(t.file for t in empty)} "
            f"{'has' if len(empty) == 1 else 'have'} a header but no rows. Download the complete "
            f"table and compare its SHA-256{wanted}."
        )


def check_reading(
    table: Table, reading: Reading, variables: dict[str, Any], progress: Progress
) -> None:
    """Refuse a table without a readable id or time, and note odd rows.

    variables: counts by variable, for an event table

    Raises:
        InputError: no id of a column, or no time, is readable.
    """
    check_ids(table, reading)
    no_time, kept = (sum(v[what] for v in variables.values()) for what in ("no_time", "kept"))
    if no_time and not kept:
        raise InputError(
            f"{table.path}: none of {no_time:,} CHARTTIMEs is a time like 2130-02-04 04:00:00. "
            "Write the table again with such times."
        )
    if not reading.rows:
        progress.note(f"{table.name} has no rows.")
    for column, odd in reading.odd_ids.items():
        if odd:
            progress.note(
                f"{table.name}: {odd:,} {column.upper()}s are not whole numbers and match nothing."
            )


def check_lengths(table: Table, icustays: pl.DataFrame) -> None:
    """Refuse a LOS of ICUSTAYS that is not a length of stay.

    icustays: all rows of the table, in its order

    Raises:
        InputError: names the file and the line.
    """
    if odd := odd_length(icustays["los"]):
        row, problem = odd
        raise InputError(
            f"{table.path}, {place_of(table, row)}: its LOS {problem}. It must be a number "
            f"of days such as 3.2490, at most {MAX_DAYS:,}, or empty. Is it MIMIC's own table?"
        )


def check_diagnoses(dataset: Dataset, stays: pl.DataFrame, diagnoses: pl.DataFrame) -> None:
    """Refuse a source without a diagnosis of any stay: no task would have a sample.

    stays, diagnoses: those of the cohort

    Raises:
        InputError: there is no diagnosis.
    """
    if diagnoses.is_empty():
        raise InputError(
            f"None of {stays.height:,} stays has a row in DIAGNOSES_ICD whose "
            f"{' and '.join(dataset.tables['D_ICD_DIAGNOSES']).upper()} is in D_ICD_DIAGNOSES, so "
            "no task has a sample. Do both tables come from the same release as ICUSTAYS, with "
            "codes as text (0389, not 389)?"
        )


def check_samples(names: Sequence[str], stays: pl.DataFrame) -> None:
    """Refuse tasks without a sample.

    names: these tasks
    stays: `schema.STAYS`, those of the cohort

    Raises:
        InputError: names the tasks, and the reasons why stays were left out.
    """
    if names:
        counts = left_out(stays)
        lack = ", ".join(f"{counts[what]:,} {text}" for what, text in _REASONS.items())
        raise InputError(
            f"No sample for {', '.join(names)}: of {stays.height:,} stays, {lack}. Are the tables "
            "complete, and from the same release? To extract only other tasks, give --tasks."
        )
