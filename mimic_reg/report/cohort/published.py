"""Which numbers of samples and patients may be shown: the same on pages, cards and in MLflow.

A number is hidden if it is small, or if the cohort page hides it because a difference would tell a
small one.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.metrics.small_counts import FEW, LEAST, about, is_small
from mimic_reg.report.cohort import patients
from mimic_reg.report.cohort.suppression import apart
from mimic_reg.report.formats import HIDDEN
from mimic_reg.runs.record import Run
from mimic_reg.store import Store, reading


def suppressed(number: Any) -> str:
    """Return a count as text; one of 1 to 9 is not shown."""
    if not isinstance(number, int | float) or isinstance(number, bool):
        return "-"
    return FEW if is_small(int(number), LEAST) else f"{int(number):,}"


def suppressed_together(numbers: Sequence[int]) -> list[str]:
    """Return counts of groups that may lie within each other as texts, by `suppression.apart`."""
    hide = apart(list(numbers))
    return [
        HIDDEN if hidden and not is_small(n, LEAST) else suppressed(n)
        for n, hidden in zip(numbers, hide, strict=True)
    ]


def store_of(run: Run) -> Store | None:
    """Return the store that a run was trained on, if it is still in the same place."""
    try:
        store = Store.open(run.store)
    except InputError:
        return None
    return store if store.manifest["fingerprint"] == run.fingerprint else None


def samples_by_split(run: Run, store: Store | None) -> list[tuple[str, ...]]:
    """Return split, samples, stays, patients and share of events, as the cohort page shows them.

    Patients are missing where each is one stay. Without a store, or of images, there is no row. Of
    a damaged store nothing is shown, so that a report of its runs can still be made.
    """
    if store is None or not store.spec.is_hourly:
        return []
    try:
        rows = _rows(store.folder.resolve(), store.manifest["fingerprint"], LEAST)
    except MimicRegError:
        return [(split, *[HIDDEN] * 3) for split in run.num_samples]
    return [row for task, *row in rows if task == run.task]  # type: ignore[misc]


@lru_cache(maxsize=4)  # a sweep asks for every trial
def _rows(folder: Path, fingerprint: str, least: int) -> list[tuple[str, ...]]:
    with reading(folder, "a cohort store"):
        store = Store.open(folder)
        return patients.samples(store, patients.read_keys(store), least)


def scored_samples(run: Run, sizes: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return split → how many samples of a run were scored, as text.

    It is exact if the cohort page shows it. Without the store, and of a fold, nobody knows whether
    a difference tells a small count, so it is rounded.

    sizes: the rows of `samples_by_split`
    """
    rows = {row[0]: row[1] for row in sizes}
    exact = rows.keys() if run.cohort.is_hourly else run.num_samples.keys()
    return {
        split: HIDDEN
        if rows.get(split) == HIDDEN
        else suppressed(number)
        if split in exact
        else about(number)
        for split, number in run.num_samples.items()
    }


def test_subjects(number: int, sizes: Sequence[Sequence[str]]) -> str:
    """Return a number of test subjects as text.

    sizes: the rows of `samples_by_split`
    """
    hidden = any(row[0] == "test" and HIDDEN in row[1:-1] for row in sizes)
    return HIDDEN if hidden else suppressed(number)
