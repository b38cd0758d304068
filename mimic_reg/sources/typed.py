"""Read tables whose columns have types: Parquet files, and DuckDB databases built by mimic-code.

Every column is turned into what the CSV file has: ids into whole numbers, the rest into text. So
the rules that follow, and the store, are the same. Columns whose spelling matters must be text in
the table, too: a VALUE of 86 or 86.0, a code 0389 or 389.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mimic_reg.clinical.schema import MISSING_TEXTS, NO_ID
from mimic_reg.errors import InputError
from mimic_reg.store.store import MALFORMED

# Names of files that are databases of DuckDB.
DATABASES = (".duckdb", ".db", ".ddb")
# Columns that must be text; VALUE of OUTPUTEVENTS is a number in databases, and is not used.
_TEXTS = ("value", "icd9_code", "icd_code")
_DATES = ("dob", "dod")  # days alone; other times have hours
_ROW_BYTES = 80  # of a row's text, about: gives batches the size of a block
_MEMORY = "400MB"


def is_typed(path: Path) -> bool:
    """Return whether a file's columns have types."""
    return path.suffix.lower() in (".parquet", *DATABASES)


@contextmanager
def database(path: Path) -> Iterator[Any]:
    """Yield a connection to a DuckDB database that can read it and nothing else.

    Raises:
        InputError: the package is not installed, the file is not such a database, is open
            elsewhere, or has changes in another file.
    """
    try:
        import duckdb
    except ImportError as error:
        raise InputError(
            f"{path} is a DuckDB database, and the package duckdb is not installed. Install it: "
            "pip install 'mimic-reg[duckdb]'."
        ) from error
    wal = path.with_name(f"{path.name}.wal")
    if wal.exists():
        raise InputError(
            f"{path} has changes in {wal.name} that are not yet in the file. Close the program "
            "that writes to it, or open it in DuckDB and run CHECKPOINT."
        )
    safe: dict[str, Any] = {
        **{"threads": 2, "memory_limit": _MEMORY, "enable_external_access": False},
        **{"autoload_known_extensions": False, "autoinstall_known_extensions": False},
    }
    try:
        connection = duckdb.connect(str(path), read_only=True, config=safe)
        try:
            yield connection
        finally:
            connection.close()
    except duckdb.Error as error:
        raise InputError(
            f"{path} cannot be read as a DuckDB database ({type(error).__name__}). Is it complete, "
            "closed by other programs, and made by a version of DuckDB that this one can read?"
        ) from error


def tables_of(path: Path) -> dict[str, dict[str, str]]:
    """Return {schema: {table: as it is spelled}} of a database, with names in lower case."""
    found: dict[str, dict[str, str]] = {}
    query = "SELECT table_schema, table_name FROM information_schema.tables ORDER BY ALL"
    with database(path) as connection:
        for schema, table in connection.sql(query).fetchall():
            found.setdefault(schema.lower(), {})[table.lower()] = _quoted(schema, table)
    return found


def _quoted(*names: str) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is not a valid Parquet file: it is damaged or incomplete. Write it again."
        ) from error


def describe(path: Path, relation: str) -> tuple[pa.Schema, int]:
    """Return the columns of a table, as it spells them, and its number of rows.

    relation: of a database: the table's name, quoted
    """
    if relation:
        with database(path) as connection:
            rows = connection.sql(f"SELECT count(*) FROM {relation}").fetchall()[0][0]
            schema = connection.sql(f"SELECT * FROM {relation} LIMIT 0").to_arrow_table().schema
    else:
        with _parquet(path) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
    return schema, rows


def check_types(path: Path, name: str, types: dict[str, Any], ids: tuple[str, ...]) -> None:
    """Refuse columns that cannot be read as the CSV file's.

    types: of Arrow, of the columns that are read, by their names in lower case

    Raises:
        InputError: names the column and its type.
    """
    for column, arrow_type in types.items():
        dtype, wanted = _polars_type(arrow_type), ""
        if column in _TEXTS and name != "OUTPUTEVENTS" and not _is_text(dtype):
            wanted = "text, as in the CSV file, since the rules compare texts (86 is not 86.0)"
        elif column in ids and not (_is_text(dtype) or dtype.is_numeric()):
            wanted = "a whole number"
        elif dtype == pl.Date and column not in _DATES:
            wanted = "a time, with its hour"
        elif isinstance(dtype, pl.Datetime) and dtype.time_zone not in (None, "UTC", "Etc/UTC"):
            wanted = "a time without time zone"
        elif not (_is_text(dtype) or dtype.is_numeric() or dtype in (pl.Datetime, pl.Date)):
            wanted = "text, a number or a time"
        if wanted and dtype != pl.Null:
            raise InputError(
                f"{path}: {column.upper()} of {name} is {arrow_type}; it must be {wanted}. "
                "Write the table again with that type."
            )


def _polars_type(arrow_type: Any) -> pl.DataType:
    """Return Polars' type; Binary for a type that it does not have."""
    try:
        return pl.Series(pa.array([], arrow_type)).dtype
    except (pa.ArrowException, *MALFORMED):
        return pl.Binary()


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def batches(
    path: Path, relation: str, columns: dict[str, str], batch_bytes: int
) -> Iterator[pl.DataFrame]:
    """Yield a table's rows in batches of about `batch_bytes` as text.

    columns: those to read: name in lower case -> as the table spells it
    """
    rows = max(1_000, batch_bytes // _ROW_BYTES)
    if relation:
        chosen = ", ".join(map(_quoted, columns.values()))
        with database(path) as connection:
            query = f"SELECT {chosen} FROM {relation}"
            for batch in connection.sql(query).to_arrow_reader(rows):
                yield _renamed(batch, columns)
    else:
        with _parquet(path) as file:
            for batch in file.iter_batches(rows, columns=list(columns.values())):
                batch.validate(full=True)  # such as texts that are not UTF-8
                yield _renamed(batch, columns)


def _renamed(batch: pa.RecordBatch, columns: dict[str, str]) -> pl.DataFrame:
    frame = pl.DataFrame(pa.Table.from_batches([batch]))
    return frame.select(pl.col(spelled).alias(name) for name, spelled in columns.items())


def as_csv(frame: pl.DataFrame, ids: tuple[str, ...]) -> pl.DataFrame:
    """Return the rows as the CSV file's are read: ids as Int64, the rest as text (empty: null)."""
    return frame.select(
        _id(series) if series.name in ids else _text(series) for series in frame.get_columns()
    )


def _id(series: pl.Series) -> pl.Series:
    """Return whole numbers; what is there but is none becomes `NO_ID`."""
    if series.dtype.is_integer() or series.dtype == pl.Null:
        present = series
        number = series.cast(pl.Int64, strict=False)
    elif series.dtype.is_numeric():  # pandas writes 145834.0 where some ids are missing
        present = series.cast(pl.Float64).fill_nan(None)
        number = present.cast(pl.Int64, strict=False)
        number = number.set(number != present, None)
    else:
        text = series.cast(pl.String)
        present = text.set(text.is_in(MISSING_TEXTS), None)
        number = present.cast(pl.Int64, strict=False)
    return number.set(number.is_null() & present.is_not_null(), NO_ID)


def _text(series: pl.Series) -> pl.Series:
    if isinstance(series.dtype, pl.Datetime):
        fraction = "%.f" if (series.dt.microsecond() != 0).any() else ""
        return series.dt.strftime(f"%Y-%m-%d %H:%M:%S{fraction}")
    if series.dtype.is_float():
        return series.fill_nan(None).cast(pl.String)
    text = series.cast(pl.String)
    return text.set(text == "", None)
