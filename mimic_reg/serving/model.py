"""The two files of a served model, written from a run folder and read back.

`model.safetensors` has what the learner needs to predict. `model.yaml` has everything else: the
cohort's specification with the task, the trial, the normaliser's constants, the recipe from raw
tables to hours, a summary of the training data, and the origin. The same code as in training
(`mimic_reg.samples`) turns features into samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import yaml

from mimic_reg import samples
from mimic_reg.engine.checkpoint import load_state, save_state
from mimic_reg.errors import InputError
from mimic_reg.learners import Predictor, restore
from mimic_reg.learners.trials import resolve
from mimic_reg.runs import BEST, check_finished, read_trial
from mimic_reg.runs.description import open_store
from mimic_reg.serving.raw import Recipe, read_recipe, recipe_of
from mimic_reg.serving.reference import reference_of
from mimic_reg.settings import Trial, load_yaml
from mimic_reg.store import Store, reading
from mimic_reg.store.atomic import write_text
from mimic_reg.store.seals import sealed, unsealed
from mimic_reg.store.spec import CohortSpec, Target, Task

WEIGHTS = "model.safetensors"
SETTINGS = "model.yaml"
FORMAT = 2


def export(run: Path, folder: Path, *, store: Path | None = None) -> None:
    """Write the best model of a run folder as `model.safetensors` and `model.yaml`.

    store: the new place of the cohort store, if it was moved; it has the normaliser

    Raises:
        InputError: the run has no trained model, or was trained on another store.
    """
    described, trial, spec, constants, opened = _read_run(run, store)
    (task,) = spec.tasks
    settings = {
        "format": FORMAT,
        "task": task.name,
        "cohort": spec.model_dump(mode="json"),
        "normalizer": [values.astype(np.float64).tolist() for values in constants],
        "trial": trial.model_dump(mode="json"),
        "raw": recipe_of(opened),
        "reference": reference_of(opened, spec, run),
        "origin": {
            "trial_id": described["id"],
            "data_fingerprint": described["store"]["fingerprint"],
            "code_version": described["versions"].get("code"),
            "mimic_reg": described["versions"]["mimic_reg"],
        },
    }
    state = load_state(run / BEST)
    save_state(folder / WEIGHTS, {name: state[name] for name in ("model", "method")})
    text = yaml.safe_dump(sealed(settings), sort_keys=False, allow_unicode=True, width=100)
    write_text(folder / SETTINGS, text)


def _read_run(
    run: Path, store: Path | None
) -> tuple[dict[str, Any], Trial, CohortSpec, samples.Constants, Store]:
    """Return a run's description, its trial, its cohort with the one task, normaliser, store."""
    described = read_trial(run)
    check_finished(run)
    if not (run / BEST).is_file():
        raise InputError(f"{run} holds no trained model yet. Go on with its training.")
    trial = resolve(described["trial"])
    spec = CohortSpec.read(described["cohort"]).only((trial.task,))
    opened = open_store(run, described, store)
    view = opened.with_indicators(trial.training.indicators)
    constants = samples.read_normalizer(view, spec.task(trial.task), trial.training.normalizer)
    return described, trial, spec, constants, opened


def load_run(run: Path, *, store: Path | None = None, device: str = "cpu") -> "ServedModel":
    """Return the best model of a run folder.

    store: where the cohort store is now, if it was moved; it holds the normaliser

    Raises:
        InputError: as `export`.
    """
    described, trial, spec, constants, opened = _read_run(run, store)
    where = torch.device(device)
    return ServedModel(
        spec,
        constants,
        restore(trial, spec, load_state(run / BEST), where),
        where,
        trial_id=described["id"],
        raw=recipe_of(opened),
        reference=reference_of(opened, spec, run),
    )


@dataclass(frozen=True)
class ServedModel:
    """A model that predicts from raw features.

    spec:      the cohort that it was trained on, with only its task
    constants: of its normaliser
    learner:   predicts from samples
    trial_id:  identity of the trial
    raw:       recipe from raw tables to hours, as JSON; None if there is none
    reference: what training hours and validation predictions were like, as JSON; None: not known
    """

    spec: CohortSpec
    constants: samples.Constants
    learner: Predictor
    device: torch.device
    trial_id: str = ""
    raw: Mapping[str, Any] | None = None
    reference: Mapping[str, Any] | None = None

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Return the model in a folder that `export` wrote.

        Raises:
            InputError: the folder has no such model, or the model is damaged.
        """
        path, where = folder / SETTINGS, torch.device(device)
        settings = unsealed(load_yaml(path), path)
        if not isinstance(settings, dict) or settings.get("format") != FORMAT:
            raise InputError(
                f"{path} was written by another version of mimic-reg: this version reads format "
                f"{FORMAT}. Register or export the model's run again."
            )
        with reading(path, "a model's description"):
            spec, trial = CohortSpec.read(settings["cohort"]), resolve(settings["trial"])
            first, second = (np.array(values, np.float64) for values in settings["normalizer"])
            learner = restore(trial, spec, load_state(folder / WEIGHTS), where)
            trial_id = str(settings["origin"]["trial_id"])
            raw, reference = settings.get("raw"), settings.get("reference")
        return cls(spec, (first, second), learner, where, trial_id, raw, reference)

    @property
    def task(self) -> Task:
        """Return the task that it predicts."""
        (task,) = self.spec.tasks
        return task

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of its outputs, the columns of predictions."""
        return output_names(self.task)

    def columns(
        self, predictions: np.ndarray, spread: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Return predictions (N, C) and their deviations by the names of columns: NAME, NAME_sd."""
        parts = {"": predictions} | ({} if spread is None else {"_sd": spread})
        return {
            f"{name}{end}": part[:, c]
            for end, part in parts.items()
            for c, name in enumerate(self.outputs)
        }

    @property
    def recipe(self) -> Recipe:
        """Return the recipe from raw tables to hours.

        Raises:
            InputError: it has none.
        """
        return read_recipe(self.raw, self.spec)

    def predict_rows(self, values: np.ndarray, first: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Return predictions (N, C) from hours.

        values: (R, F) raw features; the hours of a stay are consecutive rows
        first, length: (N,) the first row and the number of rows of each sample
        """
        return self.learner.predict(
            samples.from_rows(
                self.task, values, first, length, constants=self.constants, device=self.device
            )
        )

    def predict_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C) of images (N, colours, H, W), pixels from 0 to 255.

        Raises:
            InputError: images of another shape, or pixels that are not from 0 to 255.
        """
        if pixels.ndim != 4 or pixels.shape[1:] != self.spec.shape:
            raise InputError(
                f"Images must have the shape {(-1, *self.spec.shape)}, these have {pixels.shape}."
            )
        if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 255):
            raise InputError("Pixels must be numbers from 0 to 255.")
        if not len(pixels):
            return np.empty((0, len(self.outputs)), np.float32)
        return self.learner.predict(
            samples.from_pixels(self.task, pixels, constants=self.constants, device=self.device)
        )


def output_names(task: Task) -> tuple[str, ...]:
    """Return the names of the columns of predictions."""
    names: dict[Target, tuple[str, ...]] = {
        "binary": ("probability",),
        "multilabel": task.labels,
        "multiclass": task.classes,
        "regression": ("prediction",),
    }
    return names[task.target]
