"""What trials came to, read from their run folders: settings, scores, history; never a patient.

A method is named by its list of regularisers, in the list's order: "spectral_dropout + dropout";
where several tasks were trained together, with the strategy: "reptile: dropout"; where a task was
fine-tuned, with what it started from. Probes are left out, and early stopping where every trial of
a task has it. Options are shown only where two methods, or two models, would bear the same name:
"dropout (rate=0.2)" beside "dropout (rate=0.5)".

The method in focus is put against all others. Whoever asks for a report names it; where a trained
trunk was fine-tuned, it is that; else tables take their best method.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.report.labels import Named, distinguish
from mimic_reg.runs import DONE, FIT, HISTORY, TRIAL, read_history, read_trial
from mimic_reg.runs.record import Run, read_run
from mimic_reg.settings import BASELINE, STOPPING, TrainingSize, acting, is_probe, training_size
from mimic_reg.store import Store

SIZE_AND_SEED = ("supervision", "num_samples", "seed")  # settings that a table's cells differ in
SCRATCH = "scratch"  # what a fine-tuned trunk is compared with


@dataclass(frozen=True, kw_only=True)
class TrialResult(Run):
    """One finished trial, as reports call it.

    name:         what its folder is called
    model, method: labels, unique within the set of trials that was collected
    regularisers: the methods' names, in order, but those that all trials of the task share
    strategy:     how it was trained with other tasks, or what it was fine-tuned from; "" if neither
    supervision:  the training size
    in_focus:     whether its method is put against all others
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
    in_focus: bool = False


@dataclass(frozen=True)
class Unfinished:
    """A run folder whose result is not there or not used, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Results:
    """Finished trials, ordered by task, model, method, supervision and seed; and the others.

    focus: the method that somebody asked to put against all others, if anybody did
    """

    trials: tuple[TrialResult, ...]
    unfinished: tuple[Unfinished, ...] = ()
    focus: str | None = None

    @property
    def has_focus(self) -> bool:
        """Whether it is known which methods to put against all others."""
        return self.focus is not None or any(t.in_focus for t in self.trials)

    def methods(self) -> list[str]:
        """The methods as tables list them."""
        return method_order(self.trials)

    def settings(self) -> list[tuple[str, str]]:
        """(task, model) of every table that the trials fill."""
        return list(dict.fromkeys((t.task, t.model) for t in self.trials))

    def of(self, task: str, model: str) -> tuple[TrialResult, ...]:
        """The trials of one task and model."""
        return tuple(t for t in self.trials if (t.task, t.model) == (task, model))

    def fingerprints(self) -> list[str]:
        """The data that the trials were trained on: one a task at most."""
        return list(dict.fromkeys(t.fingerprint for t in self.trials))


def collect(
    paths: Iterable[Path], errors: Mapping[Path, str] | None = None, focus: str | None = None
) -> Results:
    """Read run folders; the unfinished and the failed are listed with the reason.

    paths:  run folders, or folders that hold run folders at any depth
    errors: run folder → why it failed, where somebody else knows that
    focus:  the method to put against all others: its label, a strategy, or a regulariser, which
            stands for all methods that have it

    Raises:
        InputError: a path is no folder and no error is known of it; there is no run at all; the
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
    labelled = [replace(t, in_focus=_in_focus(t, focus)) for t in _label(list(found.values()))]
    for trial in sorted(labelled, key=_place):
        first = places.setdefault(_place(trial), trial)
        if first is not trial:  # [none] and [], say
            unfinished.append(
                Unfinished(trial.name, f"means the same as {first.name}, which is used")
            )
    return Results(tuple(places.values()), tuple(unfinished), focus)


def _in_focus(trial: TrialResult, focus: str | None) -> bool:
    if focus is None:
        return trial.settings.get("start") is not None and trial.strategy != SCRATCH
    names = " + ".join(trial.regularisers)
    return focus in (trial.method, names, trial.strategy, *trial.regularisers)


def mixed_threads(results: Results) -> list[str]:
    """Sentences about the tables whose trials were trained with different numbers of threads."""
    found = []
    for task, model in results.settings():
        numbers = {t.threads for t in results.of(task, model)}
        if len(numbers) > 1:
            told = ", ".join(sorted("not recorded" if n is None else str(n) for n in numbers))
            found.append(
                f"{task}, {model}: the trials were trained with different numbers of threads "
                f"({told}). So they differ by rounding, too, and not only by what is compared."
            )
    return found


def find_stores(results: Results) -> list[Store]:
    """The stores that the trials were trained on, if they still lie where they were."""
    stores: dict[str, Store] = {}
    for path, fingerprint in dict.fromkeys((t.store, t.fingerprint) for t in results.trials):
        try:
            store = Store.open(path)
        except InputError:  # moved, or written anew: a report does without
            continue
        if store.manifest["fingerprint"] == fingerprint:
            stores.setdefault(fingerprint, store)
    return list(stores.values())


def method_order(trials: Iterable[TrialResult]) -> list[str]:
    """The methods as tables list them: the baseline, others by name, those in focus last."""
    keys = {t.method: _rank(t) for t in trials}
    return sorted(keys, key=keys.__getitem__)


def _rank(trial: TrialResult) -> tuple[Any, ...]:
    plain = trial.regularisers == (BASELINE,)
    return trial.in_focus, not plain, trial.strategy not in ("", SCRATCH), trial.method


_NO_RUN = f"it holds no run (no {TRIAL})"
_LOGGED = "mlflow-artifacts"  # which holds copies of parts of runs


def _run_folders(paths: Iterable[Path], known: Mapping[Path, str]) -> list[tuple[Path, str]]:
    """Run folders and what to call them; a folder that two paths lead to once."""
    folders: dict[Path, tuple[Path, str]] = {}
    for path in paths:
        if not path.is_dir() and path.resolve() not in known:
            raise InputError(f"There is no folder {path}.")
        inside = [p.parent for p in sorted(path.rglob(TRIAL)) if p.parent != path]
        inside = [folder for folder in inside if _LOGGED not in folder.relative_to(path).parts]
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
            return Unfinished(name, f"{DONE} is that of another trial")
        return _trial(name, run)
    except (InputError, OSError) as problem:
        return Unfinished(name, str(problem).replace(str(folder), name))
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        return Unfinished(name, f"its files are not those of a run: {problem!r}")


def _progress(folder: Path, described: Mapping[str, Any]) -> str:
    """Why a run has no result, from its history."""
    history = read_history(folder / HISTORY)
    last = history[-1] if history else {"event": "none"}
    if last["event"] == "failed":
        return (
            f"failed: the loss became {last['loss']} in the steps up to {last['step']} "
            f"(epoch {last['epoch']})"
        )
    epochs = sum(row["event"] == "epoch" for row in history)
    most = described["trial"]["training"]["max_epochs"]
    return f"not finished: {epochs} of at most {most} epochs"


def _trial(name: str, run: Run) -> TrialResult:
    settings = run.settings
    (model,) = settings["model"]
    return TrialResult(
        **{field.name: getattr(run, field.name) for field in fields(Run)},
        name=name,
        model=model,
        method=" + ".join(run.methods),
        regularisers=run.methods,
        strategy=_strategy(settings),
        supervision=training_size(settings["supervision"], settings.get("num_samples")),
        seed=int(settings["seed"]),
    )


def _strategy(settings: Mapping[str, Any]) -> str:
    """How several tasks were trained together, or what one started from; "" for a task alone."""
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
                "Collect them apart."
            )


def _place(trial: TrialResult) -> tuple[Any, ...]:
    return trial.task, trial.model, *_rank(trial), trial.supervision, trial.seed


# --- labels ---------------------------------------------------------------------------------------


def _label(trials: list[TrialResult]) -> list[TrialResult]:
    """The trials, named: models first, then methods within task and model."""
    models = distinguish([_named_model(t) for t in trials])
    trials = [replace(t, model=label) for t, label in zip(trials, models, strict=True)]
    shared = _stopped_always(trials)
    shortened = [
        replace(t, regularisers=_shorten(t.regularisers, STOPPING in shared[t.task]))
        for t in trials
    ]
    methods = distinguish([_named_method(t) for t in shortened])
    return [replace(t, method=label) for t, label in zip(shortened, methods, strict=True)]


def _stopped_always(trials: Iterable[TrialResult]) -> dict[str, set[str]]:
    """The regularisers that all trials of a task have."""
    common: dict[str, set[str]] = {}
    for trial in trials:
        common[trial.task] = common.get(trial.task, set(trial.regularisers)) & set(
            trial.regularisers
        )
    return common


def _shorten(names: Sequence[str], stopped_always: bool) -> tuple[str, ...]:
    return acting(names, {BASELINE, STOPPING} if stopped_always else {BASELINE})


def _named_model(trial: TrialResult) -> Named:
    ((name, options),) = trial.settings["model"].items()
    return Named(name, trial.task, trial.task, options)


def _named_method(trial: TrialResult) -> Named:
    options = {
        f"{name}.{option}": value
        for entry in trial.settings["regularisers"]
        for name, given in entry.items()
        if not is_probe(name)
        for option, value in given.items()
    }
    options |= {f"training.{name}": value for name, value in trial.settings["training"].items()}
    options["supervision_unit"] = trial.settings["supervision_unit"]
    name = " + ".join(trial.regularisers)
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
    return Named(name, scope, trial.supervision, options)
