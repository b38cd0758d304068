"""Who the patients of a store are: a page, and a section of reports. Small counts are hidden."""

from pathlib import Path
from typing import Any

import polars as pl

from mimic_reg.checks.base import split_name
from mimic_reg.errors import InputError
from mimic_reg.metrics.small_counts import LEAST, is_small
from mimic_reg.report.cohort import channels, flow, patients
from mimic_reg.report.formats import format_task
from mimic_reg.report.html import render
from mimic_reg.store import Store, atomic, make_folder, read_json, reading

PAGE = "cohort.html"


def describe(store: Store, least: int = LEAST) -> dict[str, Any]:
    """Return what the templates of a cohort show; counts below `least` are hidden."""
    with reading(store.folder, "a cohort store"):
        audit = read_audit(store)
        if not store.spec.is_hourly:
            return _of_images(store, least)
        stays = patients.read_stays(store)
        rows, left = channels.measured(store, audit, least)
        header, samples = samples_table(store, least)
        return {
            "name": store.spec.name,
            "least": least,
            "splits": store.spec.splits,
            "boxes": flow.boxes(audit.get("cohort_flow", []), least),
            "table_one": patients.table_one(stays, store.spec, least),
            "samples": samples,
            "samples_header": header,
            "channels": rows,
            "channels_csv": (_COLUMNS, [[row[key] for key in _CELLS] for row in rows]),
            "channels_left": left,
        }


def read_audit(store: Store) -> dict[str, Any]:
    """Return the audit of a store; empty if it has none."""
    there = "audit.json" in store.manifest["files"]
    return read_json(store.path("audit.json")) if there else {}


def samples_table(store: Store, least: int = LEAST) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return header and rows of the samples of each task and split; small counts are hidden."""
    with_patients = ["patients"] if store.spec.subject != store.spec.unit else []
    header = ["task", "split", "samples", "stays", *with_patients, "positive"]
    rows = patients.samples(store, patients.read_keys(store), least)
    return header, [(format_task(row[0]), *row[1:]) for row in rows]


_COLUMNS = ("variable", "stays", "hours", "values", "5 % to 95 %", "out of range", "left out")
_CELLS = ("name", "stays_text", "hours", "quartiles", "wide", "outside", "dropped")


def _of_images(store: Store, least: int) -> dict[str, Any]:
    (task,) = store.spec.tasks
    table = store.read(f"tasks/{task.name}.parquet")
    rows = []
    for split in dict.fromkeys(table["split"].to_list()):
        here = table.filter(pl.col("split") == split)
        sizes = [here.filter(pl.col(task.labels[0]) == i).height for i in range(len(task.classes))]
        each = f"{min(sizes):,} to {max(sizes):,}"
        if any(is_small(n, least) for n in sizes):
            each = f"< {least} in some"
        rows.append((format_task(task.name), split_name(split), f"{here.height:,}", each))
    return {
        **{"name": store.spec.name, "least": least, "splits": store.spec.splits, "boxes": []},
        **{"table_one": None, "samples": rows, "channels": [], "channels_left": ""},
        "samples_header": ["task", "split", "images", "in a class"],
    }


def write_cohort(store: Store, out: Path, least: int = LEAST) -> Path:
    """Write the cohort page into a folder, and return its path.

    Raises:
        InputError: the folder is a file, or lies in the store.
        MimicRegError: the disk is full.
    """
    if store.folder.resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f"{out} is in the store, whose files are hashed. Choose another place.")
    page = render("cohort_page.html", cohort=describe(store, least))
    make_folder(out)
    atomic.write_text(out / PAGE, page)
    return out / PAGE
