"""The benchmark paper's logistic regression: 714 hand-made features, the penalty by validation.

The features are six statistics of what was measured, over seven sub-periods of each of the 17
variables, or of the variables of another cohort. A feature without a measurement gets the mean of
the training samples; all are standardised with means and deviations of the training samples. One
model is fitted for each penalty and strength, and the one with the best validation score is kept;
of equal ones that with the smaller C. `history.jsonl` has the scores of all.

Notes:
- The store has one value an hour; the published features are of every measurement. The other rules
  of the features are the published ones.
- At most 100,000 validation samples, drawn at random, choose.
- A penalty whose solver does not converge is left out, and `history.jsonl` says so.

Paper: Harutyunyan et al., "Multitask learning and benchmarking with clinical time series data",
Scientific Data 6 (2019).

Shapes: N samples, D features, C outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mimic_reg.errors import InputError
from mimic_reg.learners import statistics
from mimic_reg.learners._at_once import MOST, AtOnce, check_classes, drawn
from mimic_reg.learners.data import TaskData
from mimic_reg.learners.logistic_regression import (
    LinearPredictor,
    NotConvergedError,
    Penalty,
    arrays_of,
    check_settings,
    coefficients,
    moments,
)
from mimic_reg.metrics.scores import metric, score
from mimic_reg.samples import Samples
from mimic_reg.settings import Trial
from mimic_reg.store.spec import CohortSpec, Target, Task

_NAME = "benchmark_logistic_regression"


class StatisticsPredictor(LinearPredictor):
    """A fitted logistic regression on the statistics."""

    def __init__(self, target: Target, layout: statistics.Layout, *arrays: np.ndarray) -> None:
        super().__init__(target, *arrays)
        self.layout = layout

    def predict(self, samples: Samples) -> np.ndarray:
        """See the base class."""

        def probabilities(found: np.ndarray) -> Any:
            return self.probabilities(standardised(found, self.mean, self.std))

        return statistics.apply(samples, self.layout, probabilities, len(self.bias))


def standardised(found: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return features (N, D) standardised; one without a measurement is at the mean, 0."""
    return np.nan_to_num((found - mean) / std, nan=0.0)


def filled_moments(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations (D,) after the means have filled empty features."""
    missing = np.isnan(found)
    number = (~missing).sum(0)
    mean = np.where(missing, 0.0, found).sum(0) / np.maximum(number, 1)
    return mean, moments(np.where(missing, mean, found))[1]


def restore(trial: Trial, spec: CohortSpec, state: Mapping[str, Any]) -> StatisticsPredictor:
    """Return the fitted model from its state."""
    layout, arrays = statistics.layout(spec.channels), arrays_of(state)
    if {array.shape[-1] for array in arrays[:3]} != {layout.num_features}:
        raise InputError(f"{_NAME}: the model is not for the {layout.num_features} features.")
    return StatisticsPredictor(spec.task(trial.task).target, layout, *arrays)


@dataclass(frozen=True, kw_only=True)
class Path:
    """The settings of a fit.

    C:         inverse strengths of the penalty to try
    penalties: l2, l1 or both
    max_samples: largest number of training samples; if there are more, so many are drawn
    max_iterations: largest number of the solver's iterations

    Raises:
        InputError: a list is empty, or a number is not above 0.
    """

    C: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    penalties: Sequence[Penalty] = ("l2", "l1")
    max_samples: int = 100_000
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        if not self.C or not self.penalties:
            raise InputError(f"{_NAME}: C and penalties must name one value or more.")
        counts = {"max_samples": self.max_samples, "max_iterations": self.max_iterations}
        check_settings(_NAME, self.C, **counts)

    def fit(
        self, data: TaskData, generator: np.random.Generator
    ) -> tuple[StatisticsPredictor, Mapping[str, Any]]:
        """Return the best model on validation, and the scores of all.

        generator: draws the samples if there are too many, and seeds the solver of l1

        Raises:
            NotConvergedError: no penalty converged.
        """
        task, layout = data.task, statistics.layout(data.spec.channels)
        train = drawn(data.train, self.max_samples, generator)
        x, y = statistics.features(train, layout).astype(np.float64), train.label.cpu().numpy()
        check_classes(_NAME, task, y)
        mean, std = filled_moments(x)
        x = standardised(x, mean, std)
        solver = {"max_iterations": self.max_iterations, "seed": int(generator.integers(2**31))}
        choosing = drawn(data.validation, MOST, generator)
        validation = standardised(statistics.features(choosing, layout), mean, std)
        fits, tried = [], []
        for C in sorted(set(self.C)):
            for penalty in dict.fromkeys(self.penalties):
                options = {"C": C, "penalty": penalty}
                try:
                    found = coefficients(x, y, task, C=C, penalty=penalty, **solver)
                except NotConvergedError as error:
                    tried.append({**options, "score": None, "reason": str(error)})
                    last = error
                    continue
                model = StatisticsPredictor(task.target, layout, mean, std, *found)
                value = _score(task, choosing, model.probabilities(validation).numpy())
                tried.append({**options, "score": value})
                fits.append((value, model, options))
        if not fits:
            raise last
        best = min if metric(task.score).lower_is_better else max
        value, model, options = best(fits, key=lambda fit: fit[0])
        return model, {"chosen": options, "tried": tried}


def _score(task: Task, samples: Samples, predicted: np.ndarray) -> float:
    label = samples.label.cpu().numpy()
    found = score(task.target, label, predicted, labels=task.labels)[task.score]
    if found.value is None:
        raise InputError(
            f"The validation score {task.score} of {task.name} is undefined for {len(label):,} "
            f"samples: {found.reason}. Use a larger cohort."
        )
    return found.value


build, LEARNER = Path, AtOnce
