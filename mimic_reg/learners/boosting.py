"""Gradient boosting on the benchmark's hand-made features, with LightGBM or scikit-learn.

The features are those of `benchmark_logistic_regression`; empty ones stay empty. LightGBM
grows the trees if it is installed (`pip install "mimic-reg[boosting]"`), else scikit-learn's
histogram gradient boosting. The setting `library` is filled in with the one that is there, so it is
a part of the trial; `history.jsonl` has its version. A multilabel task gets one model for each
label, a multiclass one a softmax. Trees are added until the validation loss has not fallen for
`patience` rounds; those of the best round are kept.

Notes:
- The trees are stored as arrays, not with pickle, and predict without the library, as it does.
- At most 100,000 validation samples, drawn at random, end the fit.
- Without subsampling of samples. `feature_share` draws features for each tree with LightGBM, and
  for each split with scikit-learn.

Paper: Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS 2017.

Shapes: N samples, D features, C outputs.
"""

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import sklearn
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits
from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.learners import _forest, statistics
from mimic_reg.learners._at_once import MOST, AtOnce, Fitted, check_classes, drawn, mean_loss
from mimic_reg.learners.data import TaskData
from mimic_reg.models.base import constant_logits, prediction
from mimic_reg.samples import Samples
from mimic_reg.settings import Trial
from mimic_reg.store.spec import CohortSpec, Target

Library = Literal["lightgbm", "scikit_learn"]
INSTALLED: Library = "lightgbm" if find_spec("lightgbm") else "scikit_learn"

_COUNTS = ("max_rounds", "patience", "min_leaf_samples", "max_samples")
_LEAST = {"leaves": 2, "l2": 0} | dict.fromkeys(_COUNTS, 1)
_LARGEST = 2**31 - 1  # of LightGBM's numbers


class ForestPredictor(Fitted):
    """Fitted trees."""

    def __init__(self, target: Target, layout: statistics.Layout, forest: _forest.Forest) -> None:
        self.target, self.layout, self.forest = target, layout, forest

    def predict(self, samples: Samples) -> np.ndarray:
        """See the base class."""

        def predicted(found: np.ndarray) -> Tensor:
            logits = torch.from_numpy(self.forest.raw(found.astype(np.float64)))
            return prediction(self.target, logits).float()

        return statistics.apply(samples, self.layout, predicted, len(self.forest.base))

    def state(self) -> dict[str, Tensor]:
        """Return what `restore` needs."""
        return self.forest.state()


def restore(trial: Trial, spec: CohortSpec, state: Mapping[str, Any]) -> ForestPredictor:
    """Return the fitted model from its state."""
    task, layout = spec.task(trial.task), statistics.layout(spec.channels)
    forest = _forest.from_state(state["model"], layout.num_features, task.num_outputs)
    return ForestPredictor(task.target, layout, forest)


@dataclass(frozen=True, kw_only=True)
class Boosting:
    """The settings of a fit.

    learning_rate: factor of each tree
    max_rounds:    largest number of rounds
    patience:      rounds without a smaller validation loss that end the fit
    leaves:        largest number of leaves of a tree
    min_leaf_samples: smallest number of training samples in a leaf
    l2:            strength of the penalty on leaves
    feature_share: share of the features to choose from
    max_samples:   largest number of training samples; if there are more, so many are drawn
    library:       lightgbm or scikit_learn; by default the one that is installed

    Raises:
        InputError: a number is out of its range.
    """

    learning_rate: float = 0.05
    max_rounds: int = 1000
    patience: int = 50
    leaves: int = 31
    min_leaf_samples: int = 20
    l2: float = 0.0
    feature_share: float = 1.0
    max_samples: int = 100_000
    library: Library = INSTALLED

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name in _LEAST and not _LEAST[name] <= value <= _LARGEST:
                allowed = f"at least {_LEAST[name]} and at most {_LARGEST:,}"
                raise InputError(f"boosting: {name} must be {allowed}, got {value:,}.")
            if name in ("learning_rate", "feature_share") and not 0 < value <= 1:
                raise InputError(f"boosting: {name} must be in (0, 1], got {value}.")

    def fit(
        self, data: TaskData, generator: np.random.Generator
    ) -> tuple[ForestPredictor, Mapping[str, Any]]:
        """Return the fitted trees, and the library and rounds of each model.

        generator: draws the samples if there are too many, and seeds the library

        Raises:
            InputError: LightGBM is not installed, or training samples lack a class.
        """
        grow, version = self._library()
        task, layout = data.task, statistics.layout(data.spec.channels)
        train = drawn(data.train, self.max_samples, generator)
        parts = [
            (statistics.features(samples, layout), samples.label.cpu())
            for samples in (train, drawn(data.validation, MOST, generator))
        ]
        check_classes("boosting", task, parts[0][1].numpy())
        seed = int(generator.integers(2**31))
        if task.target == "multiclass":
            forests = [grow(self, "multiclass", len(task.classes), *parts, seed)]
        else:
            target: Target = "regression" if task.target == "regression" else "binary"
            columns = [[(x, y[:, c]) for x, y in parts] for c in range(task.num_outputs)]
            forests = [grow(self, target, 1, *column, seed) for column in columns]
        forest = _forest.together(forests)
        rounds = [len(f.root) // len(f.base) for f in forests]
        return ForestPredictor(task.target, layout, forest), {"library": version, "rounds": rounds}

    def _library(self) -> tuple[Any, str]:
        """Return the function that grows trees, and the library with its version."""
        if self.library == "scikit_learn":
            return _with_scikit_learn, f"scikit-learn {sklearn.__version__}"
        try:
            lightgbm = importlib.import_module("lightgbm")
        except (ImportError, OSError) as error:  # OSError: without OpenMP's library
            raise InputError(
                f"boosting: library is 'lightgbm', which cannot be imported: {error}. Install it "
                'with `pip install "mimic-reg[boosting]"`, or set library: scikit_learn.'
            ) from error
        return _with_lightgbm, f"lightgbm {lightgbm.__version__}"


_Part = tuple[np.ndarray, Tensor]  # features (n, D) and labels (n,)


def _constant(target: Target, label: Tensor) -> _forest.Forest | None:
    """Return the forest without trees of a label that never varies; None of another label."""
    if target != "binary" or label.min() != label.max():
        return None
    return _forest.grown(constant_logits("binary", label[:, None], 1).tolist(), [])


def _with_lightgbm(
    settings: Boosting, target: Target, num_outputs: int, train: _Part, validation: _Part, seed: int
) -> _forest.Forest:
    import lightgbm

    if (constant := _constant(target, train[1])) is not None:
        return constant
    options = {
        "objective": target,
        "num_class": num_outputs,
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": settings.min_leaf_samples,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.feature_share,
        "feature_pre_filter": False,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": torch.get_num_threads(),
        "verbosity": -1,
    }
    first = lightgbm.Dataset(train[0], train[1].numpy(), params=options)
    model = lightgbm.train(
        options,
        first,
        settings.max_rounds,
        valid_sets=[lightgbm.Dataset(validation[0], validation[1].numpy(), reference=first)],
        callbacks=[lightgbm.early_stopping(settings.patience, verbose=False)],
    )
    rounds = model.best_iteration or model.current_iteration()
    return _forest.of_lightgbm(model.dump_model(), num_outputs, rounds)


def _with_scikit_learn(
    settings: Boosting, target: Target, num_outputs: int, train: _Part, validation: _Part, seed: int
) -> _forest.Forest:
    if (constant := _constant(target, train[1])) is not None:
        return constant
    regression, classes = HistGradientBoostingRegressor, HistGradientBoostingClassifier
    model = (regression if target == "regression" else classes)(
        learning_rate=settings.learning_rate,
        max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.min_leaf_samples,
        l2_regularization=settings.l2,
        max_features=settings.feature_share,
        early_stopping=False,
        warm_start=True,
        random_state=seed,
    )
    # scikit-learn has no bins for a feature without any value; a constant one is never split
    x = np.where(np.isnan(train[0]).all(0), 0.0, train[0])
    losses: list[float] = []
    with threadpool_limits(torch.get_num_threads(), user_api="openmp"):
        while len(losses) < settings.max_rounds and best_round(losses, settings.patience) is None:
            done = len(losses)
            model.set_params(max_iter=min(done + settings.patience, settings.max_rounds))
            model.fit(x, train[1].numpy())
            losses += _losses(model, target, validation, done)
    rounds = best_round(losses, settings.patience) or int(np.argmin(losses)) + 1
    return _forest.of_scikit_learn(model, rounds)


def _losses(model: Any, target: Target, validation: _Part, done: int) -> list[float]:
    """Return the validation losses after each round beyond those that are done."""
    x, y = validation
    of_regression = target == "regression"
    staged = model.staged_predict(x) if of_regression else model.staged_predict_proba(x)
    losses = []
    for number, predicted in enumerate(staged):
        if number >= done:
            p = predicted if target == "multiclass" else predicted.reshape(len(x), -1)[:, -1:]
            losses.append(mean_loss(target, p, y if target == "multiclass" else y[:, None]))
    return losses


def best_round(losses: list[float], patience: int) -> int | None:
    """Return the number of the best round, from 1, once `patience` rounds were not better.

    None: that has not happened yet.
    """
    best = 0
    for number, loss in enumerate(losses):
        if loss < losses[best]:
            best = number
        if number - best >= patience:
            return best + 1
    return None


class BoostingLearner(AtOnce):
    """See the module."""

    regression = True


build, LEARNER = Boosting, BoostingLearner
