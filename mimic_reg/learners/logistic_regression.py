"""Logistic regression on window statistics: the baseline that every network must beat.

One model a label, or a softmax over classes; scikit-learn fits it, and what predicts is a matrix
and a vector, kept without pickle. Of large tasks a part of the training samples is used.

Shapes: N samples, D features, C outputs.
"""

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.learners.base import Predictor
from mimic_reg.learners.windows import features
from mimic_reg.samples import Samples
from mimic_reg.store.spec import CohortSpec, Target, Task

_LEAST = 1e-6  # deviation below which a feature is constant


class LinearPredictor(Predictor):
    """A fitted logistic regression.

    mean, std: (D,) of the training features; std is 1 where a feature is constant
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
        probabilities = logits.softmax(1) if self.target == "multiclass" else logits.sigmoid()
        return probabilities.float().numpy()

    def state(self) -> dict[str, Tensor]:
        """Return what `restore` needs."""
        arrays = {"mean": self.mean, "std": self.std, "weight": self.weight, "bias": self.bias}
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}


def restore(task: Task, state: Mapping[str, Tensor]) -> LinearPredictor:
    """Return the fitted model from its state."""
    names = ("mean", "std", "weight", "bias")
    return LinearPredictor(task.target, *(state[name].numpy() for name in names))


class Fitting:
    """The settings of a fit.

    C:           inverse strength of the penalty
    penalty:     l2 or l1
    max_samples: training samples at the most; of more, so many are drawn
    max_iterations: of the solver
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

        generator: draws the samples where there are too many, and for the solver of l1
        """
        if len(train) > self.max_samples:
            train = train.keep(np.sort(generator.permutation(len(train))[: self.max_samples]))
        x, y = features(train).astype(np.float64), train.label.cpu().numpy()
        mean, std = x.mean(0), x.std(0)
        std[std < _LEAST] = 1
        x = (x - mean) / std
        seed = int(generator.integers(2**31))
        columns = [y] if task.target == "multiclass" else list(y.T)
        fitted = [self._fit(x, column, task.num_outputs, seed) for column in columns]
        weight, bias = (np.concatenate(part) for part in zip(*fitted, strict=True))
        return LinearPredictor(task.target, mean, std, weight, bias)

    def _fit(
        self, x: np.ndarray, y: np.ndarray, num_outputs: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (c, D) and biases (c,) of one label, or of all classes."""
        present = np.unique(y)
        if len(present) == 1:  # nothing to learn: its share, a little away from 0 and 1
            share = (y.sum() + 0.5) / (len(y) + 1)
            return np.zeros((1, x.shape[1])), np.log([share / (1 - share)])
        model = LogisticRegression(
            C=self.C,
            l1_ratio=float(self.penalty == "l1"),
            solver="saga" if self.penalty == "l1" else "lbfgs",
            max_iter=self.max_iterations,
            random_state=seed,
        ).fit(x, y)
        if len(present) == 2 and num_outputs > 2:
            raise InputError(
                "logistic_regression: the training samples have only the classes "
                f"{present.tolist()}."
            )
        return model.coef_, model.intercept_


def build(
    *, C: float = 1.0, penalty: str = "l2", max_samples: int = 100_000, max_iterations: int = 1000
) -> Fitting:
    """Return the settings of a fit.

    Raises:
        InputError: an unknown penalty, a number that is not above 0.
    """
    return Fitting(C, penalty, max_samples, max_iterations)


def check(spec: CohortSpec, task: Task) -> None:
    """Refuse data that this learner cannot fit.

    Raises:
        InputError: images, or a real-valued label.
    """
    if not spec.is_hourly or task.target == "regression":
        what = "images" if not spec.is_hourly else "real-valued labels"
        raise InputError(f"logistic_regression fits labels of hourly cohorts, not {what}.")
