"""Read the files of mimic3-benchmarks, many at once; errors name the file and the line."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import polars as pl

from mimic_reg.clinical.events import to_number
from mimic_reg.errors import InputError
from mimic_reg.parity.files import LISTFILE_COLUMNS

# The end of every line that is read, which detects lines with too few fields.
_END = "$"


def read_text(path: Path) -> str:
    """Return a file's text, with its line ends.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def _lines(path: Path) -> str:
    return read_text(path).replace("\r\n", "\n")


def malformed(path: Path, line: int, problem: str) -> NoReturn:
    """Refuse a file without quoting it."""
    raise InputError(f"{path}, line {line}: {problem}. Was the file cut off or edited?")


def refuse_rows(bad: pl.DataFrame, paths: Sequence[Path], problem: str) -> None:
    """Refuse the first of these rows of `read_tables`, if there are any."""
    for row in bad.head(1).iter_rows(named=True):
        malformed(paths[row["file"]], row["line"], problem)


def read_tables(paths: Sequence[Path], columns: Sequence[str]) -> pl.DataFrame:
    """Return all rows of CSV files with the same columns.

    Returns:
        `file` (position in `paths`), `line` (in the file), and the columns as text.

    Raises:
        InputError: a file has another header, a line with too few or too many fields, or a field
            with a line break.
    """
    header = ",".join(columns)
    bodies, lines = [], 0
    for number, path in enumerate(paths):
        first, _, body = _lines(path).partition("\n")
        if first != header:
            malformed(path, 1, f"the columns are not {columns[0]}, ..., {columns[-1]}")
        if body:
            body = body.removesuffix("\n")
            lines += body.count("\n") + 1
            rows = body.replace("\n", f",{_END}\n{number},")
            bodies.append(f"{number},{rows},{_END}\n")
    names = ("file", *columns, "end")
    content = io.BytesIO("".join(bodies).encode())
    texts = dict.fromkeys(names, pl.String)
    try:
        table = pl.read_csv(content, has_header=False, schema=texts, raise_if_empty=False)
    except pl.exceptions.ComputeError:
        _find_malformed(paths, len(columns))
        raise
    if table.height != lines or not table["end"].eq_missing(_END).all():
        _find_malformed(paths, len(columns))
    line = pl.int_range(2, pl.len() + 2).over("file")
    return table.select(pl.col("file").cast(pl.Int64), line.alias("line"), *columns)


def _find_malformed(paths: Sequence[Path], num_fields: int) -> None:
    """Refuse the first line whose quotes or number of fields are wrong."""
    for path in paths:
        for number, line in enumerate(_lines(path).removesuffix("\n").split("\n"), 1):
            if line.count('"') % 2:
                malformed(path, number, "its quotes do not match, or a field has a line break")
            # Commas in quotes do not count: of a line split at quotes, every other part is quoted.
            if sum(part.count(",") for part in line.split('"')[::2]) != num_fields - 1:
                malformed(path, number, f"it does not have {num_fields} fields")
    malformed(paths[0], 1, "it or a neighbouring line has unbalanced quotes")


def numbers(table: pl.DataFrame, column: str, paths: Sequence[Path]) -> pl.Series:
    """Return a column of `read_tables` as Float64; an empty field is null.

    Raises:
        InputError: a field is not a number.
    """
    number = to_number(table[column])
    wrong = table.filter(number.is_null() & table[column].is_not_null())
    refuse_rows(wrong, paths, f"{column} is not a number")
    return number


def read_listfile(path: Path, task: str) -> pl.DataFrame:
    """Return a listfile of a task, as `read_tables` does.

    Raises:
        InputError: the header differs, or a line has an empty or missing field.
    """
    columns = LISTFILE_COLUMNS[task]
    table = read_tables([path], columns)
    refuse_rows(
        table.filter(pl.any_horizontal(pl.col(columns).is_null())), [path], "a field is empty"
    )
    return table
