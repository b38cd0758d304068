"""Find MIMIC's tables and check their headers; `rows` reads their rows.

Files are .csv, .csv.gz or .parquet, in upper or lower case, with columns in any order. A folder
with hosp/ or icu/ in it is MIMIC-IV, any other one MIMIC-III. Instead of a folder, the source may
be a DuckDB database with the schemas of mimic-code.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any

from mimic_reg.clinical.datasets import DATASETS, MIMIC_III, MIMIC_IV, Dataset
from mimic_reg.errors import InputError
from mimic_reg.sources import typed
from mimic_reg.sources.at_rest import Stamp, check_at_rest
from mimic_reg.sources.packed import MAX_LINE, guarded, readable, unpacked

ID_COLUMNS = ("subject_id", "hadm_id", "icustay_id", "stay_id", "itemid")

_FOLDERS = ("hosp", "icu")  # of MIMIC-IV
_OF_MIMIC_IV = {"anchor_age", "stay_id", "icd_version"}  # columns that MIMIC-III does not have
_ENDINGS = (".CSV", ".CSV.GZ", ".PARQUET")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Table:
    """A table's file, in the state in which it was found.

    name:     of the table, as in `dataset.tables`
    header:   the columns of its first line, in lower case
    stamp:    of the file when the header was read
    empty:    whether only blank lines follow
    dataset:  whose table it is
    relation: its name in a database, quoted
    spelled:  the columns as a typed table spells them, in the order of `header`
    rows:     of a typed table
    """

    name: str
    path: Path
    header: tuple[str, ...]
    stamp: Stamp
    empty: bool = False
    dataset: Dataset = MIMIC_III
    relation: str = ""
    spelled: tuple[str, ...] = ()
    rows: int = 0

    @property
    def packed(self) -> bool:
        """Return whether the file is gzipped."""
        return self.path.suffix.lower() == ".gz"

    @property
    def columns(self) -> list[str]:
        """Return the columns of this file that the extraction reads."""
        wanted = [c.strip("[]") for c in self.dataset.tables[self.name]]
        return [c for c in wanted if c in self.header]

    @cached_property
    def spelling(self) -> dict[str, str]:
        """Return the columns of a typed table that the extraction reads, as it spells them."""
        every = dict(zip(self.header, self.spelled, strict=True))
        return {column: every[column] for column in self.columns}

    @property
    def root(self) -> Path:
        """Return the folder of the source, which holds the table or the table's folder."""
        nested = self.name in self.dataset.folders and not self.relation
        return self.path.parents[1 if nested else 0]

    @property
    def file(self) -> str:
        """Return the file's name within the source, which may begin with a folder."""
        name = self.path.relative_to(self.root).as_posix()
        return f"{name}:{self.relation}" if self.relation else name

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
            columns, or is gzipped without the name .gz; a table has several files; MIMIC-III and
            MIMIC-IV are mixed.
    """
    if source.is_file() and source.suffix.lower() in typed.DATABASES:
        return _tables_of_database(source, outcomes)
    if not source.is_dir():
        tables = _needed(MIMIC_III, outcomes).tables
        raise InputError(
            f"--source {source} is not a folder. It must hold MIMIC-III's tables "
            f"({', '.join(tables)}) as .csv, .csv.gz or .parquet files, or MIMIC-IV's in "
            f"hosp/ and icu/. A DuckDB database is named {', '.join(typed.DATABASES)}."
        )
    dataset = _needed(_dataset_in(source), outcomes)
    folders = {name: source / dataset.folders.get(name, "") for name in dataset.tables}
    files = {folder: _files_by_name(folder) for folder in set(folders.values())}
    paths = {name: _file_of(name, files[folder]) for name, folder in folders.items()}
    if missing := [dataset.where(name) for name, path in paths.items() if path is None]:
        hint = ""
        if source.resolve().name.lower() in _FOLDERS:
            hint = " MIMIC-IV's source is the folder that holds hosp/ and icu/, not one of the two."
        raise InputError(
            f"{source} lacks {', '.join(missing)} (looked for NAME.csv, .csv.gz and .parquet). "
            f"Download the missing tables of {dataset.title} into that folder.{hint}"
        )
    return {name: _open_table(dataset, name, path) for name, path in paths.items() if path}


def _needed(dataset: Dataset, outcomes: bool) -> Dataset:
    """Return the data set with the tables and columns to read; see `find_tables`."""
    return dataset if outcomes else dataset.during_stays()


def _dataset_in(source: Path) -> Dataset:
    """Return the data set whose tables a folder holds, or seems to.

    Raises:
        InputError: it holds folders of MIMIC-IV and tables of MIMIC-III.
    """
    folders = [name for name in _FOLDERS if (source / name).is_dir()]
    if not folders:
        return MIMIC_III
    here = _files_by_name(source)
    if both := [path for name in MIMIC_III.tables if (path := _file_of(name, here))]:
        raise InputError(
            f"{source} holds {both[0].name}, as MIMIC-III does, and {folders[0]}/, as "
            "MIMIC-IV does. Put each data set into a folder of its own."
        )
    return MIMIC_IV


def _files_by_name(folder: Path) -> dict[str, list[Path]]:
    """Return the files of a folder by their names in capitals; none if it is missing."""
    files: dict[str, list[Path]] = {}
    if folder.is_dir():
        with readable(folder):
            for path in sorted(folder.iterdir()):
                if path.is_file():
                    files.setdefault(path.name.upper(), []).append(path)
    return files


def _file_of(name: str, files: dict[str, list[Path]]) -> Path | None:
    """Return the file of a table, if it has one; `files`: from `_files_by_name`.

    Raises:
        InputError: it has several, which may differ.
    """
    found = [path for ending in _ENDINGS for path in files.get(f"{name}{ending}", [])]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(
            f"{found[0].parent} holds {name} more than once: {names}. Move all but one elsewhere, "
            "so that it is certain which one is read."
        )
    return found[0] if found else None


def _tables_of_database(path: Path, outcomes: bool) -> dict[str, Table]:
    """Return the tables of a DuckDB database, in the schemas in which mimic-code puts them.

    Raises:
        InputError: it holds no MIMIC, or both; tables are missing (all are named).
    """
    stamp = Stamp.of(path)
    found = typed.tables_of(path)
    datasets = [_needed(dataset, outcomes) for dataset in DATASETS.values()]
    places = {
        dataset.name: [
            (name, relation)
            for name in dataset.tables
            for schema in dataset.schemas[dataset.folders.get(name, "")]
            if (relation := found.get(schema, {}).get(name.lower()))
        ]
        for dataset in datasets
    }
    there = [dataset for dataset in datasets if places[dataset.name]]
    if len(there) != 1:
        schemas = "; ".join(
            f"{d.title}: {', '.join(s for names in d.schemas.values() for s in names)}"
            for d in datasets
        )
        raise InputError(
            f"{path} holds tables of {'both' if there else 'no'} MIMIC in the schemas that are "
            f"read ({schemas}). Give a database with one of them."
        )
    (dataset,) = there
    relations = dict(places[dataset.name])
    for name, relation in places[dataset.name]:
        if relation != relations[name]:
            raise InputError(
                f"{path} holds {name} more than once: {relation} and {relations[name]}. Remove all "
                "but one, so that it is certain which one is read."
            )
    if missing := [name.lower() for name in dataset.tables if name not in relations]:
        raise InputError(
            f"{path} lacks {', '.join(missing)}. Load the missing tables of {dataset.title}."
        )
    return {
        name: _typed_table(dataset, name, path, stamp, relations[name]) for name in dataset.tables
    }


def _typed_table(
    dataset: Dataset, name: str, path: Path, stamp: Stamp, relation: str = ""
) -> Table:
    schema, rows = typed.describe(path, relation)
    spelled = tuple(schema.names)
    header = tuple(column.lower() for column in spelled)
    table = Table(name, path, header, stamp, rows == 0, dataset, relation, spelled, rows)
    _check_header(table)
    used = {column: schema.field(spelled).type for column, spelled in table.spelling.items()}
    typed.check_types(path, name, used, ID_COLUMNS)
    return table


def _open_table(dataset: Dataset, name: str, path: Path) -> Table:
    if typed.is_typed(path):
        with readable(path):
            stamp = Stamp.of(path)
        return _typed_table(dataset, name, path, stamp)
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
    _check_header(table)
    return table


def _check_header(table: Table) -> None:
    """Refuse a table that lacks a column, or has one twice."""
    name, header = table.name, table.header
    where, what = f"{table.path}, line 1", "its first line does not name"
    advice = "Is this the right file, with a header, and commas between the fields?"
    if table.spelled:
        where, what, advice = str(table.path), "it does not have", "Is this the right table?"
    if table.dataset.is_benchmark and _OF_MIMIC_IV & set(header):
        advice = "It looks like MIMIC-IV, whose tables must be in two folders, hosp/ and icu/."
    required = [c for c in table.dataset.tables[name] if not c.startswith("[")]
    if lacking := [c.upper() for c in required if c not in header]:
        raise InputError(
            f"{where}: {name} needs the column{'s' * (len(lacking) > 1)} "
            f"{', '.join(lacking)}, but {what} {'them' if len(lacking) > 1 else 'it'} "
            f"(it has {len(header)} fields). {advice}"
        )
    if len(set(header)) < len(header):
        raise InputError(f"{where}: a column name appears twice. Remove one of the columns.")


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


def place_of(table: Table, row: int) -> str:
    """Return where a row is in the table's file, as its line; rows are counted from 0."""
    if table.spelled:
        return f"row {row + 1:,} of {table.name}"
    with _lines_of(table.path) as (_, file):
        file.readline(MAX_LINE)
        return f"line {next(islice(_numbered_rows(table.path, file), row, None)):,}"


def _header(line: bytes) -> tuple[str, ...]:
    """Return the columns of a first line; none if it is not CSV."""
    text = line.decode("utf-8", errors="replace").removeprefix("\ufeff").strip("\r\n")
    try:
        return tuple(c.strip().lower() for c in next(csv.reader([text]), []))
    except csv.Error:
        return ()
