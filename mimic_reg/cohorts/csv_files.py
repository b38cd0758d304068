"""Read CSV tables block by block as text, and name the line of a malformed row.

Polars fills up rows with too few cells. So each line gets one more cell, a mark that no table
contains: a block is sound if it has a row for each line, and every row ends with the mark.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import polars as pl

from mimic_reg.errors import InputError
from mimic_reg.sources.packed import MAX_LINE, complete_lines, guarded, readable, unpacked

_MARK = "\x01"
_END = "end of the row"
_ROW_END = f",{_MARK}\n".encode()
_BLOCK = 8 << 20  # bytes of text parsed at once


def read_blocks(path: Path, block: int = _BLOCK) -> Iterator[pl.DataFrame]:
    """Yield the rows of a .csv or .csv.gz as text, empty cells as null; at least one block.

    Raises:
        InputError: it is not CSV with commas in UTF-8, or damaged; the text names the line.
    """
    with readable(path), path.open("rb") as raw:
        if path.suffix == ".gz" and raw.read(2) != b"\x1f\x8b":
            raise InputError(f"{path} is not a gzip file. A plain CSV file must be named .csv.")
        raw.seek(0)
        file: IO[bytes] = unpacked(raw) if path.suffix == ".gz" else raw
        header = guarded(path, lambda: file.readline(MAX_LINE))
        names = _header(path, header)
        yield pl.DataFrame(schema=dict.fromkeys(names, pl.String))
        line = 2
        while text := complete_lines(path, file, block):
            text = text.replace(b"\r\n", b"\n")
            yield _parse(path, text, names, line)
            line += text.count(b"\n")


def _header(path: Path, line: bytes) -> list[str]:
    _check_text(path, line, 1)
    (names,) = list(csv.reader([line.decode("utf-8-sig")])) or [[]]
    if len(names) < 2 and (found := next((s for s in ";\t|" if s in "".join(names)), None)):
        raise InputError(f"{path} separates columns by {found!r}. Write it with commas.")
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{path} has the column {repeated[0]!r} twice. Rename one of them.")
    if not names:
        raise InputError(f"{path} is empty. Its first line must name the columns.")
    return names


def _check_text(path: Path, text: bytes, first: int) -> None:
    """Refuse zero bytes and what is not UTF-8; `first` is the number of the first line."""
    hole = text.find(b"\0")
    if hole >= 0:
        line = first + text.count(b"\n", 0, hole)
        raise InputError(
            f"{path}, line {line:,}: zero bytes, as an interrupted copy or UTF-16 leaves them. "
            "Copy the file again, or write it as UTF-8."
        )
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first + text.count(b"\n", 0, error.start)
        raise InputError(
            f"{path}, line {line:,}: bytes that are not UTF-8. It must be CSV in UTF-8; write it "
            "again in this encoding."
        ) from error


def _parse(path: Path, text: bytes, names: list[str], first: int) -> pl.DataFrame:
    _check_text(path, text, first)
    marked = text.replace(b"\n", _ROW_END)
    types = dict.fromkeys([*names, _END], pl.String)
    try:
        frame = pl.read_csv(marked, has_header=False, schema=types)
    except pl.exceptions.PolarsError:
        frame = pl.DataFrame(schema={_END: pl.String})
    if frame.height == text.count(b"\n") and frame[_END].eq_missing(_MARK).all():
        return frame.drop(_END)
    return _by_line(path, text, names, first)


def _by_line(path: Path, text: bytes, names: list[str], first: int) -> pl.DataFrame:
    """Return the rows, parsed one by one, without blank lines.

    Raises:
        InputError: names the first line that is not a row of this table.
    """
    rows = []
    for number, line in enumerate(text.decode("utf-8").split("\n")[:-1], start=first):
        if not line.strip():
            continue
        try:
            row = next(csv.reader([line], strict=True), [])
            problem = f"it has {len(row):,} cells, but the header names {len(names):,} columns"
        except csv.Error:
            row, problem = [], "its quotes do not match; no cell may contain a line break"
        if len(row) != len(names):
            raise InputError(
                f"{path}, line {number:,}: {problem}. The file is cut off, damaged or was edited: "
                "write it again, or correct that line."
            )
        rows.append([cell or None for cell in row])
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
