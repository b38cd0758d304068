"""Verify that a store is the published benchmark: compare MD5s of its files with those published.

The reference includes an MD5 of every time-series file that it makes from the full MIMIC-III. The
MD5 is that of a canonical form of the table, not of the file: every number with one decimal,
sorted, as pandas prints it. This module makes that form for many stays at once, without pandas and
without files.
"""

import hashlib
import time
from dataclasses import dataclass, field

import polars as pl

from mimic_reg.clinical.schema import STAYS, first_true, resource
from mimic_reg.errors import InputError
from mimic_reg.parity import check_benchmark
from mimic_reg.parity import files as layout
from mimic_reg.progress import SILENT, Progress
from mimic_reg.store import Store

_KEYS = ("files", "subject_id", "episode")


@dataclass(frozen=True)
class Comparison:
    """The comparison of one kind of files with its published hashes, in numbers of stays.

    matching:      the same content in the same folder (train/ or test/)
    differing:     other content, or the other folder
    unpublished:   in this cohort, but without a published hash
    absent:        published, but not in this cohort; for the demo and other extracts most of them
    """

    matching: int
    differing: int
    unpublished: int
    absent: int

    @property
    def complete(self) -> bool:
        """Return whether these are exactly the published files."""
        return not (self.differing or self.unpublished or self.absent)


@dataclass(frozen=True)
class PublishedReport:
    """The comparison by kind of files, and the files that do not match.

    stays: files, subject_id, episode, outcome ("differing", "unpublished" or "absent"). It holds
           ids of patients, so show it only on request.
    """

    kinds: dict[str, Comparison]
    stays: pl.DataFrame = field(repr=False)

    @property
    def identical(self) -> bool:
        """Return whether every file of the store has its published hash."""
        kinds = self.kinds.values()
        return any(k.matching for k in kinds) and not any(
            k.differing or k.unpublished for k in kinds
        )


def verify_published(store: Store, progress: Progress = SILENT) -> PublishedReport:
    """Compare the store with the published hashes of the full MIMIC-III v1.4.

    Raises:
        InputError: the store was extracted in `corrected` mode.
    """
    check_benchmark(store)
    if store.manifest["mode"] != "benchmark":
        raise InputError(
            f"{store.folder} was extracted in {store.manifest['mode']} mode, but the published "
            "hashes are of the benchmark's cohorts. Extract with --mode benchmark to compare."
        )
    begin = time.perf_counter()
    ours = hash_store(store, progress)
    joined = published_hashes().join(
        ours, _KEYS, how="full", suffix=" here", coalesce=True, maintain_order="left_right"
    )
    expected, here = pl.col("md5"), pl.col("md5 here")
    same = (here == expected) & (pl.col("partition here") == pl.col("partition"))
    outcomes = {"absent": here.is_null(), "unpublished": expected.is_null(), "matching": same}
    stays = joined.select(*_KEYS, outcome=first_true(outcomes, "differing"))
    progress.done(time.perf_counter() - begin)
    kinds = (layout.IN_HOSPITAL_MORTALITY, layout.WHOLE_STAY)
    counts = {kind: _count(stays.filter(files=kind)) for kind in kinds}
    return PublishedReport(counts, stays.filter(pl.col("outcome") != "matching"))


def published_hashes() -> pl.DataFrame:
    """Return files, subject_id, episode, partition, md5 of all published files."""
    table = pl.read_parquet(resource("published_hashes.parquet").read_bytes())
    return table.cast({name: STAYS[name] for name in ("subject_id", "episode")})


def _count(stays: pl.DataFrame) -> Comparison:
    counts = dict(stays["outcome"].value_counts().iter_rows())
    return Comparison(
        **{k: counts.get(k, 0) for k in ("matching", "differing", "unpublished", "absent")}
    )


def hash_store(store: Store, progress: Progress) -> pl.DataFrame:
    """Return files, subject_id, episode, partition, md5 of every task file of the store."""
    stays = store.read("stays.parquet")
    progress.stage("hashes", stays.height, "stays")
    parts = []
    for part, cells in layout.batches(store, stays):
        for files, (chosen, rows) in layout.task_rows(cells, part).items():
            hashed = chosen.join(hash_tables(rows), on="icustay_id")
            keys = hashed.with_columns(files=pl.lit(files), partition=layout.partition())
            parts.append(keys.select(*_KEYS, "partition", "md5"))
        progress.advance(part.height)
    return pl.concat(parts)


def hash_tables(cells: pl.DataFrame) -> pl.DataFrame:
    """Return icustay_id and the MD5 of each stay's table.

    cells: icustay_id and the columns of `TIMESERIES`, as text; null is a missing cell
    """
    texts = canonical_texts(cells)
    digests = [hashlib.md5(t.encode(), usedforsecurity=False).digest() for t in texts["text"]]
    return texts.select("icustay_id", pl.Series("md5", digests, dtype=pl.Binary))


def canonical_texts(cells: pl.DataFrame) -> pl.DataFrame:
    """Return icustay_id and `text`: each stay's table as pandas' `DataFrame.to_string()` prints it.

    Numbers have one decimal. Rows are sorted as text by the first column with distinct values, and
    numbered again; a table without such a column keeps its order.
    """
    named = cells.select("icustay_id", *(_canonical(cells[name]) for name in layout.TIMESERIES))
    per_stay = named.group_by("icustay_id", maintain_order=True).agg(
        pl.len().alias("rows"),
        *((pl.col(n).n_unique() == pl.len()).alias(f"distinct {n}") for n in layout.TIMESERIES),
        *(_width(n).alias(f"width {n}") for n in layout.TIMESERIES),
    )
    index_width = (pl.col("rows") - 1).cast(pl.String).str.len_chars()
    per_stay = per_stay.with_columns(index_width.alias("index width"))
    key = pl.coalesce(pl.when(f"distinct {n}").then(n) for n in layout.TIMESERIES)
    index = pl.int_range(pl.len()).over("icustay_id").cast(pl.String)
    lines = (
        named.join(per_stay, on="icustay_id", maintain_order="left")
        .sort("icustay_id", key, maintain_order=True)
        .select("icustay_id", _line(index, {n: pl.col(n) for n in layout.TIMESERIES}).alias("line"))
        .group_by("icustay_id")
        .agg(pl.col("line").str.join("\n"))
    )
    header = _line(pl.lit(""), {n: pl.lit(n) for n in layout.TIMESERIES})
    return per_stay.join(lines, on="icustay_id").select(
        "icustay_id", text=pl.concat_str(header, "line", separator="\n")
    )


def _canonical(values: pl.Series) -> pl.Series:
    return layout.each_value(values, canonical_cell).fill_null("nan")


def canonical_cell(text: str) -> str:
    """Return a number with one decimal, and other text with escaped line breaks and tabs."""
    try:
        return f"{float(text):.1f}"
    except ValueError:
        return text.translate(_ESCAPED)


_ESCAPED = str.maketrans({"\t": r"\t", "\r": r"\r", "\n": r"\n"})


def _width(name: str) -> pl.Expr:
    """Return the width of a column: its name, or its longest cell after a space from pandas."""
    return pl.max_horizontal(pl.lit(len(name)), pl.col(name).str.len_chars().max() + 1)


def _line(index: pl.Expr, cells: dict[str, pl.Expr]) -> pl.Expr:
    """Return a line: the index aligned left, cells aligned right."""
    padded = (cell.str.pad_start(pl.col(f"width {name}")) for name, cell in cells.items())
    return pl.concat_str(index.str.pad_end(pl.col("index width")), *padded, separator=" ")
