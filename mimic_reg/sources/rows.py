"""Read the rows of MIMIC's tables, block by block.

One thread reads, unpacks, hashes and counts lines while Polars parses. A table is never completely
in memory.

Malformed rows are always detected. Polars fills up rows with too few fields and ignores extra
fields after the last column it needs, and a stray quote may swallow lines. So each line gets one
more field, a sentinel that no table contains. A block is sound if it has as many rows as lines, and
every row ends with the sentinel.
"""

import csv
import queue
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import xxhash

from mimic_reg.clinical.schema import MISSING_TEXTS, NO_ID
from mimic_reg.errors import InputError
from mimic_reg.sources import typed
from mimic_reg.sources.at_rest import staying
from mimic_reg.sources.mimic3 import ID_COLUMNS, Table
from mimic_reg.sources.packed import MAX_LINE, complete_lines, guarded, readable, unpacked
from mimic_reg.store import known_hash

# If a column has at least this many ids, one of them must be a whole number.
_ENOUGH_IDS = 100
_PIECE = 1 << 19  # bytes that are read, hashed and marked at once, while the cache holds them
_SENTINEL = "sentinel of the row's end"  # the name of its column
_MARK = -31_243  # a number, since Polars reads numbers faster than texts
_ROW_END = f",{_MARK}\n".encode()
_BLANK_LINE = re.compile(b"(?m)^" + _ROW_END)


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


@dataclass(frozen=True)
class _Block:
    """Complete lines of a table, each with the sentinel field at its end."""

    text: bytes
    lines: int
    position: int  # bytes of the file read so far


@dataclass
class _Feed:
    """Prepares blocks in a thread while earlier ones are parsed."""

    table: Table
    block_bytes: int
    digest: Any = field(default_factory=xxhash.xxh3_128)

    def __iter__(self) -> Iterator[_Block]:
        blocks: queue.Queue[_Block | BaseException | None] = queue.Queue(2)
        stop = threading.Event()
        thread = threading.Thread(target=self._fill, args=(blocks, stop), daemon=True)
        thread.start()
        try:
            while (item := blocks.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            while not blocks.empty():
                blocks.get_nowait()
            thread.join()

    def _fill(self, blocks: "queue.Queue[Any]", stop: threading.Event) -> None:
        def put(item: Any) -> None:
            while not stop.is_set():
                try:
                    blocks.put(item, timeout=0.2)
                    return
                except queue.Full:
                    continue

        try:
            with readable(self.table.path):
                for block in self._blocks():
                    put(block)
                    if stop.is_set():
                        return
            put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            put(error)

    def _blocks(self) -> Iterator[_Block]:
        path = self.table.path
        with path.open("rb") as raw:
            self.table.check_at_rest(raw)
            hashed = _HashedReader(raw, self.digest)
            file: Any = unpacked(hashed) if self.table.packed else hashed
            header = guarded(path, lambda: file.readline(MAX_LINE))
            newline = b"\r\n" if header.endswith(b"\r\n") else b"\n"
            marked, line, lines = BytesIO(), 2, 0  # fresh memory for each piece would be slow
            while text := complete_lines(path, file, min(self.block_bytes, _PIECE)):
                self.table.check_at_rest(raw)
                _check_no_holes(path, text, line + lines)
                lines += _mark(text, newline, marked)
                if marked.tell() >= self.block_bytes:
                    yield _Block(_taken(marked), lines, hashed.position)
                    line, lines = line + lines, 0
            if lines:
                yield _Block(_taken(marked), lines, hashed.position)


def _mark(text: bytes, newline: bytes, out: BytesIO) -> int:
    """Write lines to `out`, with the sentinel at their ends; return their number."""
    marked = text.replace(newline, _ROW_END)
    out.write(marked)
    if newline == b"\n":  # then the growth tells the number, and counting is slow
        return (len(marked) - len(text)) // (len(_ROW_END) - len(newline))
    return marked.count(b"\n")


def _taken(marked: BytesIO) -> bytes:
    """Return what was written; what is written next overwrites it."""
    size = marked.tell()
    marked.seek(0)
    text = marked.read(size)
    marked.seek(0)
    return text


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
    feed = _Feed(table, block_bytes)
    dtypes = {c: _dtype(c) if c in table.columns else pl.String for c in table.header}
    for block in feed:
        frame = _parse(table, block.text, block.lines, dtypes)
        if frame is None:
            frame = _parse_carefully(table, block.text, reading)
        yield frame, block.position
    reading.digest = feed.digest.hexdigest()


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


def _parse(table: Table, text: bytes, lines: int, dtypes: dict[str, Any]) -> pl.DataFrame | None:
    """Return the rows of regular text; None if a line is irregular, or does not fit the types."""
    try:
        lazy = pl.scan_csv(text, has_header=False, schema={**dtypes, _SENTINEL: pl.Int32})
        frame = lazy.select(*table.columns, _SENTINEL).collect()
    except pl.exceptions.PolarsError:
        return None
    sound = frame.height == lines and frame[_SENTINEL].eq_missing(_MARK).all()
    return frame.drop(_SENTINEL) if sound else None


def _parse_carefully(table: Table, text: bytes, reading: Reading) -> pl.DataFrame:
    """Return the rows of a block with stray bytes, blank lines or ids that are not numbers."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        replaced = text.decode("utf-8", errors="replace")
        reading.not_utf8 += replaced.count("\ufffd")
        text = replaced.encode("utf-8")
    every, first = text, reading.rows + reading.blank_lines + 2
    text, blank = _BLANK_LINE.subn(b"", every)
    reading.blank_lines += blank
    if not text:
        return pl.DataFrame(schema={c: _dtype(c) for c in table.columns})
    frame = _parse(table, text, text.count(b"\n"), dict.fromkeys(table.header, pl.String))
    if frame is None:
        frame = _parse_by_line(table, every, first)
    return frame.select(
        _lenient_id(pl.col(c)).alias(c) if c in ID_COLUMNS else pl.col(c) for c in table.columns
    )


def _parse_by_line(table: Table, text: bytes, first: int) -> pl.DataFrame:
    """Return the rows, parsed by Python's csv module, which allows quotes in unquoted fields.

    Raises:
        InputError: names the first line that is not a row of this table, without its content.
    """
    rows = []
    for number, line in enumerate(text.decode("utf-8").split("\n")[:-1], start=first):
        if line == f",{_MARK}":
            continue  # a blank line
        try:
            row = next(csv.reader([line.removesuffix(f",{_MARK}")], strict=True), [])
            problem = f"it has {len(row)} fields, but the header has {len(table.header)}"
        except csv.Error:
            row, problem = [], "its quotes do not match"
        if len(row) != len(table.header):
            raise InputError(
                f"{table.path}, line {number:,}: {problem}. The file is damaged or was edited: "
                "download it again and compare its SHA-256, or correct that line. No field may "
                "contain a line break."
            )
        rows.append(row)
    return pl.DataFrame(rows, schema=dict.fromkeys(table.header, pl.String), orient="row")


def _lenient_id(text: pl.Expr) -> pl.Expr:
    number = text.str.strip_chars(" \t").cast(pl.Int64, strict=False)  # as `_parse` reads it
    return pl.when(~text.is_in(MISSING_TEXTS)).then(number.fill_null(NO_ID))
