"""Compare a store with output folders of mimic3-benchmarks, stay by stay and channel by channel."""

import csv
import io
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from mimic_reg.clinical.schema import first_true
from mimic_reg.errors import InputError
from mimic_reg.parity.export import LISTFILES, check_exportable, stay_files, task_folders
from mimic_reg.parity.files import ROOT, TASK_FOLDERS, Folders, find_folders
from mimic_reg.parity.listfiles import listfiles
from mimic_reg.parity.reading import read_listfile, read_text
from mimic_reg.progress import SILENT, Progress
from mimic_reg.store import Store

# Kinds of differences; "missing": only in the store, "extra": only in the folder.
KINDS = (
    *("missing file", "extra file", "unreadable file", "missing row", "extra row"),
    *("value", "spelling", "missing sample", "extra sample"),
)
DIFFERENCES = pl.Schema(
    {
        "folder": pl.String,  # root, or the folder of a task
        "file": pl.String,  # in the folder
        "stay": pl.String,  # {subject}_episode{n}
        "channel": pl.String,  # or label; null if a whole row or file differs
        "kind": pl.String,  # from KINDS; "spelling": the same number, spelled in another way
        "count": pl.Int64,
        "first_hours": pl.Float64,  # the time of the first one
    }
)
_TIMESERIES = "_timeseries.csv"


@dataclass(frozen=True)
class Report:
    """The differences between a store and a folder of the reference's output.

    files:    number of files compared, by folder (`root` and the tasks')
    samples:  number of lines of listfiles compared, by folder
    absent:   folders that the store covers but that do not exist
    unknown:  task folders that exist but that the store does not cover
    differences: `DIFFERENCES`; it holds ids of stays, so never log it
    """

    files: dict[str, int]
    samples: dict[str, int]
    absent: tuple[str, ...]
    unknown: tuple[str, ...]
    differences: pl.DataFrame = field(repr=False)

    @property
    def identical(self) -> bool:
        """Return whether nothing differs except the spelling of numbers."""
        return self.differences.filter(pl.col("kind") != "spelling").is_empty()

    def summary(self) -> pl.DataFrame:
        """Return folder, kind, channel, stays, count: the differences summed over stays."""
        return (
            self.differences.group_by("folder", "kind", "channel")
            .agg(pl.col("stay").n_unique().alias("stays"), pl.col("count").sum())
            .sort("folder", "kind", "channel", nulls_last=True)
        )


def compare(store: Store, folder: Path, progress: Progress = SILENT) -> Report:
    """Compare the store with the output of the reference in `folder`.

    Files are compared as texts first, and cell by cell only if the texts differ.

    Raises:
        InputError: there is nothing to compare, a listfile cannot be read, or the store was
            imported.
    """
    begin = time.perf_counter()
    check_exportable(store)
    found = find_folders(folder)
    ours = task_folders(store)
    tasks = tuple(t for t in ours if t in found.tasks)
    if not tasks and not found.root:
        raise InputError(f"{found.base} has none of the store's tasks ({', '.join(ours)}).")
    if store.manifest["mode"] != "benchmark":
        progress.note("This store is in corrected mode: its values differ from the benchmark's.")
    files = Counter({TASK_FOLDERS[t]: 0 for t in tasks} | ({ROOT: 0} if found.root else {}))
    differences = [_frame(_compare_files(store, found, tasks, files, progress))]
    samples = _compare_listfiles(store, found, tasks, differences)
    progress.done(time.perf_counter() - begin)
    absent = tuple(TASK_FOLDERS[t] for t in ours if t not in tasks)
    return Report(
        dict(files),
        samples,
        absent if found.root else (ROOT, *absent),
        tuple(TASK_FOLDERS[t] for t in found.tasks if t not in ours),
        pl.concat(differences).sort("folder", "file"),
    )


def _frame(rows: Iterable[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=DIFFERENCES, orient="row")


def _compare_files(
    store: Store,
    found: Folders,
    tasks: tuple[str, ...],
    count: Counter[str],
    progress: Progress,
) -> Iterator[tuple[object, ...]]:
    """Yield rows of `DIFFERENCES`, and count the files by folder."""
    expected: set[str] = set()
    progress.stage("compare", store.read("stays.parquet").height, "stays")
    for stay, texts in stay_files(store, tasks, root=found.root):
        expected.update(texts)
        count.update(path.partition("/")[0] for path in texts)
        for path, ours in texts.items():
            if not (found.base / path).is_file():
                yield _row(path, stay, None, "missing file")
            elif (theirs := read_text(found.base / path)) != ours:
                for differing in compare_tables(ours, theirs):
                    yield _row(path, stay, *differing)
        progress.advance(1)
    patterns = [f"{TASK_FOLDERS[t]}/*/*{_TIMESERIES}" for t in tasks]
    patterns += [f"{ROOT}/*/*/episode*.csv"] * found.root
    for file in (file for pattern in patterns for file in found.base.glob(pattern)):
        path = file.relative_to(found.base).as_posix()
        if path not in expected:
            yield _row(path, _stay_of(path), None, "extra file")


def _row(
    path: str, stay: str, channel: str | None, kind: str, count: int = 1, hours: float | None = None
) -> tuple[object, ...]:
    folder, _, file = path.partition("/")
    return folder, file, stay, channel, kind, count, hours


def _stay_of(path: str) -> str:
    """Return the stay (7_episode1) of root/train/7/episode1.csv or 7_episode1_timeseries.csv."""
    *folders, name = path.split("/")
    stay = name.removesuffix(_TIMESERIES).removesuffix(".csv")
    return f"{folders[-1]}_{stay}" if folders[0] == ROOT else stay


def compare_tables(ours: str, theirs: str) -> list[tuple[str | None, str, int, float | None]]:
    """Return (channel, kind, count, first hours) of all differences between two CSV texts.

    Rows of time series are matched by their hours, and rows with the same hours in their order.
    """
    header, *own = csv.reader(io.StringIO(ours, newline=""))
    columns, *rows = csv.reader(io.StringIO(theirs or "\n", newline=""))
    if set(columns) != set(header) or any(len(row) != len(columns) for row in rows):
        return [(None, "unreadable file", 1, None)]
    hours = pl.col("Hours") if header[0] == "Hours" else pl.lit(None, pl.String)
    first = pl.DataFrame(own, dict.fromkeys(header, pl.String), orient="row")
    second = pl.DataFrame(rows, dict.fromkeys(columns, pl.String), orient="row").select(header)
    found = _differences(first, second, stay=pl.lit(""), hours=hours, what="row")
    return found.drop("stay").rows()


def _compare_listfiles(
    store: Store, found: Folders, tasks: tuple[str, ...], differences: list[pl.DataFrame]
) -> dict[str, int]:
    compared: Counter[str] = Counter()
    for task, ours in listfiles(store, store.read("stays.parquet")):
        if task not in tasks:
            continue
        folder = TASK_FOLDERS[task]
        for name, splits in LISTFILES.items():
            path = found.base / folder / name
            expected = ours.filter(pl.col("split").is_in(splits)).drop("split")
            if not path.is_file():
                differences.append(_frame([_row(f"{folder}/{name}", "", None, "missing file")]))
                continue
            if len(splits) == 1 and "/" not in name:
                compared[folder] += expected.height
            theirs = read_listfile(path, task).drop("file", "line")
            differ = compare_listfiles(expected, theirs)
            differ = differ.with_columns(folder=pl.lit(folder), file=pl.lit(name))
            differences.append(differ.select(DIFFERENCES.names()))
    return dict(compared)


def compare_listfiles(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """Return the last columns of `DIFFERENCES` between two listfiles of one task.

    Samples are matched by stay and, in tasks with several samples per stay, by period length.
    """
    stay, *values = ours.columns
    hours = pl.lit(None, pl.String)
    if values == ["period_length", "y_true"]:
        hours, values = pl.col("period_length"), ["y_true"]
    key = pl.col(stay).str.strip_suffix(_TIMESERIES)
    return _differences(ours, theirs, values, stay=key, hours=hours, what="sample")


def _differences(
    ours: pl.DataFrame,
    theirs: pl.DataFrame,
    values: list[str] | None = None,
    *,
    stay: pl.Expr,
    hours: pl.Expr,
    what: str,
) -> pl.DataFrame:
    """Return the last columns of `DIFFERENCES` between two frames of text without nulls.

    values: the columns to compare; all by default
    stay, hours: match the rows; rows with the same stay and hours are matched in their order
    what:   what a row is called in `KINDS`
    """
    rows = ("stay", "first_hours", "nth")

    def cells(table: pl.DataFrame) -> pl.DataFrame:
        keyed = table.select(
            *(values or table.columns), stay=stay, first_hours=hours.cast(pl.Float64, strict=False)
        ).with_columns(nth=pl.int_range(pl.len()).over("stay", "first_hours"))
        return keyed.unpivot(index=rows, variable_name="channel", value_name="text")

    keys = (*rows, "channel")
    here, there = pl.col("text"), pl.col("text there")
    same_number = here.cast(pl.Float64, strict=False) == there.cast(pl.Float64, strict=False)
    kinds = {f"missing {what}": there.is_null(), f"extra {what}": here.is_null()}
    kind = first_true(kinds | {"spelling": same_number}, "value")
    both = here.is_not_null() & there.is_not_null()
    return (
        cells(ours)
        .join(cells(theirs), keys, how="full", coalesce=True, nulls_equal=True, suffix=" there")
        .filter(here.ne_missing(there))
        .select(*rows, kind=kind, channel=pl.when(both).then("channel"))
        .unique()  # a missing row has a line for each of its cells
        .group_by("stay", "channel", "kind")
        .agg(count=pl.len().cast(pl.Int64), first_hours=pl.col("first_hours").min())
        .sort("stay", "channel", "kind", nulls_last=True)
    )
