"""The base of learners that fit in one go: nothing to continue, and one row of history.

Shapes: N samples, C outputs.
"""

import time
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from mimic_reg.engine.checkpoint import load_state, save_state
from mimic_reg.engine.recorder import Recorder
from mimic_reg.errors import InputError
from mimic_reg.learners.base import Learner, Predictor, Status
from mimic_reg.learners.data import TaskData
from mimic_reg.metrics.scores import score
from mimic_reg.runs import BEST, HISTORY
from mimic_reg.samples import Samples
from mimic_reg.seeds import derive
from mimic_reg.settings import Trial, find_module
from mimic_reg.store import reading
from mimic_reg.store.spec import Target, Task

MOST = 100_000  # samples that are held in memory to choose by, and of the loss in the history
_SURE = 1e-7  # smallest distance of probabilities from 0 and 1 in the loss


class Fitted(Predictor, Protocol):
    """A fitted model that can be stored."""

    def state(self) -> dict[str, Tensor]:
        """Return what restoring it needs."""


class AtOnce(Learner):
    """Fit in one go, by the module with the name of the trial's model.

    Its `build(**options).fit(data, generator)` returns the fitted model, and facts for the history;
    its `restore(trial, spec, state)` returns the fitted model.

    regression: whether it fits real-valued labels, too
    """

    regression: ClassVar[bool] = False

    def __init__(self, trial: Trial, data: TaskData, folder: Path) -> None:
        if not data.spec.is_hourly or (data.task.target == "regression" and not self.regression):
            what = "real-valued labels" if data.spec.is_hourly else "images"
            raise InputError(f"{trial.model.name} needs classes of an hourly cohort, got {what}.")
        self.trial, self.data, self.folder = trial, data, folder
        self.module = find_module("mimic_reg.learners", trial.model.name)

    def fit(self) -> Status:
        """See the base class."""
        started, data = time.perf_counter(), self.data
        seed = derive(self.trial.model.name, data.task.name, self.trial.seed)
        generator = np.random.default_rng(seed)
        settings = self.module.build(**self.trial.model.options)
        model, facts = settings.fit(data, generator)
        save_state(self.folder / BEST, {"model": model.state(), "method": {}})
        fitted = time.perf_counter()
        validation = score(
            data.task.target,
            data.validation.label.cpu().numpy(),
            model.predict(data.validation),
            labels=data.task.labels,
        )
        train = drawn(data.train, MOST, generator)
        recorder = Recorder(self.folder / HISTORY)
        recorder.open()
        recorder.write(
            "epoch",
            epoch=0,
            step=0,
            loss=mean_loss(data.task.target, model.predict(train), train.label),
            validation={name: found.value for name, found in validation.items()},
            best_epoch=0,
            stop_reason=None,
            cost={
                "training_seconds": fitted - started,
                "validation_seconds": time.perf_counter() - fitted,
            },
            **facts,
        )
        recorder.close()
        return "finished"

    def best(self) -> tuple[Predictor, int]:
        """See the base class."""
        path = self.folder / BEST
        with reading(path, f"a model of the kind {self.trial.model.name}"):
            return self.module.restore(self.trial, self.data.spec, load_state(path)), 0


def mean_loss(target: Target, predicted: np.ndarray, label: Tensor) -> float:
    """Return the mean cross-entropy of predictions (N, C), in nats; of a regression the MSE."""
    p, y = torch.from_numpy(predicted).double(), label.cpu()
    if target == "regression":
        return float(torch.nn.functional.mse_loss(p, y.double()))
    p = p.clamp(_SURE, 1 - _SURE)
    if target == "multiclass":
        return float(-p.log()[torch.arange(len(p)), y.long()].mean())
    return float(torch.nn.functional.binary_cross_entropy(p, y.double()))


def drawn(samples: Samples, most: int, generator: np.random.Generator) -> Samples:
    """Return the samples, or `most` of them if there are more."""
    if len(samples) <= most:
        return samples
    return samples.keep(np.sort(generator.permutation(len(samples))[:most]))


def check_classes(name: str, task: Task, label: np.ndarray) -> None:
    """Refuse training samples that lack a class, which the learner could not predict.

    Raises:
        InputError: see above.
    """
    if missing := sorted(set(range(len(task.classes))) - set(label.ravel().tolist())):
        raise InputError(
            f"No training sample of {task.name} has the class {task.classes[missing[0]]!r}, so "
            f"{name} cannot predict it. Use more samples."
        )
