"""A trained trunk in two files, `trunk.safetensors` and `trunk.yaml`, without pickle.

`trunk.yaml` has the model's settings, the tasks and methods of the training, and the validation
score. Fine-tuning starts from such a folder, or from any run folder.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from mimic_reg.engine.best import Best
from mimic_reg.engine.checkpoint import load_state, save_state
from mimic_reg.errors import InputError
from mimic_reg.learners.trials import resolve
from mimic_reg.models.base import Model, require_head
from mimic_reg.runs import BEST, TRIAL, TRUNK, check_finished, read_trial
from mimic_reg.runs import TRUNK_SETTINGS as SETTINGS
from mimic_reg.settings import Component, Trial, load_yaml
from mimic_reg.store import atomic, disk_errors, reading
from mimic_reg.store.seals import sealed, unsealed

FORMAT = 1


@dataclass(frozen=True)
class Trunk:
    """A trained trunk.

    model:   its model, with its settings
    origin:  description of its training
    tasks:   tasks of its training
    weights: its state, by name
    score:   mean of the tasks' validation scores, if several shared it
    """

    model: Component
    origin: str
    tasks: tuple[str, ...]
    weights: Mapping[str, Tensor]
    score: float | None = None

    @property
    def fingerprint(self) -> str:
        """Return a hash of names and weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.weights.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def save_trunk(folder: Path, model: Model, trial: Trial, best: Best) -> None:
    """Write the trunk of a fit."""
    settings, origin = trial.model_dump(mode="json"), _origin(trial.method, trial.tasks)
    write_trunk(folder, model, trial.model, trial.tasks, origin, best, settings)


def write_trunk(
    folder: Path,
    model: Model,
    settings: Component,
    tasks: Sequence[str],
    origin: str,
    best: Best,
    fit: Mapping[str, Any],
) -> None:
    """Write a trunk.

    settings: its model, with its settings
    tasks:    tasks of its training; none after self-supervised training
    origin:   description of its training
    fit:      settings of its training
    """
    save_state(folder / TRUNK, {"trunk": dict(model.trunk.state_dict())})
    content = {
        "format": FORMAT,
        "model": settings.entry(),
        "tasks": list(tasks),
        "origin": origin,
        "epoch": best.epoch,
        "mean_validation_score": best.score,
        "fit": dict(fit),
    }
    text = yaml.safe_dump(sealed(content), sort_keys=False, allow_unicode=True, width=100)
    with disk_errors(folder):
        atomic.write_text(folder / SETTINGS, text)


def load_trunk(place: Path) -> Trunk:
    """Return the trunk in the folder of a fit or of a run (that of its best model).

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if (place / TRUNK).is_file() and (place / SETTINGS).is_file():
        atomic.refuse_links(place)
        check_finished(place)
        content = unsealed(load_yaml(place / SETTINGS), place / SETTINGS)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(
                f"{place / SETTINGS} does not describe a trunk in format {FORMAT}, which this "
                "version of mimic-reg reads."
            )
        with reading(place / SETTINGS, "a trunk's description"):
            model = Component.model_validate(content["model"])
            weights = load_state(place / TRUNK)["trunk"]
            score = float(content["mean_validation_score"])
            return Trunk(model, content["origin"], tuple(content["tasks"]), weights, score)
    if (place / TRIAL).is_file() and (place / BEST).is_file():
        check_finished(place)
        trial = resolve(read_trial(place)["trial"])
        if trial.training.indicators != "stored":
            raise InputError(
                f"{place} was trained with training.indicators={trial.training.indicators}, and "
                "a trunk needs 'stored'. Name another run."
            )
        tasks = trial.together.tasks if trial.together else (trial.task,)
        return Trunk(trial.model, _origin(trial.method, tasks), tasks, _trunk_weights(place / BEST))
    raise InputError(
        f"{place} holds no trained trunk: neither {TRUNK} with {SETTINGS} nor a trained run "
        f"({TRIAL} and {BEST}). Name the folder of a fit or of a run."
    )


def _trunk_weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Any] = load_state(path)["model"]
    start = "trunk."
    return {name.removeprefix(start): w for name, w in state.items() if name.startswith(start)}


def _origin(method: str, tasks: tuple[str, ...]) -> str:
    """Return a description such as "reptile: dropout on decompensation + phenotyping"."""
    return f"{method} on {' + '.join(tasks)}"


def load_into(model: Model, settings: Component, trunk: Trunk) -> None:
    """Load a trained trunk into a model, before methods change it.

    Parameters that a method had added to the trunk (strengths of guided dropout) are left out.

    Raises:
        InputError: the trunk is of another model, or a method computed its weights.
    """
    require_head(model, "A trained trunk")
    if made := [name for name in trunk.weights if name.endswith(".original")]:
        raise InputError(
            f"The trunk ({trunk.origin}) was trained with a method that makes weights of other "
            f"numbers ({made[0]}), so it has no plain weights to start from. Use a trunk that was "
            "trained without this method."
        )
    own = model.trunk.state_dict()
    known = {name: weight for name, weight in trunk.weights.items() if name in own}
    fits = known.keys() == own.keys() and all(own[n].shape == w.shape for n, w in known.items())
    if settings != trunk.model or not fits:
        raise InputError(
            f"The trunk ({trunk.origin}) is that of the model {trunk.model.entry()}, not of "
            f"{settings.entry()}."
        )
    model.trunk.load_state_dict(known)
