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
import pyarrow.types as at

from mimic_reg.clinical.schema import MISSING_TEXTS, NO_ID
from mimic_reg.errors import InputError

# Names of files that are databases of DuckDB.
DATABASES = (".duckdb", ".db", ".ddb")
# Columns that must be text; VALUE of OUTPUTEVENTS is a number in databases, and is not used.
_TEXTS = ("value", "icd9_code", "icd_code")
_DATES = ("dob", "dod")  # days alone; other times have hours
_LAST_DAY = 2_932_896  # 9999-12-31, in days since 1970; years have four digits
_TICKS = {"ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second
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
            "closed by other programs, and made by a version of DuckDB that this one can read? "
            "Views of other files are not read: make tables of them."
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
        wanted = "" if at.is_null(arrow_type) else _wanted(column, name, arrow_type, column in ids)
        if wanted:
            raise InputError(
                f"{path}: {column.upper()} of {name} is {arrow_type}; it must be {wanted}. "
                "Write the table again with that type."
            )


def _wanted(column: str, table: str, given: Any, is_id: bool) -> str:
    """Return what the column must be, if its type cannot be read; else ""."""
    if at.is_dictionary(given):
        given = given.value_type
    text = at.is_string(given) or at.is_large_string(given) or at.is_string_view(given)
    number = at.is_integer(given) or at.is_floating(given) or at.is_decimal128(given)
    if column in _TEXTS and table != "OUTPUTEVENTS" and not text:
        return "text, as in the CSV file, since the rules compare texts (86 is not 86.0)"
    if is_id and not (text or number):
        return "a whole number"
    if at.is_float16(given) or (is_id and at.is_float32(given)):
        return "a number of 64 bits, since shorter ones are rounded"
    if at.is_date(given) and column not in _DATES:
        return "a time, with its hour"
    if at.is_timestamp(given) and given.tz not in (None, "UTC", "Etc/UTC", "+00:00"):
        return "a time without time zone"
    known = text or number or at.is_timestamp(given) or at.is_date(given)
    return "" if known else "text, a number or a time"


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
        number = present.str.strip_chars(" \t").cast(pl.Int64, strict=False)  # as in the CSV file
    return number.set(number.is_null() & present.is_not_null(), NO_ID)


def _text(series: pl.Series) -> pl.Series:
    if isinstance(series.dtype, pl.Datetime | pl.Date):
        return _time(series)
    if series.dtype.is_float():
        return series.fill_nan(None).cast(pl.String)
    text = series.cast(pl.String)
    return text.set(text == "", None)


def _time(series: pl.Series) -> pl.Series:
    """Return times as the CSV file has them; "infinity", as DuckDB writes it, beyond the calendar.

    So it is not missing, but no time, for the rules that follow.
    """
    form, ticks = "%Y-%m-%d", 1
    if isinstance(series.dtype, pl.Datetime):
        ticks = 86_400 * _TICKS[series.dtype.time_unit]
    most = min(_LAST_DAY * ticks, 2**63 - 2)  # DuckDB's infinity is the last number
    beyond = ~series.to_physical().is_between(-most, most)
    times = series.set(beyond, None)
    if ticks > 1:
        form += " %H:%M:%S" + "%.f" * bool((times.dt.microsecond() != 0).any())
    text = times.dt.strftime(form)
    return text.set(beyond, "infinity")
