"""Train a model from Python, and read a run: scores, history, predictions.

Shapes: N samples, C outputs.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mimic_reg import fitting
from mimic_reg.api.components import MethodLike, ModelLike, as_component, plain
from mimic_reg.api.samples import SampleSet, Split, squeezed
from mimic_reg.api.stores import PathLike, Store, as_path, as_store
from mimic_reg.console import err
from mimic_reg.console import progress as shown
from mimic_reg.errors import InputError, InterruptionError
from mimic_reg.experiments.planning import Planned
from mimic_reg.learners.trials import check_model, resolve
from mimic_reg.progress import Progress
from mimic_reg.runs import HISTORY, read_history, record
from mimic_reg.samples import load
from mimic_reg.serving import External, ServedModel, load_run, load_samples, output_names, validate
from mimic_reg.settings import Component, Training, Trial, acting, files, suggest

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

RUNS = Path("runs")  # where `fit` writes unless it is told
_SPLITS = {"train": "train", "validation": "val", "test": "test"}


class Run:
    """A finished run: a trained model with its scores, in its folder.

    Attributes:
        folder: the run folder; command-line tools read it as well.
        id: the trial's identity: its settings, its data, and the source of classes of your own.
        task, model, method: their names.
        seed: the trial's seed.
        fold: the fold that it was tested on; None for a cohort without folds.
        settings: every setting, with defaults written out.
        scores: split ("validation", "test") → name → `Score`. Its `value` is None where the score
            is undefined, and `reason` says why; `low` and `high` are the ends of the 95 % bootstrap
            interval over subjects.
        best_epoch: the epoch whose model was kept, counted from 1.
    """

    def __init__(self, folder: PathLike, *, store: PathLike | Store | None = None) -> None:
        self.folder = as_path(folder, "run")
        found = record.read_run(self.folder)
        if not found.finished:
            raise InputError(
                f"{folder} holds a run that is not finished. To go on with it, call fit with the "
                "same arguments and out=…, or `mimic-reg train` with the same command."
            )
        self._store = None if store is None else as_store(store)
        self._target = found.target
        self.id, self.settings, self.scores = found.id, dict(found.settings), found.scores
        self.task, self.seed = found.task, int(found.settings["seed"])
        self.fold: int | None = found.settings.get("fold")
        self.model: str = next(iter(found.settings["model"]))
        self.method = " + ".join(acting(found.methods))
        self.best_epoch = cast(int, found.best_epoch)
        self._cohort_store, self._fingerprint = found.store, found.fingerprint

    def __repr__(self) -> str:
        what = f"{self.task}, {self.model}, {self.method}, seed {self.seed}"
        what += f", fold {self.fold}" if self.fold else ""
        return f"<Run {what}, in {str(self.folder)!r}>"

    @property
    def store(self) -> Store:
        """The store that it was trained on.

        Raises:
            InputError: it is no longer there: `open_run(folder, store=…)` says where it is now.
        """
        return (self._store or as_store(self._cohort_store)).in_fold(self.fold)

    @property
    def history(self) -> "pd.DataFrame":
        """A row for each epoch: losses, validation scores (`validation_auroc`), recorded values."""
        return epochs(self.folder)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the columns of its predictions."""
        return output_names(self._target)

    @cached_property
    def served(self) -> ServedModel:
        """The trained model, which predicts from raw features."""
        return load_run(self.folder, store=self._store.folder if self._store else None)

    @property
    def network(self) -> "nn.Module":
        """The trained network, in evaluation mode, on the CPU.

        Raises:
            InputError: the model is no network.
        """
        return fitting.trained(
            self.folder, store=self._store.folder if self._store else None, device="cpu"
        )[0].eval()

    def predict(
        self,
        data: "SampleSet | Store | PathLike | None" = None,
        split: Split = "test",
        *,
        allow_missing: bool = False,
    ) -> np.ndarray:
        """Return predictions, in the order of the samples.

        Args:
            data: the samples, or a store of the same channels and task; None: the store that it
                was trained on. Features are normalised as in training, whatever the samples say.
            split: of a store, the split to predict.
            allow_missing: treat channels that the data lack as not measured.

        Returns:
            Probabilities: (N,) of a binary task, (N, C) of several labels or classes; of a
            regression the values (N,).

        Raises:
            InputError: other channels, another task, an unknown split, samples of another fold.
        """
        if isinstance(data, SampleSet):
            store, split = as_store(data.store), data.split
        else:
            store = self.store if data is None else as_store(data)
        if split not in _SPLITS:
            raise InputError(f"There is no split {split!r}. {suggest(str(split), _SPLITS)}")
        served = self.served
        if store.manifest["fingerprint"] == self._fingerprint:  # shared with fits of this process
            if store.fold not in (None, self.fold):
                raise InputError(
                    f"The samples are those of fold {store.fold}, but the run was trained to be "
                    f"tested on fold {self.fold}: it has seen some of them in training."
                )
            training = Training.model_validate(self.settings["training"])
            store = store.in_fold(self.fold).with_indicators(training.indicators)
            samples = load(store, store.spec.task(self.task), normalizer=training.normalizer)
        else:
            samples = load_samples(served, store, allow_missing=allow_missing)
        return squeezed(served.learner.predict(samples[_SPLITS[split]]))

    def evaluate(
        self, store: "Store | PathLike", *, allow_missing: bool = False, device: str | None = None
    ) -> External:
        """Score the model on another cohort: external validation. The run stays as it is.

        Args:
            store: the store of another cohort, with the same channels and task.
            allow_missing: treat channels that the store lacks as not measured.
            device: "cpu", "cuda", "cuda:1"; None: the GPU if there is one.

        Returns:
            `External`: its `scores` are "all" and "test" → name → `Score`, with intervals.

        Raises:
            InputError: missing channels, another task, or the store that it was trained on.
        """
        own = self._store.folder if self._store else None
        return validate(
            self.folder,
            as_store(store).folder,
            trained_on=own,
            allow_missing=allow_missing,
            device=device,
        )


def epochs(folder: Path) -> "pd.DataFrame":
    """Return the history of a run folder, a row for each epoch."""
    import pandas as pd

    rows = record.counted_from_1(read_history(folder / HISTORY))
    return pd.DataFrame([_flat(row) for row in rows if row["event"] == "epoch"])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an epoch's row without nested values."""
    flat = {k: v for k, v in row.items() if not isinstance(v, dict) and k != "event"}
    for name, prefix in (("validation", "validation_"), ("recorded", ""), ("cost", "")):
        flat |= {f"{prefix}{key}": value for key, value in row.get(name, {}).items()}
    return flat


def open_run(folder: PathLike, *, store: PathLike | Store | None = None) -> Run:
    """Open a finished run.

    Args:
        folder: a run folder, of `fit` or `mimic-reg train`, or of a sweep.
        store: where the cohort store is now, if it was moved.

    Returns:
        The run; its files are checked against their hashes.

    Raises:
        InputError: the folder holds no finished run, or a damaged one.
    """
    return Run(folder, store=store)


def fit(
    store: Store | PathLike,
    task: str,
    model: ModelLike = "lstm",
    methods: MethodLike | Sequence[MethodLike] = (),
    *,
    seed: int = 0,
    fold: int | None = None,
    supervision: float = 1.0,
    num_samples: int | None = None,
    out: PathLike | None = None,
    device: str | None = None,
    threads: int | None = None,
    verbose: bool = False,
    **training: Any,
) -> Run:
    """Train a model, keep the best epoch on validation, score it on validation and test.

    Runs of one seed share initial weights, batches and training samples, whatever their methods. A
    finished run is not trained again, and one that was cut off goes on where it was.

    Args:
        store: an open store, or its path.
        task: a task of the store; or a YAML file.
        model: a name ("lstm"), settings (`mr.models.lstm(units=64)`), a class of your own
            (`MyModule`, or `mr.component(MyModule, hidden=64)`), or a YAML file.
        methods: what acts on the fit, in this order: settings (`mr.methods.itps(tau=0.1)`), classes
            of your own, or names of files in `configs/methods`, which have the paper's values for
            the model ("itps", "resnet50_cifar/itps"). Early stopping comes from the task.
        seed: of initial weights, batches and samples.
        fold: of a store with folds, the one to test on; None: that of `store.in_fold(…)`.
        supervision: share of the training samples, above 0 and at most 1.
        num_samples: their number, instead of a share.
        out: the run folder; None: `runs/TASK-MODEL-METHODS-…` below the working directory, named
            after the settings, so that a changed setting never meets another run.
        device: "cpu", "cuda", "cuda:1"; None: the GPU if there is one.
        threads: of torch; another number gives other last digits.
        verbose: print progress and a line for each epoch to stderr.
        **training: settings of the training, such as `max_epochs=20`, `learning_rate=3e-4`,
            `batch_size=64`; they replace those of the task and the methods.

    Returns:
        The finished run.

    Raises:
        InputError: an unknown name or setting, data that cannot serve, a folder of another trial.
        MimicRegError: the model diverged.
        InterruptionError: Ctrl-C; the same call goes on.

    Example:
        >>> import mimic_reg as mr
        >>> run = mr.fit("store", "in_hospital_mortality", max_epochs=5)  # doctest: +SKIP
        >>> run.scores["test"]["auroc"].value  # doctest: +SKIP
    """
    opened = as_store(store)
    if not isinstance(task, str):
        raise InputError(f"The task is {task!r}; a name is needed, such as {opened.tasks[0]!r}.")
    trial = make_trial(
        task,
        model,
        methods,
        seed=seed,
        fold=opened.fold if fold is None else fold,
        supervision=supervision,
        num_samples=num_samples,
        training=training,
    )
    opened.spec.task(trial.task)
    opened.spec.check_fold(trial.fold)
    if out is None:
        name = Planned(trial, trial.method, {}).folder_name(opened.manifest["fingerprint"])
        folder = RUNS / name
    else:
        folder = as_path(out, "run")
    with shown(err) if verbose else nullcontext(Progress()) as progress:
        outcome = fitting.train(
            trial, opened.folder, folder, progress=progress, device=device, threads=threads
        )
    if outcome.status == "interrupted":
        raise InterruptionError(
            f"Interrupted. The checkpoint is in {folder}; the same call goes on from there."
        )
    return Run(folder, store=opened)


def make_trial(
    task: str,
    model: ModelLike,
    methods: MethodLike | Sequence[MethodLike],
    *,
    training: Mapping[str, Any],
    **others: Any,
) -> Trial:
    """Return the trial of arguments as `fit` takes them.

    Raises:
        InputError: an unknown name or setting, a value out of range.
    """
    files.check_training(training)
    found = files.read_model(model) if isinstance(model, str) else as_component(model, "model")
    check_model(found.name)
    parts = [_method(each, found.name) for each in _listed(methods)]
    chosen = tuple(component for part in parts for component in part.regularisers)
    own = {name: value for part in parts for name, value in part.training.items()}
    return resolve(
        files.compose(
            files.read_task(task),
            found,
            files.MethodFile(regularisers=chosen),
            training=own | plain("training", training),
            **others,
        )
    )


def _listed(methods: MethodLike | Sequence[MethodLike]) -> Sequence[MethodLike]:
    if isinstance(methods, str | type | Component | Mapping):
        return [methods]
    if not isinstance(methods, list | tuple):
        return [as_component(methods, "method")]  # refuses it
    return methods


def _method(given: MethodLike, family: str) -> files.MethodFile:
    if isinstance(given, str):
        return files.read_method(given, family)
    return files.MethodFile(regularisers=(as_component(given, "method"),))
