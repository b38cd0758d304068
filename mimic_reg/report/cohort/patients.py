"""Table one: age, sex, ethnicity, unit, length of stay and mortality, by split.

Every row counts stays. A cell is small if its stays, or their patients, are few.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mimic_reg.checks.base import split_name
from mimic_reg.metrics.small_counts import LEAST, is_small
from mimic_reg.report.cohort.suppression import apart, hidden
from mimic_reg.report.formats import HIDDEN
from mimic_reg.samples.attributes import OLDEST, STAYS
from mimic_reg.store import Store
from mimic_reg.store.spec import SPLITS, CohortSpec, Task

ALL = "all"
_CATEGORIES = 8  # of a variable; the others are one row
_EMPTY = "not recorded"
_TITLES = {
    "age": "Age, years",
    "gender": "Sex",
    "sex": "Sex",
    "ethnicity": "Ethnicity",
    "first_careunit": "First care unit",
    "los_days": "Length of stay, days",
    "outcome": "Outcome",
    "hours": "Hours in the store",
}


@dataclass(frozen=True)
class Stays:
    """The stays of a cohort: unit, subject, part, and attributes.

    parts: names of the divisions, in order; empty for a cohort with folds
    """

    table: pl.DataFrame
    parts: tuple[str, ...]
    attributes: tuple[str, ...]


def read_stays(store: Store) -> Stays:
    """Return the stays of a store with what it knows of them.

    A store without a table of stays has the static channels of its hours instead.
    """
    spec = store.spec
    hours = store.scan("hourly.parquet").group_by(pl.col(spec.unit).alias("unit"))
    if STAYS in store.manifest["files"]:
        stays = store.read(STAYS)
        there = [name for name in _TITLES if name in stays.columns]
        table = stays.select(
            pl.col(spec.unit).alias("unit"),
            pl.col(spec.subject).alias("subject"),
            pl.col("split").alias("part"),
            *there,
            *([pl.col("los_hours").alias("los_days") / 24] if "los_hours" in stays.columns else []),
        )
        if {"mortality", "mortality_inunit"} <= {*stays.columns}:
            table = table.with_columns(_outcome(stays).alias("outcome"))
        if "age" in there:
            table = table.with_columns(pl.col("age").clip(upper_bound=OLDEST))
        attributes = [name for name in _TITLES if name in table.columns]
        empty = [name for name in attributes if table[name].null_count() == table.height]
        table = table.drop(empty)
        return Stays(table, SPLITS, tuple(n for n in attributes if n not in empty))
    keys = read_keys(store)
    table = keys.table.join(hours.agg(pl.len().alias("hours")).collect(), on="unit", how="left")
    static = _static(store)
    table = table.join(static, on="unit", how="left").sort("unit")
    attributes = ["hours", *(c for c in static.columns if c != "unit")]
    return Stays(table, keys.parts, tuple(attributes))


def read_keys(store: Store) -> Stays:
    """Return the stays of a store without attributes."""
    spec = store.spec
    division = [] if spec.folds else [pl.col("split").alias("part")]
    columns = (pl.col(spec.unit).alias("unit"), pl.col(spec.subject).alias("subject"), *division)
    files = [f"tasks/{name}.parquet" for name in spec.task_names]
    if STAYS in store.manifest["files"]:
        files = [STAYS]
    tables = [pl.scan_parquet(store.path(name), glob=False).select(columns) for name in files]
    table = pl.concat(tables).unique("unit", keep="first").collect()
    return Stays(table, () if spec.folds else SPLITS, ())


def _outcome(stays: pl.DataFrame) -> pl.Series:
    """Return one outcome of each stay: deaths in the unit are among those in hospital."""
    unit, hospital = pl.col("mortality_inunit") == 1, pl.col("mortality") == 1
    return stays.select(
        pl.when(unit)
        .then(pl.lit("died in the unit"))
        .when(hospital)
        .then(pl.lit("died in hospital, after the unit"))
        .when(pl.col("mortality") == 0)
        .then(pl.lit("survived"))
    ).to_series()


def _static(store: Store) -> pl.DataFrame:
    """Return unit and its static variables: channels that are the same in all hours of each stay.

    The indicators of a variable's categories become one column of texts.
    """
    spec = store.spec
    marked = {c.variable for c in spec.channels if c.kind in ("observed", "missing")}
    unit = pl.col(spec.unit).alias("unit")
    found: dict[str, pl.Series] = {}
    names: list[tuple[str, str]] = []
    units = None
    for channel in spec.channels:
        if channel.variable in marked or channel.kind in ("observed", "missing"):
            continue
        column = pl.col(channel.name)
        groups = store.scan("hourly.parquet").group_by(unit)
        read = groups.agg(value=column.first(), same=column.n_unique() == 1).sort("unit").collect()
        units = read["unit"]
        if read["same"].all():
            found[channel.name] = read["value"]
            names.append((channel.variable, channel.name))
    if units is None or not names:
        return pl.DataFrame({"unit": [] if units is None else units}, schema={"unit": pl.Int64})
    columns: dict[str, pl.Series] = {"unit": units}
    kinds = {c.name: c.kind for c in spec.channels}
    for variable in dict.fromkeys(variable for variable, _ in names):
        of = [name for v, name in names if v == variable]
        if kinds[of[0]] == "continuous":
            columns[variable] = found[of[0]]
            continue
        frame = pl.DataFrame({name: found[name] for name in of})
        text = pl.lit(None, pl.String)
        for name in of:
            category = name.removeprefix(f"{variable}->") if name != variable else "yes"
            text = pl.when(pl.col(name) == 1).then(pl.lit(category)).otherwise(text)
        if of == [variable]:
            text = text.fill_null("no")
        columns[variable] = frame.select(text.alias(variable)).to_series()
    return pl.DataFrame(columns)


@dataclass(frozen=True)
class TableOne:
    """A table of texts; `rows`: heading, whether it is a category of the row above, cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, bool, tuple[str, ...]], ...]

    @property
    def csv(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return header and rows of plain texts."""
        return self.header, [(heading, *cells) for heading, _, cells in self.rows]


def table_one(stays: Stays, spec: CohortSpec, least: int = LEAST) -> TableOne:
    """Return table one, with small counts hidden."""
    groups = {part: stays.table.filter(pl.col("part") == part) for part in stays.parts}
    groups[ALL] = stays.table
    names = tuple(map(split_name, groups))
    frames = list(groups.values())
    rows: list[tuple[str, bool, tuple[str, ...]]] = []
    shown = [True] * len(frames)
    for key, noun in (("unit", "Stays"), ("subject", spec.subjects.capitalize())):
        if key == "subject" and spec.subject == spec.unit:
            continue
        numbers = np.array([[frame[key].n_unique() for frame in frames]])
        small = np.vectorize(lambda n: is_small(n, least))(numbers)
        hide = _totals_hidden(numbers[0], small[0])
        shown = [was and not now for was, now in zip(shown, hide, strict=True)]
        cells = (HIDDEN if h else f"{n:,}" for h, n in zip(hide, numbers[0], strict=True))
        rows.append((noun, False, tuple(cells)))
    for name in stays.attributes:
        column = stays.table[name]
        title = _TITLES.get(name, name)
        if column.dtype.is_numeric():
            quartiles = _quartiles(frames, name, shown, least)
            rows.append((f"{title}, median [quartiles]", False, quartiles))
            empty = pl.when(pl.col(name).is_null()).then(pl.lit(_EMPTY)).otherwise(pl.lit("there"))
            if column.null_count():
                with_gap = [frame.with_columns(empty.alias(name)) for frame in frames]
                gaps = _categories(with_gap, name, shown, least)
                rows += [row for row in gaps if row[0] == _EMPTY]
        else:
            rows.append((title, False, ("",) * len(frames)))
            rows += _categories(frames, name, shown, least)
    return TableOne(("", *names), tuple(rows))


def _totals_hidden(numbers: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Return which totals to hide: small parts, and one more if the sum tells them."""
    hide = small.copy()
    if len(numbers) > 1 and hide[:-1].sum() == 1 and not hide[-1]:
        parts = [i for i in range(len(numbers) - 1) if not hide[i]]
        if parts:
            hide[min(parts, key=lambda i: numbers[i])] = True
    return hide


def _closed(totals: Sequence[int], whole: int, least: int) -> list[bool]:
    """Return which parts have a size that table one hides.

    whole: the size of all parts together
    """
    numbers = np.array([*totals, *([whole] if len(totals) > 1 else [])])
    small = np.array([is_small(int(n), least) for n in numbers])
    return [bool(h) for h in _totals_hidden(numbers, small)[: len(totals)]]


def _categories(
    frames: Sequence[pl.DataFrame], name: str, shown: Sequence[bool], least: int
) -> list[tuple[str, bool, tuple[str, ...]]]:
    """Return a row for each category of a column: stays and their share, or what hides them."""
    texts = [f.select(pl.col(name).cast(pl.String).fill_null(_EMPTY), "subject") for f in frames]
    order = texts[-1][name].value_counts(sort=True).sort("count", name, descending=[True, False])
    values = order[name].to_list()
    if len(values) > _CATEGORIES + 1:
        kept = [v for v in values if v != _EMPTY][:_CATEGORIES]
        other = pl.when(pl.col(name).is_in([*kept, _EMPTY])).then(name).otherwise(pl.lit(_OTHER))
        texts = [text.with_columns(other.alias(name)) for text in texts]
        values = [*kept, _OTHER, *([_EMPTY] if _EMPTY in values else [])]
    counts = np.array([[t.filter(pl.col(name) == v).height for t in texts] for v in values])
    people = np.array(
        [[t.filter(pl.col(name) == v)["subject"].n_unique() for t in texts] for v in values]
    )
    small = (people > 0) & (people < least)
    hide, named = hidden(counts, small, np.array(shown), least)
    totals = counts.sum(0)

    def cell(k: int, s: int) -> str:
        if hide[k, s]:
            return f"< {least}" if named[k, s] else HIDDEN
        return f"{counts[k, s]:,} ({100 * counts[k, s] / totals[s]:.1f} %)" if totals[s] else "0"

    columns = range(len(frames))
    return [(v, True, tuple(cell(k, s) for s in columns)) for k, v in enumerate(values)]


_OTHER = "others"


def _quartiles(
    frames: Sequence[pl.DataFrame], name: str, shown: Sequence[bool], least: int
) -> tuple[str, ...]:
    cells = []
    for frame, there in zip(frames, shown, strict=True):
        known = frame.filter(pl.col(name).is_not_null())
        if not there or known["subject"].n_unique() < least:
            cells.append(HIDDEN)
            continue
        low, middle, high = (known[name].quantile(q, "linear") for q in (0.25, 0.5, 0.75))
        cells.append(f"{number(middle)} [{number(low)}, {number(high)}]")
    return tuple(cells)


def number(value: float | None) -> str:
    """Return a number with three digits that matter."""
    if value is None:
        return HIDDEN
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def samples(store: Store, stays: Stays, least: int = LEAST) -> list[tuple[str, ...]]:
    """Return a row for each task and split: samples, stays, patients, positives."""
    spec = store.spec
    rows: list[tuple[str, ...]] = []
    parts = stays.parts or (ALL,)
    sizes = {p: stays.table if p == ALL else stays.table.filter(pl.col("part") == p) for p in parts}
    found: dict[tuple[str, str], pl.DataFrame] = {}
    for task in spec.tasks:
        path = store.path(f"tasks/{task.name}.parquet")
        columns = dict.fromkeys((spec.unit, spec.subject, *task.labels))
        table = pl.scan_parquet(path, glob=False)
        for part in parts:
            rows_of = table if part == ALL else table.filter(pl.col("split") == part)
            found[task.name, part] = rows_of.select(*columns).collect()
    hide: dict[tuple[str, str, str], bool] = {}
    told = _sides_told(store, found, parts, least)
    keys = {"unit": spec.unit, "subject": spec.subject}
    for key, column in keys.items():
        totals = [sizes[part][key].n_unique() for part in parts]
        closed = _closed(totals, stays.table[key].n_unique(), least)
        for part, total, is_closed in zip(parts, totals, closed, strict=True):
            numbers = [total, *(found[t, part][column].n_unique() for t in spec.task_names)]
            for name, number, near in zip(
                ("", *spec.task_names), numbers, apart(numbers, least), strict=True
            ):  # of a part that table one hides, no task may tell the size
                hide[name, part, key] = near or (is_closed and total - number < least)
    for task in spec.tasks:
        for part in parts:
            here = found[task.name, part]
            num = {key: here[column].n_unique() for key, column in keys.items()}
            few = any(hide[task.name, part, key] for key in num)
            one_each = here.height == num["unit"]
            texts = [HIDDEN if few and one_each else f"{here.height:,}"]
            texts += [HIDDEN if hide[task.name, part, key] else f"{n:,}" for key, n in num.items()]
            if spec.subject == spec.unit:
                texts.pop()
            is_told = (task.name, part) in told
            positives = HIDDEN if is_told else _positives(here, task, spec, least)
            rows.append((task.name, split_name(part), *texts, positives))
    return rows


def _sides_told(
    store: Store, found: Mapping[tuple[str, str], pl.DataFrame], parts: Sequence[str], least: int
) -> set[tuple[str, str]]:
    """Return (task, part) whose share of positives would tell a small count by a difference.

    Stays with the event, or without it, may lie within those of another task, or within the deaths
    or survivors of table one.

    found: (task, part) → stay and labels of its samples
    """
    spec, told = store.spec, set[tuple[str, str]]()
    died = None
    if STAYS in store.manifest["files"]:
        stays = store.read(STAYS)
        died = stays.select("split", "mortality") if "mortality" in stays.columns else None
    for part in parts:
        tables = {
            task.name: found[task.name, part][task.labels[0]]
            for task in spec.tasks
            if task.target == "binary"
            and found[task.name, part].height == found[task.name, part][spec.unit].n_unique()
        }
        for side in (0, 1):
            of_all = [] if died is None else [died.filter(pl.col("split") == part)["mortality"]]
            numbers = [int((column == side).sum()) for column in (*of_all, *tables.values())]
            hide = apart(numbers, least)[len(of_all) :]
            told |= {(name, part) for name, small in zip(tables, hide, strict=True) if small}
    return told


def _positives(table: pl.DataFrame, task: Task, spec: CohortSpec, least: int) -> str:
    """Return the share of positive samples; of several labels, of the rarest and the commonest."""
    labels = task.labels
    if task.target not in ("binary", "multilabel") or table.is_empty():
        return HIDDEN
    shares, few = [], 0
    for label in labels:
        sides = [table.filter(pl.col(label) == side)[spec.subject].n_unique() for side in (0, 1)]
        if any(is_small(n, least) for n in sides):
            few += 1
        else:
            shares.append(float(table[label].mean()))  # type: ignore[arg-type]
    if len(labels) == 1:
        return f"{100 * shares[0]:.1f} %" if shares else f"< {least} on one side"
    told = f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %" if shares else ""
    return "; ".join(filter(None, [told, f"{few} labels with < {least}" * bool(few)]))
