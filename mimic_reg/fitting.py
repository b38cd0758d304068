"""One model, one task, one fit: the run folder of a trial, from settings to scores.

A run folder holds `trial.json` (resolved settings, data fingerprint, environment), `history.jsonl`,
`checkpoint.safetensors`, `best.safetensors`, `predictions_<split>.parquet` (row of the task's
sample table and probabilities, no ids), `scores.json`, and last `done.json`, with the trial's id
and the files' hashes. While it trains there is `checkpoint.previous.safetensors`, too.
"""

import math
import os
import platform
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
import torch
from torch import Tensor

from mimic_reg import __version__, methods, models
from mimic_reg.engine.checkpoint import previous
from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.learners.trials import resolve
from mimic_reg.learners.trunk import Trunk, load_into
from mimic_reg.metrics.scores import Score, score
from mimic_reg.models.base import Model, constant_logits
from mimic_reg.progress import Progress, Silent
from mimic_reg.runs import (
    BEST,
    CHECKPOINT,
    DONE,
    FIT,
    HISTORY,
    PREDICTIONS,
    SCORED,
    SCORES,
    TRIAL,
    check_finished,
    finish,
    is_done,
    read_scored,
    read_trial,
)
from mimic_reg.samples import Samples, load, notes
from mimic_reg.samples.splits import select, select_count
from mimic_reg.seeds import Streams
from mimic_reg.settings import Component, MultiTrial, Trial
from mimic_reg.store import Store, atomic, file_hash, locked, reading, write_json
from mimic_reg.store.spec import CohortSpec, Task
from mimic_reg.threads import DEFAULT_THREADS, torch_threads
from mimic_reg.vision import torchvision_version

NUM_REPLICATES = 1000
_ROUNDING = 1e-6  # scores as near as this are the same: other devices round in another way

# the published split's label → our word, in file names and scores
EVALUATED = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    status: "skipped" means that it was finished before and nothing was done
    scores: split → name → score; empty after an interruption
    threads: the number it was trained with; None if nothing was done
    """

    status: Literal["finished", "interrupted", "skipped"]
    trial_id: str
    scores: dict[str, dict[str, Score]]
    threads: int | None = None


def train(
    trial: Trial,
    store: Path,
    out: Path,
    *,
    progress: Progress | None = None,
    device: str | None = None,
    threads: int | None = None,
    trunk: Trunk | None = None,
) -> Outcome:
    """Fit a trial in the folder `out`, or go on where it was cut off.

    The first Ctrl-C ends the running step, writes a checkpoint and returns "interrupted".

    threads: of torch; a run that goes on keeps the number that it was begun with
    trunk:   what the trial starts from, if it says so

    Raises:
        InputError: `out` holds another trial; the data cannot serve this one.
        MimicRegError: the model diverged; another process writes to `out`.
    """
    progress = progress or Silent()
    opened = Store.open(store)
    trial = resolve(trial.model_dump())
    _check_start(trial, trunk)
    trial_id = trial.id(opened.manifest["fingerprint"])
    with locked(out):
        check_weights(out, trial)
        if is_done(out, trial_id):
            check_finished(out)
            progress.note(f"{out} holds this trial, finished; nothing to do.")
            return Outcome("skipped", trial_id, read_scores(out))
        where = find_device(device)
        number = describe(out, trial, trial_id, opened, where, threads, progress)
        with torch_threads(number):
            trainer, samples = prepare(trial, opened, out, progress, where, trunk)
            if (out / CHECKPOINT).exists():
                progress.note("Going on from the checkpoint.")
            with stopping(trainer):
                status = trainer.run()
            if status == "interrupted":
                progress.note("Interrupted: the checkpoint is written; the same command goes on.")
                return Outcome(status, trial_id, {}, number)
            scores = score_best(trainer, samples, opened.spec.task(trial.task), out)
        finish(out, trial_id)
        forget_checkpoints(out)
        return Outcome(status, trial_id, scores, number)


def evaluate(
    run: Path,
    *,
    store: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> dict[str, dict[str, Score]]:
    """Score a run's best model again; the scores of a finished run must come out as they were.

    store:     where the cohort store is now, if it was moved
    overwrite: write scores and predictions anew, whatever they were
    threads:   of torch; None: as many as it was trained with

    Raises:
        InputError: `run` holds no trained model, or the store is not the one it was trained on; a
            file of the run is damaged.
        MimicRegError: scores differ from those that the run has; these are kept.
    """
    progress = progress or Silent()
    trial, opened = _reopen(run, store, but=SCORED if overwrite else ())
    recorded = read_trial(run).get("threads")
    if threads is not None and recorded is not None and threads != recorded:
        progress.note(
            f"{run} was trained with {_threads(recorded)}; with {_threads(threads)} the last "
            "digits of its scores may differ."
        )
    with locked(run), torch_threads(threads or recorded or DEFAULT_THREADS):
        where = find_device(device)
        trainer, samples = prepare(trial, opened, run, progress, where)
        task, done = opened.spec.task(trial.task), (run / DONE).is_file()
        if overwrite or not done:
            scores = score_best(trainer, samples, task, run)
            if done:
                finish(run, read_trial(run)["id"])
            return scores
        scores = {name: found for name, (found, _) in _score_best(trainer, samples, task).items()}
        _compare(read_scores(run), scores, run)
        return scores


def _compare(
    stored: dict[str, dict[str, Score]], now: dict[str, dict[str, Score]], run: Path
) -> None:
    """Raise where scores are not what they were."""
    differing = [
        f"{split} {name}: {before.get(name)} is stored, {after.get(name)} came out"
        for split in stored.keys() | now.keys()
        for before, after in [(_values(stored.get(split, {})), _values(now.get(split, {})))]
        for name in sorted(before.keys() | after.keys())
        if not _same(before.get(name), after.get(name))
    ]
    if differing:
        raise MimicRegError(
            f"The scores of {run} do not come out again: {'; '.join(sorted(differing))}. The "
            "stored ones are kept. Another device, number of threads or version may be why: try "
            "that of the training. To replace them, add --overwrite."
        )


def _values(scores: dict[str, Score]) -> dict[str, float | None]:
    """Scores and the ends of their intervals, by name; None: undefined."""
    return {
        name if part == "value" else f"{name}, {part} end": getattr(score, part)
        for name, score in scores.items()
        for part in ("value", "low", "high")
    }


def _same(stored: float | None, now: float | None) -> bool:
    if stored is None or now is None:
        return stored is now
    return math.isclose(stored, now, rel_tol=_ROUNDING, abs_tol=_ROUNDING)


def forget_checkpoints(out: Path) -> None:
    """Remove the checkpoint before the last one: a finished run needs it no more."""
    previous(out / CHECKPOINT).unlink(missing_ok=True)


def trained(
    run: Path, *, store: Path | None = None, device: str | None = None
) -> tuple[Model, Samples]:
    """A run's best model, and the training samples of its supervision level.

    store: where the cohort store is now, if it was moved

    Raises:
        InputError: `run` holds no trained model, or the store is not the one it was trained on.
    """
    trial, opened = _reopen(run, store)
    with locked(run):
        where = find_device(device)
        trainer, _ = prepare(trial, opened, run, Silent(), where)
        trainer.load_best()
        return trainer.model, trainer.train


def initial_parameters(trial: Trial, spec: CohortSpec) -> dict[str, Tensor]:
    """The trainable parameters with which a fit of this trial starts, by name.

    Those that a method adds to the model are not among them.

    Raises:
        InputError: the trial starts from a trained trunk, which its settings do not hold.
    """
    if trial.start is not None and trial.start.trunk is not None:
        raise InputError(f"The trial starts from a trained trunk: {trial.start.trunk}.")
    model = _initial_model(trial, spec)
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


def _reopen(run: Path, store: Path | None, *, but: Collection[str] = ()) -> tuple[Trial, Store]:
    if (run / FIT).is_file():
        tasks_there = ", ".join(sorted(path.parent.name for path in run.glob(f"*/{TRIAL}")))
        raise InputError(
            f"{run} is a fit of several tasks. Name the folder of one of them in it: {tasks_there}."
        )
    if not (run / TRIAL).is_file() or not (run / BEST).is_file():
        raise InputError(f"{run} holds no trained model. Train one with `mimic-reg train`.")
    check_finished(run, but=but)
    description = read_trial(run)
    opened = Store.open(store or Path(description["store"]["path"]))
    if opened.manifest["fingerprint"] != description["store"]["fingerprint"]:
        raise InputError(
            f"{opened.folder} is not the store that {run} was trained on: their fingerprints "
            "differ. Name the right one with --store."
        )
    return _without_weights(resolve(description["trial"])), opened


def _without_weights(trial: Trial) -> Trial:
    """The trial without the weights that its model began with, for one that is loaded."""
    name, options = trial.model.name, trial.model.options
    if "weights" not in options:
        return trial
    model = Component.model_validate({name: {**options, "weights": "none"}})
    return trial.model_copy(update={"model": model})


def _weights_hash(trial: Trial | MultiTrial) -> str | None:
    """Of the file of weights that a model begins with, if it does."""
    weights = trial.model.options.get("weights")
    if weights in (None, "imagenet", "none") or not Path(weights).is_file():
        return None
    return file_hash(Path(weights))


def check_weights(out: Path, trial: Trial | MultiTrial, name: str = TRIAL) -> None:
    """Refuse to go on with a fit that began with other weights in the same file.

    Raises:
        InputError: the file has changed.
    """
    began = read_trial(out, name).get("weights") if (out / name).is_file() else None
    found = _weights_hash(trial)
    if began is not None and found is not None and began != found:
        raise InputError(
            f"The weights {trial.model.options['weights']} have changed since {out} was begun with "
            "them. Choose another --out, or bring the file back."
        )


def _check_start(trial: Trial, trunk: Trunk | None) -> None:
    wanted = trial.start.fingerprint if trial.start else None
    if wanted != (trunk.fingerprint if trunk else None):
        raise InputError(
            "The trial starts from another trunk than the one that is given, or that is missing. "
            "Use `mimic-reg finetune`."
        )


def default_device() -> str:
    """The GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def find_device(name: str | None) -> torch.device:
    """The device of that name; by default the GPU if there is one.

    Raises:
        InputError: there is no such device here.
    """
    name = name or default_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise InputError(
            f"The device {name!r} cannot be used here ({str(error).partition(chr(10))[0]}). "
            f"Devices here: {', '.join(here)}."
        ) from error
    return device


def read_scores(run: Path) -> dict[str, dict[str, Score]]:
    """The scores in a run folder."""
    content = read_scored(run)["scores"]
    with reading(run / SCORES, "a run's scores"):
        return {
            split: {name: Score(**values) for name, values in scores.items()}
            for split, scores in content.items()
        }


def describe(
    out: Path,
    trial: Trial | MultiTrial,
    trial_id: str,
    store: Store,
    device: torch.device,
    threads: int | None,
    progress: Progress,
    name: str = TRIAL,
) -> int:
    """Write `trial.json`, or check that the one that is there is of the same trial.

    Where nothing else is there, that trial was refused before it began, and makes way.

    threads: what is asked for, if anything; returned is the number to train with
    """
    path = out / name
    settings = trial.model_dump(mode="json")
    tasks = trial.tasks if isinstance(trial, MultiTrial) else (trial.task,)
    made = {path.name for path in out.iterdir() if not _is_before_begin(path)}
    if made > {name}:
        there = read_trial(out, name)
        if there["id"] != trial_id:
            raise InputError(
                f"{out} holds another trial: {_difference(there, settings, store)}. "
                "Choose another --out, or start it with the same settings to go on with it."
            )
        return _go_on(there, _environment(device), threads, progress)
    if made - {name}:
        other = (FIT if name == TRIAL else TRIAL) in made
        what = "is a run of another kind" if other else "is not empty and holds no run"
        raise InputError(f"{out} {what}. Choose another --out.")
    number = threads or DEFAULT_THREADS
    write_json(
        path,
        {
            "id": trial_id,
            "trial": settings,
            "store": {
                "path": str(store.folder.resolve()),
                "fingerprint": store.manifest["fingerprint"],
            },
            "cohort": store.spec.only(tasks).model_dump(mode="json"),
            "weights": _weights_hash(trial),
            "threads": number,
            **_environment(device),
        },
    )
    return number


def _environment(device: torch.device) -> dict[str, Any]:
    """What a result's last digits depend on beside its settings, data and number of threads.

    cpu: the instructions that torch uses of it, such as AVX512
    """
    return {
        "device": str(device),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "versions": {
            "mimic_reg": __version__,
            "code": code_version(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "cuda": torch.version.cuda,
            "torchvision": torchvision_version(),
        },
    }


def _go_on(
    there: Mapping[str, Any], here: Mapping[str, Any], threads: int | None, progress: Progress
) -> int:
    """The number of threads that a run was begun with; say what is not as it was then."""
    begun = there.get("threads")
    if begun is None:
        number = threads or DEFAULT_THREADS
        progress.note(f"How many threads it was begun with is not recorded; now {number}.")
    else:
        number = int(begun)
        if threads is not None and threads != number:
            progress.note(f"Begun with {_threads(number)}: it goes on so, not with {threads}.")
    then, now = _flat(there), _flat(here)
    for name in ("device", "cpu", "versions.torch"):
        if name in then and then[name] != now[name]:
            progress.note(
                f"Begun with {name.rpartition('.')[2]} {then[name]}, goes on with {now[name]}: it "
                "will not end bit for bit as if it had not been stopped."
            )
    return number


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _is_before_begin(path: Path) -> bool:
    """Whether this is there of a fit that was refused before it began, beside its description."""
    if path.is_dir():  # a task's, of a fit of several
        return all(p.name == TRIAL or _is_before_begin(p) for p in path.iterdir())
    empty = path.name == HISTORY and not path.stat().st_size
    return empty or path.name == ".lock" or path.suffix == atomic.TEMPORARY


def _difference(there: dict[str, Any], settings: dict[str, Any], store: Store) -> str:
    """The first setting in which two trials differ, as text."""
    if there["store"]["fingerprint"] != store.manifest["fingerprint"]:
        return "it was trained on another store"
    for what, named in _HEADS.items():
        a, b = named(there["trial"]), named(settings)
        if a != b:
            return f"its {what} is {a}, not {b}"
    old, new = _flat(there["trial"]), _flat(settings)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name, _ABSENT) != new.get(name, _ABSENT):
            return f"its {name} is {old.get(name, _ABSENT)!r}, not {new.get(name, _ABSENT)!r}"
    raise AssertionError("equal trials have equal ids")


_ABSENT = "absent"
# what is said first of trials that differ in many settings, where they have it: not fits of several
_HEADS: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "task": lambda trial: trial.get("task"),
    "model": lambda trial: next(iter(trial.get("model", {})), None),
    "method": lambda trial: " + ".join(n for e in trial.get("regularisers", ()) for n in e),
}


def _flat(settings: Any, path: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    items = dict(enumerate(settings)) if isinstance(settings, list) else settings
    if not isinstance(items, dict) or not items:
        return {path: settings}
    flat: dict[str, Any] = {}
    for key, value in items.items():
        flat |= _flat(value, f"{path}.{key}" if path else str(key))
    return flat


def code_version() -> str | None:
    """The git commit of this code, with "+changes" if files differ from it.

    Without git it is what an image was built with (MIMIC_REG_REVISION), or None.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return os.environ.get("MIMIC_REG_REVISION") or None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def prepare(
    trial: Trial,
    store: Store,
    out: Path,
    progress: Progress,
    device: torch.device,
    trunk: Trunk | None = None,
) -> tuple[Trainer, dict[str, Samples]]:
    """The trainer of a trial, and the samples of all splits."""
    task = store.spec.task(trial.task)
    samples = load(store, task, normalizer=trial.training.normalizer, device=device)
    kept = _supervised(trial, store, task, samples["train"])
    _check_labels(task, {**samples, "train": kept})
    model = _initial_model(trial, store.spec)
    if model.normalizer not in (None, trial.training.normalizer):
        raise InputError(
            f"{trial.model.name} normalises its input itself: training.normalizer must be "
            f"{model.normalizer!r}, not {trial.training.normalizer!r}."
        )
    if trunk is not None:
        load_into(model, trial.model, trunk)
    if trial.training.output_bias == "prevalence":
        _start_at_prevalence(model, trial.model.name, task, kept)
    for note in notes(store, task, normalizer=trial.training.normalizer):
        progress.note(note)
    trainer = Trainer(
        model,
        methods.compose([r.entry() for r in trial.regularisers]),
        kept,
        samples["val"],
        num_outputs=task.num_outputs,
        selected_by=task.score,
        training=trial.training,
        streams=Streams(trial.seed, task.name),
        folder=out,
        progress=progress,
    )
    return trainer, samples


def _initial_model(trial: Trial, spec: CohortSpec) -> Model:
    ((name, settings),) = trial.model.entry().items()
    num_outputs = spec.task(trial.task).num_outputs

    def create(task: str) -> Model:
        generator = Streams(trial.seed, task).init()
        return models.create(
            name, num_outputs, shape=spec.features, generator=generator, **settings
        )

    model = create(trial.task)
    if trial.together is not None:  # the head is its own, the trunk that of the first task
        model.trunk.load_state_dict(create(trial.together.tasks[0]).trunk.state_dict())
    return model


@torch.no_grad()
def _start_at_prevalence(model: Model, name: str, task: Task, train: Samples) -> None:
    """Set the bias of the last layer so that the model begins near the best constant prediction."""
    bias = getattr(model.head, "bias", None)
    if not isinstance(bias, Tensor):
        raise InputError(
            f"The head of {name} is no linear layer with a bias: training.output_bias must be "
            "'zero', not 'prevalence'."
        )
    bias.copy_(constant_logits(task.target, train.label, len(bias)))


def _supervised(trial: Trial, store: Store, task: Task, train: Samples) -> Samples:
    """The training samples that the supervision level keeps, or as many as the trial says."""
    if trial.supervision == 1 and trial.num_samples is None:
        return train
    keys, subject = store.spec.keys, store.spec.subject
    columns = {*keys, subject, *task.labels}
    table = store.scan(f"tasks/{task.name}.parquet").filter(pl.col("split") == "train")
    samples = table.select(columns).collect()
    if trial.num_samples is not None:
        count, seed = trial.num_samples, trial.seed
        return train.keep(
            select_count(samples, task.labels, task.target, count=count, seed=seed, keys=keys)
        )
    return train.keep(
        select(
            samples,
            task.labels,
            task.target,
            level=trial.supervision,
            seed=trial.seed,
            unit=trial.supervision_unit,
            keys=keys,
            subject=subject,
        )
    )


def _check_labels(task: Task, samples: dict[str, Samples]) -> None:
    """Refuse what cannot be learned or selected by, before hours are spent on it."""
    for split in ("train", "val"):
        label = samples[split].label.cpu().numpy()
        if task.target == "regression":
            continue
        shape = (len(label), task.num_outputs)
        found = score(task.target, label, np.full(shape, 1 / shape[1]), labels=task.labels)
        if split == "train":
            one_class = (
                len(np.unique(label)) == 1
                if task.target == "multiclass"
                else ((label == label[0]).all(0)).all()
            )
            if one_class:
                raise InputError(
                    f"All {len(label)} training samples of {task.name} have the same label: "
                    "nothing can be learned. Use a larger cohort or supervision level."
                )
        elif found[task.score].value is None:
            raise InputError(
                f"The validation score {task.score} of {task.name} is undefined: "
                f"{found[task.score].reason}. Without it no checkpoint can be selected; use a "
                "larger cohort."
            )


class Interruptible(Protocol):
    """What can be asked to end."""

    interrupted: bool


@contextmanager
def stopping(trainer: Interruptible) -> Iterator[None]:
    """Turn the first Ctrl-C into a checkpoint and a clean end; a second one acts as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.interrupted = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def score_best(
    trainer: Trainer, samples: dict[str, Samples], task: Task, out: Path
) -> dict[str, dict[str, Score]]:
    """Predict validation and test with the best model; write predictions and scores."""
    found = _score_best(trainer, samples, task)
    scores = {name: of_split for name, (of_split, _) in found.items()}
    assert trainer.best is not None
    for split, name in EVALUATED.items():
        _write_predictions(out / PREDICTIONS[name], samples[split], found[name][1])
    write_json(
        out / SCORES,
        {
            "trial": read_trial(out)["id"],
            "best_epoch": trainer.best.epoch,
            "selected_by": task.score,
            "num_samples": {name: len(samples[s]) for s, name in EVALUATED.items()},
            "interval": {"coverage": 0.95, "resampled": "subjects", "drawn": NUM_REPLICATES},
            "scores": {
                split: {name: asdict(s) for name, s in of_split.items()}
                for split, of_split in scores.items()
            },
        },
    )
    return scores


def _score_best(
    trainer: Trainer, samples: dict[str, Samples], task: Task
) -> dict[str, tuple[dict[str, Score], np.ndarray]]:
    """Scores and predictions of the best model, by split."""
    trainer.load_best()
    found = {}
    for split, name in EVALUATED.items():
        predictions = trainer.predict(samples[split])
        scores = score(
            task.target,
            samples[split].label.cpu().numpy(),
            predictions,
            samples[split].subject,
            labels=task.labels,
            num_replicates=NUM_REPLICATES,
        )
        found[name] = scores, predictions
    return found


def _write_predictions(path: Path, samples: Samples, predictions: np.ndarray) -> None:
    """Rows of the task's sample table with their predictions; atomically, without any id."""
    columns = {f"p{c}": predictions[:, c] for c in range(predictions.shape[1])}
    frame = pl.DataFrame({"row": samples.row, **columns}).sort("row")
    with atomic.writing(path) as file:
        frame.write_parquet(file)
