"""Read dyn, sta and outc from Parquet or CSV: keys, hours and columns checked and typed."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from mimic_reg.clinical.schema import EPSILON
from mimic_reg.cohorts.csv_files import read_blocks
from mimic_reg.cohorts.measurements import ROW, Measurements
from mimic_reg.cohorts.plain import INDEX, plain
from mimic_reg.cohorts.settings import ImportSettings
from mimic_reg.errors import InputError
from mimic_reg.settings.names import suggest
from mimic_reg.store import reading
from mimic_reg.store.spec import FOLD, SPLIT

STEMS = {"dyn": "hourly measurements", "sta": "static columns", "outc": "labels"}
HOUR = "hour"  # the column of whole hours that replaces the time
_SUFFIXES = (".parquet", ".csv", ".csv.gz")
_PER_HOUR = {"seconds": 3600.0, "minutes": 60.0, "hours": 1.0, "days": 1 / 24}


@dataclass(frozen=True)
class Tables:
    """The three tables, with whole stay ids and whole hours; `notes` says what was dropped.

    dyn: the keys of the measurements in the order of stays and times, and their rows in the table
    """

    measurements: Measurements
    dyn: pl.DataFrame
    sta: pl.DataFrame
    outc: pl.DataFrame
    files: dict[str, Path]
    notes: tuple[str, ...]

    @property
    def hourly_labels(self) -> bool:
        """Whether labels belong to hours, not to stays."""
        return HOUR in self.outc.columns


def read_tables(folder: Path, settings: ImportSettings, scratch: Path) -> Tables:
    """Read the three tables of a folder.

    scratch: an empty folder for a copy of the measurements

    Raises:
        InputError: a file or column is missing, a key or time is unusable, or a row is there twice;
            with counts.
    """
    files = {stem: _find(folder, stem) for stem in STEMS}
    measurements, frames, notes = _opened(files, settings, scratch)
    columns = {"dyn": measurements.columns} | {s: tuple(frames[s].columns) for s in ("sta", "outc")}
    for label in settings.labels:
        if label not in columns["outc"]:
            raise _no_column(files["outc"], label, columns["outc"], "labels")
        for stem in ("dyn", "sta"):
            if label in columns[stem]:
                raise InputError(
                    f"{files[stem]} has the label column {label!r}: a model would read its own "
                    "label. Remove the column from this file."
                )
    used = (settings.stay, HOUR, *settings.labels)
    if others := [name for name in frames["outc"].columns if name not in used]:
        notes.append(f"Ignored columns of {files['outc'].name}: {', '.join(others)}.")
    keys = [settings.stay, HOUR] if HOUR in frames["outc"].columns else [settings.stay]
    _refuse_repeated(frames["outc"], keys, files["outc"])
    return Tables(measurements, **frames, files=files, notes=tuple(notes))


def read_unlabelled(folder: Path, settings: ImportSettings, scratch: Path) -> Tables:
    """Read dyn and sta of a folder, as `read_tables` does; `outc` is empty, patients have no key.

    Raises:
        InputError: as `read_tables`.
    """
    settings = settings.model_copy(update={"subject": None})
    files = {stem: _find(folder, stem) for stem in ("dyn", "sta")}
    measurements, frames, notes = _opened(files, settings, scratch)
    return Tables(measurements, **frames, outc=pl.DataFrame(), files=files, notes=tuple(notes))


def _opened(
    files: dict[str, Path], settings: ImportSettings, scratch: Path
) -> tuple[Measurements, dict[str, pl.DataFrame], list[str]]:
    """Return the measurements; the tables, with keys and hours checked and typed; notes."""
    frames = {stem: _read(path) for stem, path in files.items() if stem != "dyn"}
    measurements = Measurements.open(files["dyn"], scratch)
    columns = {"dyn": measurements.columns} | {s: tuple(f.columns) for s, f in frames.items()}
    keys = [n for n in (settings.stay, settings.time) if n in measurements.columns]
    frames["dyn"] = pl.DataFrame([measurements.column(n) for n in keys]).with_row_index(ROW)
    notes: list[str] = []
    for stem, path in files.items():
        timed = stem != "sta"
        _check_keys(columns[stem], settings, path, timed=timed)
        frames[stem] = _typed(frames[stem], settings, path, notes, timed=timed)
    if HOUR not in frames["dyn"].columns:
        raise _no_column(files["dyn"], settings.time, columns["dyn"], "time")
    _refuse_repeated(frames["sta"], [settings.stay], files["sta"])
    return measurements, frames, notes


def listed_splits(tables: Tables, settings: ImportSettings) -> tuple[pl.DataFrame, str]:
    """Return key and split (or fold) of the stays or patients that files list, and the key's name.

    Raises:
        InputError: a file is missing or damaged, has no key, or shares one with another; counts.
    """
    name = FOLD if settings.splits.folds else SPLIT
    found: list[pl.DataFrame] = []
    for value, file in settings.splits.lists.items():
        path = tables.files["sta"].parent / file
        if not path.is_file() or not path.name.endswith(_SUFFIXES):
            raise InputError(f"splits.files: there is no .parquet, .csv or .csv.gz {path}.")
        frame = _read(path)
        keys = [k for k in (settings.stay, settings.subject) if k in frame.columns]
        key = found[0].columns[0] if found else next(iter(keys), settings.stay)
        if key not in frame.columns:
            raise _no_column(path, key, frame.columns, "stay")
        ids = _key(frame[str(key)], path).unique()
        found.append(pl.DataFrame([ids]).with_columns(pl.lit(value).alias(name)))
    listed = pl.concat(found)
    key = listed.columns[0]
    if both := int(listed[key].is_duplicated().sum()):
        raise InputError(f"splits.files: {both:,} rows share their {key} with another file.")
    return listed, key


def is_zero_one(column: pl.Series) -> bool:
    """Return whether a column holds booleans, or no other numbers than 0 and 1."""
    if column.dtype == pl.Boolean:
        return True
    return column.dtype.is_numeric() and bool(((column == 0) | (column == 1)).all())


def _find(folder: Path, stem: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. It must hold dyn, sta and outc.")
    names = [f"{stem}{suffix}" for suffix in _SUFFIXES]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise InputError(
            f"{folder} has no {stem} table ({STEMS[stem]}). Expected one of: {', '.join(names)}."
        )
    if len(found) > 1:
        raise InputError(
            f"{folder} has both {found[0].name} and {found[1].name}. Remove one of them."
        )
    return found[0]


def _read(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        with reading(path, "a table"):
            frame = pl.read_parquet(path, glob=False)
    else:
        frame = pl.concat(read_blocks(path))
    frame = frame.drop([name for name in INDEX if name in frame.columns])
    if frame.is_empty():
        raise InputError(f"{path} has no rows.")
    return frame.with_columns(plain(column) for column in frame)


def _check_keys(
    columns: tuple[str, ...], settings: ImportSettings, path: Path, *, timed: bool
) -> None:
    """Refuse a table without its keys, or with a column that stores call like one of theirs."""
    for key in (settings.stay, *([settings.subject] if settings.subject and not timed else [])):
        if key not in columns:
            raise _no_column(path, key, columns, "stay" if key == settings.stay else "subject")
    if HOUR in columns and not (timed and settings.time == HOUR):
        instead = f", or set time: {HOUR} if it is the time" * timed
        raise InputError(
            f"{path} has a column {HOUR!r}, a name that stores use. Rename it{instead}."
        )


def _typed(
    frame: pl.DataFrame, settings: ImportSettings, path: Path, notes: list[str], *, timed: bool
) -> pl.DataFrame:
    """The table with a 64-bit stay id and, if it has a time, the hour instead of it."""
    for key in (settings.stay, *([settings.subject] if settings.subject and not timed else [])):
        frame = frame.with_columns(_key(frame[key], path))
    if not timed or settings.time not in frame.columns:
        return frame
    time = _hours(frame[settings.time], settings, path)
    exact = frame.with_columns(time.alias(settings.time))
    # the last of several measurements of an hour is the last by time, not by row
    order = _refuse_repeated(exact, [settings.stay, settings.time], path)
    hour = (pl.col(settings.time) + EPSILON).floor().cast(pl.Int64)
    frame = exact[order].with_columns(hour).rename({settings.time: HOUR})
    early = int((frame[HOUR] < 0).sum())
    if early and settings.before_admission == "refuse":
        raise InputError(
            f"{early:,} of {frame.height:,} rows of {path} lie before admission "
            f"({settings.time!r} is negative). Set before_admission: drop to leave them out."
        )
    if early:
        notes.append(f"{path.name}: dropped {early:,} rows before admission.")
    return frame.filter(pl.col(HOUR) >= 0)


def _key(column: pl.Series, path: Path) -> pl.Series:
    if empty := column.null_count():
        raise InputError(f"{path}: {empty:,} rows have no {column.name!r}.")
    whole = column.cast(pl.Int64, strict=False) if column.dtype.is_numeric() else None
    if whole is None or whole.null_count() or not (whole == column).all():
        raise InputError(
            f"{path}: {column.name!r} holds {column.dtype}, not whole numbers. Number the stays "
            "and patients first, and keep the table of their numbers."
        )
    return whole


def _hours(column: pl.Series, settings: ImportSettings, path: Path) -> pl.Series:
    """The time as hours since admission."""
    if empty := column.null_count():
        raise InputError(f"{path}: {empty:,} rows have no {column.name!r}.")
    if column.dtype == pl.String:
        parsed = pd.to_timedelta(column.to_pandas(), errors="coerce")
        column = pl.from_pandas(parsed).alias(column.name)
        if bad := column.null_count():
            raise InputError(
                f"{path}: {bad:,} values of {column.name!r} are neither numbers nor durations "
                "such as '0 days 05:00:00'."
            )
    if isinstance(column.dtype, pl.Duration):
        return column.dt.total_microseconds() / 3.6e9
    if not column.dtype.is_numeric():
        raise InputError(
            f"{path}: {column.name!r} holds {column.dtype}. It must be the time since admission: "
            "numbers or durations."
        )
    if settings.time_unit == "hours" and column.n_unique() > 2 and (column % 60 == 0).all():
        raise InputError(
            f"{path}: all values of {column.name!r} are multiples of 60, so they do not count "
            "hours. Set time_unit to minutes or seconds."
        )
    hours = column.cast(pl.Float64) / _PER_HOUR[settings.time_unit]
    if far := int((~hours.is_finite() | (hours.abs() > 1e6)).sum()):
        raise InputError(
            f"{path}: {far:,} values of {column.name!r} are above a million hours. They count "
            f"{settings.time_unit}; set time_unit if that is wrong."
        )
    return hours


def _refuse_repeated(frame: pl.DataFrame, keys: list[str], path: Path) -> np.ndarray:
    """Return the order of the rows by their keys, which are numbers; NumPy sorts in little memory.

    Raises:
        InputError: two rows have the same keys.
    """
    columns = [frame[key].to_numpy() for key in keys]
    order = np.lexsort(columns[::-1])
    same = np.ones(max(frame.height - 1, 0), bool)  # as the row before, in this order
    for column in columns:
        ordered = column[order]
        same &= ordered[1:] == ordered[:-1]
    if repeated := int((np.append(same, False) | np.append(False, same)).sum()):
        raise InputError(
            f"{repeated:,} rows of {path} share their {' and '.join(keys)} with another row. Keep "
            "one row of each."
        )
    return order


def _no_column(path: Path, name: str, columns: Iterable[str], option: str) -> InputError:
    return InputError(
        f"{path} has no column {name!r}. Set {option!r} to one of its columns. "
        f"{suggest(name, columns)}"
    )
