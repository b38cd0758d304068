"""Find MIMIC-III's tables in a folder and check their headers; `rows` reads their rows.

Files are .csv or .csv.gz, in upper or lower case, with columns in any order.
"""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from mimic_reg.errors import InputError
from mimic_reg.sources.at_rest import Stamp, check_at_rest
from mimic_reg.sources.packed import MAX_LINE, guarded, readable, unpacked

EVENT_TABLES = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")
ID_COLUMNS = ("subject_id", "hadm_id", "icustay_id", "itemid")
_EVENT_COLUMNS = ("subject_id", "hadm_id", "itemid", "charttime", "value", "valueuom")

# The columns that the extraction reads; a table may have more. Those in brackets are optional.
COLUMNS: dict[str, tuple[str, ...]] = {
    "PATIENTS": ("subject_id", "gender", "dob", "dod"),
    "ADMISSIONS": ("subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "ethnicity"),
    "ICUSTAYS": (
        *("subject_id", "hadm_id", "icustay_id", "first_careunit", "last_careunit"),
        *("first_wardid", "last_wardid", "intime", "outtime", "los"),
    ),
    "DIAGNOSES_ICD": ("subject_id", "hadm_id", "seq_num", "icd9_code"),
    "D_ICD_DIAGNOSES": ("icd9_code",),
    "CHARTEVENTS": (*_EVENT_COLUMNS, "icustay_id"),
    "LABEVENTS": (*_EVENT_COLUMNS, "[icustay_id]"),
    "OUTPUTEVENTS": (*_EVENT_COLUMNS, "icustay_id"),
}

# What is not known during a stay, or not needed to predict: tables, and columns of the others.
_NOT_NEEDED = ("ADMISSIONS", "DIAGNOSES_ICD", "D_ICD_DIAGNOSES")
_NOT_KNOWN = (
    *("gender", "dod", "outtime", "los"),
    *("first_careunit", "last_careunit", "first_wardid", "last_wardid"),
)

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Table:
    """A table's file, in the state in which it was found.

    name:   of the table, as in `COLUMNS`
    header: the columns of its first line, in lower case
    stamp:  of the file when the header was read
    empty:  whether only blank lines follow
    """

    name: str
    path: Path
    header: tuple[str, ...]
    stamp: Stamp
    empty: bool = False

    @property
    def packed(self) -> bool:
        """Return whether the file is gzipped."""
        return self.path.suffix.lower() == ".gz"

    @property
    def columns(self) -> list[str]:
        """Return the columns of this file that the extraction reads."""
        wanted = [c.strip("[]") for c in COLUMNS[self.name]]
        return [c for c in wanted if c in self.header]

    def check_at_rest(self, file: IO[Any] | None = None) -> None:
        """Refuse a file that changed since the table was found; `file`: the open file, if any.

        Raises:
            MimicRegError: it changed.
        """
        check_at_rest(self.path, self.stamp, file)


def find_tables(source: Path, *, outcomes: bool = True) -> dict[str, Table]:
    """Return the tables that the extraction reads, with their headers checked.

    outcomes: whether the stays have ended; if not, fewer tables and columns are needed

    Raises:
        InputError: the folder or tables are missing (all are named), or a file is empty, lacks
            columns, or is gzipped without the name .gz.
    """
    columns = COLUMNS if outcomes else _without_outcomes(COLUMNS)
    if not source.is_dir():
        raise InputError(
            f"--source {source} is not a folder. It must hold MIMIC-III's tables "
            f"({', '.join(columns)}) as .csv or .csv.gz files."
        )
    with readable(source):
        files = [p for p in sorted(source.iterdir(), reverse=True) if p.is_file()]
    by_name = {p.name.upper(): p for p in files}
    paths = {t: by_name.get(f"{t}.CSV") or by_name.get(f"{t}.CSV.GZ") for t in columns}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise InputError(
            f"{source} lacks {', '.join(missing)} (looked for NAME.csv and NAME.csv.gz). "
            "Download the missing tables of MIMIC-III v1.4 into that folder."
        )
    return {
        name: _open_table(name, path, columns[name])
        for name, path in paths.items()
        if path is not None
    }


def _without_outcomes(tables: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the columns of the tables that are needed during a stay."""
    return {
        name: tuple(f"[{c}]" if c in _NOT_KNOWN else c for c in columns)
        for name, columns in tables.items()
        if name not in _NOT_NEEDED
    }


def _open_table(name: str, path: Path, columns: tuple[str, ...]) -> Table:
    with _lines_of(path) as (raw, file):
        stamp = Stamp.of(raw)
        if stamp.bytes == 0:
            raise InputError(f"{path} is empty. Download it again and compare its SHA-256.")
        line = guarded(path, lambda: file.readline(MAX_LINE))
        empty = next(_numbered_rows(path, file), None) is None
    if line.startswith(_GZIP_MAGIC):
        raise InputError(f"{path} is a gzip file. Name it {path.name}.gz, or unpack it.")
    header = _header(line)
    table = Table(name, path, header, stamp, empty)
    required = [c for c in columns if not c.startswith("[")]
    lacking = [c.upper() for c in required if c not in header]
    if lacking:  # without a header the first line is a patient's row, so it is not shown
        raise InputError(
            f"{path}, line 1: {name} needs the column{'s' * (len(lacking) > 1)} "
            f"{', '.join(lacking)}, but its first line does not name "
            f"{'them' if len(lacking) > 1 else 'it'} (it has {len(header)} fields). "
            "Is this the right file, with a header, and commas between the fields?"
        )
    if len(set(header)) < len(header):
        raise InputError(f"{path}, line 1: a column name appears twice. Remove one of the columns.")
    return table


@contextmanager
def _lines_of(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Yield a table's open file, and a reader of its unpacked lines."""
    with readable(path), path.open("rb") as raw:
        yield raw, unpacked(raw) if path.suffix.lower() == ".gz" else raw


def _numbered_rows(path: Path, file: IO[bytes]) -> Iterator[int]:
    """Yield the line number of each row after the header; blank lines count but are not rows."""
    number = 1
    while line := guarded(path, lambda: file.readline(MAX_LINE)):
        number += 1
        if line.strip(b"\r\n"):
            yield number


def line_of(table: Table, row: int) -> int:
    """Return the line number of a row in the table's file; rows are counted from 0."""
    with _lines_of(table.path) as (_, file):
        file.readline(MAX_LINE)
        return next(islice(_numbered_rows(table.path, file), row, None))


def _header(line: bytes) -> tuple[str, ...]:
    """Return the columns of a first line; none if it is not CSV."""
    text = line.decode("utf-8", errors="replace").removeprefix("\ufeff").strip("\r\n")
    try:
        return tuple(c.strip().lower() for c in next(csv.reader([text]), []))
    except csv.Error:
        return ()
