"""Leakage: does a store, or a trained model, know what it must not know?

A module for each kind of leak. A finding is an outcome, never an error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mimic_reg.checks import division, duplicates, future, normalizer, pairs, shortcuts
from mimic_reg.checks.base import MOST_CELLS, Outcome, View
from mimic_reg.errors import InputError
from mimic_reg.runs import FIT, TRIAL, read_trial
from mimic_reg.runs.description import open_store
from mimic_reg.serving.model import load_run
from mimic_reg.store import Store, reading
from mimic_reg.store.spec import Task

__all__ = [
    "MOST_CELLS",
    "Outcome",
    "check",
    "check_predictions",
    "check_run",
    "check_store",
    "findings",
]


def findings(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes that found something."""
    return [outcome for outcome in outcomes if outcome.status == "found"]


def check(
    place: Path, tasks: Sequence[str] = (), *, store: Path | None = None, seed: int = 0
) -> list[Outcome]:
    """Return the outcomes of all checks of a store, of a run, or of a fit of several tasks.

    tasks: of a store, those to check; by default all
    store: of a run, where its store is now, if it was moved

    Raises:
        InputError: this is neither; `tasks` of a run, or `store` of a store; see also `check_store`
            and `check_run`.
    """
    if not ((place / TRIAL).is_file() or (place / FIT).is_file()):
        if store is not None:
            raise InputError(f"The place of a run's store was given, but {place} is not a run.")
        return check_store(Store.open(place), tasks, seed=seed)
    if tasks:
        raise InputError(f"Tasks are chosen of a store, but {place} is a run, which has one task.")
    runs = [p.parent for p in sorted(place.glob(f"*/{TRIAL}"))] or [place]  # of several tasks
    found = [each for run in runs for each in check_run(run, store=store, seed=seed)]
    return list(dict.fromkeys(found))


def check_store(
    store: Store,
    tasks: Sequence[str] = (),
    *,
    fold: int | None = None,
    seed: int = 0,
    most_cells: int = MOST_CELLS,
) -> list[Outcome]:
    """Return the outcomes of all checks of a store.

    tasks:      to check; by default all
    fold:       the fold that tests, of a cohort with folds; None: the normaliser of each fold, and
                the first fold where training and test are needed
    seed:       chooses stays and channels where there are too many
    most_cells: of the hourly table to hold in memory

    Raises:
        InputError: the store has no such task or fold; its tables do not fit together.
    """
    spec = store.spec
    chosen = [spec.task(name) for name in tasks or spec.task_names]
    if spec.folds or fold is not None:
        spec.check_fold(1 if fold is None else fold)
    with reading(store.folder, "a cohort store"):
        outcomes = division.shared(store, [task.name for task in chosen])
        folds = [*range(1, (spec.folds or 0) + 1)] or [None] if fold is None else [fold]
        for task in chosen:
            found = (
                _of_hours(store, task, folds, seed, most_cells)
                if spec.is_hourly
                else (duplicates.images(store, task), shortcuts.readable_images(store, task, seed))
            )
            outcomes += (replace(each, task=task.name) for each in found)
    return outcomes


def _of_hours(
    store: Store, task: Task, folds: Sequence[int | None], seed: int, most_cells: int
) -> Iterator[Outcome]:
    """Yield the outcomes of a task; only the normaliser is looked at in more than one fold."""
    for fold in folds:
        view = View(store.in_fold(fold), task, seed=seed, most_cells=most_cells)
        found = normalizer.fitted(view)
        if len(folds) == 1 or found.status != "passed" or fold == folds[-1]:
            of = "" if fold is None else f"Fold {fold}: "
            if fold is not None and found.status == "passed" and len(folds) > 1:
                of = f"In each of {len(folds)} folds: "
            yield replace(found, text=f"{of}{found.text}")
        if found.status == "found":
            break
    view = View(store.in_fold(folds[0]), task, seed=seed, most_cells=most_cells)
    yield future.inputs(view)
    yield future.imputed(view)
    yield future.length_told(view)
    yield shortcuts.key_told(view)
    yield shortcuts.readable(view)
    yield pairs.readable(view)
    yield shortcuts.from_lengths(view)
    yield duplicates.sequences(view)


def check_run(run: Path, *, store: Path | None = None, seed: int = 0) -> list[Outcome]:
    """Return the outcomes of all checks of a trained run: of its store and task, and of its model.

    store: where the run's store is now, if it was moved

    Raises:
        InputError: this is not a run, it has no trained model, or its store is another one.
    """
    described = read_trial(run)
    opened, tasks = open_store(run, described, store), [described["trial"]["task"]]
    whole = Store(opened.folder, opened.manifest)
    outcomes = check_store(whole, tasks, fold=opened.fold, seed=seed)
    return outcomes + check_predictions(run, store=store, seed=seed)


def check_predictions(run: Path, *, store: Path | None = None, seed: int = 0) -> list[Outcome]:
    """Return whether the predictions of a run's best model depend on later hours.

    store: where the run's store is now, if it was moved

    Raises:
        InputError: as `check_run`.
    """
    described = read_trial(run)
    opened = open_store(run, described, store)
    if not opened.spec.is_hourly:
        return []
    model = load_run(run, store=store)
    view = View(opened, opened.spec.task(model.task.name), seed=seed, most_cells=MOST_CELLS // 10)
    found = future.predictions(view, model.learner, model.constants)
    return [replace(found, task=model.task.name)]
