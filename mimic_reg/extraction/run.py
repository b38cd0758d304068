"""Extract a cohort in stages. Each stage is finished or absent, so a killed run can continue.

cohort → one stage per event table → episodes and hourly arrays → tasks → publication.

The event tables are read once, in blocks. Measurements of the 114 items are cleaned and written by
bucket: a range of stays in the order of their ids, with all measurements of their subjects.
Episodes and hourly arrays are then built bucket by bucket, sorted by stay.
"""

import json
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import xxhash

from mimic_reg import __version__, tasks
from mimic_reg.clinical import events as ev
from mimic_reg.clinical import hourly, icd
from mimic_reg.clinical.datasets import EVENT_TABLES
from mimic_reg.clinical.episodes import build_episodes
from mimic_reg.clinical.normalizers import write_normalizers
from mimic_reg.clinical.schema import ID, STAYS
from mimic_reg.clinical.stays import (
    count_diagnoses,
    count_flags_that_differ,
    count_repeated,
    select_diagnoses,
    select_stays,
)
from mimic_reg.errors import InputError
from mimic_reg.extraction import checks, existing
from mimic_reg.extraction.audit import RowCounts, audit, count_episodes
from mimic_reg.extraction.memory import DEFAULT_MEMORY, Plan
from mimic_reg.parallel import in_order
from mimic_reg.progress import SILENT, Progress
from mimic_reg.sources.mimic3 import Table, find_tables
from mimic_reg.sources.rows import Reading, check_ids, read_blocks, read_table
from mimic_reg.store import Store, check_target, locked, read_json, write_json
from mimic_reg.store.spec import SCHEMA_VERSION
from mimic_reg.store.stages import TableWriter, Workspace, publish, recover
from mimic_reg.tasks.base import count_samples

# Samples are built for this many stays at once; for all stays they would take over 1 GB.
_STAYS_AT_ONCE = 4_000


@dataclass(frozen=True)
class Result:
    """The result of an extraction.

    status:  "written", or "unchanged" if the store was up to date
    store:   the open store
    audit:   the content of audit.json
    seconds: wall time by stage, without stages that were finished before
    """

    status: str
    store: Store
    audit: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)


def extract(
    source: Path,
    out: Path,
    *,
    task_names: Sequence[str] | None = None,
    mode: ev.Mode = "benchmark",
    memory: int = DEFAULT_MEMORY,
    force: bool = False,
    allow_empty: Collection[str] = (),
    progress: Progress = SILENT,
) -> Result:
    """Extract the benchmark's cohorts from raw MIMIC-III or MIMIC-IV into the store `out`.

    source:      folder with the tables, .csv, .csv.gz or .parquet, MIMIC-IV's in hosp/ and icu/; or
                 a DuckDB database
    out:         the store; new, or one to update
    task_names:  from `tasks.names()`; all by default
    mode:        `benchmark` (the published cohorts) or `corrected` (`events.CORRECTIONS`)
    memory:      bytes that the extraction may use
    force:       extract even if the store is up to date, and repeat finished stages
    allow_empty: event tables that may have no rows
    progress:    reports stages, bytes and rows

    Raises:
        InputError: an option is invalid, the source cannot be read, or a task has no sample. The
            store stays as it was.
        MimicRegError: the source changed while it was read, the disk is full, or the store is
            locked or cannot be written.
    """
    names = existing.checked_names(task_names)
    tables = find_tables(source)
    checks.check_rows(tables, allow_empty)
    check_target(out)
    with locked(out):
        recover(out, progress)
        existing.check_replaceable(out, tables, names, mode, force)
        if not force and (store := existing.up_to_date(out, tables, names, mode)):
            return Result("unchanged", store, read_json(store.path("audit.json")))
        run = _Run(tables, out, names, mode, Plan.within(memory), progress)
        if force:
            run.work.clear()
            run.work = Workspace(out, run.key)
        try:
            return run.extract()
        finally:
            run.work.wait()  # within the lock, since the next process may remove unfinished stages


def _hash(content: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True).encode())


class _Bucket(NamedTuple):
    """What the measurements of a range of stays become."""

    episodes: pl.DataFrame
    episode_texts: pl.DataFrame
    hourly: pl.DataFrame
    first_events: pl.DataFrame
    counts: dict[str, Any]


@dataclass
class _Run:
    tables: dict[str, Table]
    out: Path
    names: tuple[str, ...]
    mode: ev.Mode
    plan: Plan
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dataset = next(iter(self.tables.values())).dataset
        files = [(t.file, astuple(t.stamp), t.header) for t in self.tables.values()]
        self.key = self._key_of(files)
        self.work = Workspace(self.out, self.key)

    def _key_of(self, content: Any) -> str:
        """Return the hash of what the store is made of, and by which code."""
        made_by = [self.mode, SCHEMA_VERSION, __version__]
        if not self.dataset.is_benchmark:
            made_by += [self.dataset.name, icd.version()]
        return _hash([content, *made_by])

    def _stage(
        self, name: str, build: Callable[[Path], dict[str, Any]], total: int, unit: str
    ) -> tuple[Path, Any]:
        self._check_at_rest()
        self.progress.stage(name, total, unit)
        begin = time.perf_counter()
        folder, facts, ran = self.work.stage(name, build)
        took = time.perf_counter() - begin
        if ran:
            self.seconds[name] = took
        self.progress.done(took, resumed=not ran)
        return folder, facts

    def _check_at_rest(self) -> None:
        """Raise MimicRegError if a table changed since it was found."""
        for table in self.tables.values():
            table.check_at_rest()

    def extract(self) -> Result:
        folder, cohort = self._stage("cohort", self._cohort, 5, "tables")
        stays = pl.read_parquet(folder / "stays.parquet")
        scans: dict[str, Any] = {}
        for name in EVENT_TABLES:
            size = self.tables[name].stamp.bytes
            scan = partial(self._scan, name=name, stays=stays)
            _, scans[name] = self._stage(name.lower(), scan, size, "bytes")
        buckets = cohort["buckets"]
        build = partial(self._episodes, stays=stays)
        made, episodes = self._stage("episodes", build, buckets, "buckets")
        self._forget_other_tasks()
        inputs = {"cohort_folder": folder, "made": made, "cohort": cohort, "scans": scans}
        build = partial(self._tasks, **inputs, episodes=episodes)
        done, facts = self._stage("tasks", build, len(self.names), "tasks")
        files = {p.name: p for p in made.glob("*.parquet") if p.name != "first_events.parquet"}
        files["diagnoses.parquet"] = folder / "diagnoses.parquet"
        files |= self.work.files(done)
        self._check_at_rest()
        publish(self.out, files, self._manifest(cohort, scans, facts))
        store = Store.open(self.out)
        return Result("written", store, read_json(store.path("audit.json")), self.seconds)

    def _manifest(self, cohort: Any, scans: Any, facts: Any) -> dict[str, Any]:
        read = cohort["read"] | {name: scan["read"] for name, scan in scans.items()}
        content = {name: (read[name]["xxh3"], t.header) for name, t in self.tables.items()}
        return {
            "program": __version__,
            **({} if self.dataset.is_benchmark else {"dataset": self.dataset.name}),
            "cohort": tasks.cohort(
                facts["tasks"],
                corrected=self.mode == "corrected",
                simulated=existing.is_simulated(self.tables),
                dataset=self.dataset,
            ).model_dump(mode="json"),
            "mode": self.mode,
            "corrections": ev.CORRECTIONS if self.mode == "corrected" else {},
            "tasks": list(facts["tasks"]),
            "fingerprint": self._key_of(content),
            "source": {
                "fingerprint": _hash(content),
                "simulated": existing.is_simulated(self.tables),
                "best_possible": existing.best_possible(self.tables),
                "tables": existing.record(self.tables, read),
            },
        }

    def _cohort(self, folder: Path) -> dict[str, Any]:
        frames, read = {}, {}
        for name in (n for n in self.tables if n not in EVENT_TABLES):
            reading = Reading()
            frames[name] = read_table(self.tables[name], reading)
            if "icd_version" in frames[name].columns:
                frames[name] = icd.with_versions(frames[name], name)
            if name == "DIAGNOSES_ICD":  # in the other tables a single odd id is refused
                checks.check_reading(self.tables[name], reading, {}, self.progress)
            read[name] = {"rows": reading.rows, "xxh3": reading.digest}
            self.progress.advance(1, reading.rows)
        checks.check_lengths(self.tables["ICUSTAYS"], frames["ICUSTAYS"])
        stays, flow = select_stays(
            frames["ICUSTAYS"],
            frames["ADMISSIONS"],
            frames["PATIENTS"],
            split="published" if self.dataset.is_benchmark else "hash",
        )
        if stays.is_empty():
            steps = "; ".join(f"{step['step']}: {step['stays']}" for step in flow)
            raise InputError(
                f"No ICU stay passes the benchmark's criteria ({steps}). "
                "Is --source the right folder?"
            )
        diagnoses = select_diagnoses(frames["DIAGNOSES_ICD"], frames["D_ICD_DIAGNOSES"], stays)
        checks.check_diagnoses(self.dataset, stays, diagnoses)
        facts: dict[str, Any] = {}
        if not self.dataset.is_benchmark:
            diagnoses, facts["icd10"] = icd.add_icd9(diagnoses)
        stays.write_parquet(folder / "stays.parquet")
        self.dataset.to_store(diagnoses).write_parquet(folder / "diagnoses.parquet")
        ranks = stays.select("subject_id", "icustay_id").sort("icustay_id").with_row_index()
        ranks = ranks.with_columns(bucket=pl.col("index") // self.plan.stays_per_bucket)
        ranks.drop("index").write_parquet(folder / "buckets.parquet")
        return {
            "flow": flow,
            "read": read,
            "diagnoses": {
                "rows": frames["DIAGNOSES_ICD"].height,
                "kept": diagnoses.height,
                "repeated": count_repeated(frames["DIAGNOSES_ICD"], frames["D_ICD_DIAGNOSES"]),
                **facts,
            },
            "flags_that_differ": count_flags_that_differ(stays, frames["ADMISSIONS"]),
            "buckets": int(ranks["bucket"].max()) + 1,  # type: ignore[arg-type]
        }

    def _buckets(self) -> pl.DataFrame:
        return pl.read_parquet(self.work.folder / "cohort" / "buckets.parquet")

    def _scan(self, folder: Path, name: str, stays: pl.DataFrame) -> dict[str, Any]:
        """Read an event table: count the fate of every row, and write measurements by bucket."""
        route = self._buckets().select("subject_id", "bucket").unique()
        wanted = ev.items(self.mode, carevue=self.dataset.carevue)["itemid"].implode()
        reading, counts = Reading(), RowCounts()
        variables: dict[str, Any] = {}
        mapped: list[pl.DataFrame] = []

        def write(rows: pl.DataFrame, number: int) -> int:
            nonlocal variables
            measurements, counted = ev.clean(ev.keep_valid(rows, stays), self.mode)
            variables = ev.add_counts(variables, counted)
            routed = measurements.join(route, on="subject_id", how="left")
            for (bucket,), part in routed.partition_by("bucket", as_dict=True).items():
                part.drop("bucket").write_ipc(folder / f"{bucket}-{number}.arrow")
            return number + 1

        with ThreadPoolExecutor(1) as pool:  # writes while the next rows are read
            written = pool.submit(int)

            def flush() -> None:
                nonlocal mapped, written
                check_ids(self.tables[name], reading)
                number = written.result()  # memory has room for one piece that waits
                written = pool.submit(write, pl.concat(mapped), number)
                mapped = []

            for block in read_blocks(
                self.tables[name], self.plan.block_bytes, reading, self.progress.advance
            ):
                if "icustay_id" not in block.columns:  # LABEVENTS
                    block = block.with_columns(pl.lit(None, ID).alias("icustay_id"))
                counts.add(ev.count_rows(block))
                mapped.append(block.filter(pl.col("itemid").is_in(wanted)))
                if sum(m.height for m in mapped) >= self.plan.flush_rows:
                    flush()
            if mapped:
                flush()
            written.result()
        checks.check_reading(self.tables[name], reading, variables, self.progress)
        return {
            "read": {"rows": reading.rows, "xxh3": reading.digest},
            "not_utf8": reading.not_utf8,
            "fates": ev.count_fates(counts.total(), stays) if reading.rows else {},
            "variables": variables,
        }

    def _episodes(self, folder: Path, stays: pl.DataFrame) -> dict[str, Any]:
        """Write episodes, hourly arrays and each stay's first measurement, bucket by bucket."""
        writer = TableWriter(folder)
        counts: dict[str, Any] = {}
        firsts = []

        def build(own: pl.DataFrame) -> _Bucket:
            chosen = stays.filter(pl.col("icustay_id").is_in(own["icustay_id"].implode()))
            episodes, texts = build_episodes(self._measurements(own["bucket"][0]), chosen)
            with_los = chosen.filter(pl.col("los_hours").is_not_null())
            used = hourly.rows_within_stay(episodes, with_los)
            unknown = {"unknown_categories": hourly.count_unknown_categories(episodes)}
            return _Bucket(
                episodes,
                texts,
                hourly.build_hourly(episodes, with_los),
                hourly.first_events(used),
                count_episodes(episodes, used) | unknown,
            )

        for made in in_order(iter(self._buckets().partition_by("bucket")), build, workers=2):
            for name in ("episodes", "episode_texts", "hourly"):
                writer.write(f"{name}.parquet", self.dataset.to_store(getattr(made, name)))
            firsts.append(made.first_events)
            counts = ev.add_counts(counts, made.counts)
            self.progress.advance(1)
        writer.close()
        pl.concat(firsts).write_parquet(folder / "first_events.parquet")
        return counts

    def _measurements(self, bucket: int) -> pl.DataFrame:
        files = [
            file
            for name in EVENT_TABLES
            for file in sorted((self.work.folder / name.lower()).glob(f"{bucket}-*.arrow"))
        ]
        empty = pl.DataFrame(schema=ev.MEASUREMENTS)
        return pl.concat([empty, *(pl.read_ipc(file) for file in files)])

    def _forget_other_tasks(self) -> None:
        """Remove the stage "tasks" if a killed run finished it for other tasks."""
        done = self.work.folder / "tasks"
        if done.exists() and read_json(done / "done.json")["facts"]["tasks"] != list(self.names):
            aside = done.rename(done.with_name("other_tasks.tmp"))
            shutil.rmtree(aside)

    def _tasks(
        self, folder: Path, cohort_folder: Path, made: Path, cohort: Any, scans: Any, episodes: Any
    ) -> dict[str, Any]:
        """Write the complete stays, the tasks' samples, the normalisers and the audit."""
        diagnoses = self.dataset.from_store(pl.read_parquet(cohort_folder / "diagnoses.parquet"))
        stays = (
            pl.read_parquet(cohort_folder / "stays.parquet")
            .join(pl.read_parquet(made / "first_events.parquet"), on="icustay_id", how="left")
            .join(count_diagnoses(diagnoses), on="icustay_id", how="left")
            .with_columns(pl.col("num_diagnoses").fill_null(0))
            .select(STAYS.names())
            .sort("icustay_id")
        )
        self.dataset.to_store(stays).write_parquet(folder / "stays.parquet")
        (folder / "tasks").mkdir()
        counts, written, empty = {}, {}, []
        for name in self.names:  # memory has one table of samples at a time
            build, path = tasks.samples_of(name), folder / "tasks" / f"{name}.parquet"
            parts = stays.iter_slices(_STAYS_AT_ONCE)
            samples = pl.concat(build(part, diagnoses) for part in parts)
            self.dataset.to_store(samples).write_parquet(path)
            counts[name] = count_samples(tasks.get(name), samples)
            written[name] = pl.scan_parquet(path)
            empty += [name] * samples.is_empty()
            self.progress.advance(1, samples.height)
            del samples
        checks.check_samples(empty, stays)
        write_normalizers(
            folder,
            made / "hourly.parquet",
            written,
            self.progress,
            unit=self.dataset.unit,
            benchmark=self.dataset.is_benchmark,
        )
        content = audit(self.dataset, self.mode, stays, counts, cohort, scans, episodes)
        write_json(folder / "audit.json", content, sync=False)
        return {"tasks": self.names}
