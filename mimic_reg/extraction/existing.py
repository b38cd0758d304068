"""Check an existing store: whether it is up to date, and whether it may be replaced."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mimic_reg import __version__, tasks
from mimic_reg.clinical import events as ev
from mimic_reg.clinical.datasets import dataset_of
from mimic_reg.errors import InputError
from mimic_reg.sources.mimic3 import Table
from mimic_reg.store import MANIFEST, Store, known_hash, read_json, reading
from mimic_reg.store.spec import IMAGES, SCHEMA_VERSION

# A file that `mimic-reg synthesize` writes beside its tables; MIMIC-III has none.
SIMULATED = "true_risk.json"


def checked_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the tasks to extract, sorted: the named ones, or all.

    Raises:
        InputError: a name is unknown.
    """
    valid = tasks.names()
    if wrong := [n for n in names or () if n not in valid]:
        raise InputError(f"Unknown task {', '.join(wrong)}. Choose from: {', '.join(valid)}.")
    return tuple(sorted(set(names))) if names else valid


def check_replaceable(
    out: Path, tables: dict[str, Table], names: tuple[str, ...], mode: ev.Mode, force: bool
) -> None:
    """Refuse to replace a store of images, or without `force` a cohort of another kind.

    Raises:
        InputError: the store holds such data, which runs may still need.
    """
    path = out / MANIFEST
    if not path.exists():
        return
    with reading(path, "the manifest of a store"):
        manifest = read_json(path)
        holds_images = IMAGES in manifest.get("files", ())
        lost = "" if force else _lost(manifest, tables, names, mode)
    if holds_images:
        raise InputError(
            f"{out} is a store of images; a cohort would replace it. Choose another --out."
        )
    if lost:
        raise InputError(
            f"{out} holds {lost}, which would be lost. Choose another --out, or add --force."
        )


def _lost(
    manifest: dict[str, Any], tables: dict[str, Table], names: tuple[str, ...], mode: ev.Mode
) -> str:
    """Return what the extraction would remove from a store; "" if nothing."""
    ours, theirs = next(iter(tables.values())).dataset, dataset_of(manifest)
    if "mode" in manifest and ours != theirs:
        return f"cohorts of {theirs.title.split()[0]}"
    simulated = manifest.get("source", {}).get("simulated")
    if simulated is not None and simulated != is_simulated(tables):
        return "simulated patients" if simulated else "the cohorts of real patients"
    there = manifest.get("mode", mode)
    if there != mode:
        return f"cohorts in {there} mode"
    missing = sorted(set(manifest.get("tasks", ())) - set(names))
    known = manifest.get("source", {}).get("tables", {})
    if not missing or all(_unchanged(table, known) for table in tables.values()):
        return ""
    return f"also {', '.join(missing)}"


def is_simulated(tables: dict[str, Table]) -> bool:
    """Return whether `mimic-reg synthesize` wrote the tables."""
    return any((table.root / SIMULATED).is_file() for table in tables.values())


def best_possible(tables: dict[str, Table]) -> dict[str, dict[str, dict[str, float]]]:
    """Return {task: {split: {score: that of the true risk}}}; empty for real patients."""
    path = next(iter(tables.values())).root / SIMULATED
    if not path.is_file():
        return {}
    with reading(path, "the true_risk.json"):
        known = read_json(path)
        return {
            task: {
                split: {name: value for name, value in found.items() if name in _SCORES}
                for split, found in known[task]["by_split"].items()
            }
            for task in tasks.names()
            if task in known
        }


_SCORES = ("auroc", "macro_auroc")


def record(tables: dict[str, Table], read: dict[str, Any]) -> dict[str, Any]:
    """Return the tables as the manifest has them; `read`: number of rows and hash, by table."""
    return {
        name: {
            "file": table.file,
            **asdict(table.stamp),
            "header": list(table.header),
            **read[name],
        }
        for name, table in tables.items()
    }


def up_to_date(
    out: Path, tables: dict[str, Table], names: tuple[str, ...], mode: ev.Mode
) -> Store | None:
    """Return the store, if this version made it from the same source with these options."""
    known = _recorded_tables(out, names, mode)
    if known is None or not all(_unchanged(t, known) for t in tables.values()):
        return None
    store = Store.open(out)
    return None if store.changed_files() else store


def seems_up_to_date(
    out: Path,
    tables: dict[str, Table],
    *,
    task_names: Sequence[str] | None = None,
    mode: ev.Mode = "benchmark",
) -> bool:
    """Return whether `extract` would do nothing, judged by names, sizes and times of files."""
    known = _recorded_tables(out, checked_names(task_names), mode)
    return known is not None and all(
        known.get(t.name, {}).get("file") == t.file and _same_stamp(t, known[t.name])
        for t in tables.values()
    )


def _recorded_tables(out: Path, names: tuple[str, ...], mode: ev.Mode) -> Any:
    """Return the tables in the manifest, if this version made the store with these options."""
    manifest = read_json(out / MANIFEST) if (out / MANIFEST).exists() else {}
    same = (SCHEMA_VERSION, __version__, mode)
    if tuple(map(manifest.get, ("schema", "program", "mode"))) != same:
        return None
    return manifest["source"]["tables"] if set(names) <= set(manifest["tasks"]) else None


def _unchanged(table: Table, known: dict[str, Any]) -> bool:
    """Return whether the file is the recorded one, by its stamp or else by its content."""
    entry = known.get(table.name, {})
    if (entry.get("file"), entry.get("bytes")) != (table.file, table.stamp.bytes):
        return False
    return _same_stamp(table, entry) or bool(entry["xxh3"] == known_hash(table.path))


def _same_stamp(table: Table, entry: dict[str, Any]) -> bool:
    return all(entry.get(name) == value for name, value in asdict(table.stamp).items())
