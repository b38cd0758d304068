"""Logistic regression on window statistics: the baseline that every network must beat.

Scikit-learn fits one model for each label, or a softmax over classes. The prediction needs a matrix
and a vector, stored without pickle. Of large tasks, a part of the training samples is used.

Shapes: N samples, D features, C outputs.
"""

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mimic_reg.engine.checkpoint import load_state, save_state
from mimic_reg.engine.recorder import Recorder
from mimic_reg.errors import InputError
from mimic_reg.learners.base import Learner, Predictor, Status
from mimic_reg.learners.data import TaskData
from mimic_reg.learners.windows import features
from mimic_reg.metrics.scores import score
from mimic_reg.models.base import prediction
from mimic_reg.runs import BEST, HISTORY
from mimic_reg.samples import Samples
from mimic_reg.seeds import derive
from mimic_reg.settings import Trial
from mimic_reg.store import reading
from mimic_reg.store.spec import CohortSpec, Target, Task

_LEAST = 1e-6  # a feature with a smaller deviation is constant
_SURE = 1e-7  # smallest distance of probabilities from 0 and 1 in the loss


class LinearPredictor(Predictor):
    """A fitted logistic regression.

    mean, std: (D,) of the training features; std is 1 for a constant feature
    weight, bias: (C, D), (C,)
    """

    def __init__(
        self,
        target: Target,
        mean: np.ndarray,
        std: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray,
    ) -> None:
        self.target, self.mean, self.std = target, mean, std
        self.weight, self.bias = weight, bias

    def predict(self, samples: Samples) -> np.ndarray:
        """See the base class."""
        x = (features(samples) - self.mean) / self.std
        logits = torch.from_numpy(x @ self.weight.T + self.bias)
        return prediction(self.target, logits).float().numpy()

    def loss(self, samples: Samples) -> float:
        """Return the mean cross-entropy of samples, in nats."""
        p = torch.from_numpy(self.predict(samples)).double().clamp(_SURE, 1 - _SURE)
        y = samples.label.cpu()
        if self.target == "multiclass":
            return float(-p.log()[torch.arange(len(p)), y.long()].mean())
        return float(torch.nn.functional.binary_cross_entropy(p, y.double()))

    def state(self) -> dict[str, Tensor]:
        """Return what `restore` needs."""
        arrays = {"mean": self.mean, "std": self.std, "weight": self.weight, "bias": self.bias}
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}


def restore(trial: Trial, spec: CohortSpec, state: Mapping[str, Any]) -> LinearPredictor:
    """Return the fitted model from its state."""
    names = ("mean", "std", "weight", "bias")
    arrays = (state["model"][name].numpy() for name in names)
    return LinearPredictor(spec.task(trial.task).target, *arrays)


class Fitting:
    """The settings of a fit.

    C:           inverse strength of the penalty
    penalty:     l2 or l1
    max_samples: largest number of training samples; if there are more, so many are drawn
    max_iterations: largest number of the solver's iterations
    """

    def __init__(self, C: float, penalty: str, max_samples: int, max_iterations: int) -> None:
        if penalty not in ("l1", "l2"):
            raise InputError(f"logistic_regression: penalty must be 'l1' or 'l2', got {penalty!r}.")
        if min(C, max_samples, max_iterations) <= 0:
            raise InputError(
                "logistic_regression: C, max_samples and max_iterations must be above 0, got "
                f"{C}, {max_samples} and {max_iterations}."
            )
        self.C, self.penalty = C, penalty
        self.max_samples, self.max_iterations = max_samples, max_iterations

    def fit(self, task: Task, train: Samples, generator: np.random.Generator) -> LinearPredictor:
        """Fit the training samples.

        generator: draws the samples if there are too many, and seeds the solver of l1
        """
        if len(train) > self.max_samples:
            train = train.keep(np.sort(generator.permutation(len(train))[: self.max_samples]))
        x, y = features(train).astype(np.float64), train.label.cpu().numpy()
        mean, std = x.mean(0), x.std(0)
        std[std < _LEAST] = 1
        x = (x - mean) / std
        seed = int(generator.integers(2**31))
        columns = list(y.T) if task.target != "multiclass" else [y]
        if missing := sorted(set(range(len(task.classes))) - set(y.ravel().tolist())):
            raise InputError(
                f"No training sample of {task.name} has the class {task.classes[missing[0]]!r}, so "
                "logistic_regression cannot predict it. Use more samples."
            )
        fitted = [self._fit(x, column, len(task.classes), seed) for column in columns]
        weight, bias = (np.concatenate(part) for part in zip(*fitted, strict=True))
        return LinearPredictor(task.target, mean, std, weight, bias)

    def _fit(
        self, x: np.ndarray, y: np.ndarray, num_classes: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (c, D) and biases (c,) of one label, or of all classes."""
        present = np.unique(y)
        if len(present) == 1:  # nothing to learn: its share, a little away from 0 and 1
            share = (y.sum() + 0.5) / (len(y) + 1)
            return np.zeros((1, x.shape[1])), np.log([share / (1 - share)])
        sparse = "liblinear" if len(present) == 2 else "saga"
        model = LogisticRegression(
            C=self.C,
            l1_ratio=float(self.penalty == "l1"),
            solver=sparse if self.penalty == "l1" else "lbfgs",
            max_iter=self.max_iterations,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model.fit(x, y)
            except ConvergenceWarning as warning:
                raise InputError(
                    f"logistic_regression did not converge in {self.max_iterations:,} iterations. "
                    "Set a larger max_iterations, or a smaller C."
                ) from warning
        if num_classes == 2:  # scikit-learn has one row for both: half of it for each
            weight, bias = model.coef_ / 2, model.intercept_ / 2
            return np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
        return model.coef_, model.intercept_


def build(
    *, C: float = 1.0, penalty: str = "l2", max_samples: int = 100_000, max_iterations: int = 1000
) -> Fitting:
    """Return the settings of a fit.

    Raises:
        InputError: the penalty is unknown, or a number is not above 0.
    """
    return Fitting(C, penalty, max_samples, max_iterations)


class LinearLearner(Learner):
    """Fit in one go: there is nothing to continue, and one row of history."""

    def __init__(self, trial: Trial, data: TaskData, folder: Path) -> None:
        if not data.spec.is_hourly or data.task.target == "regression":
            what = "real-valued labels" if data.spec.is_hourly else "images"
            raise InputError(f"logistic_regression needs classes of an hourly cohort, got {what}.")
        self.trial, self.data, self.folder = trial, data, folder
        self.settings = build(**trial.model.options)

    def fit(self) -> Status:
        """See the base class."""
        started, data = time.perf_counter(), self.data
        seed = derive("logistic_regression", data.task.name, self.trial.seed)
        model = self.settings.fit(data.task, data.train, np.random.default_rng(seed))
        save_state(self.folder / BEST, {"model": model.state(), "method": {}})
        fitted = time.perf_counter()
        validation = score(
            data.task.target,
            data.validation.label.cpu().numpy(),
            model.predict(data.validation),
            labels=data.task.labels,
        )
        recorder = Recorder(self.folder / HISTORY)
        recorder.open()
        recorder.write(
            "epoch",
            epoch=0,
            step=0,
            loss=model.loss(data.train),
            validation={name: found.value for name, found in validation.items()},
            best_epoch=0,
            stop_reason=None,
            cost={
                "training_seconds": fitted - started,
                "validation_seconds": time.perf_counter() - fitted,
            },
        )
        recorder.close()
        return "finished"

    def best(self) -> tuple[Predictor, int]:
        """See the base class."""
        path = self.folder / BEST
        with reading(path, "a logistic regression"):
            return restore(self.trial, self.data.spec, load_state(path)), 0


LEARNER = LinearLearner
