"""Read the files of a MEDS data set: events, labels and splits, checked, with counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mimic_reg.cohorts.meds import layout
from mimic_reg.errors import InputError
from mimic_reg.store import reading

PREDICTION = "prediction_time"
_ID, _CODE, _TIME = "subject_id", "code", "time"


@dataclass(frozen=True)
class Events:
    """The shards of a data set.

    codes: all codes in them
    timed: those with a row that has a time; static: with a row that has none
    stay:  their column of stays, or None
    """

    shards: tuple[Path, ...]
    codes: frozenset[str]
    timed: frozenset[str]
    static: frozenset[str]
    stay: str | None

    def scan(self, shard: Path, codes: Sequence[str]) -> pl.LazyFrame:
        """Return the rows of some codes: subject_id, time, code, number, text, stay (or null)."""
        frame = pl.scan_parquet(shard, glob=False)
        present = frame.collect_schema().names()

        def optional(name: str | None, dtype: pl.DataType, alias: str) -> pl.Expr:
            found = pl.col(name) if name in present else pl.lit(None)
            return found.cast(dtype).alias(alias)

        text = optional(layout.TEXT, pl.String(), "text")
        return frame.filter(pl.col(_CODE).cast(pl.String).is_in(list(codes))).select(
            pl.col(_ID).cast(pl.Int64),
            pl.col(_TIME).cast(pl.Datetime("us")),
            pl.col(_CODE).cast(pl.String),
            optional(layout.NUMBER, pl.Float32(), "number").fill_nan(None),
            pl.when(text.str.strip_chars() != "").then(text),
            optional(self.stay, pl.Int64(), "stay"),
        )


def read_events(folder: Path, stay: str) -> Events:
    """Check the shards of a data set.

    Raises:
        InputError: there are none; columns or types are not those of MEDS; a patient is in two
            shards; rows lack a patient or a code, or are not sorted by time.
    """
    place = folder / layout.DATA
    shards = tuple(sorted(place.rglob("*.parquet"))) if place.is_dir() else ()
    if not shards:
        raise InputError(f"{folder} is not a MEDS data set: it has no {layout.DATA}/*.parquet.")
    subjects: set[int] = set()
    timed, static = set[str](), set[str]()
    with_stay = True
    for shard in shards:
        with reading(shard, "a table"):
            schema = pl.scan_parquet(shard, glob=False).collect_schema()
            _check_types(schema, shard, _TIME)
            if not isinstance(schema.get(_CODE), pl.String | pl.Categorical | pl.Enum):
                raise InputError(f"{shard} has no text column 'code', which MEDS needs.")
            found = stay in schema
            if found and not schema[stay].is_integer():
                raise InputError(f"{shard}: {stay!r} holds {schema[stay]}, not whole numbers.")
            with_stay &= found
            here = _check_rows(shard)
            seen = pl.scan_parquet(shard, glob=False).select(
                pl.col(_CODE).cast(pl.String), timed=pl.col(_TIME).is_not_null()
            )
            for code, has_time in seen.unique().collect().iter_rows():
                (timed if has_time else static).add(code)
        if both := len(subjects & here):
            raise InputError(
                f"{both:,} subjects of {shard} are in another shard, too. MEDS keeps all rows of a "
                "subject in one file."
            )
        subjects |= here
    codes = frozenset(timed | static)
    return Events(shards, codes, frozenset(timed), frozenset(static), stay if with_stay else None)


def _check_types(schema: pl.Schema, path: Path, time: str) -> None:
    for name in (_ID, time):
        if name not in schema:
            raise InputError(f"{path} has no column {name!r}, which MEDS needs.")
    if not schema[_ID].is_integer():
        raise InputError(f"{path}: 'subject_id' holds {schema[_ID]}, not whole numbers.")
    dtype = schema[time]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone:
        raise InputError(
            f"{path}: {time!r} holds {dtype}. MEDS has timestamps without a time zone there."
        )


def _check_rows(shard: Path) -> set[int]:
    """Return the subjects of a shard, whose rows are checked."""
    rows = pl.scan_parquet(shard, glob=False).select(_ID, _TIME, empty=pl.col(_CODE).is_null())
    subject, time = pl.col(_ID), pl.col(_TIME)
    same = subject == subject.shift()
    before = time.shift()
    falls = same & ((time < before) | (time.is_null() & before.is_not_null()))
    counts = rows.select(
        lacking=(subject.is_null() | pl.col("empty")).sum(),
        falls=falls.sum(),
        runs=(~same).fill_null(value=True).sum(),
    )
    lacking, unsorted, runs = counts.collect().row(0)
    if lacking:
        raise InputError(f"{shard}: {lacking:,} rows have no subject_id or no code.")
    if unsorted:
        raise InputError(
            f"{shard}: the times of {unsorted:,} rows lie before the row above, of the same "
            "subject. MEDS sorts the rows of a subject by time, those without a time first."
        )
    subjects = set(rows.select(_ID).unique().collect()[_ID])
    if runs != len(subjects):
        raise InputError(
            f"{shard}: the rows of a subject do not follow each other ({len(subjects):,} subjects, "
            f"{runs:,} runs of rows). Sort them by subject_id and time."
        )
    return subjects


# --- labels and splits ----------------------------------------------------------------------------


def read_labels(path: Path, names: Sequence[str]) -> tuple[pl.DataFrame, tuple[Path, ...]]:
    """Return subject_id, prediction_time and a column per label, and the files.

    names: the labels; several are in folders of these names

    Raises:
        InputError: the files are missing or not those of MEDS; labels are empty, or there twice.
    """
    if len(names) == 1:
        return _read_label(path, names[0])
    if not path.is_dir():
        raise InputError(
            f"{path} is not a folder. With several labels it must hold a folder for each: "
            f"{', '.join(names[:3])}…"
        )
    table, files = _read_label(path / names[0], names[0])
    for name in names[1:]:
        other, more = _read_label(path / name, name)
        joined = table.join(other, on=[_ID, PREDICTION], how="full", coalesce=True)
        if lacking := joined.height - table.join(other, on=[_ID, PREDICTION]).height:
            raise InputError(
                f"{path}: {lacking:,} rows of {name} or of the labels before have no row of the "
                "same subject_id and prediction_time there."
            )
        table, files = joined, (*files, *more)
    return table, files


def _read_label(path: Path, name: str) -> tuple[pl.DataFrame, tuple[Path, ...]]:
    files = tuple(sorted(path.rglob("*.parquet"))) if path.is_dir() else (path,)
    if not files or not all(file.is_file() for file in files):
        raise InputError(f"{path} does not exist, or holds no .parquet file of labels.")
    parts = [_read_label_file(file) for file in files]
    table = pl.concat(parts, how="diagonal_relaxed")
    if table.is_empty():
        raise InputError(f"{path} has no labels.")
    values = [c for c in layout.VALUES if c in table.columns and table[c].count()]
    if len(values) != 1:
        raise InputError(
            f"{path} has values in {', '.join(values) or 'none of'}"
            f"{'' if values else ' ' + ', '.join(layout.VALUES)}. A label is in exactly one of "
            "these columns."
        )
    (value,) = values
    for column in (_ID, PREDICTION, value):
        if empty := table[column].null_count():
            raise InputError(f"{path}: {empty:,} rows have no {column!r}.")
    if repeated := int(table.select(_ID, PREDICTION).is_duplicated().sum()):
        raise InputError(
            f"{path}: {repeated:,} rows share their subject_id and prediction_time with another. "
            "Keep one row of each."
        )
    return table.select(_ID, PREDICTION, pl.col(value).alias(name)), files


def _read_label_file(file: Path) -> pl.DataFrame:
    with reading(file, "a table of labels"):
        frame = pl.read_parquet(file, glob=False)
    _check_types(frame.schema, file, PREDICTION)
    return frame.with_columns(
        pl.col(_ID).cast(pl.Int64), pl.col(PREDICTION).cast(pl.Datetime("us"))
    )


def read_splits(folder: Path) -> pl.DataFrame:
    """Return subject_id and split of each patient.

    Raises:
        InputError: there is no such file, it is not MEDS's, or a patient is in it twice.
    """
    path = folder / layout.SPLITS
    if not path.is_file():
        raise InputError(
            f"{folder} has no {layout.SPLITS}. Add it, or set 'splits' (train, validation, test, "
            "seed) to divide patients at random."
        )
    with reading(path, "a table"):
        frame = pl.read_parquet(path, glob=False)
    if not {_ID, "split"} <= {*frame.columns} or not frame[_ID].dtype.is_integer():
        raise InputError(f"{path} must have the columns subject_id (whole numbers) and split.")
    frame = frame.select(pl.col(_ID).cast(pl.Int64), pl.col("split").cast(pl.String))
    if repeated := frame.unique().filter(pl.col(_ID).is_duplicated())[_ID].n_unique():
        raise InputError(f"{path}: {repeated:,} subjects are in several splits. Keep one of each.")
    return frame.unique()
