"""Results of trials, read from run folders: settings, scores and history, no patient data.

A method is called what its file in `configs/methods` is called; without such a file, by its
modules: "spectral_dropout + dropout". If several tasks were trained together, the strategy comes
first: "reptile: dropout". If a task was fine-tuned, what it started from comes first. Probes are
left out, and early stopping if all trials of a task have it. Options are shown only if two methods
or two models would otherwise have the same name: "dropout (rate=0.2)" and "dropout (rate=0.5)".
They are not shown if each fold of a cross-validation chose its own.

The method in focus is compared with all others. The caller names it. Without a name, it is the
trained trunk that was fine-tuned; without such a trunk, each table takes its best method.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.metrics.folds import Repeat, repeat
from mimic_reg.metrics.scores import Score
from mimic_reg.metrics.small_counts import FEW, LEAST
from mimic_reg.report.labels import Named, distinguish
from mimic_reg.runs import DONE, FIT, HISTORY, TRIAL, read_history, read_trial
from mimic_reg.runs.record import Run, read_run
from mimic_reg.settings import BASELINE, STOPPING, TrainingSize, acting, is_probe, training_size
from mimic_reg.settings.budget import Budget, chosen_in_folds, unequal
from mimic_reg.settings.files import name_of_method
from mimic_reg.store import Store

# settings in which cells of a table, and the runs of a cell, differ
SIZE_AND_SEED = ("supervision", "num_samples", "seed", "fold")
SCRATCH = "scratch"  # training without a trunk, the baseline of fine-tuning


@dataclass(frozen=True, kw_only=True)
class TrialResult(Run):
    """A finished trial with its names in a report.

    name:         the name of its folder
    model, method: labels, unique among the collected trials
    regularisers: the modules of the method, in order, without probes
    strategy:     how it was trained with other tasks, or what it was fine-tuned from; "" if neither
    supervision:  the training size
    fold:         the fold that it was tested on; None without folds
    in_focus:     whether its method is compared with all others
    """

    best_epoch: int
    selected_by: str
    name: str
    model: str
    method: str
    regularisers: tuple[str, ...]
    strategy: str
    supervision: TrainingSize
    seed: int
    fold: int | None = None
    in_focus: bool = False

    @property
    def repeat(self) -> Repeat:
        """What it differs in from the other trials of its cell of a table."""
        return repeat(self.seed, self.fold, self.cohort.folds)


@dataclass(frozen=True)
class Unfinished:
    """A run folder without a result, or with a result that is not used, and the reason."""

    name: str
    why: str


@dataclass(frozen=True)
class Results:
    """Finished trials, by task, model, method, supervision, seed and fold; and unfinished ones.

    focus:   the method to compare with all others, if the caller named one
    budgets: what the values of each method were chosen from, if that is recorded
    """

    trials: tuple[TrialResult, ...]
    unfinished: tuple[Unfinished, ...] = ()
    focus: str | None = None
    budgets: tuple[Budget, ...] = ()

    @property
    def has_focus(self) -> bool:
        """Whether some method was chosen for comparison with all others."""
        return self.focus is not None or any(t.in_focus for t in self.trials)

    def methods(self) -> list[str]:
        """Return the methods in the order of tables."""
        return method_order(self.trials)

    def settings(self) -> list[tuple[str, str]]:
        """Return (task, model) of every table."""
        return list(dict.fromkeys((t.task, t.model) for t in self.trials))

    def of(self, task: str, model: str) -> tuple[TrialResult, ...]:
        """Return the trials of one task and model."""
        return tuple(t for t in self.trials if (t.task, t.model) == (task, model))

    def unequal(self) -> dict[str, str]:
        """Return task → a sentence, where methods or models were tuned at unequal budgets."""
        return unequal(self.budgets)

    def fingerprints(self) -> list[str]:
        """Return the fingerprints of the training data, at most one for each task."""
        return list(dict.fromkeys(t.fingerprint for t in self.trials))


def collect(
    paths: Iterable[Path],
    errors: Mapping[Path, str] | None = None,
    focus: str | None = None,
    *,
    budgets: Iterable[Budget] = (),
    fold_by_fold: bool = False,
) -> Results:
    """Read run folders. List unfinished and failed runs with the reason.

    paths:  run folders, or folders that hold run folders at any depth
    errors: run folder → why it failed, if the caller knows it
    focus:  the method to compare with all others: its label, a strategy, or a module, for all
            methods that contain it
    budgets: of the searches before these trials. Sizes of a model that were searched do not make
             another model of it
    fold_by_fold: whether each fold chose values of its own, as budgets may say, too

    Raises:
        InputError: a path is not a folder and has no entry in `errors`; there is no run at all; the
            trials of a task were trained on different data.
    """
    paths = list(paths)
    known = {path.resolve(): why for path, why in (errors or {}).items()}
    found: dict[str, TrialResult] = {}
    unfinished = []
    for folder, name in _run_folders(paths, known):
        read = _read(folder, name, known.get(folder.resolve()))
        if isinstance(read, TrialResult) and read.id in found:
            why = f"the same trial as {found[read.id].name}, which is used"
            unfinished.append(Unfinished(name, why))
        elif isinstance(read, TrialResult):
            found[read.id] = read
        else:
            unfinished.append(read)
    if not found and all(u.why == _NO_RUN for u in unfinished):
        where = f" in {', '.join(str(path) for path in paths)}" if paths else ""
        raise InputError(
            f"There is no run{where}. Name run folders, made by `mimic-reg train`, or a folder "
            "that holds them."
        )
    _check_data(found.values())
    places: dict[Any, TrialResult] = {}
    budgets = tuple(budgets)
    searched = {key for b in budgets for key in b.space}
    fold_by_fold = fold_by_fold or chosen_in_folds(budgets)
    labels = _label(list(found.values()), searched, fold_by_fold)
    labelled = [replace(t, in_focus=_in_focus(t, focus)) for t in labels]
    for trial in sorted(labelled, key=_place):
        first = places.setdefault(_place(trial), trial)
        if first is not trial:  # for example [none] and []
            unfinished.append(
                Unfinished(trial.name, f"has the same settings as {first.name}, which is used")
            )
    return Results(tuple(places.values()), tuple(unfinished), focus, budgets)


def _in_focus(trial: TrialResult, focus: str | None) -> bool:
    if focus is None:
        return trial.settings.get("start") is not None and trial.strategy != SCRATCH
    names = (name_of_method(trial.settings["regularisers"]), " + ".join(trial.regularisers))
    return focus in (trial.method, *names, trial.strategy, *trial.regularisers)


def mixed_threads(results: Results) -> list[str]:
    """Return a warning for each table whose trials had different numbers of threads."""
    found = []
    for task, model in results.settings():
        numbers = {t.threads for t in results.of(task, model)}
        if len(numbers) > 1:
            used = ", ".join(sorted("not recorded" if n is None else str(n) for n in numbers))
            found.append(
                f"{task}, {model}: the trials were trained with different numbers of threads "
                f"({used}), so their scores also differ by rounding."
            )
    return found


def find_stores(results: Results) -> list[Store]:
    """Return the stores that the trials were trained on, if they are still in the same place."""
    stores: dict[str, Store] = {}
    for path, fingerprint in dict.fromkeys((t.store, t.fingerprint) for t in results.trials):
        try:
            store = Store.open(path)
        except InputError:  # moved or replaced: the report omits what needs it
            continue
        if store.manifest["fingerprint"] == fingerprint:
            stores.setdefault(fingerprint, store)
    return list(stores.values())


def method_order(trials: Iterable[TrialResult]) -> list[str]:
    """Return the methods in the order of tables: baseline, others by name, those in focus last."""
    keys = {t.method: _rank(t) for t in trials}
    return sorted(keys, key=keys.__getitem__)


def _rank(trial: TrialResult) -> tuple[Any, ...]:
    plain = trial.regularisers == (BASELINE,)
    return trial.in_focus, not plain, trial.strategy not in ("", SCRATCH), trial.method


_NO_RUN = f"it holds no run (no {TRIAL})"
_LOGGED = "mlflow-artifacts"  # holds copies of files of runs


def folders_below(path: Path) -> list[Path]:
    """Return the run folders in a folder, at any depth, in the order of their paths."""
    found = sorted(path.rglob(TRIAL))
    return [p.parent for p in found if _LOGGED not in p.relative_to(path).parts]


def _run_folders(paths: Iterable[Path], known: Mapping[Path, str]) -> list[tuple[Path, str]]:
    """Return (folder, name) of each run folder, without duplicates."""
    folders: dict[Path, tuple[Path, str]] = {}
    for path in paths:
        if not path.is_dir() and path.resolve() not in known:
            raise InputError(f"There is no folder {path}.")
        inside = [folder for folder in folders_below(path) if folder != path]
        own = [] if inside and not (path / TRIAL).exists() else [path]
        for folder in own + inside:
            name = path.name if folder == path else str(folder.relative_to(path))
            if folder == path and (folder.parent / FIT).exists():
                name = f"{folder.parent.name}/{name}"
            folders.setdefault(folder.resolve(), (folder, name))
    return list(folders.values())


def _read(folder: Path, name: str, error: str | None) -> TrialResult | Unfinished:
    try:
        if not (folder / TRIAL).is_file():
            return Unfinished(name, error or _NO_RUN)
        if not (folder / DONE).is_file():
            return Unfinished(name, error or _progress(folder, read_trial(folder)))
        run = read_run(folder)
        if not run.finished:
            return Unfinished(name, f"{DONE} belongs to another trial")
        return _trial(name, run)
    except (InputError, OSError) as problem:
        return Unfinished(name, str(problem).replace(str(folder), name))
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        return Unfinished(name, f"its files are damaged: {problem!r}")


def _progress(folder: Path, described: Mapping[str, Any]) -> str:
    """Return why a run has no result, from its history."""
    history = read_history(folder / HISTORY)
    last = history[-1] if history else {"event": "none"}
    if last["event"] == "failed":
        return (
            f"failed: the loss became {last['loss']} in the steps up to {last['step']} "
            f"(epoch {int(last['epoch']) + 1})"
        )
    epochs = sum(row["event"] == "epoch" for row in history)
    most = described["trial"]["training"]["max_epochs"]
    return f"not finished: {epochs} of at most {most} epochs"


def _trial(name: str, run: Run) -> TrialResult:
    settings = run.settings
    (model,) = settings["model"]
    return TrialResult(
        **{**vars(run), "scores": _told(run)},
        name=name,
        model=model,
        method="",  # `_label` sets it
        regularisers=run.methods,
        strategy=_strategy(settings),
        supervision=training_size(settings["supervision"], settings.get("num_samples")),
        seed=int(settings["seed"]),
        fold=settings.get("fold"),
    )


def _told(run: Run) -> dict[str, dict[str, Score]]:
    """Return the scores of the splits with ten samples or more; others tell of single patients."""
    too_few = Score(None, f"{FEW} samples, so not shown")
    untold = {split for split, number in run.num_samples.items() if number < LEAST}
    return {
        split: dict.fromkeys(scores, too_few) if split in untold else dict(scores)
        for split, scores in run.scores.items()
    }


def _strategy(settings: Mapping[str, Any]) -> str:
    """Return how several tasks were trained together, or what one started from; else ""."""
    if together := settings.get("together"):
        (name,) = together["strategy"]
        return str(name)
    if start := settings.get("start"):
        return f"trunk of {start['trunk']}" if start["trunk"] else SCRATCH
    return ""


def _check_data(trials: Iterable[TrialResult]) -> None:
    seen: dict[str, TrialResult] = {}
    for trial in trials:
        first = seen.setdefault(trial.task, trial)
        if trial.fingerprint != first.fingerprint:
            raise InputError(
                f"{first.folder} and {trial.folder} have the task {trial.task} but were trained on "
                "different data (their fingerprints differ), so their scores cannot be compared. "
                f"Report them separately: the stores were {first.store} and {trial.store}."
            )


def _place(trial: TrialResult) -> tuple[Any, ...]:
    return trial.task, trial.model, *_rank(trial), trial.supervision, trial.seed, trial.fold or 0


# --- labels ---------------------------------------------------------------------------------------


def _label(
    trials: list[TrialResult], searched: Collection[str], fold_by_fold: bool
) -> list[TrialResult]:
    """Return the trials with labels: models first, then methods within task and model.

    searched:     component.option of a search: no label of a model has them
    fold_by_fold: whether trials of different folds may have the same name with different options
    """

    def fold(trial: TrialResult) -> int | None:
        return trial.fold if fold_by_fold else None

    models = distinguish([_named_model(t, searched, fold(t)) for t in trials])
    trials = [replace(t, model=label) for t, label in zip(trials, models, strict=True)]
    not_stopped = {(t.task, t.model) for t in trials if STOPPING not in t.regularisers}
    shown = [
        replace(t, regularisers=acting(t.regularisers, {BASELINE, *silent}))
        for t in trials
        for silent in [() if (t.task, t.model) in not_stopped else (STOPPING,)]
    ]
    methods = distinguish([_named_method(t, fold(t)) for t in shown])
    return [replace(t, method=label) for t, label in zip(shown, methods, strict=True)]


def _named_model(trial: TrialResult, searched: Collection[str], fold: int | None) -> Named:
    ((name, given),) = trial.settings["model"].items()
    options = {k: v for k, v in given.items() if f"{name}.{k}" not in searched}
    return Named(name, trial.task, (trial.task, fold), {**options, **_source(trial, name)})


def _source(trial: TrialResult, name: str) -> dict[str, str]:
    """Return the hash of a plugin's source: classes of one name may differ by nothing else."""
    found = trial.settings.get("sources", {}).get(name)
    return {} if found is None else {f"{name}.source": found}


def _named_method(trial: TrialResult, fold: int | None) -> Named:
    options = {
        f"{name}.{option}": value
        for entry in trial.settings["regularisers"]
        for name, given in entry.items()
        if not is_probe(name)
        for option, value in given.items()
    }
    for name in trial.methods:
        options |= _source(trial, name)
    options |= {f"training.{name}": value for name, value in trial.settings["training"].items()}
    options["supervision_unit"] = trial.settings["supervision_unit"]
    name = name_of_method(trial.settings["regularisers"])
    if STOPPING in trial.regularisers:
        name = STOPPING if name == BASELINE else f"{name} + {STOPPING}"
    if start := trial.settings.get("start"):
        plain = trial.regularisers == (BASELINE,)
        name = trial.strategy if plain else f"{trial.strategy}: {name}"
        options["trunk"] = start["fingerprint"]
    if together := trial.settings.get("together"):
        name = f"{trial.strategy}: {name}"
        of_strategy = together["strategy"][trial.strategy]
        options |= {f"{trial.strategy}.{option}": value for option, value in of_strategy.items()}
        options["tasks"] = together["tasks"]
    scope = trial.task, trial.model
    return Named(name, scope, (trial.supervision, fold), options)
