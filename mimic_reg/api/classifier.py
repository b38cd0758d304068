"""A scikit-learn classifier: fitted on arrays, or made from a finished run.

Shapes: N samples, T hours, F features, K classes.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from mimic_reg import learners
from mimic_reg.api.components import MethodLike, ModelLike
from mimic_reg.api.runs import Run, epochs, make_trial
from mimic_reg.clinical.normalizers import is_constant
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.errors import InputError
from mimic_reg.learners.data import TaskData
from mimic_reg.learners.trials import resolve
from mimic_reg.progress import Progress
from mimic_reg.runs import BEST
from mimic_reg.samples import Samples, from_rows
from mimic_reg.samples.base import CPU
from mimic_reg.settings import STOPPING
from mimic_reg.store.spec import Channel, ChannelKind, CohortSpec, Task
from mimic_reg.threads import DEFAULT_THREADS, torch_threads

_TASK = "classification"


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """A network with its methods as a scikit-learn classifier.

    X is (N, F), or (N, T, F) of sequences; in hours beyond a sequence's end all features are NaN
    (`samples.to_numpy(padding=numpy.nan)`). Features are standardised by the training samples. It
    fits on the CPU. With `n_jobs`, classes of your own have to be in a module, not in a notebook.

    Args:
        model: as in `mr.fit`.
        methods: as in `mr.fit`.
        seed: of weights, batches and the validation samples.
        validation_fraction: share of the samples that select the epoch and end the fit.
        training: settings of the training, such as {"max_epochs": 20}.

    Attributes:
        classes_: the K classes.
        n_features_in_: F; for sequences the shape is not checked by scikit-learn.
        trial_: all settings.
        history_: a data frame with a row for each epoch.

    Example:
        >>> classifier = mr.Classifier(model="lstm", methods=[mr.methods.itps(tau=0.1)])
        >>> cross_val_score(classifier, X, y, scoring="roc_auc")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: ModelLike = "lstm",
        methods: MethodLike | Sequence[MethodLike] = (),
        *,
        seed: int = 0,
        validation_fraction: float = 0.2,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.methods = methods
        self.seed = seed
        self.validation_fraction = validation_fraction
        self.training = training

    @classmethod
    def from_run(cls, run: Run) -> Self:
        """Return a fitted classifier that predicts as a run's model.

        Its X are hours as the store has them: `store.samples(task, normalizer="raw")`.

        Raises:
            InputError: the run's task is not binary or multiclass, or its cohort holds images.
        """
        served = run.served
        target = served.task
        if target.target not in ("binary", "multiclass") or not served.spec.is_hourly:
            raise InputError(
                f"{run.task} is a {target.target} task of {served.spec.name}; a classifier is for "
                "binary and multiclass tasks of hours."
            )
        acting = [each for each in run.settings["regularisers"] if STOPPING not in each]
        training = dict(run.settings["training"])
        found = cls(run.settings["model"], acting, seed=run.seed, training=training)
        found.classes_ = np.arange(len(target.classes) or 2)
        found.n_features_in_ = served.spec.features[0]
        found.trial_ = resolve(run.settings)
        found.spec_, found.constants_ = served.spec, served.constants
        found.state_, found.history_ = _state(run.folder), run.history
        return found

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the model.

        Args:
            X: (N, F) or (N, T, F).
            y: (N,) classes, numbers or texts.

        Returns:
            The classifier itself.

        Raises:
            InputError: wrong settings; fewer than two samples of a class.
            ValueError: what scikit-learn refuses of X or y.
        """
        values, y = self._checked(X, y)
        check_classification_targets(y)
        self.classes_, label = np.unique(y, return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            raise InputError(
                f"Classifier needs samples of two classes or more; y has {count} class."
            )
        at = self._split(label)
        lengths = _lengths(values)
        self.spec_ = _spec(values.shape[-1], count)
        self.trial_ = make_trial(
            self.spec_.tasks[0].name,
            self.model,
            self.methods,
            seed=self.seed,
            training={**(self.training or {}), "normalizer": "fitted"},
        )
        self.constants_ = _constants(values[at[0]], lengths[at[0]])
        train, validation = (self._samples(values[i], label[i]) for i in at)
        data = TaskData(self.spec_, self.spec_.tasks[0], train, validation, validation, CPU)
        with tempfile.TemporaryDirectory(prefix="mimic_reg_") as name:
            folder = Path(name)
            learner = learners.create(self.trial_, data, folder, Progress())
            with torch_threads(DEFAULT_THREADS):
                if learner.fit() == "interrupted":
                    raise KeyboardInterrupt
            learner.best()
            self.state_, self.history_ = _state(folder), epochs(folder)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities (N, K), a column for each class in the order of `classes_`."""
        check_is_fitted(self)
        values, _ = self._checked(X)
        predictor = learners.restore(self.trial_, self.spec_, self.state_, CPU)
        with torch_threads(DEFAULT_THREADS):
            found = predictor.predict(self._samples(values)).astype(np.float64)
        if found.shape[1] == 1:
            return np.hstack([1 - found, found])
        return found / found.sum(1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each sample, (N,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def _checked(self, X: Any, y: Any = None) -> tuple[np.ndarray, Any]:
        """Return X as (N, T, F), and y where it is given, as scikit-learn checks them.

        Raises:
            ValueError: X or y is no such array, or has another number of features.
        """
        if getattr(X, "ndim", 2) != 3:
            if y is None:
                X = validate_data(self, X, dtype=np.float64, reset=False)
            else:
                X, y = validate_data(self, X, y, dtype=np.float64)
            return X[:, None, :], y
        X = check_array(X, dtype=np.float64, allow_nd=True, ensure_all_finite="allow-nan")
        if y is not None:
            y = column_or_1d(y, warn=True)
            check_consistent_length(X, y)
            self.n_features_in_ = X.shape[2]
        elif X.shape[2] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[2]} features, but Classifier is expecting {self.n_features_in_} "
                "features as input"
            )
        return X, y

    def _split(self, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of the samples to train on, and of those to validate on."""
        share = self.validation_fraction
        if not (isinstance(share, float) and 0 < share < 1):
            raise InputError(f"validation_fraction is {share!r}; it must lie between 0 and 1.")
        rarest = int(np.bincount(label).min())
        if rarest < 2:
            raise InputError("Classifier needs two samples of each class or more: one to validate.")
        count = max(round(share * len(label)), len(self.classes_))
        train, validation = train_test_split(
            np.arange(len(label)), test_size=count, stratify=label, random_state=self.seed
        )
        return np.sort(train), np.sort(validation)

    def _samples(self, values: np.ndarray, label: np.ndarray | None = None) -> Samples:
        """Return samples of sequences (N, T, F), standardised."""
        lengths = _lengths(values)
        inside = np.arange(values.shape[1]) < lengths[:, None]
        (task,) = self.spec_.tasks
        first = np.cumsum(lengths) - lengths
        found = from_rows(task, values[inside], first, lengths, constants=self.constants_)
        if label is None:
            return found
        column = label.astype(np.int64)
        shaped = column if task.target == "multiclass" else column[:, None]
        return replace(found, label=torch.from_numpy(shaped))


def _lengths(values: np.ndarray) -> np.ndarray:
    """Return the hours (N,) of sequences (N, T, F), which end where all features are NaN.

    Raises:
        InputError: one has no hour, or an empty cell before its end.
    """
    filled = ~np.isnan(values).all(2)
    lengths = np.where(filled.any(1), values.shape[1] - filled[:, ::-1].argmax(1), 0)
    inside = np.arange(values.shape[1]) < lengths[:, None]
    if (lengths == 0).any() or np.isnan(values[inside]).any():
        raise InputError(
            "X has NaN within a sequence, or a sequence without an hour. Only the hours beyond a "
            "sequence's end may be NaN, and then in all features."
        )
    return lengths


def _spec(num_features: int, num_classes: int) -> CohortSpec:
    """Return what arrays hold, as of a cohort."""
    several = num_classes > 2
    task = Task(
        name=_TASK,
        target="multiclass" if several else "binary",
        labels=("y",),
        score="accuracy" if several else "auroc",
        classes=tuple(map(str, range(num_classes))) if several else (),
    )
    kind: ChannelKind = "continuous"
    return CohortSpec(
        name="arrays",
        unit="sample",
        subject="subject",
        time="hour",
        end="end",
        channels=tuple(
            Channel(name=f"x{i}", kind=kind, variable=f"x{i}") for i in range(num_features)
        ),
        tasks=(task,),
        splits="at random, stratified by class",
        normalizers=("fitted",),
    )


def _constants(values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations (F,) over the hours of the training samples."""
    rows = values[np.arange(values.shape[1]) < lengths[:, None]]
    means, stds = rows.mean(0), rows.std(0)
    return means, np.where(is_constant(means, stds), 1.0, stds)


def _state(folder: Path) -> dict[str, Any]:
    """Return what predictions need of a run folder's best model."""
    state = load_state(folder / BEST)
    return {name: state[name] for name in ("model", "method") if name in state}
