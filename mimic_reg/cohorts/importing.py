"""Import a cohort: read, encode, divide, and write a store."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mimic_reg.cohorts import division, features, labels
from mimic_reg.cohorts.reading import HOUR, Tables, listed_splits, read_tables
from mimic_reg.cohorts.settings import ImportSettings
from mimic_reg.errors import InputError
from mimic_reg.extraction.memory import DEFAULT_MEMORY
from mimic_reg.sources.frames import divisions, write_parts
from mimic_reg.store import MANIFEST, Store, file_hash, read_json, reading
from mimic_reg.store.spec import SPLIT, SPLITS, CohortSpec, Task
from mimic_reg.store.stages import scratch_beside

KIND = "ricu"  # a manifest's source.kind
END = "hours_seen"  # of the sample tables
SUBJECT = "subject"
_MOST_HOURS_PER_ROW = 100  # more are times in another unit, and would fill the memory


@dataclass(frozen=True)
class Imported:
    """A written store, and what was done: counts of samples by split or fold, and notes."""

    store: Store
    counts: dict[str, dict[str, int]]
    notes: tuple[str, ...]


def import_cohort(
    folder: Path,
    out: Path,
    settings: ImportSettings | None = None,
    *,
    force: bool = False,
    memory: int = DEFAULT_MEMORY,
) -> Imported:
    """Build a store from a folder with dyn, sta and outc, as ricu and YAIB write them.

    A label of hour t belongs to the measurements of hours 0 to t, as YAIB pairs them. A label
    without a time belongs to all hours of its stay.

    force:  replace a store that holds another cohort
    memory: bytes to stay within; see `rows_within`

    Raises:
        InputError: the tables cannot be used, with counts; `out` holds another cohort.
        MimicRegError: the disk is full, or the store is locked.
    """
    settings = settings or ImportSettings()
    name = settings.name or slug(folder)
    check_replaceable(out, name, force)
    with scratch_beside(out) as scratch:
        tables = read_tables(folder, settings, scratch)
        files = {stem: file_hash(path) for stem, path in tables.files.items()}
        source = {"kind": KIND, "files": files}
        task = settings.task or slug(folder)
        return build_store(tables, out, settings, name, task, source, memory, scratch)


def build_store(
    tables: Tables,
    out: Path,
    settings: ImportSettings,
    name: str,
    task_name: str,
    source: Mapping[str, Any],
    memory: int,
    scratch: Path,
) -> Imported:
    """Build a store from tables that were read; the arguments are those of the manifest.

    memory:  bytes to stay within; see `rows_within`
    scratch: a folder for this call only

    Raises:
        InputError: the tables cannot be used, with counts.
        MimicRegError: the disk is full, or the store is locked.
    """
    task, outcome = labels.encode(tables.outc, task_name, settings, tables.files["outc"])
    notes = list(tables.notes)
    if empty := tables.outc.height - outcome.height:
        notes.append(f"Left out {empty:,} rows of {tables.files['outc'].name} without a label.")
    outcome = _matched(tables, outcome, settings, notes)
    lengths = _lengths(tables, outcome, settings)
    samples = _samples(tables, outcome, lengths, settings, notes)
    samples = _with_splits(tables, samples, task, settings, notes)
    ends = samples[END].unique()
    task = task.model_copy(update={"hours": float(ends[0]) if len(ends) == 1 else None})
    train, splits = [], settings.splits
    for fold, divided in divisions(samples, splits.folds, splits.repeats).items():
        where = "" if fold is None else f" in fold {fold}"
        if same := division.check_labels(divided, task, where):
            notes.append(f"Labels that are all the same in training{where}: {', '.join(same)}.")
        train.append(divided.filter(pl.col(SPLIT) == "train")[settings.stay])
    known = pl.concat(train).unique()  # a fold's normaliser blanks what its training lacks
    built = features.plan(tables, known.implode(), settings)
    notes += built.notes
    spec = CohortSpec(
        name=name,
        unit=settings.stay,
        subject=settings.subject or settings.stay,
        time=HOUR,
        end=END,
        channels=built.channels,
        tasks=(task,),
        splits=_described(settings, task),
        folds=splits.folds,
        repeats=splits.repeats,
        normalizers=("fitted",),
        imputed=False,
    )
    columns = dict.fromkeys((spec.subject, spec.unit, *spec.divisions, END, *task.labels))
    rows = rows_within(memory, len(built.channels), tables.dyn.height)
    store = write_parts(
        built.parts(tables, lengths, rows, scratch),
        lengths.rename({"hours": "held"}),
        {task.name: samples.select(*columns)},
        spec,
        out,
        scratch,
        source={**source, "settings": settings.model_dump(mode="json"), "notes": notes},
    )
    return Imported(store, _counts(samples, task, spec), tuple(notes))


_BASE, _PER_ROW = 450 << 20, 96  # bytes of the program, and of the keys and a column for each row
_COPIES = 12  # of a part's hours, while they are computed
_FEWEST = 2_000  # hours of a part


def rows_within(memory: int, num_channels: int, num_rows: int) -> int:
    """Return about how many hours to compute at once; see benchmarks/import_cohort.py.

    Keys are sorted and compared in memory as a whole, whatever the setting.

    Raises:
        InputError: the keys alone need more.
    """
    needed = _BASE + _PER_ROW * num_rows + _FEWEST * num_channels * 4 * _COPIES
    if memory < needed:
        raise InputError(
            f"{num_rows:,} rows need at least {needed / 1e9:.1f} GB of memory, but --memory allows "
            f"{memory / 1e9:.1f} GB."
        )
    return int((memory - _BASE - _PER_ROW * num_rows) / (num_channels * 4 * _COPIES))


def slug(folder: Path) -> str:
    """Return a name for a cohort or task, from a folder's."""
    name = re.sub(r"[^a-z0-9_.-]+", "-", folder.resolve().name.lower()).strip("-_.")
    return name[:100] or "cohort"


def check_replaceable(out: Path, name: str, force: bool) -> None:
    """Raise InputError if a store holds another cohort, unless `force`."""
    if force or not (out / MANIFEST).is_file():
        return
    with reading(out / MANIFEST, "the manifest of a store"):
        held = read_json(out / MANIFEST).get("cohort", {}).get("name")
    if held != name:
        raise InputError(
            f"{out} holds the cohort {held!r}, which {name!r} would replace. Choose another --out, "
            "or use --force."
        )


def _matched(
    tables: Tables, outcome: pl.DataFrame, settings: ImportSettings, notes: list[str]
) -> pl.DataFrame:
    """The outcome rows of stays that are in all three tables."""
    stay = settings.stay
    stays = {"outc": outcome[stay], "dyn": tables.dyn[stay], "sta": tables.sta[stay]}
    sets = {stem: set(ids.unique()) for stem, ids in stays.items()}
    for stem in ("dyn", "sta"):
        missing = len(sets["outc"] - sets[stem])
        if missing and settings.unmatched == "refuse":
            raise InputError(
                f"{missing:,} of {len(sets['outc']):,} stays of {tables.files['outc'].name} are "
                f"not in {tables.files[stem].name}. Set unmatched: drop to leave them out."
            )
        if missing:
            notes.append(f"Left out {missing:,} labelled stays that are not in {stem}.")
        if unlabelled := len(sets[stem] - sets["outc"]):
            notes.append(f"Left out {unlabelled:,} stays of {stem} that have no label.")
    kept = sets["outc"] & sets["dyn"] & sets["sta"]
    if not kept:
        raise InputError(f"No stay is in all three tables. Is {stay!r} the key of each of them?")
    return outcome.filter(pl.col(stay).is_in(list(kept)))


def _lengths(tables: Tables, outcome: pl.DataFrame, settings: ImportSettings) -> pl.DataFrame:
    """Stay and number of hours: up to its last measurement or label, at most `settings.hours`."""
    stay = settings.stay
    timed = [tables.dyn, outcome] if tables.hourly_labels else [tables.dyn]
    rows = pl.concat([table.select(stay, HOUR) for table in timed])
    rows = rows.join(outcome.select(stay).unique(), on=stay, how="semi")
    lengths = rows.group_by(stay).agg((pl.col(HOUR).max() + 1).alias("hours"))
    lengths = lengths.with_columns(pl.col("hours").clip(upper_bound=settings.hours)).sort(stay)
    if (total := lengths["hours"].sum()) > _MOST_HOURS_PER_ROW * rows.height:
        raise InputError(
            f"The stays last {total:,} hours, but {tables.files['dyn']} has {rows.height:,} rows "
            "of them. Set time_unit if times do not count hours, or 'hours' to use the first ones."
        )
    return lengths


def _samples(
    tables: Tables,
    outcome: pl.DataFrame,
    lengths: pl.DataFrame,
    settings: ImportSettings,
    notes: list[str],
) -> pl.DataFrame:
    """Stay, patient, hours seen and labels."""
    stay = settings.stay
    samples = outcome.join(lengths, on=stay)
    if tables.hourly_labels:
        samples = samples.with_columns((pl.col(HOUR) + 1).alias(END))
        if late := int((samples[END] > samples["hours"]).sum()):
            notes.append(f"Left out {late:,} labels after hour {settings.hours}.")
        samples = samples.filter(pl.col(END) <= pl.col("hours"))
        if samples.is_empty():
            raise InputError(f"All labels lie after hour {settings.hours}. Set 'hours' higher.")
        measured = tables.dyn.group_by(stay).agg((pl.col(HOUR).max() + 1).alias("measured"))
        if after := samples.join(measured, on=stay).filter(pl.col(END) > pl.col("measured")).height:
            notes.append(
                f"{after:,} labels lie after the last measurement of their stay; they see values "
                "carried forward."
            )
    else:
        samples = samples.with_columns(pl.col("hours").alias(END))
    patient = pl.col(settings.subject or stay).alias(SUBJECT)
    samples = samples.select(stay, END, *settings.labels)
    return samples.join(tables.sta.select(stay, patient), on=stay)


def _with_splits(
    tables: Tables, samples: pl.DataFrame, task: Task, settings: ImportSettings, notes: list[str]
) -> pl.DataFrame:
    stay, column = settings.stay, settings.splits.column
    if column is not None:
        if column not in tables.sta.columns:
            raise InputError(f"{tables.files['sta']} has no column {column!r} to read splits from.")
        stays = tables.sta.join(samples.select(stay).unique(), on=stay, how="semi")
        if settings.splits.folds:
            division_of, values = division.given_folds(stays[column], settings.splits.folds)
            notes.append(f"Folds 1, 2, … are the values {', '.join(values)} of {column!r}.")
        else:
            division_of = division.given(stays[column])
        samples = samples.join(stays.select(stay).with_columns(division_of), on=stay)
    elif settings.splits.files:
        listed, key = listed_splits(tables, settings)
        ours = stay if key == stay else SUBJECT
        samples = samples.join(listed, left_on=ours, right_on=key, how="left")
        if missing := samples.filter(pl.col(listed.columns[1]).is_null())[stay].n_unique():
            if settings.unmatched == "refuse":
                raise InputError(
                    f"{missing:,} labelled stays are in none of the files of 'splits'. Set "
                    "unmatched: drop to leave them out."
                )
            notes.append(f"Left out {missing:,} stays that no file of 'splits' lists.")
            samples = samples.drop_nulls(listed.columns[1])
    else:
        if task.target == "regression":
            stratum = pl.lit(0)
        elif task.target == "multilabel":
            stratum = pl.max_horizontal(*task.labels).max()
        else:
            stratum = pl.col(task.labels[0]).max()
        subjects = samples.group_by(SUBJECT).agg(stratum.alias("stratum"))
        samples = samples.join(division.divide(subjects, settings.splits), on=SUBJECT)
    if settings.subject:
        samples = samples.rename({SUBJECT: settings.subject})
    return samples.sort(stay, END)


def _described(settings: ImportSettings, task: Task) -> str:
    splits = settings.splits
    what = f"{splits.folds} folds " if splits.folds else ""
    if splits.files:
        return f"{what}by files that list them"
    if splits.column:
        return f"{what}by the column {splits.column} of the static table"
    patients = settings.subject or f"{settings.stay} (each stay is taken as a patient)"
    shares = f"{splits.train:.0%} / {splits.validation:.0%} / {splits.test:.0%}"
    if splits.folds:
        shares = f"{splits.folds} folds"
        shares += f" ({splits.repeats} times)" if splits.repeats > 1 else ""
    how = "stratified by label, " if splits.stratify and task.target != "regression" else ""
    return f"{shares}, {how}random by {patients}, seed {splits.seed}"


def _counts(samples: pl.DataFrame, task: Task, spec: CohortSpec) -> dict[str, dict[str, Any]]:
    counts: dict[str, dict[str, Any]] = {}
    for split in range(1, spec.folds + 1) if spec.folds else SPLITS:
        here = samples.filter(pl.col(spec.division) == split)
        counts[str(split)] = {
            "patients": here[spec.subject].n_unique(),
            "stays": here[spec.unit].n_unique(),
            "samples": here.height,
        }
        if task.target == "binary":
            counts[str(split)]["positive"] = int(here[task.labels[0]].sum())
    return counts
