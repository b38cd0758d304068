"""Patients and stays that are in more than one part of the division."""

from collections import Counter
from collections.abc import Iterable, Sequence

import polars as pl

from mimic_reg.checks.base import Outcome, counted, outcome, split_name
from mimic_reg.metrics.small_counts import about
from mimic_reg.samples.attributes import STAYS
from mimic_reg.store import Store


def shared(store: Store, tasks: Sequence[str]) -> list[Outcome]:
    """Return outcomes on shared patients and shared stays, over all tables of samples.

    A patient in training for one task and in test for another counts, too: tasks may share a trunk.

    tasks: the tasks to look at
    """
    spec = store.spec
    keys = {spec.subject: spec.subjects}
    if spec.unit != spec.subject:
        keys[spec.unit] = "stays"
    return [_outcome(store, tasks, column, noun) for column, noun in keys.items()]


def _outcome(store: Store, tasks: Sequence[str], column: str, noun: str) -> Outcome:
    spec = store.spec
    names = [f"tasks/{name}.parquet" for name in tasks]
    if STAYS in store.manifest["files"] and not spec.folds:
        names.append(STAYS)
    parts = pl.concat(
        pl.scan_parquet(store.path(name), glob=False).select(column, spec.division).unique()
        for name in names
    )
    groups = parts.unique().group_by(column)
    found = groups.agg(pl.col(spec.division).sort().alias("parts")).collect()
    several = found.filter(pl.col("parts").list.len() > 1)["parts"].to_list()
    between = "folds" if spec.folds else "of training, validation and test"
    passed = f"No {noun.removesuffix('s')} is in two {between} ({about(len(found))} {noun})."
    are = "is" if len(several) == 1 else "are"
    text = (
        f"{counted(len(several), noun)} of {about(len(found))} {are} in more than one {between}: "
        f"{named(several)}."
    )
    advice = (
        f"Divide the cohort by {spec.subjects}, so that all samples of one stay together. For an "
        "imported cohort, name the column of patients as `subject`, or check the given splits."
    )
    return outcome(f"{noun} in one part only", len(several), passed, text, advice)


def named(parts: Iterable[Sequence[str | int]]) -> str:
    """Return combinations of parts in words, with their counts: "train and test 3"."""
    place = {"train": 0, "val": 1, "test": 2}
    ordered = (sorted(each, key=lambda part: (place.get(str(part), 3), part)) for each in parts)
    counts = Counter(" and ".join(map(split_name, each)) for each in ordered)
    shown = [f"{name} {number:,}" for name, number in counts.most_common(5)]
    return ", ".join(shown) + (", …" if len(counts) > 5 else "")
