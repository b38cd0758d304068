"""What comes after the prediction time: samples, imputed cells and predictions must not know it.

Shapes: R rows (hours), F channels.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl
import torch
from scipy.stats import spearmanr

from mimic_reg.checks.base import Outcome, View, counted, outcome, some
from mimic_reg.learners.base import Predictor
from mimic_reg.metrics.small_counts import about
from mimic_reg.samples import Constants

_SAMPLES = 64  # whose future is changed
_TOLD = 0.95  # rank correlation of a channel with the length of the whole stay
_SAME = 1e-6  # predictions; padding to another length may change the last digits
_NO_FUTURE = "Each sample sees all hours of its stay, so the store has no later hours."
_ADVICE = "Compute every feature from the hours up to the prediction time alone."


def inputs(view: View) -> Outcome:
    """Return whether what a learner is fed stays the same when all later hours are changed."""
    check = "inputs do not change with the future"
    hours = view.task.hours
    late = 0 if hours is None else int((view.table["seen"] > np.ceil(hours)).sum())
    if late:
        text = f"{counted(late, 'samples')} see more than the first {hours:g} hours of their task."
        return Outcome(check, "found", text, late, _ADVICE)
    rows = _with_future(view)
    if rows is None:
        return Outcome(check, "passed", _NO_FUTURE)
    before, after = (
        view.as_samples(rows, hours).gather(torch.arange(rows.height))
        for hours in (view.hours, _changed(view, rows))
    )
    moved = _moved(before.x.flatten(1).numpy(), after.x.flatten(1).numpy())
    return _outcome(check, "the inputs", moved, rows.height, view)


def predictions(view: View, predictor: Predictor, constants: Constants) -> Outcome:
    """Return whether predictions stay the same when all later hours are changed.

    Each sample goes with a longer one of its stay, if there is one, as in training: a model that
    shares the hours of a stay must not look ahead either.
    """
    check = "predictions do not change with the future"
    rows = _with_future(view)
    if rows is None:
        return Outcome(check, "passed", _NO_FUTURE)
    longer = view.table.rename({"seen": "most"}).join(rows, on="unit")
    longer = longer.filter(pl.col("most") > pl.col("seen"))
    longer = longer.group_by("unit").agg(pl.col("most").max())
    pairs = rows.select("unit", "first", "seen").join(longer, on="unit").with_columns(seen="most")
    both = pl.concat([rows.select("unit", "first", "seen"), pairs.select("unit", "first", "seen")])
    both = both.with_row_index("at").sort("unit", "seen")
    place = both["at"].to_numpy() < rows.height
    before, after = (
        predictor.predict(view.as_samples(both, hours, constants))[place]
        for hours in (view.hours, _changed(view, rows))
    )
    return _outcome(check, "the predictions", _moved(before, after, _SAME), rows.height, view)


def _with_future(view: View) -> pl.DataFrame | None:
    """Return samples, one a stay, after which their stay goes on; None if there are none."""
    rows = view.samples.filter(pl.col("seen") < pl.col("held"))
    rows = rows.group_by("unit", maintain_order=True).first()
    if rows.is_empty():
        return None
    return rows.sample(min(_SAMPLES, rows.height), seed=view.seed).sort("unit")


def _changed(view: View, rows: pl.DataFrame) -> np.ndarray:
    """Return the hours (R, F) with other numbers after the last hour that each sample sees."""
    changed = view.hours.copy()
    rng = np.random.default_rng(view.seed)
    for first, seen, held in rows.select("first", "seen", "held").iter_rows():
        later = changed[first + seen : first + held]
        later[:] = rng.normal(0, 100, later.shape)
    return changed


def _moved(before: np.ndarray, after: np.ndarray, most: float = 0.0) -> int:
    """Return in how many rows two arrays differ."""
    if before.shape != after.shape:
        return len(before)
    return int((~(np.abs(before - after) <= most)).any(1).sum())


def _outcome(check: str, what: str, moved: int, number: int, view: View) -> Outcome:
    start, samples = f"With other numbers in all later hours, {what} of", f"{about(number)} samples"
    texts = f"{start} {samples} are the same.", f"{start} {moved:,} of {samples} move."
    return outcome(check, moved, *texts, _ADVICE)


def imputed(view: View) -> Outcome:
    """Return whether empty cells were filled from later measurements.

    A cell without a measurement may hold the last value or a default. It is a finding if it holds
    the next value instead, or lies on the line to the next value.
    """
    check = "empty hours are not filled from later ones"
    marked = list(_marked(view))
    if not marked:
        text = "No channel says which hours have a measurement, so filled hours cannot be told."
        return Outcome(check, "not checked", text)
    stay = np.repeat(np.arange(view.chosen.height), view.chosen["held"].to_numpy())
    begins = np.append(True, stay[1:] != stay[:-1])
    stays: set[int] = set()
    names = []
    for name, column, measured in marked:
        cells = _from_later(view.hours[:, column], measured, stay, begins)
        if cells.any():
            names.append(name)
            stays |= set(np.unique(stay[cells]).tolist())
    passed = (
        f"No empty hour of {counted(len(marked), 'channels')} has the value of a later "
        f"measurement ({about(view.chosen.height)} stays).{view.stays_read}"
    )
    text = (
        f"In {counted(len(stays), 'stays')} empty hours are filled from later measurements, in "
        f"{counted(len(names), 'channels')}: {some(names)}.{view.stays_read}"
    )
    advice = "Carry values forward only; do not fill backward or interpolate between measurements."
    return outcome(check, len(stays), passed, text, advice)


def _marked(view: View) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield channels whose variable has a channel for its measurements: name, column, measured."""
    channels = view.spec.channels
    marks = {c.variable: i for i, c in enumerate(channels) if c.kind in ("observed", "missing")}
    for at, channel in enumerate(channels):
        if channel.kind == "continuous" and channel.variable in marks:
            mark = marks[channel.variable]
            yield channel.name, at, view.hours[:, mark] == float(channels[mark].kind == "observed")


def _from_later(
    value: np.ndarray, measured: np.ndarray, stay: np.ndarray, begins: np.ndarray
) -> np.ndarray:
    """Return which hours (R,) without a measurement have a value that only later ones tell."""
    frame = pl.DataFrame(
        {
            "stay": stay,
            "value": pl.Series(value.astype(np.float64)).fill_nan(None),
            "measured": measured,
            "row": np.arange(len(value)),
        }
    )
    known = pl.when(pl.col("measured") & pl.col("value").is_not_null())
    frame = frame.with_columns(known.then("value").alias("last"), known.then("row").alias("at"))
    past, future = (pl.col("last").forward_fill(), pl.col("last").backward_fill())
    frame = frame.with_columns(
        past=past.over("stay"),
        future=future.over("stay"),
        since=pl.col("at").forward_fill().over("stay"),
        until=pl.col("at").backward_fill().over("stay"),
    )
    first = frame.filter(pl.Series(begins) & ~pl.col("measured"))["value"]
    default = first.drop_nulls().mode().to_list()
    share = (pl.col("row") - pl.col("since")) / (pl.col("until") - pl.col("since"))
    line = pl.col("past") + (pl.col("future") - pl.col("past")) * share
    width = (pl.col("future") - pl.col("past")).abs()
    near = (pl.col("value") - line).abs() <= 1e-4 * width
    other = pl.col("value") != pl.col("past")
    before_any = pl.col("past").is_null() & ~pl.col("value").is_in(default)
    later = (pl.col("value") == pl.col("future")) & (other | before_any)
    found = frame.select(
        (~pl.col("measured") & (later | (near & other & (width > 0)))).fill_null(False)
    )
    return found.to_series().to_numpy()


def length_told(view: View) -> Outcome:
    """Return whether a channel that never changes in a stay tells how long the whole stay is."""
    check = "no channel tells the length of the stay"
    chosen = view.chosen.filter(pl.col("held") > 0)
    held, first = chosen["held"].to_numpy(), chosen["first"].to_numpy()
    if len(np.unique(held)) < 5 or len(held) < 20:
        text = "Too few stays, or stays of too few lengths, to compare channels with."
        return Outcome(check, "not checked", text)
    told = []
    for name, value in view.static_channels(first):
        correlation = abs(spearmanr(value, held).statistic) if len(np.unique(value)) >= 5 else 0
        if correlation >= _TOLD:
            told.append(f"{name} ({correlation:.2f})")
    passed = f"No channel that is constant in a stay follows the stay's length.{view.stays_read}"
    text = (
        f"{counted(len(told), 'channels')} {'gives' if len(told) == 1 else 'give'} away the length "
        f"of the whole stay, by rank correlation: {some(told)}.{view.stays_read}"
    )
    advice = "Leave these columns out: they are known only when the stay has ended."
    return outcome(check, len(told), passed, text, advice)
