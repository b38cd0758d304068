"""Build a store from output folders of mimic3-benchmarks.

The folders hold exact episodes. So `episodes`, `episode_texts`, `hourly`, the sample tables and the
fitted normalisers equal those of `mimic-reg extract`. Missing facts are null: hadm_id, all times
(intime, outtime, admittime, dischtime, deathtime), first_careunit, mortality_inunit and
num_diagnoses. `diagnoses` is empty. Gender and ethnicity are the groups of the reference, with
"OTHER" for the rest. An age can differ in its last bit. Stays without files (no measurement) or
without a diagnosis are left out; no task uses them.
"""

import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import xxhash

from mimic_reg import __version__, tasks
from mimic_reg.clinical import hourly
from mimic_reg.clinical.events import add_counts
from mimic_reg.clinical.normalizers import write_normalizers
from mimic_reg.clinical.schema import DIAGNOSES, STAYS, VARIABLES
from mimic_reg.errors import InputError
from mimic_reg.parity import folders
from mimic_reg.parity.files import KIND, MULTITASK, ROOT, TASK_FOLDERS, Folders, find_folders
from mimic_reg.progress import SILENT, Progress
from mimic_reg.sources.at_rest import Stamp, stamps, staying
from mimic_reg.store import Store, check_target, file_hash, kind_at, locked, write_json
from mimic_reg.store.stages import TableWriter, Workspace, publish, recover
from mimic_reg.tasks.base import count_samples


def import_benchmark(folder: Path, out: Path, progress: Progress = SILENT) -> Store:
    """Build the store `out` from the reference's `root/` and task folders in `folder`.

    Raises:
        InputError: folders or files are missing or malformed (with file and line), or `out` holds
            something else. `out` stays as it was.
        MimicRegError: a file changed while it was read, the disk is full, or the store is locked or
            cannot be written.
    """
    found = find_folders(folder)
    names = tuple(sorted(set(found.tasks) - {MULTITASK}))
    if not found.root or not names:
        needed = ROOT if not found.root else "a task folder such as in-hospital-mortality"
        raise InputError(
            f"{found.base} lacks {needed}. An import needs root/ and the tasks' listfiles."
        )
    check_target(out)
    if kind_at(out) not in (None, KIND):
        raise InputError(
            f"{out} holds more than the files of mimic3-benchmarks: an import would replace it. "
            "Choose another --out."
        )
    with locked(out):
        recover(out, progress)
        return _Import(found, names, out, progress).run()


@dataclass
class _Import:
    found: Folders
    tasks: tuple[str, ...]
    out: Path
    progress: Progress

    def __post_init__(self) -> None:
        self.episodes = folders.find_episodes(self.found.base / ROOT)

    def run(self) -> Store:
        begin = time.perf_counter()
        before = _stamps(self.found, self.episodes)
        states = [(str(path), astuple(stamp)) for path, stamp in before.items()]
        work = Workspace(self.out, _hash((states, self.found.tasks, __version__)))
        try:
            with staying(before):
                folder, facts, ran = work.stage("import", self._build)
        finally:
            work.wait()
        files = work.files(folder)
        content = {n: file_hash(p) for n, p in files.items() if n.endswith(".parquet")}
        fingerprint = _hash(sorted(content.items()))
        manifest = {
            "program": __version__,
            "cohort": tasks.cohort(self.tasks).model_dump(mode="json"),
            "mode": "benchmark",
            "corrections": {},
            "tasks": list(self.tasks),
            "fingerprint": fingerprint,
            "source": {"kind": KIND, "fingerprint": fingerprint, "tables": {}, **facts},
        }
        publish(self.out, files, manifest)
        self.progress.done(time.perf_counter() - begin, resumed=not ran)
        return Store.open(self.out)

    def _build(self, folder: Path) -> dict[str, Any]:
        stays, undiagnosed = folders.read_stays(self.episodes)
        firsts, counts = self._write_episodes(folder, stays)
        samples = {task: folders.read_samples(self.found.base, task, stays) for task in self.tasks}
        if empty := [TASK_FOLDERS[task] for task, table in samples.items() if table.is_empty()]:
            raise InputError(
                f"The listfiles in {self.found.base} name no stay for {', '.join(empty)}. Copy "
                "them again from their source, or leave out the folder."
            )
        stays = stays.drop("timeseries").join(firsts, on="icustay_id", how="left")
        stays = _with_splits(stays, samples)
        unknown = [pl.lit(None).alias(name) for name in STAYS if name not in stays.columns]
        table = stays.with_columns(unknown).select(STAYS.names()).cast(STAYS).sort("icustay_id")
        table.write_parquet(folder / "stays.parquet")
        pl.DataFrame(schema=DIAGNOSES).write_parquet(folder / "diagnoses.parquet")
        (folder / "tasks").mkdir()
        for task, table in samples.items():
            table.write_parquet(folder / "tasks" / f"{task}.parquet")
        write_normalizers(folder, folder / "hourly.parquet", samples, self.progress)
        content = _audit(stays, samples, counts, undiagnosed)
        write_json(folder / "audit.json", content, sync=False)
        return {"stays": stays.height, "without_diagnosis": undiagnosed}

    def _write_episodes(
        self, folder: Path, stays: pl.DataFrame
    ) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Write episodes and hourly arrays; return each stay's first measurement, and counts."""
        writer = TableWriter(folder)
        firsts = []
        counts: dict[str, Any] = {}
        self.progress.stage("episodes", stays.height, "stays")
        for part in stays.sort("icustay_id").iter_slices(folders.FILES_AT_ONCE):
            episodes, texts = folders.read_episodes(part)
            known = part.filter(pl.col("los_hours").is_not_null())
            writer.write("episodes.parquet", episodes)
            writer.write("episode_texts.parquet", texts)
            writer.write("hourly.parquet", hourly.build_hourly(episodes, known))
            counts = add_counts(counts, _count_episodes(episodes))
            firsts.append(hourly.first_events(hourly.rows_within_stay(episodes, known)))
            self.progress.advance(part.height)
        writer.close()
        return pl.concat(firsts), counts


def _stamps(found: Folders, episodes: pl.DataFrame) -> dict[Path, Stamp]:
    """Return the stamp of every file that is read."""
    pairs = episodes.select("facts", "timeseries").iter_rows()
    paths = [Path(path) for pair in pairs for path in pair]
    for task in found.tasks:
        paths += sorted((found.base / TASK_FOLDERS[task]).glob("*listfile.csv"))
        paths += sorted((found.base / TASK_FOLDERS[task]).glob("*/listfile.csv"))
    return stamps(paths)


def _hash(content: Any) -> str:
    return xxhash.xxh3_128_hexdigest(repr(content).encode())


def _with_splits(stays: pl.DataFrame, samples: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Add `split` to each stay: its subject's split in the listfiles, or the published one.

    Raises:
        InputError: a subject is in two splits of the listfiles.
    """
    listed = pl.concat(t.select("subject_id", listed="split") for t in samples.values()).unique()
    if listed["subject_id"].n_unique() < listed.height:
        raise InputError("The listfiles have the same subject in two of train, val and test.")
    return (
        stays.with_columns(folders.split_of(None))
        .join(listed, on="subject_id", how="left")
        .with_columns(pl.coalesce("listed", "split").alias("split"))
        .drop("listed", "partition")
    )


def _count_episodes(episodes: pl.DataFrame) -> dict[str, Any]:
    return {
        "stays": episodes["icustay_id"].n_unique(),
        "rows": episodes.height,
        "cells": episodes.select(pl.col(VARIABLES).count()).row(0, named=True),
        "unknown_categories": hourly.count_unknown_categories(episodes),
    }


def _audit(
    stays: pl.DataFrame,
    samples: dict[str, pl.DataFrame],
    episodes: dict[str, Any],
    undiagnosed: int,
) -> dict[str, Any]:
    """Return the content of audit.json, as far as the files give it."""
    return {
        "mode": "benchmark",
        "imported_from": KIND,
        "episodes": episodes,
        "stays_left_out_of_the_tasks": {
            "no_length_of_stay": stays["los_hours"].null_count(),
            "no_diagnosis": undiagnosed,
        },
        "samples": {name: count_samples(tasks.get(name), table) for name, table in samples.items()},
        "published": None,
    }
