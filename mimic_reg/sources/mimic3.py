"""Find MIMIC's tables in a folder and check their headers; `rows` reads their rows.

Files are .csv or .csv.gz, in upper or lower case, with columns in any order. A folder with hosp/ or
icu/ in it is MIMIC-IV, any other one MIMIC-III.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from mimic_reg.clinical.datasets import EVENT_TABLES, MIMIC_III, MIMIC_IV, Dataset
from mimic_reg.errors import InputError
from mimic_reg.sources.at_rest import Stamp, check_at_rest
from mimic_reg.sources.packed import MAX_LINE, guarded, readable, unpacked

__all__ = ["EVENT_TABLES", "ID_COLUMNS", "Table", "find_tables", "line_of"]

ID_COLUMNS = ("subject_id", "hadm_id", "icustay_id", "stay_id", "itemid")

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Table:
    """A table's file, in the state in which it was found.

    name:    of the table, as in `dataset.tables`
    header:  the columns of its first line, in lower case
    stamp:   of the file when the header was read
    empty:   whether only blank lines follow
    dataset: whose table it is
    """

    name: str
    path: Path
    header: tuple[str, ...]
    stamp: Stamp
    empty: bool = False
    dataset: Dataset = MIMIC_III

    @property
    def packed(self) -> bool:
        """Return whether the file is gzipped."""
        return self.path.suffix.lower() == ".gz"

    @property
    def columns(self) -> list[str]:
        """Return the columns of this file that the extraction reads."""
        wanted = [c.strip("[]") for c in self.dataset.tables[self.name]]
        return [c for c in wanted if c in self.header]

    @property
    def root(self) -> Path:
        """Return the folder of the source, which holds the table or the table's folder."""
        return self.path.parents[1 if self.name in self.dataset.folders else 0]

    @property
    def file(self) -> str:
        """Return the file's name within the source, which may begin with a folder."""
        return self.path.relative_to(self.root).as_posix()

    def check_at_rest(self, file: IO[Any] | None = None) -> None:
        """Refuse a file that changed since the table was found; `file`: the open file, if any.

        Raises:
            MimicRegError: it changed.
        """
        check_at_rest(self.path, self.stamp, file)


def find_tables(source: Path) -> dict[str, Table]:
    """Return the eight tables that the extraction reads, with their headers checked.

    Raises:
        InputError: the folder or tables are missing (all are named), or a file is empty, lacks
            columns, or is gzipped without the name .gz; MIMIC-III and MIMIC-IV are mixed.
    """
    if not source.is_dir():
        raise InputError(
            f"--source {source} is not a folder. It must hold MIMIC-III's tables "
            f"({', '.join(MIMIC_III.tables)}) as .csv or .csv.gz files, or MIMIC-IV's in hosp/ and "
            "icu/."
        )
    dataset = _dataset_in(source)
    folders = {name: source / dataset.folders.get(name, "") for name in dataset.tables}
    files = {folder: _files_by_name(folder) for folder in set(folders.values())}
    paths = {
        name: files[folder].get(f"{name}.CSV") or files[folder].get(f"{name}.CSV.GZ")
        for name, folder in folders.items()
    }
    missing = [dataset.where(name) for name, path in paths.items() if path is None]
    if missing:
        raise InputError(
            f"{source} lacks {', '.join(missing)} (looked for NAME.csv and NAME.csv.gz). "
            f"Download the missing tables of {dataset.title} into that folder."
        )
    return {
        name: _open_table(dataset, name, path) for name, path in paths.items() if path is not None
    }


def _dataset_in(source: Path) -> Dataset:
    """Return the data set whose tables a folder holds, or seems to.

    Raises:
        InputError: it holds folders of MIMIC-IV and tables of MIMIC-III.
    """
    folders = [name for name in ("hosp", "icu") if (source / name).is_dir()]
    if not folders:
        return MIMIC_III
    here = _files_by_name(source)
    if both := [n for t in MIMIC_III.tables for n in (f"{t}.CSV", f"{t}.CSV.GZ") if n in here]:
        raise InputError(
            f"{source} holds {here[both[0]].name}, as MIMIC-III does, and {folders[0]}/, as "
            "MIMIC-IV does. Put each data set into a folder of its own."
        )
    return MIMIC_IV


def _files_by_name(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their names in capitals; none if it is missing."""
    if not folder.is_dir():
        return {}
    with readable(folder):
        return {p.name.upper(): p for p in sorted(folder.iterdir(), reverse=True) if p.is_file()}


def _open_table(dataset: Dataset, name: str, path: Path) -> Table:
    with _lines_of(path) as (raw, file):
        stamp = Stamp.of(raw)
        if stamp.bytes == 0:
            raise InputError(f"{path} is empty. Download it again and compare its SHA-256.")
        line = guarded(path, lambda: file.readline(MAX_LINE))
        empty = next(_numbered_rows(path, file), None) is None
    if line.startswith(_GZIP_MAGIC):
        raise InputError(f"{path} is a gzip file. Name it {path.name}.gz, or unpack it.")
    header = _header(line)
    table = Table(name, path, header, stamp, empty, dataset)
    required = [c for c in dataset.tables[name] if not c.startswith("[")]
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
