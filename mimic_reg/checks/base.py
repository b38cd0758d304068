"""What every check reads and returns.

Tables of keys are read as a whole; hours only of some stays, chosen by a seed, so that a check
needs little memory on a large store. `View` says what was left out.

Shapes: R rows (hours), F channels, N samples, C labels.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl

from mimic_reg.clinical.schema import EPSILON
from mimic_reg.metrics.small_counts import about
from mimic_reg.samples import Constants, Samples, from_rows
from mimic_reg.samples.splits import priority
from mimic_reg.store import Store
from mimic_reg.store.spec import SPLIT, Task, split_in_fold

MOST_CELLS = 20_000_000  # of the hourly table in memory, 32 bits each
MOST_PER_STAY = 2  # samples of a stay and label, where a stay has many

Status = Literal["passed", "found", "not checked"]


@dataclass(frozen=True)
class Outcome:
    """The result of one check.

    check:  what was looked for
    text:   the result in one sentence or two
    count:  how many there are of what was found
    advice: what to do about a finding
    task:   the task, which the caller of the check sets; "" if it is about the whole store
    """

    check: str
    status: Status
    text: str
    count: int = 0
    advice: str = ""
    task: str = ""


def outcome(check: str, number: int, passed: str, found: str, advice: str) -> Outcome:
    """Return a finding if there are some, `number`; else that the check passed."""
    if not number:
        return Outcome(check, "passed", passed)
    return Outcome(check, "found", found, number, advice)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or plural."""
    return f"{number:,} {noun.removesuffix('s') if number == 1 else noun}"


def some(names: Iterable[str], between: str = ", ") -> str:
    """Return the first three of several names."""
    first = list(itertools.islice(names, 4))
    return between.join([*first[:3], *["…"] * (len(first) > 3)])


def split_name(part: str | int) -> str:
    """Return what people call a part of the division."""
    if isinstance(part, int):
        return f"fold {part}"
    return "validation" if part == "val" else part


def num_hours(end: str) -> pl.Expr:
    """Return the number of hours that a sample sees; `end`: the column with its end."""
    return (pl.col(end) + 1 - EPSILON).floor().cast(pl.Int64)


class View:
    """A task of a store with hours, as the checks read it."""

    def __init__(
        self, store: Store, task: Task, *, seed: int = 0, most_cells: int = MOST_CELLS
    ) -> None:
        """Look at a task.

        store: in a fold, if the cohort has folds
        """
        self.store, self.task, self.spec, self.seed = store, task, store.spec, seed
        self.most_rows = max(1, most_cells // len(store.spec.channels))
        self.most_cells = most_cells

    @cached_property
    def table(self) -> pl.DataFrame:
        """The sample table: unit, subject, part (split or fold), split, hours seen, labels."""
        spec, task = self.spec, self.task
        path = self.store.path(f"tasks/{task.name}.parquet")
        table = pl.scan_parquet(path, glob=False)
        if spec.folds:
            table = table.with_columns(split_in_fold(self.store.fold or 1, spec.folds))
        return table.select(
            pl.col(spec.unit).alias("unit"),
            pl.col(spec.subject).alias("subject"),
            pl.col(spec.division).cast(pl.Int64 if spec.folds else pl.Categorical).alias("part"),
            pl.col(SPLIT).cast(pl.Categorical).alias("split"),
            num_hours(str(spec.end)).alias("seen"),
            *(pl.col(label).alias(f"label {i}") for i, label in enumerate(task.labels)),
        ).collect()

    @cached_property
    def units(self) -> pl.DataFrame:
        """Units with samples: unit, subject, part, split, seen (most hours), sorted by unit."""
        first = ("subject", "part", "split")
        of_unit = self.table.group_by("unit")
        return of_unit.agg(pl.col("seen").max(), pl.col(first).first()).sort("unit")

    @cached_property
    def num_rows(self) -> int:
        """The number of rows of the hourly table."""
        return int(self.store.scan("hourly.parquet").select(pl.len()).collect().item())

    @cached_property
    def chosen(self) -> pl.DataFrame:
        """Chosen units, as `units`, with the number of their hours (held) and first row (first).

        Half of the rows are for stays with a positive label, so that rare ones are among them.
        """
        unit = pl.col(self.spec.unit).alias("unit")
        hours = self.store.scan("hourly.parquet").group_by(unit).agg(pl.len().alias("held"))
        units = self.units.join(hours.collect(), on="unit", how="inner")
        if int(units["held"].sum()) > self.most_rows:
            order = priority(self.seed, units["unit"].to_numpy())
            units = units.with_columns(rare=self._rare(units), order=pl.Series(order)).sort("order")
            half = pl.col("held").cum_sum().over("rare") <= self.most_rows // 2
            units = units.filter(half)
        held = pl.col("held").cast(pl.Int64)
        return units.sort("unit").with_columns(held=held, first=held.cum_sum() - held)

    def _rare(self, units: pl.DataFrame) -> pl.Series:
        """Return which units have a positive label; all or none where that means nothing."""
        if self.task.target != "binary":
            return pl.Series(units["unit"] % 2 == 0)
        positive = self.table.filter(pl.col("label 0") > 0)["unit"].unique()
        return units["unit"].is_in(positive.implode())

    @cached_property
    def hours(self) -> np.ndarray:
        """The hours of the chosen units (R, F), not normalised; NaN where a cell is empty."""
        unit = self.chosen.select(pl.col("unit").alias(self.spec.unit)).lazy()
        rows = self.store.scan("hourly.parquet")
        rows = rows.join(unit, on=self.spec.unit, how="semi", maintain_order="left")
        frame = rows.select(pl.col(self.spec.channel_names).cast(pl.Float32)).collect()
        return frame.fill_null(np.nan).to_numpy()

    @cached_property
    def samples(self) -> pl.DataFrame:
        """Samples of the chosen units, at most two of a stay and label: `table`, first, held."""
        table = self.table.join(self.chosen.select("unit", "first", "held"), on="unit")
        by = ["unit"] + (["label 0"] if self.task.target in ("binary", "multiclass") else [])
        if table.height > 2 * self.chosen.height:
            keys = (table["unit"].to_numpy(), table["seen"].to_numpy())
            table = table.with_columns(order=pl.Series(priority(self.seed, *keys))).sort("order")
            table = table.group_by(by, maintain_order=True).head(MOST_PER_STAY).drop("order")
        return table.sort("unit", "seen")

    @property
    def per_stay(self) -> bool:
        """Whether each stay has one sample."""
        return self.table.height == self.units.height

    @property
    def stays_read(self) -> str:
        """A sentence on stays that were left out; "" if all were read."""
        if self.chosen.height == self.units.height:
            return ""
        return (
            f" Read {about(self.chosen.height)} of {about(self.units.height)} stays, chosen by the "
            f"seed {self.seed}."
        )

    @property
    def samples_read(self) -> str:
        """A sentence on samples that were left out; "" if all were read."""
        if self.samples.height == self.table.height:
            return ""
        return (
            f" Read {about(self.samples.height)} of {about(self.table.height)} samples, of "
            f"{about(self.chosen.height)} of {about(self.units.height)} stays, chosen by the seed "
            f"{self.seed}."
        )

    def as_samples(
        self, rows: pl.DataFrame, hours: np.ndarray, constants: Constants | None = None
    ) -> Samples:
        """Return rows of `samples` as a learner sees them, from these hours (R, F).

        constants: means and deviations; None: as they are
        """
        num = len(self.spec.channels)
        constants = constants or (np.zeros(num), np.ones(num))
        first, seen = rows["first"].to_numpy(), rows["seen"].to_numpy()
        return from_rows(self.task, hours, first, seen, constants=constants)

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """Labels of `samples` as yes or no (N,), by name: classes one by one, values halved."""
        y = self.samples.select(f"label {i}" for i in range(len(self.task.labels))).to_numpy()
        if self.task.target == "regression":
            return {f"{self.task.labels[0]} above its median": y[:, 0] > np.median(y[:, 0])}
        if self.task.target == "multiclass":
            return {name: y[:, 0] == i for i, name in enumerate(self.task.classes)}
        if self.task.target == "binary":
            return {self.task.name: y[:, 0] > 0}
        return {name: y[:, i] > 0 for i, name in enumerate(self.task.labels)}

    def static_channels(self, first: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield channels that never change in a stay: name, value in each stay (first rows)."""
        for at, channel in enumerate(self.spec.channels):
            column = np.nan_to_num(self.hours[:, at], nan=-1e30)
            low, high = np.minimum.reduceat(column, first), np.maximum.reduceat(column, first)
            if (low == high).all():
                yield channel.name, low


def chosen_channels(view: View, names: list[str]) -> tuple[list[str], str]:
    """Return channels whose columns fit into memory together, and a sentence on the others."""
    most = max(4, view.most_cells // max(1, view.num_rows))
    if len(names) <= most:
        return names, ""
    order = np.random.default_rng(view.seed).permutation(len(names))[:most]
    kept = [names[i] for i in sorted(order)]
    return kept, f" Compared {most:,} of {len(names):,} channels (seed {view.seed})."
