"""The audit: counts of what was kept and left out, and why."""

import json
from functools import reduce
from typing import Any

import polars as pl

from mimic_reg.clinical.datasets import Dataset
from mimic_reg.clinical.events import Mode, add_counts
from mimic_reg.clinical.schema import EPSILON, VARIABLES, resource
from mimic_reg.tasks.in_hospital_mortality import HOURS

# Counts by (subject, admission, stay) are added up after this many blocks.
_MERGE_EVERY = 64
FATES = ("empty_hadm", "no_hadm_in_stay", "icustay_missing_in_stays", "kept_recovered", "kept")


class RowCounts:
    """Adds up counts by (subject, admission, stay), with bounded memory."""

    def __init__(self) -> None:
        self.parts: list[pl.DataFrame] = []

    def add(self, part: pl.DataFrame) -> None:
        """Add the counts of a block, from `events.count_rows`."""
        self.parts.append(part)
        if len(self.parts) >= _MERGE_EVERY:
            self.parts = [self.total()]

    def total(self) -> pl.DataFrame:
        """Return the sums by (subject, admission, stay)."""
        keys = ("subject_id", "hadm_id", "icustay_id")
        return pl.concat(self.parts).group_by(keys).agg(pl.col("rows").sum())


def published_sizes() -> dict[str, Any]:
    """Return the sizes of the full MIMIC-III v1.4 and of the published cohorts."""
    return json.loads(resource("published_sizes.json").read_text("utf-8"))


def count_episodes(episodes: pl.DataFrame, used: pl.DataFrame) -> dict[str, Any]:
    """Return counts of a bucket's episodes; `used`: the rows within the stays."""
    cells = episodes.select(pl.col(VARIABLES).count()).row(0, named=True)
    return {
        "stays": episodes["icustay_id"].n_unique(),
        "rows": episodes.height,
        "rows_outside_the_stay": episodes.height - used.height,
        "cells": cells,
    }


def audit(
    dataset: Dataset,
    mode: Mode,
    stays: pl.DataFrame,
    samples: dict[str, Any],
    cohort: Any,
    scans: Any,
    episodes: Any,
) -> dict[str, Any]:
    """Return the content of audit.json; `samples`: from `count_samples`, by task."""
    variables = reduce(add_counts, [scan["variables"] for scan in scans.values()])
    result = {
        **({} if dataset.is_benchmark else {"dataset": dataset.name}),
        "mode": mode,
        "cohort_flow": cohort["flow"],
        "diagnoses": cohort["diagnoses"],
        "rows": {name: scan["read"]["rows"] for name, scan in scans.items()}
        | {name: read["rows"] for name, read in cohort["read"].items()},
        "events": _events(scans),
        "variables": {name: variables[name] for name in VARIABLES if name in variables},
        "episodes": episodes,
        "stays_left_out_of_the_tasks": left_out(stays),
        "samples": samples,
    }
    if cohort["flags_that_differ"] is not None:
        result["stays_whose_hospital_expire_flag_differs"] = cohort["flags_that_differ"]
    return result | {"published": _beside_published(result) if dataset.is_benchmark else None}


def _events(scans: Any) -> dict[str, Any]:
    by_table = {
        name: {
            "subject_not_kept": scan["fates"].get("subject_not_kept", 0),
            **{fate: scan["fates"].get(fate, 0) for fate in FATES},
            "bytes_not_utf8": scan["not_utf8"],
        }
        for name, scan in scans.items()
    }
    total = reduce(add_counts, by_table.values())
    total["of_kept_subjects"] = sum(total[fate] for fate in FATES)
    return {"total": total, **by_table}


def left_out(stays: pl.DataFrame) -> dict[str, int]:
    """Return the number of stays that tasks leave out, by reason; `stays`: `schema.STAYS`."""
    los, first = pl.col("los_hours"), pl.col("first_event_hours")
    return stays.select(
        no_length_of_stay=los.is_null().sum(),
        no_diagnosis=(pl.col("num_diagnoses") == 0).sum(),
        no_event_within_the_stay=(los.is_not_null() & first.is_null()).sum(),
        shorter_than_48_hours=(los < HOURS - EPSILON).sum(),
    ).row(0, named=True)


def _beside_published(ours: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return each published size with ours, if the source looks like the full MIMIC-III."""
    sizes = published_sizes()
    if ours["rows"]["ICUSTAYS"] < 0.9 * sizes["rows"]["ICUSTAYS"]:
        return None
    pairs: list[tuple[str, int, int | None]] = [
        (f"rows of {name}", expected, ours["rows"].get(name))
        for name, expected in sizes["rows"].items()
    ]
    for expected, step in zip(sizes["cohort_flow"], ours["cohort_flow"], strict=True):
        for unit in ("stays", "admissions", "subjects"):
            pairs.append((f"{expected['step']}: {unit}", expected[unit], step[unit]))
    for reason, expected in sizes["events"].items():
        pairs.append((f"events, {reason}", expected, ours["events"]["total"][reason]))
    for count in ("samples", "stays"):
        for task, splits in sizes[count].items():
            if task in ours["samples"]:
                for split, expected in splits.items():
                    found = ours["samples"][task][split][count]
                    pairs.append((f"{task}, {split}: {count}", expected, found))
    for task, splits in sizes["positives"].items():
        if task in ours["samples"]:
            for names, expected in splits.items():
                parts = [ours["samples"][task][s] for s in names.split("+")]
                for unit, size in zip(("positives", "samples"), expected, strict=True):
                    pairs.append((f"{task}, {names}: {unit}", size, sum(p[unit] for p in parts)))
    return [
        {"what": what, "published": size, "ours": found, "same": size == found}
        for what, size, found in pairs
    ]
