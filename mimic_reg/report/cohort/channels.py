"""What was measured: how often, and with which values."""

from typing import Any

import numpy as np
import polars as pl

from mimic_reg.clinical.schema import variables
from mimic_reg.metrics.small_counts import LEAST, is_small
from mimic_reg.report.cohort.patients import number, read_keys
from mimic_reg.report.formats import HIDDEN
from mimic_reg.store import Store

_MOST_CELLS = 300_000_000  # of the hourly table to read; with more, some stays are left out
_MOST = 200  # variables
_BINS = 24
_ENOUGH = 200  # stays, for the 5 % and 95 % quantiles


def measured(
    store: Store, audit: dict[str, Any], least: int = LEAST, seed: int = 0
) -> tuple[list[dict[str, Any]], str]:
    """Return a row for each variable, and a sentence on what was left out.

    A variable's hours are those in which it was measured, if a channel says so; else all. A row has
    texts and, for drawings, numbers: the share of `stays` with a measurement (None: hidden), and
    the heights of a histogram (`bars`, from 0 to 1). `outside` is the share of measured hours out
    of the plausible range, `dropped` that of the rows that extraction left out.
    """
    spec = store.spec
    names = list(dict.fromkeys(c.variable for c in spec.channels))[:_MOST]
    rows = int(store.scan("hourly.parquet").select(pl.len()).collect().item())
    step = -(-rows * 2 * len(names) // _MOST_CELLS)
    chosen = pl.lit(True) if step == 1 else pl.col(spec.unit).hash(seed) % step == 0
    keys = read_keys(store).table.select(pl.col("unit").alias(spec.unit), "subject")
    found = [_variable(store, keys, name, chosen, audit, least) for name in names]
    left = "" if step == 1 else f"Read about one of {step} stays, chosen by the seed {seed}. "
    total = len({c.variable for c in spec.channels})
    left += f"Only the first {_MOST} of {total:,} variables." if total > _MOST else ""
    return found, left.strip()


def _variable(
    store: Store, keys: pl.DataFrame, name: str, chosen: pl.Expr, audit: dict[str, Any], least: int
) -> dict[str, Any]:
    """Return the row of a variable. Few patients are hidden, whatever their stays.

    keys: each stay with its subject
    """
    spec = store.spec
    of = [c for c in spec.channels if c.variable == name]
    marks = [c for c in of if c.kind in ("observed", "missing")]
    values = [c for c in of if c.kind == "continuous"]
    mark = marks[0] if marks else None
    columns = [c.name for c in (*values[:1], *marks[:1])]
    table = store.scan("hourly.parquet").filter(chosen).select(spec.unit, *columns).collect()
    num_stays, num_hours = table[spec.unit].n_unique(), table.height
    if mark is not None:
        table = table.filter(pl.col(mark.name) == float(mark.kind == "observed"))
    if values:
        table = table.filter(pl.col(values[0].name).is_not_null())
    table = table.join(keys, on=spec.unit, how="left", maintain_order="left")
    there = table[spec.unit].n_unique()
    few = is_small(table["subject"].n_unique(), least)
    share = there / num_stays if num_stays else 0.0
    text = (
        f"< {least} {'stays' if is_small(there, least) else spec.subjects}"
        if few
        else f"{100 * share:.1f} %"
    )
    if is_small(num_stays - there, least):
        text, share = f"all but < {least} stays", 1.0
    rows = audit.get("variables", {}).get(name, {})
    categories = len(of) - len(marks)
    kind = f"{categories} categories" if categories > 1 else "yes or no"
    row: dict[str, Any] = {
        "name": name,
        "stays": None if few else share,
        "stays_text": text,
        "hours": HIDDEN if few or not num_hours else f"{100 * table.height / num_hours:.1f} %",
        "quartiles": HIDDEN if few or values else kind,
        "wide": "",
        "outside": HIDDEN,
        "dropped": HIDDEN if few else _dropped(rows, least),
        "bars": (),
    }
    if few or not there or not values:
        return row
    channel = values[0].name
    column = table[channel].cast(pl.Float64)
    q = [column.quantile(level, "linear") for level in (0.05, 0.25, 0.5, 0.75, 0.95)]
    row["quartiles"] = f"{number(q[2])} [{number(q[1])}, {number(q[3])}]"
    row["wide"] = f"{number(q[0])} to {number(q[4])}" if there >= _ENOUGH else ""
    row["bars"] = _bars(table, channel, q[0], q[4], least)
    if "mode" in store.manifest:
        row["outside"] = _outside(table, spec.subjects, channel, name, least)
    return row


def _outside(table: pl.DataFrame, subjects: str, channel: str, name: str, least: int) -> str:
    """Return the share of hours outside of the benchmark's plausible range; - if it has none."""
    valid = {v.name: v.valid for v in variables()}.get(name)
    if valid is None:
        return HIDDEN
    out = table.filter(~pl.col(channel).is_between(*valid))
    if is_small(out["subject"].n_unique(), least):
        return f"< {least} {subjects}"
    return f"{100 * out.height / table.height:.2f} %"


def _dropped(rows: dict[str, int], least: int) -> str:
    """Return the share of a variable's rows that were left out or clipped; - if not known."""
    if not rows.get("mapped"):
        return HIDDEN
    dropped, clipped = rows["mapped"] - rows.get("kept", 0), rows.get("clipped", 0)
    if is_small(dropped, least) or is_small(clipped, least):
        return f"< {least} rows" if dropped + clipped < 2 * least else HIDDEN
    text = f"{100 * dropped / rows['mapped']:.2f} %"
    return f"{text}, {100 * clipped / rows['mapped']:.2f} % clipped" if clipped else text


def _bars(
    table: pl.DataFrame, channel: str, low: float | None, high: float | None, least: int
) -> tuple[float, ...]:
    """Return the heights of a histogram between two quantiles; bins of few patients are empty."""
    if low is None or high is None or not high > low:
        return ()
    place = ((pl.col(channel) - low) / (high - low) * _BINS).floor().clip(0, _BINS - 1)
    inside = table.filter(pl.col(channel).is_between(low, high))
    bins = inside.group_by(place.cast(pl.Int32).alias("bin")).agg(
        pl.len(), pl.col("subject").n_unique().alias("subjects")
    )
    heights = np.zeros(_BINS)
    for each in bins.filter(pl.col("subjects") >= least).iter_rows(named=True):
        heights[each["bin"]] = each["len"]
    return tuple(float(h) for h in heights / max(heights.max(), 1))
