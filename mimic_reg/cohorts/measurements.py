"""The dynamic table on disk: read a column of all rows, or all columns of some rows, never all.

Only keys and single columns are in memory as a whole. `divided` writes the encoded rows of ranges
of stays into files, each of which fits into memory.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mimic_reg.cohorts.csv_files import read_blocks
from mimic_reg.cohorts.plain import INDEX, as_plain, plain
from mimic_reg.errors import InputError
from mimic_reg.store import reading
from mimic_reg.store.stages import TableWriter

ROW = "row of the table"  # the column of a row's position
_ROWS = 20_000  # read at once


@dataclass(frozen=True)
class Measurements:
    """A table on disk, as Parquet.

    path:    of the user's file, for messages
    parquet: where it is read: the same file, or a copy of CSV
    columns: without a row index that pandas wrote
    typed:   take values as they are; text such as "0" or "None" is text
    """

    path: Path
    parquet: Path
    columns: tuple[str, ...]
    typed: bool = False

    @classmethod
    def open(cls, path: Path, scratch: Path) -> "Measurements":
        """Open a table; CSV is first copied into a Parquet file of text, in `scratch`.

        Raises:
            InputError: the file is damaged, or has no rows.
        """
        parquet = path
        if path.suffix != ".parquet":
            parquet = scratch / "dyn.parquet"
            writer = TableWriter(scratch)
            for block in read_blocks(path):
                writer.write(parquet.name, block)
            writer.close()
        with reading(path, "a table"):
            table = pl.scan_parquet(parquet, glob=False)
            names = table.collect_schema().names()
            rows = table.select(pl.len()).collect().item()
        if not rows:
            raise InputError(f"{path} has no rows.")
        return cls(path, parquet, tuple(name for name in names if name not in INDEX))

    def column(self, name: str) -> pl.Series:
        """Return a column of all rows, with its plain type; see `plain`."""
        with reading(self.path, "a table"):
            column = pl.read_parquet(self.parquet, columns=[name], glob=False)[name]
        return column if self.typed else plain(column)

    def batches(self, types: dict[str, pl.DataType]) -> Iterator[pl.DataFrame]:
        """Yield columns with these types, a few rows at a time, and the positions of the rows."""
        start = 0
        with reading(self.path, "a table"):
            file = pq.ParquetFile(self.parquet, buffer_size=1 << 20)
            for batch in file.iter_batches(_ROWS, columns=list(types)):
                frame = pl.DataFrame(pl.from_arrow(batch))
                if not self.typed:
                    frame = pl.DataFrame(as_plain(frame[n], dtype) for n, dtype in types.items())
                yield frame.with_row_index(ROW, start)
                start += frame.height


def divided(
    batches: Iterator[pl.DataFrame],
    encode: Callable[[pl.DataFrame], pl.DataFrame],
    order: pl.Series,
    sizes: list[int],
    scratch: Path,
) -> Iterator[pl.DataFrame]:
    """Yield encoded rows in an order, in parts of these sizes.

    batches: the rows as they are in the table, with their positions in it (ROW)
    encode:  returns the channels of a batch, a row each
    order:   the positions of the rows to keep, in the order to yield them
    """
    ends = np.cumsum(sizes)
    place = np.full(int(order.max()) + 1 if len(order) else 0, -1, np.int64)  # type: ignore[arg-type]
    place[order.to_numpy()] = np.arange(len(order))
    files = [scratch / f"part{number}.arrow" for number in range(len(sizes))]
    with ExitStack() as stack:
        writers: dict[int, pa.RecordBatchStreamWriter] = {}
        for batch in batches:
            at = batch[ROW].to_numpy()
            at = at[at < len(place)]
            where = np.full(batch.height, -1, np.int64)
            where[: len(at)] = place[at]
            frame = encode(batch).with_columns(pl.Series(ROW, where)).filter(pl.col(ROW) >= 0)
            of = np.searchsorted(ends, frame[ROW].to_numpy(), side="right")
            for part in np.unique(of):
                table = frame.filter(pl.Series(of == part)).to_arrow()
                if part not in writers:
                    file = stack.enter_context(files[part].open("wb"))
                    writers[part] = stack.enter_context(pa.ipc.new_stream(file, table.schema))
                writers[part].write_table(table)
    for path, size in zip(files, sizes, strict=True):
        if not size:
            continue
        yield pl.read_ipc_stream(path, use_pyarrow=False).sort(ROW).drop(ROW)
        path.unlink()
