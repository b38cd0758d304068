"""Parse lines of CSV exactly: every line is a row with as many fields as the header, or is refused.

Arrow refuses rows with too few or too many fields. A stray quote may swallow line ends, so a block
must have as many rows as lines. Quotes mean what they mean to Python's csv module.
"""

import csv
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import csv as arrow_csv

from mimic_reg.errors import InputError

_LONE_RETURN = re.compile(rb"\r(?!\n)")


def parse(text: bytes, header: Sequence[str], types: dict[str, pa.DataType]) -> pl.DataFrame | None:
    """Return the columns in `types` of regular text; None if a line is irregular, or fits no type.

    text: complete lines, the last one with its newline
    """
    if b"\0" in text or text.startswith(BOM_UTF8):  # Arrow would drop the mark
        return None
    if b"\r" in text and _LONE_RETURN.search(text):
        return None
    reading = arrow_csv.ReadOptions(
        use_threads=False, block_size=len(text) + 1, column_names=header
    )
    converting = arrow_csv.ConvertOptions(
        include_columns=types, column_types=types, null_values=[""], strings_can_be_null=True
    )
    try:
        rows = arrow_csv.read_csv(
            pa.BufferReader(text), read_options=reading, convert_options=converting
        )
    except pa.ArrowInvalid:
        return None
    lines = np.count_nonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    last = text[text.rfind(b"\n", 0, -1) + 1 : -1].removesuffix(b"\r")
    if rows.num_rows != lines or _fields(last.decode(errors="replace")) is None:
        return None
    return cast(pl.DataFrame, pl.from_arrow(rows))


def parse_by_line(
    path: Path, text: bytes, header: Sequence[str], first: int, advice: str
) -> pl.DataFrame:
    """Return all columns as text, without blank lines.

    path:   for the error
    text:   lines in UTF-8
    first:  the number of the first line
    advice: what to do about a damaged file

    Raises:
        InputError: names the first line that is not a row of this table, without its content.
    """
    rows = []
    for number, ended in enumerate(text.decode("utf-8").split("\n")[:-1], start=first):
        line = ended.removesuffix("\r")
        if not line:
            continue
        row = _fields(line)
        if row is not None:
            problem = f"it has {len(row)} fields, but the header has {len(header)}"
        elif "\r" in line or '"' not in line:
            problem = "it has a carriage return or a very long field"
        else:
            problem = "its quotes do not match"
        if row is None or len(row) != len(header):
            raise InputError(
                f"{path}, line {number:,}: {problem}. The file is damaged or was edited: "
                f"{advice}, or correct that line. No field may contain a line break."
            )
        rows.append([field or None for field in row])
    return pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")


def _fields(line: str) -> list[str] | None:
    """Return the fields of a line as Python reads them; None if it does not end with its row."""
    try:
        row, *rest = csv.reader([line, ""])
    except csv.Error:  # a field of over 131,072 characters
        return None
    return row if rest and "\r" not in line else None
