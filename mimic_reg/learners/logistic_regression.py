"""Logistic regression on window statistics: the baseline that every network must beat.

Scikit-learn fits one model for each label, or a softmax over classes. The prediction needs a matrix
and a vector, stored without pickle. Of large tasks, a part of the training samples is used.

Shapes: N samples, D features, C outputs.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.learners._at_once import AtOnce, Fitted, check_classes, drawn
from mimic_reg.learners.data import TaskData
from mimic_reg.learners.windows import features
from mimic_reg.models.base import prediction
from mimic_reg.samples import Samples
from mimic_reg.settings import Trial
from mimic_reg.store.spec import CohortSpec, Target, Task

Penalty = Literal["l2", "l1"]

_LEAST = 1e-6  # a feature with a smaller deviation is constant


class NotConvergedError(InputError):
    """The solver needs more iterations."""


class LinearPredictor(Fitted):
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
        return self.probabilities((features(samples) - self.mean) / self.std).numpy()

    def probabilities(self, x: np.ndarray) -> Tensor:
        """Return the probabilities (N, C) of standardised features (N, D)."""
        logits = torch.from_numpy(x @ self.weight.T + self.bias)
        return prediction(self.target, logits).float()

    def state(self) -> dict[str, Tensor]:
        """Return what `restore` needs."""
        arrays = {"mean": self.mean, "std": self.std, "weight": self.weight, "bias": self.bias}
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}


def restore(trial: Trial, spec: CohortSpec, state: Mapping[str, Any]) -> LinearPredictor:
    """Return the fitted model from its state."""
    return LinearPredictor(spec.task(trial.task).target, *arrays_of(state))


def arrays_of(state: Mapping[str, Any]) -> list[np.ndarray]:
    """Return the arrays of a fitted model from its state."""
    return [state["model"][name].numpy() for name in ("mean", "std", "weight", "bias")]


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations (D,) of features (N, D); 1 for a constant feature."""
    std = x.std(0)
    std[std < _LEAST] = 1
    return x.mean(0), std


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """The settings of a fit.

    C:           inverse strength of the penalty
    penalty:     l2 or l1
    max_samples: largest number of training samples; if there are more, so many are drawn
    max_iterations: largest number of the solver's iterations

    Raises:
        InputError: a number is not above 0.
    """

    C: float = 1.0
    penalty: Penalty = "l2"
    max_samples: int = 100_000
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        counts = {"max_samples": self.max_samples, "max_iterations": self.max_iterations}
        check_settings("logistic_regression", [self.C], **counts)

    def fit(
        self, data: TaskData, generator: np.random.Generator
    ) -> tuple[LinearPredictor, dict[str, Any]]:
        """Return the model of the training samples; there are no facts for the history.

        generator: draws the samples if there are too many, and seeds the solver of l1
        """
        task, train = data.task, drawn(data.train, self.max_samples, generator)
        x, y = features(train).astype(np.float64), train.label.cpu().numpy()
        mean, std = moments(x)
        check_classes("logistic_regression", task, y)
        found = coefficients(
            (x - mean) / std,
            y,
            task,
            C=self.C,
            penalty=self.penalty,
            max_iterations=self.max_iterations,
            seed=int(generator.integers(2**31)),
        )
        return LinearPredictor(task.target, mean, std, *found), {}


def check_settings(name: str, strengths: Sequence[float], **counts: int) -> None:
    """Refuse settings of a logistic regression that are not above 0.

    Raises:
        InputError: see above.
    """
    for setting, number in (*(("C", C) for C in strengths), *counts.items()):
        if not number > 0:
            raise InputError(f"{name}: {setting} must be above 0, got {number}.")


def coefficients(
    x: np.ndarray,
    y: np.ndarray,
    task: Task,
    *,
    C: float,
    penalty: Penalty,
    max_iterations: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (C, D) and biases (C,) of all outputs.

    x: standardised features (N, D); y: labels (N, C), or (N,) of classes

    Raises:
        NotConvergedError: `max_iterations` are too few.
    """

    def fitted(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (c, D) and biases (c,) of one label, or of all classes."""
        present = np.unique(column)
        if len(present) == 1:  # nothing to learn: its share, a little away from 0 and 1
            share = (column.sum() + 0.5) / (len(column) + 1)
            return np.zeros((1, x.shape[1])), np.log([share / (1 - share)])
        sparse = "liblinear" if len(present) == 2 else "saga"
        model = LogisticRegression(
            C=C,
            l1_ratio=float(penalty == "l1"),
            solver=sparse if penalty == "l1" else "lbfgs",
            max_iter=max_iterations,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model.fit(x, column)
            except ConvergenceWarning as warning:
                raise NotConvergedError(
                    f"logistic_regression did not converge in {max_iterations:,} iterations. "
                    "Set a larger max_iterations, or a smaller C."
                ) from warning
        if len(task.classes) == 2:  # scikit-learn has one row for both: half of it for each
            weight, bias = model.coef_ / 2, model.intercept_ / 2
            return np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
        return model.coef_, model.intercept_

    columns = list(y.T) if task.target != "multiclass" else [y]
    weight, bias = (np.concatenate(p) for p in zip(*map(fitted, columns), strict=True))
    return weight, bias


build, LEARNER = Fitting, AtOnce
