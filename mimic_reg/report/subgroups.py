"""Groups of patients in whom a model may be worse: by sex, age, ethnicity and unit.

No group of fewer than ten subjects is shown: small groups are put together, and with the next
smallest group if they are still too few, so that no number of theirs follows from the others.

Shapes: N samples.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from mimic_reg.errors import InputError
from mimic_reg.metrics.small_counts import LEAST
from mimic_reg.samples.attributes import STAYS, read_attributes
from mimic_reg.store import Store
from mimic_reg.store.spec import Task

OTHERS = "all smaller groups"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Attribute:
    """What groups patients: in words, its possible columns of the table of stays, its groups."""

    title: str
    columns: tuple[str, ...]
    group: Callable[[object], str]


def _named(value: object) -> str:
    return str(value).strip() or UNKNOWN


def _sex(value: object) -> str:
    text = _named(value)
    return {"F": "female", "M": "male"}.get(text.upper(), text.lower())


def _age(value: object) -> str:
    if not isinstance(value, float | int) or not np.isfinite(value):
        return UNKNOWN
    bounds = (18, 45, 65, 80)
    older = [b for b in bounds if value >= b]
    if not older:
        return f"below {bounds[0]}"
    low = older[-1]
    return f"{low} or more" if low == bounds[-1] else f"{low} to {bounds[len(older)] - 1}"


def _ethnicity(value: object) -> str:
    """Return the first of several names: "BLACK/AFRICAN AMERICAN" and "BLACK - OTHER" are black."""
    text = re.split(r"/| - | or ", _named(value).lower())[0].strip()
    return UNKNOWN if text.startswith(("unknown", "unable", "patient declined")) else text


ATTRIBUTES = (
    Attribute("sex", ("gender", "sex"), _sex),
    Attribute("age", ("age",), _age),
    Attribute("ethnicity", ("ethnicity", "race"), _ethnicity),
    Attribute("unit", ("first_careunit", "careunit", "unit"), _named),
)


def read_groups(
    store: Store, task: Task, row: np.ndarray, subject: np.ndarray
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return attribute → (N,) the group of each sample; and the attributes that are not known.

    row:     (N,) rows of the samples in the task's sample table
    subject: (N,) numbers of their subjects
    """
    there = pl.read_parquet_schema(store.path(STAYS)) if STAYS in store.manifest["files"] else {}
    found: dict[str, np.ndarray] = {}
    for attribute in ATTRIBUTES:
        column = next((name for name in attribute.columns if name in there), None)
        if column is None:
            continue
        try:
            values = read_attributes(store, task, row, [column])[column]
        except InputError:  # a column of a kind that has no groups
            continue
        missing = pl.Series(values, strict=False).is_null().to_numpy()
        groups = np.array(
            [
                UNKNOWN if empty else attribute.group(value)
                for value, empty in zip(values.tolist(), missing, strict=True)
            ],
            dtype=object,
        )
        if (merged := merge_small(groups, subject)) is not None:
            found[attribute.title] = merged
    return found, [a.title for a in ATTRIBUTES if a.title not in found]


def merge_small(groups: np.ndarray, subject: np.ndarray) -> np.ndarray | None:
    """Return (N,) groups of at least `LEAST` subjects; None if fewer than two are left."""
    sizes = {g: len(np.unique(subject[groups == g])) for g in sorted(set(groups))}
    small = [g for g, size in sizes.items() if size < LEAST]
    large = sorted((g for g in sizes if g not in small), key=lambda g: (sizes[g], g))
    while small and large and _subjects(groups, subject, small) < LEAST:
        small.append(large.pop(0))
    if len(large) + bool(small) < 2:
        return None
    return np.where(np.isin(groups, small), OTHERS, groups)


def _subjects(groups: np.ndarray, subject: np.ndarray, names: list[str]) -> int:
    return len(np.unique(subject[np.isin(groups, names)]))


def in_order(groups: Iterable[str]) -> list[str]:
    """Return the names of groups in the order of tables; the collected ones last."""
    return sorted(groups, key=lambda g: (g in (OTHERS, UNKNOWN), not g.startswith("below"), g))
