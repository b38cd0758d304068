"""Dry runs: the plan of a sweep or of the main job; nothing is written or trained."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mimic_reg import experiments
from mimic_reg.errors import InputError
from mimic_reg.experiments import Experiment, Planned
from mimic_reg.experiments.estimates import at_most
from mimic_reg.extraction import seems_up_to_date
from mimic_reg.extraction.audit import published_sizes
from mimic_reg.extraction.checks import check_rows
from mimic_reg.extraction.memory import parse_memory
from mimic_reg.settings import STOPPING, TrainingSize
from mimic_reg.sources.images import check_images
from mimic_reg.sources.mimic3 import Table, find_tables
from mimic_reg.sources.rows import Reading, read_table
from mimic_reg.store import MANIFEST, Store, check_target, origin
from mimic_reg_pipelines.flows.result import trial_status
from mimic_reg_pipelines.flows.settings import Work, find_source, find_store

_Key = tuple[str, str, str, TrainingSize, int]  # task, model, method, size, epochs
_MOST_POINTS = 100  # of a search, to estimate its time: the points are not found yet
_Counts = Mapping[tuple[str, str], int]
_Tables = dict[str, Table]


@dataclass(frozen=True)
class Line:
    """Trials of a dry run that differ in their seeds, folds and points of a search only.

    trials:   how many
    epochs:   of each at most; None, as steps and each: not known
    finished: how many are
    steps:    of all of them at most
    each:     seconds of a trial at most, on one thread; None also where nobody measured its steps
    """

    task: str
    model: str
    method: str
    size: TrainingSize
    trials: int
    epochs: int
    finished: int
    steps: int | None = None
    each: float | None = None

    @property
    def to_run(self) -> int:
        """Return how many trials are not finished."""
        return self.trials - self.finished

    @property
    def seconds(self) -> float | None:
        """Return the seconds of the trials that are not finished, at most."""
        return None if self.each is None else self.each * self.to_run


@dataclass(frozen=True)
class DryRun:
    """The plan of a sweep.

    may_stop: whether any trial has early stopping
    counted:  whose numbers of samples the times are for; "": not known before there is a store
    left_out: sentences on combinations that are no trials
    extraction: what comes before the trials
    """

    title: str
    lines: tuple[Line, ...]
    may_stop: bool
    counted: str = ""
    left_out: tuple[str, ...] = ()
    extraction: str = ""

    @property
    def num_trials(self) -> int:
        """Return how many trials there are."""
        return sum(line.trials for line in self.lines)

    @property
    def num_finished(self) -> int:
        """Return how many trials are finished, and not run again."""
        return sum(line.finished for line in self.lines)

    @property
    def seconds(self) -> float | None:
        """Return the seconds of all trials whose time is known; None: of none."""
        known = [line.seconds for line in self.lines if line.seconds is not None]
        return math.fsum(known) if known else None

    @property
    def summary(self) -> str:
        """Return a few sentences."""
        text = " ".join((f"{self.title}: {self.num_trials} trials.", *self.left_out))
        to_run = self.num_trials - self.num_finished
        if self.num_finished:
            text += f" {self.num_finished} are finished, {to_run} are to run."
        if not to_run:
            return text
        if not self.counted:
            return f"{text} Their time is known once there is a store."
        each = [line.each for line in self.lines for _ in range(line.to_run)]
        told = at_most(each, may_stop=self.may_stop)
        return f"{text} {told} Counted with the samples of {self.counted}."


def of_sweep(
    experiment: Experiment, store: Path | None = None, *, work: Path | None = None
) -> DryRun:
    """Return the trials of an experiment, which are finished, and the time of the others.

    store: the cohort store; None: the experiment's, or that of the work folder, if it is there
    work:  the work folder; None: no trial is finished

    Without a store, the numbers of samples are those of the full data set.

    Raises:
        InputError: `store` is no store; a store with other data.
    """
    return _plan(experiment, present_store(experiment, store, work), work)


def present_store(experiment: Experiment, store: Path | None, work: Path | None) -> Store | None:
    """Return the store, or that of the work folder if it is there.

    Raises:
        InputError: `store` is no store.
    """
    if store is None and work is not None:
        place = find_store(experiment, Work(work), None)
        store = place if (place / MANIFEST).is_file() else None
    return Store.open(store) if store else None


def of_run(
    experiment: Experiment,
    work: Path,
    *,
    source: Path | None = None,
    store: Path | None = None,
    memory: str = "4GB",
) -> DryRun:
    """Return what the main job, `run.run`, would do with the same arguments.

    Without a store, the numbers of samples are the published ones, scaled to the source.

    Raises:
        InputError: what `run` would say, but for a store that is not there yet.
    """
    parse_memory(memory)
    folders = Work(work)
    folders.check()
    place = find_store(experiment, folders, store)
    source = find_source(experiment, folders, source)
    tables = find_tables(source) if source and not experiment.images else {}
    extraction = _describe_extraction(experiment, source, tables, place)
    usable = _usable(place, to_be_made=source is not None)
    return replace(_plan(experiment, usable, work, tables), extraction=extraction)


def _usable(store: Path, to_be_made: bool) -> Store | None:
    """Return the store if it is there; one that will be replaced may be of an older version."""
    if not (store / MANIFEST).is_file():
        return None
    try:
        return Store.open(store)
    except InputError:
        if to_be_made:
            return None
        raise


# --- trials ---------------------------------------------------------------------------------------


def _plan(
    experiment: Experiment, store: Store | None, work: Path | None, tables: _Tables | None = None
) -> DryRun:
    if store:
        experiment = experiments.for_store(experiment, store)
    counts, counted = _count(experiment, store, tables or {})
    groups: dict[_Key, list[Planned]] = {}
    planned = experiments.plan(experiment, _MOST_POINTS)
    for p in planned:
        trial = p.trial
        key = (trial.task, trial.model.name, p.label, trial.size, trial.training.max_epochs)
        groups.setdefault(key, []).append(p)
    known = experiments.past(Work(work).runs) if work else {}
    return DryRun(
        title=experiment.title,
        left_out=tuple(experiments.left_out(experiment)),
        lines=tuple(
            _line(key, members, counts, known, store, work) for key, members in groups.items()
        ),
        may_stop=any(r.name == STOPPING for p in planned for r in p.trial.regularisers),
        counted=counted,
    )


def _count(
    experiment: Experiment, store: Store | None, tables: _Tables
) -> tuple[_Counts | None, str]:
    """Return the numbers of samples, and whose they are; None and "": they are not known."""
    if store:
        return experiments.sizes(store), origin(store.folder) or str(store.folder)
    if experiment.data is not None and experiment.data not in experiments.KNOWN_SIZES:
        return None, ""
    counts = experiments.sizes(None, experiment.data)
    if not tables:
        return counts, f"the full {experiment.data or 'MIMIC-III'}"
    stays = read_table(tables["ICUSTAYS"], Reading()).height
    share = stays / published_sizes()["rows"]["ICUSTAYS"]
    scaled = {key: max(1, round(share * count)) for key, count in counts.items()}
    return scaled, f"the full MIMIC-III, scaled to the {stays:,} ICU stays of the source"


def _line(
    key: _Key,
    members: Sequence[Planned],
    counts: _Counts | None,
    known: experiments.Past,
    store: Store | None,
    work: Path | None,
) -> Line:
    task, model, method, size, epochs = key
    finished = sum(_is_finished(p, store, work) for p in members)
    trials = round(math.fsum(p.share for p in members))
    line = Line(task, model, method, size, trials, epochs, finished)
    if counts is None:
        return line
    estimates = [experiments.estimate(p.trial, counts, known) for p in members]
    seconds = [e.seconds for e in estimates if e.seconds is not None]
    each = max(seconds) if len(seconds) == len(members) else None
    steps = math.fsum(p.share * e.steps for p, e in zip(members, estimates, strict=True))
    return replace(line, steps=round(steps), each=each)


def _is_finished(planned: Planned, store: Store | None, work: Path | None) -> bool:
    if store is None or work is None:
        return False
    data = str(store.manifest["fingerprint"])
    return trial_status(planned.identity(data), planned, data, Work(work)).done


# --- extraction -----------------------------------------------------------------------------------


def _describe_extraction(
    experiment: Experiment, source: Path | None, tables: _Tables, store: Path
) -> str:
    """Return what the main job would do before the trials: a sentence or two.

    source: folder of the raw tables, or of images; None: there is nothing to extract

    Raises:
        InputError: the source is no folder or lacks a table or rows; `store` is something else.
    """
    there = (store / MANIFEST).is_file()
    if source is None:
        if there:
            return f"Nothing would be extracted: {store} is used as it is."
        return f"There is no store {store} yet, and no --source to make it from."
    check_target(store)
    if experiment.images:
        if not source.is_dir():
            raise InputError(f"--source {source} is not a folder. It must hold the images.")
        check_images(source, experiment.images)
        if there:
            return f"{store} would be replaced if the images in {source} have changed."
        return f"{store} would be made from the images in {source}."
    check_rows(tables)
    size = sum(table.stamp.bytes for table in tables.values()) / 1e6
    of = f"{source}: {len(tables)} tables, {size:,.0f} MB"
    if not there:
        return f"{store} would be extracted from {of}."
    if seems_up_to_date(store, tables):
        return f"Nothing would be extracted: {store} is up to date with {of}."
    return (
        f"{store} would be updated from {of}. Trials count as finished if they are for the present "
        "store."
    )
