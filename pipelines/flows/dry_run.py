"""What a sweep, or the main job, would do; nothing is written and nothing is computed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mimic_reg import experiments
from mimic_reg.errors import InputError
from mimic_reg.experiments import Experiment, Planned
from mimic_reg.extraction import seems_up_to_date
from mimic_reg.extraction.checks import check_rows
from mimic_reg.extraction.memory import parse_memory
from mimic_reg.settings import STOPPING, TrainingSize
from mimic_reg.sources.images import check_images
from mimic_reg.sources.mimic3 import find_tables
from mimic_reg.store import MANIFEST, Store, check_target
from pipelines.flows.result import trial_status
from pipelines.flows.run import find_source
from pipelines.flows.settings import Work
from pipelines.flows.sweep import find_store

_Key = tuple[str, str, str, TrainingSize, int]  # task, model, method, size, epochs
_Counts = Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class Line:
    """Trials of a dry run that differ in their seeds only.

    epochs:   of each at the most; None, as steps and seconds: not known
    finished: how many are
    steps:    of all of them at the most
    seconds:  of those that are not finished, at the most, on one thread; None also where what their
              steps cost was never measured
    """

    task: str
    model: str
    method: str
    size: TrainingSize
    seeds: tuple[int, ...]
    epochs: int
    finished: int
    steps: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class DryRun:
    """What a sweep would do.

    may_stop: whether any trial has early stopping
    seconds: of the trials to run, one after the other, at the most; None: not known before there
             is a store
    unknown: how many of them are not counted there, for nobody measured what their steps cost
    counted: whose numbers of samples the times are for
    left_out: sentences on combinations that are no trials
    extraction: what comes before the trials
    """

    title: str
    num_trials: int
    lines: tuple[Line, ...]
    seconds: float | None
    may_stop: bool
    unknown: int = 0
    counted: str = ""
    left_out: tuple[str, ...] = ()
    extraction: str = ""

    @property
    def num_finished(self) -> int:
        """Trials that are not run again."""
        return sum(line.finished for line in self.lines)

    @property
    def summary(self) -> str:
        """A few sentences."""
        text = " ".join((f"{self.title}: {self.num_trials} trials.", *self.left_out))
        to_run = self.num_trials - self.num_finished
        if self.num_finished:
            text = f"{text} {self.num_finished} are finished, {to_run} are to run."
        if not to_run:
            return text
        if self.seconds is None:
            return f"{text} Their time is known once there is a store."
        if self.unknown == to_run:
            return f"{text} How long they take is unknown: no such steps were measured."
        if self.unknown:
            text = f"{text} How long {self.unknown} of these take is unknown; the others: at"
        else:
            text = f"{text} At"
        return (
            f"{text} most about {format_seconds(self.seconds)} of one CPU core"
            f"{'; early stopping usually ends a trial sooner' if self.may_stop else ''}. A GPU "
            f"takes a fraction of it. Counted with the samples of {self.counted}."
        )


def of_sweep(
    experiment: Experiment, store: Path | None = None, *, work: Path | None = None
) -> DryRun:
    """The trials of an experiment, which are finished, and an estimate of the others' time.

    store: the cohort store; None: the experiment's, or that of the work folder, if it is there
    work:  the work folder; None: no trial is finished

    Without a store, the numbers of samples are those of the full data set.

    Raises:
        InputError: `store` is no store; a store with other data.
    """
    if store is None and work is not None:
        place = find_store(experiment, Work(work), None)
        store = place if (place / MANIFEST).is_file() else None
    return _plan(experiment, Store.open(store) if store else None, work)


def of_run(
    experiment: Experiment,
    work: Path,
    *,
    source: Path | None = None,
    store: Path | None = None,
    memory: str = "4GB",
) -> DryRun:
    """What the main job would do: `pipelines.flows.run.run` with the same arguments.

    Raises:
        InputError: what `run` would say, but for a store that is not there yet.
    """
    parse_memory(memory)
    folders = Work(work)
    folders.check()
    place = find_store(experiment, folders, store)
    source = find_source(experiment, folders, source)
    extraction = _describe_extraction(experiment, source, place)
    return replace(
        _plan(experiment, _usable(place, to_be_made=source is not None), work),
        extraction=extraction,
    )


def _usable(store: Path, to_be_made: bool) -> Store | None:
    """The store, if it is there; one that will be made anew may be of an older version."""
    if not (store / MANIFEST).is_file():
        return None
    try:
        return Store.open(store)
    except InputError:
        if to_be_made:
            return None
        raise


# --- trials ---------------------------------------------------------------------------------------


def _plan(experiment: Experiment, store: Store | None, work: Path | None) -> DryRun:
    if store:
        experiments.check_data(experiment, store)
    counts = None
    if store or experiment.data is None or experiment.data in experiments.KNOWN_SIZES:
        counts = experiments.sizes(store, experiment.data)
    groups: dict[_Key, list[Planned]] = {}
    planned = experiments.plan(experiment)
    for p in planned:
        trial = p.trial
        key = (trial.task, trial.model.name, p.label, trial.size, trial.training.max_epochs)
        groups.setdefault(key, []).append(p)
    known = experiments.past(Work(work).runs) if work else {}
    lines = tuple(
        _line(key, members, counts, known, store, work) for key, members in groups.items()
    )
    return DryRun(
        title=experiment.title,
        left_out=tuple(experiments.left_out(experiment)),
        num_trials=sum(len(line.seeds) for line in lines),
        lines=lines,
        seconds=math.fsum(line.seconds or 0.0 for line in lines) if counts else None,
        unknown=sum(
            len(line.seeds) - line.finished for line in lines if counts and line.seconds is None
        ),
        may_stop=any(r.name == STOPPING for p in planned for r in p.trial.regularisers),
        counted=str(store.folder) if store else f"the full {experiment.data or 'MIMIC-III'}",
    )


def _line(
    key: _Key,
    members: Sequence[Planned],
    counts: _Counts | None,
    known: experiments.Past,
    store: Store | None,
    work: Path | None,
) -> Line:
    task, model, method, size, epochs = key
    to_run = [p.trial for p in members if not _is_finished(p, store, work)]
    line = Line(
        task=task,
        model=model,
        method=method,
        size=size,
        seeds=tuple(p.trial.seed for p in members),
        epochs=epochs,
        finished=len(members) - len(to_run),
    )
    if counts is None:
        return line
    return replace(
        line,
        steps=sum(experiments.estimate(p.trial, counts).steps for p in members),
        seconds=experiments.total_seconds(to_run, counts, known),
    )


def _is_finished(planned: Planned, store: Store | None, work: Path | None) -> bool:
    if store is None or work is None:
        return False
    data = str(store.manifest["fingerprint"])
    return trial_status(planned.identity(data), planned, data, Work(work)).done


# --- extraction -----------------------------------------------------------------------------------


def _describe_extraction(experiment: Experiment, source: Path | None, store: Path) -> str:
    """What the main job would do before the trials: a sentence or two.

    source: raw tables, or images; None: there are none to extract

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
            return f"{store} would be made anew if the images in {source} are others by now."
        return f"{store} would be made of the images in {source}."
    tables = find_tables(source)
    check_rows(tables)
    size = sum(table.stamp.bytes for table in tables.values()) / 1e6
    of = f"{source}: {len(tables)} tables, {size:,.0f} MB"
    if not there:
        return f"{store} would be extracted from {of}."
    if seems_up_to_date(store, tables):
        return f"Nothing would be extracted: {store} is up to date with {of}."
    return (
        f"{store} would be brought up to date with {of}. Finished trials are those for the store "
        "as it is now."
    )


def format_seconds(seconds: float) -> str:
    """A duration for people: 40 s, 12 min, 5.2 h, 31 days."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            value = seconds / size
            return f"{value:,.{1 if value < 10 else 0}f} {unit}"
    return f"{seconds:,.0f} s"
