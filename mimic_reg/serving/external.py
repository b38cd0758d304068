"""External validation: the scores of a trained model on another cohort.

It never changes the run: not its scores, and not which model is champion. The result is kept beside
them, in the run's folder `external`, for reports.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mimic_reg.engine.devices import find_device
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.fitting import NUM_REPLICATES
from mimic_reg.metrics.scores import Score, score
from mimic_reg.runs import EXTERNAL, TRIAL, read_trial
from mimic_reg.samples import Samples
from mimic_reg.serving.model import ServedModel
from mimic_reg.serving.predicting import load_model
from mimic_reg.serving.stores import (
    is_other_store,
    load_samples,
    missing_channels,
    overlap_note,
)
from mimic_reg.store import Store, make_folder, write_json
from mimic_reg.store.spec import Task
from mimic_reg.threads import DEFAULT_THREADS, torch_threads

ALL = "all"  # samples of all splits; the model was trained on none of them


@dataclass(frozen=True)
class External:
    """Scores of a trained model on another cohort.

    name:        "external: COHORT"
    trained_on:  the cohort of the training
    fingerprint: of the other cohort's store
    scores:      "all" and, without folds, "test" → name → score with its interval over subjects
    num_samples, num_subjects: of "all" and "test"
    missing:     channels that the store lacks, treated as not measured
    notes:       sentences on what a reader must know
    """

    name: str
    trained_on: str
    task: str
    fingerprint: str
    scores: dict[str, dict[str, Score]]
    num_samples: dict[str, int]
    num_subjects: dict[str, int]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the content as JSON holds it."""
        return asdict(self)


def validate(
    model: Path,
    store: Path,
    *,
    trained_on: Path | None = None,
    allow_missing: bool = False,
    device: str | None = None,
    threads: int = DEFAULT_THREADS,
) -> External:
    """Score a trained model on the samples of another cohort.

    model:         a run folder, or a folder with an exported model
    trained_on:    of a run, the new place of the store of its training
    allow_missing: treat channels that the store lacks as not measured

    Raises:
        InputError: it is the store of the training; channels are missing, or the task is another.
    """
    opened = Store.open(store)
    if not is_other_store(model, store):
        raise InputError(
            f"{model} was trained on {store}; its scores there are those of the run. External "
            "validation needs the store of another cohort."
        )
    with torch_threads(threads):
        served = load_model(model, trained_on, str(find_device(device)))
        task = opened.spec.task(served.task.name)
        _check_task(served.task, task, opened)
        divided = opened.in_fold(1) if opened.spec.folds else opened
        splits = load_samples(served, divided, allow_missing=allow_missing)
        parts = [part for part in splits.values() if len(part)]
        predicted = [served.learner.predict(part) for part in parts]
    every = _score(task, parts, predicted)
    test = [k for k, part in enumerate(parts) if part is splits["test"] and not opened.spec.folds]
    chosen = {ALL: every}
    if test:
        chosen["test"] = _score(task, [parts[k] for k in test], [predicted[k] for k in test])
    external = External(
        name=f"external: {opened.spec.name}",
        trained_on=served.spec.name,
        task=task.name,
        fingerprint=opened.manifest["fingerprint"],
        scores={name: scores for name, (scores, _, _) in chosen.items()},
        num_samples={name: samples for name, (_, samples, _) in chosen.items()},
        num_subjects={name: subjects for name, (_, _, subjects) in chosen.items()},
        missing=tuple(missing_channels(served.spec, opened.spec)),
        notes=tuple(_notes(served, model, opened, task, trained_on)),
    )
    return _kept(model, external)


def _kept(model: Path, external: External) -> External:
    """Write the result into a run's folder; a note says if that is not possible."""
    if not (model / TRIAL).is_file():
        return external
    content = {"trial": read_trial(model)["id"], **external.as_json()}
    try:
        make_folder(model / EXTERNAL)
        write_json(model / EXTERNAL / f"{external.fingerprint[:16]}.json", content)
    except (OSError, MimicRegError) as error:
        note = f"Not kept for reports, as {model} cannot be written to: {error}"
        return replace(external, notes=(*external.notes, note))
    return external


def _check_task(trained: Task, there: Task, store: Store) -> None:
    """Refuse a task of the same name that asks for something else."""
    for what in ("target", "labels", "classes"):
        ours, theirs = getattr(trained, what), getattr(there, what)
        if ours != theirs:
            raise InputError(
                f"{trained.name} of {store.folder} is another task: its {what} is {theirs}, and "
                f"the model was trained for {ours}. Use a store with the same task."
            )


def _score(
    task: Task, parts: list[Samples], predicted: list[np.ndarray]
) -> tuple[dict[str, Score], int, int]:
    """Return scores, and numbers of samples and subjects."""
    subject = np.concatenate([part.subject for part in parts])
    label = np.concatenate([part.label.cpu().numpy() for part in parts])
    scores = score(
        task.target,
        label,
        np.concatenate(predicted),
        subject,
        labels=task.labels,
        num_replicates=NUM_REPLICATES,
    )
    return scores, len(subject), len(np.unique(subject))


def _notes(
    served: ServedModel, model: Path, store: Store, task: Task, trained_on: Path | None
) -> list[str]:
    """Return what a reader of the scores must know."""
    notes = []
    if missing := missing_channels(served.spec, store.spec):
        notes.append(f"Channels without data, treated as not measured: {', '.join(missing)}.")
    if task.hours != served.task.hours:
        hours = [
            "all hours" if h is None else f"{h:g} hours" for h in (task.hours, served.task.hours)
        ]
        notes.append(f"Its samples see {hours[0]}; those of the training saw {hours[1]}.")
    if overlap := overlap_note(served, model, store, trained_on):
        notes.append(f"{overlap} If they are the same patients, this is no external validation.")
    return notes
