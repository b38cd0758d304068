"""The deep learner: a torch model, methods that act on its fit, and the engine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mimic_reg import methods, models
from mimic_reg.engine.interruption import stopping
from mimic_reg.engine.optimizers import make_optimizer
from mimic_reg.engine.prediction import predict, predict_with_spread
from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError
from mimic_reg.learners.base import Learner, Predictor, Status
from mimic_reg.learners.data import TaskData
from mimic_reg.learners.trunk import Trunk, load_into
from mimic_reg.methods.base import Fit, Regulariser
from mimic_reg.models.base import Model, constant_logits, require_head
from mimic_reg.progress import Progress
from mimic_reg.runs import CHECKPOINT
from mimic_reg.samples import Samples
from mimic_reg.seeds import Streams
from mimic_reg.settings import Component, Trial
from mimic_reg.store.spec import CohortSpec, Task


class DeepLearner(Learner):
    """A network that the engine trains."""

    def __init__(
        self,
        trial: Trial,
        data: TaskData,
        folder: Path,
        progress: Progress,
        trunk: Trunk | None = None,
    ) -> None:
        self.data, self.folder, self.progress = data, folder, progress
        self.trainer = make_trainer(trial, data, folder, progress, trunk)

    def fit(self) -> Status:
        """Fit, or continue; the first Ctrl-C writes a checkpoint."""
        if (self.folder / CHECKPOINT).exists():
            self.progress.note("Continuing from the checkpoint.")
        with stopping(self.trainer):
            return self.trainer.run()

    def best(self) -> tuple[Predictor, int]:
        """See the base class."""
        trainer = self.trainer
        trainer.load_best()
        assert trainer.best is not None
        model = trainer.model.eval()
        return DeepPredictor(model, trainer.method), trainer.best.epoch


def make_trainer(
    trial: Trial, data: TaskData, folder: Path, progress: Progress, trunk: Trunk | None = None
) -> Trainer:
    """Return the trainer of a trial, at its first step.

    trunk: trained trunk to start from, if the trial has one

    Raises:
        InputError: model or methods do not fit the data or the trunk.
    """
    methods.check_target((method.name for method in trial.regularisers), data.task)
    model = _initial_model(trial, data.spec)
    if model.normalizer not in (None, trial.training.normalizer):
        raise InputError(
            f"{trial.model.name} normalises its input itself, so training.normalizer must be "
            f"{model.normalizer!r}, got {trial.training.normalizer!r}."
        )
    if trunk is not None:
        load_into(model, trial.model, trunk)
    if trial.training.output_bias == "prevalence":
        _start_at_prevalence(model, trial.model.name, data.task, data.train)
    return Trainer(
        model,
        methods.compose([r.entry() for r in trial.regularisers]),
        data.train,
        data.validation,
        num_outputs=data.task.num_outputs,
        selected_by=data.task.score,
        training=trial.training,
        streams=Streams(trial.seed, data.task.name),
        folder=folder,
        progress=progress,
        attributes=data.attributes,
    )


def _initial_model(trial: Trial, spec: CohortSpec) -> Model:
    ((name, settings),) = trial.model.entry().items()
    num_outputs = spec.task(trial.task).num_outputs

    def create(task: str) -> Model:
        generator = Streams(trial.seed, task).init()
        return models.create(
            name,
            num_outputs,
            shape=spec.features,
            cohort_channels=spec.channels,
            generator=generator,
            **settings,
        )

    model = create(trial.task)
    if trial.together is not None:  # the head is its own, the trunk that of the first task
        require_head(model, "Training of several tasks")
        model.trunk.load_state_dict(create(trial.together.tasks[0]).trunk.state_dict())
    return model


@torch.no_grad()
def _start_at_prevalence(model: Model, name: str, task: Task, train: Samples) -> None:
    """Set the last bias so that the model begins near the best constant prediction."""
    bias = getattr(model.head, "bias", None)
    if not isinstance(bias, Tensor):
        raise InputError(
            f"The head of {name} is not a linear layer with a bias, so training.output_bias must "
            "be 'zero', got 'prevalence'."
        )
    bias.copy_(constant_logits(task.target, train.label, len(bias)))


def initial_parameters(trial: Trial, spec: CohortSpec) -> dict[str, Tensor]:
    """Return the initial trainable parameters of this trial, by name, without those of methods.

    Raises:
        InputError: the trial starts from a trained trunk, which its settings do not contain.
    """
    if trial.start is not None and trial.start.trunk is not None:
        raise InputError(f"The trial starts from a trained trunk: {trial.start.trunk}.")
    model = _initial_model(trial, spec)
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


class DeepPredictor(Predictor):
    """A trained network, as its method evaluates it."""

    def __init__(self, model: Model, method: Regulariser) -> None:
        self.predictor, self.unit_numbers = method.predictor(model, model), model.unit_numbers
        self.by_stay = model.causal and not method.not_by_stay()

    def predict(self, samples: Samples) -> np.ndarray:
        """See the base class."""
        return predict(self.predictor, samples, self.unit_numbers, by_stay=self.by_stay)

    def predict_with_spread(self, samples: Samples) -> tuple[np.ndarray, np.ndarray | None]:
        """See the base class."""
        return predict_with_spread(self.predictor, samples, self.unit_numbers, by_stay=self.by_stay)


def restore(
    trial: Trial, spec: CohortSpec, state: Mapping[str, Any], device: torch.device
) -> DeepPredictor:
    """Return the trained network: built as for training, then its state loaded.

    state: the engine's states `model` and `method`
    """
    task, trial = spec.task(trial.task), without_weights(trial)
    ((name, options),) = trial.model.entry().items()
    generator = torch.Generator().manual_seed(0)  # for weights that the state replaces
    model = models.create(
        name,
        task.num_outputs,
        shape=spec.features,
        cohort_channels=spec.channels,
        generator=generator,
        **options,
    )
    method = methods.compose([r.entry() for r in trial.regularisers])
    fit = Fit(
        target=task.target,
        num_outputs=task.num_outputs,
        num_train=1,
        epoch_steps=1,
        max_epochs=trial.training.max_epochs,
        generator=torch.Generator(device),
        record=lambda name, value: None,
    )
    model = method.prepare(model.to(device), fit).to(device)
    # some methods need the optimiser before they load their state
    method.optimizer(make_optimizer(model, trial.training), fit)
    model.load_state_dict(state["model"])
    method.load_state_dict(state["method"])
    model.eval()
    return DeepPredictor(model, method)


def without_weights(trial: Trial) -> Trial:
    """Return the trial without the initial weights of its model, since its own are loaded."""
    name, options = trial.model.name, trial.model.options
    if "weights" not in options:
        return trial
    model = Component.model_validate({name: {**options, "weights": "none"}})
    return trial.model_copy(update={"model": model})
