"""Read CSV tables block by block as text, and name the line of a malformed row."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow as pa

from mimic_reg.errors import InputError
from mimic_reg.sources.csv_text import parse, parse_by_line
from mimic_reg.sources.packed import MAX_LINE, complete_lines, guarded, readable, unpacked

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
            yield _parse(path, text, names, line)
            line += text.count(b"\n")


def _header(path: Path, line: bytes) -> list[str]:
    _check_text(path, line, 1)
    try:
        (names,) = list(csv.reader([line.decode("utf-8-sig")])) or [[]]
    except csv.Error as error:
        raise InputError(
            f"{path}, line 1: it has a carriage return or a very long name. Write the table again, "
            "with newlines at the ends of lines."
        ) from error
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
    frame = parse(text, names, dict.fromkeys(names, pa.string()))
    return parse_by_line(path, text, names, first, "write it again") if frame is None else frame
