"""Patients who are easy to find again: ids that nothing else has, times of another century."""

import re
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl

from mimic_reg.simulation.synthesis import synthesize
from tests.stores import write_manifest

SHIFT = 731_000_000  # added to every id: nine digits that nothing else has
ID_COLUMNS = ("subject_id", "hadm_id", "icustay_id")
# a number by itself, not digits of another one or of a hash
_ID = re.compile(rb"(?<![\da-fA-F.])731\d{6}(?![\da-fA-F])")
# MIMIC-III's times are moved to the years 2100 to 2210; nothing else is of these
_TIME = re.compile(rb"2[12]\d\d-[01]\d-[0-3]\d[ T][0-2]\d:[0-5]\d")

EXAMPLE = "2130-02-04 04:00"  # how a time should look, in an error about one that does not


def write_raw(folder, *, patients):
    """Simulated tables; admissions, stays and the subjects of no published split have shifted ids.

    The published lists decide who is validated and tested, so `shift_store` moves those later.
    """
    synthesize(folder, patients=patients, seed=3)
    listed = Path("mimic_reg/clinical/resources/published_split.csv")
    published = set(pl.read_csv(Path(__file__).parents[2] / listed)["subject_id"])
    for path in folder.glob("*.csv"):
        table = pl.read_csv(path, infer_schema=False)
        moved = []
        for name in set(ID_COLUMNS) & {c.lower() for c in table.columns}:
            column = next(c for c in table.columns if c.lower() == name)
            number = pl.col(column).cast(pl.Int64)
            shifted = number + SHIFT
            if name == "subject_id":
                shifted = pl.when(number.is_in(published)).then(number).otherwise(shifted)
            moved.append(shifted.cast(pl.String).alias(column))
        table.with_columns(moved).write_csv(path, quote_style="necessary", null_value="")
    return folder


def shift_store(store):
    """Shift the ids of a store that `write_raw` did not; returns all ids of the store."""
    found = set()
    for path in store.rglob("*.parquet"):
        table = pl.read_parquet(path)
        names = [c for c in ID_COLUMNS if c in table.columns]
        shifted = [
            pl.when(pl.col(c) < SHIFT).then(pl.col(c) + SHIFT).otherwise(pl.col(c)) for c in names
        ]
        table = table.with_columns(shifted)
        table.write_parquet(path)
        for name in names:
            found |= set(table[name])
    write_manifest(store)
    return found


def times_of(store):
    """Times of a store's stays, in microseconds since 1970."""
    stays = pl.read_parquet(store / "stays.parquet")
    columns = stays.select(pl.col(pl.Datetime).dt.epoch("us"))
    return {value for column in columns for value in column.drop_nulls()}


def in_bytes(content, times=()):
    """Ids and times in a file or a database's dump, as text or as numbers of 64 bits.

    times: of the source, in microseconds since 1970
    """
    found = {match.group().decode() for match in _ID.finditer(content)}
    # the peak memory of a run, in bytes, may have such a number, but has whole kilobytes
    found = {number for number in found if int(number) % 1024}
    found |= {match.group().decode() for match in _TIME.finditer(content)} - {EXAMPLE}
    return found | in_numbers(content, times)


def in_numbers(content, times=()):
    """Ids and times among all numbers of 64 bits, whole or real, at any position."""
    found = set()
    for offset in range(min(8, len(content))):
        size = (len(content) - offset) // 8 * 8
        for kind in ("<i8", "<f8"):
            values = np.frombuffer(content, kind, size // 8, offset)
            with np.errstate(invalid="ignore"):
                hits = values[(values >= SHIFT) & (values < SHIFT + 1_000_000)]
            found |= {str(int(v)) for v in hits if v == int(v)}
            if kind == "<i8" and times:
                found |= {f"{v} µs" for v in values[np.isin(values, list(times))]}
    return found


def in_file(path, times=()):
    """The same for a file; tables and databases are opened, since they pack their values."""
    found = in_bytes(path.read_bytes(), times)
    if path.suffix == ".parquet":
        table = pl.read_parquet(path)
        found |= in_bytes(table.write_csv().encode()) | {
            c for c in table.columns if c in ID_COLUMNS
        }
    if path.suffix == ".db":
        with sqlite3.connect(path) as database:
            found |= in_bytes("\n".join(database.iterdump()).encode())
        database.close()
    return found


def in_folder(folder, *, times=(), without=()):
    """Found in all files below a folder: path → what; and how many files there were."""
    files = [
        p for p in folder.rglob("*") if p.is_file() and not any(w in p.parents for w in without)
    ]
    return {p: found for p in files if (found := in_file(p, times))}, len(files)
