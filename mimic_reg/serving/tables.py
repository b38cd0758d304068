"""Requests for hourly models: a table with a row for each hour; the answer has one for each stay.

The columns are the channels of the cohort as in its store (imputed, not normalised). Requests with
several stays also have `stay`, the caller's own key. With `hour` (0, 1, …) the rows can have any
order.

Shapes: R rows (hours of all stays), N stays, F channels, C outputs.
"""

import difflib
from typing import Any

import numpy as np
import pandas as pd

from mimic_reg.errors import InputError
from mimic_reg.serving.model import ServedModel
from mimic_reg.store.spec import CohortSpec

STAY, HOUR = "stay", "hour"


def answer(model: ServedModel, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each stay, in the order of the stays in the request.

    Raises:
        InputError: a column or an hour is missing, a cell is empty or not a number.
    """
    _check_columns(model.spec, frame)
    keys = frame[STAY] if STAY in frame else pd.Series("", index=frame.index)
    if keys.isna().any():
        raise InputError(f"The column {STAY!r} has empty cells.")
    codes, stays = pd.factorize(keys)
    values, hours = _numbers(frame, list(model.spec.channel_names), _may_be_empty(model.spec)), None
    order = np.argsort(codes, kind="stable")
    if HOUR in frame:
        hours = _numbers(frame, [HOUR])[:, 0]
        order = np.lexsort((hours, codes))
    length = np.bincount(codes, minlength=len(stays))
    first = np.cumsum(length) - length
    if hours is not None:
        _check_hours(hours[order], np.arange(len(frame)) - np.repeat(first, length), stays)
    predictions = model.predict_rows(values[order], first, length)
    found: dict[str, Any] = {STAY: stays} if STAY in frame else {}
    found["hours"] = length
    return pd.DataFrame(found | model.columns(predictions))


def example(spec: CohortSpec, means: np.ndarray, num_hours: int = 2) -> pd.DataFrame:
    """Return an example of a request: hours without measurements, at the means of the training set.

    means: (F,) of the normaliser; those of continuous channels are used
    """
    keys = {STAY: "a", HOUR: np.arange(float(num_hours))}
    channels = {
        channel.name: mean if channel.kind == "continuous" else float(channel.kind == "missing")
        for channel, mean in zip(spec.channels, means.tolist(), strict=True)
    }
    return pd.DataFrame({**keys, **channels})


def _check_columns(spec: CohortSpec, frame: pd.DataFrame) -> None:
    """Raise InputError if a channel is missing, and suggest the nearest column."""
    columns = [str(column) for column in frame.columns]
    if missing := [channel for channel in spec.channel_names if channel not in columns]:
        unknown = [c for c in columns if c not in (*spec.channel_names, STAY, HOUR)]
        close = difflib.get_close_matches(missing[0], unknown, n=1, cutoff=0.5)
        hint = f" Is it {close[0]!r}?" if close else ""
        what = "A channel is" if len(missing) == 1 else f"{len(missing)} channels are"
        raise InputError(
            f"{what} missing: {missing[0]!r}{', …' if len(missing) > 1 else ''}."
            f"{hint} A row is an hour. Its columns are the channels of the cohort store, and "
            f"{STAY!r} and {HOUR!r} for several stays."
        )
    if not len(frame):
        raise InputError("The table has no rows.")


def _may_be_empty(spec: CohortSpec) -> np.ndarray:
    """Return (F,) whether a cell of the channel may be empty: the training mean stands for it."""
    return np.array([not spec.imputed and c.kind == "continuous" for c in spec.channels])


def _numbers(
    frame: pd.DataFrame, columns: list[str], may_be_empty: np.ndarray | bool = False
) -> np.ndarray:
    """Return (R, columns) float64, NaN where a cell is empty and may be."""
    try:
        values: np.ndarray = frame[columns].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("A cell of a channel holds something that is not a number.") from error
    wrong = np.flatnonzero(~(np.isfinite(values) | (np.isnan(values) & may_be_empty)).all(0))
    if len(wrong):
        raise InputError(
            f"The column {columns[wrong[0]]!r} has empty or infinite cells. The channels are "
            "imputed as in the cohort store: with the last measured value, or the normal one."
        )
    return values


def _check_hours(hours: np.ndarray, expected: np.ndarray, stays: pd.Index) -> None:
    if (hours != expected).any():
        raise InputError(
            f"The hours of a stay must be 0, 1, 2, … without gaps; in one of {len(stays)} stays "
            f"there is {hours[hours != expected][0]:g} where {expected[hours != expected][0]} "
            "should be."
        )
