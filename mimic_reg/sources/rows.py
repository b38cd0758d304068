"""Read the rows of MIMIC's tables, block by block.

One thread reads, unpacks and hashes; others parse. A table is never completely in memory.

Malformed rows are always detected (`csv_text`).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import xxhash

from mimic_reg.clinical.schema import MISSING_TEXTS, NO_ID
from mimic_reg.errors import InputError
from mimic_reg.parallel import in_order
from mimic_reg.sources import typed
from mimic_reg.sources.at_rest import staying
from mimic_reg.sources.csv_text import parse, parse_by_line
from mimic_reg.sources.mimic3 import ID_COLUMNS, Table
from mimic_reg.sources.packed import MAX_LINE, complete_lines, guarded, readable, unpacked
from mimic_reg.store import known_hash

# If a column has at least this many ids, one of them must be a whole number.
_ENOUGH_IDS = 100
_BLANK_LINE = re.compile(rb"(?m)^\r?\n")


@dataclass
class Reading:
    """Counts of a table, which `read_blocks` adds up while it reads."""

    rows: int = 0
    blank_lines: int = 0
    not_utf8: int = 0  # bytes that are not UTF-8, read as U+FFFD
    ids: Counter[str] = field(default_factory=Counter)  # ids that are not missing, by column
    odd_ids: Counter[str] = field(default_factory=Counter)  # those that are not whole numbers
    digest: str = ""  # XXH3-128 of the file on disk

    def count_ids(self, frame: pl.DataFrame) -> None:
        """Add the ids of a block."""
        for column in (c for c in ID_COLUMNS if c in frame.columns):
            self.ids[column] += frame.height - frame[column].null_count()
            self.odd_ids[column] += int((frame[column] == NO_ID).sum())


def check_ids(table: Table, reading: Reading) -> None:
    """Refuse a table that would match nothing: no id of a column is a whole number.

    Raises:
        InputError: names the column.
    """
    for column, odd in reading.odd_ids.items():
        if odd == reading.ids[column] >= _ENOUGH_IDS:
            raise InputError(
                f"{table.path}: none of its {odd:,} {column.upper()}s is a whole number such as "
                "145834. If they look like 145834.0, write the table again with its ids as text or "
                "integers."
            )


class _Block(NamedTuple):
    """Complete lines of a table.

    position: bytes of the file read so far
    """

    text: bytes
    position: int


def _blocks(table: Table, block_bytes: int, digest: Any) -> Iterator[_Block]:
    """Yield the lines of a CSV file behind its header, and hash the file."""
    path = table.path
    with readable(path), path.open("rb") as raw:
        table.check_at_rest(raw)
        hashed = _HashedReader(raw, digest)
        file: Any = unpacked(hashed) if table.packed else hashed
        guarded(path, lambda: file.readline(MAX_LINE))
        while text := complete_lines(path, file, block_bytes):
            table.check_at_rest(raw)
            yield _Block(text, hashed.position)


def _check_no_holes(path: Path, text: bytes, first: int) -> None:
    """Refuse zero bytes, which a failed disk or copy leaves; `first`: number of the first line."""
    hole = text.find(b"\0")
    if hole >= 0:
        line = first + text.count(b"\n", 0, hole)
        raise InputError(
            f"{path}, line {line:,}: zero bytes, as an interrupted copy leaves them. Download the "
            "file again and compare its SHA-256."
        )


class _HashedReader:
    """A binary file that hashes the bytes read from it."""

    def __init__(self, file: BufferedReader, digest: Any) -> None:
        self.file, self.digest, self.position = file, digest, 0

    def _seen(self, data: bytes) -> bytes:
        self.digest.update(data)
        self.position += len(data)
        return data

    def read(self, size: int = -1) -> bytes:
        return self._seen(self.file.read(size))

    def readline(self, size: int = -1) -> bytes:
        return self._seen(self.file.readline(size))

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def read_blocks(
    table: Table,
    block_bytes: int,
    reading: Reading,
    advance: Callable[[int, int], None] = lambda read, rows: None,
) -> Iterator[pl.DataFrame]:
    """Yield the table's rows, block by block: ids as Int64, the rest as text (empty: null).

    Columns have the extraction's names (`Dataset.names`).

    table:       from `find_tables`
    block_bytes: size of a block of text
    reading:     receives the counts of each block, and the file's hash at the end
    advance:     called after each block with its bytes in the file and its rows

    Raises:
        InputError: the file is damaged, or a row malformed (with its line).
        MimicRegError: the file changed since the table was found.
    """
    blocks = _typed_blocks if table.spelled else _text_blocks
    before = 0
    with staying({table.path: table.stamp}):
        for frame, position in blocks(table, block_bytes, reading):
            reading.rows += frame.height
            reading.count_ids(frame)
            advance(position - before, frame.height)
            before = position
            yield table.dataset.from_store(frame)


def _text_blocks(
    table: Table, block_bytes: int, reading: Reading
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield the rows of a CSV file, each block with the bytes of the file read so far."""
    digest = xxhash.xxh3_128()
    types = {column: _type(column) for column in table.columns}

    def parsed(block: _Block) -> tuple[pl.DataFrame | None, _Block]:
        return parse(block.text, table.header, types), block

    for frame, block in in_order(_blocks(table, block_bytes, digest), parsed):
        if frame is None:  # one after the other, since line numbers need the rows before
            frame = _parse_carefully(table, block.text, reading)
        yield frame, block.position
    reading.digest = digest.hexdigest()


def _typed_blocks(
    table: Table, block_bytes: int, reading: Reading
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield the rows of a Parquet file or a database, as `_text_blocks` does."""
    table.check_at_rest()
    for batch in typed.batches(table.path, table.relation, table.spelling, block_bytes):
        table.check_at_rest()
        share = min(1.0, (reading.rows + batch.height) / max(table.rows, 1))
        yield typed.as_csv(batch, ID_COLUMNS), int(share * table.stamp.bytes)
    reading.digest = known_hash(table.path)


def read_table(table: Table, reading: Reading) -> pl.DataFrame:
    """Return all rows of a small table."""
    frames = list(read_blocks(table, 1 << 26, reading))
    empty = pl.DataFrame(schema={c: _dtype(c) for c in table.columns})
    return pl.concat([table.dataset.from_store(empty), *frames], how="vertical")


def _dtype(column: str) -> type[pl.DataType]:
    return pl.Int64 if column in ID_COLUMNS else pl.String


def _type(column: str) -> pa.DataType:
    return pa.int64() if column in ID_COLUMNS else pa.string()


def _parse_carefully(table: Table, text: bytes, reading: Reading) -> pl.DataFrame:
    """Return the rows of a block with stray bytes, blank lines or ids that are not numbers."""
    first = reading.rows + reading.blank_lines + 2
    _check_no_holes(table.path, text, first)
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        replaced = text.decode("utf-8", errors="replace")
        reading.not_utf8 += replaced.count("\ufffd")
        text = replaced.encode("utf-8")
    filled, blank = _BLANK_LINE.subn(b"", text)
    reading.blank_lines += blank
    if not filled:
        return pl.DataFrame(schema={c: _dtype(c) for c in table.columns})
    frame = parse(filled, table.header, dict.fromkeys(table.columns, pa.string()))
    if frame is None:
        advice = "download it again and compare its SHA-256"
        frame = parse_by_line(table.path, text, table.header, first, advice)
    return frame.select(
        _lenient_id(pl.col(c)).alias(c) if c in ID_COLUMNS else pl.col(c) for c in table.columns
    )


def _lenient_id(text: pl.Expr) -> pl.Expr:
    number = text.str.strip_chars(" \t").cast(pl.Int64, strict=False)  # as `parse` reads it
    return pl.when(~text.is_in(MISSING_TEXTS)).then(number.fill_null(NO_ID))
