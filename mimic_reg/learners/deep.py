"""The deep learner: a torch model, the methods that act on its fit, the engine that trains it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mimic_reg import methods, models
from mimic_reg.engine.trainer import make_optimizer, predict
from mimic_reg.learners.base import Predictor
from mimic_reg.methods.base import Fit, Predict
from mimic_reg.samples import Samples
from mimic_reg.settings import Trial
from mimic_reg.store.spec import CohortSpec


class DeepPredictor(Predictor):
    """A trained network, as its method evaluates it."""

    def __init__(self, predictor: Predict, unit_numbers: int) -> None:
        self.predictor, self.unit_numbers = predictor, unit_numbers

    def predict(self, samples: Samples) -> np.ndarray:
        """See the base class."""
        return predict(self.predictor, samples, self.unit_numbers)


def restore(
    trial: Trial, spec: CohortSpec, state: Mapping[str, Any], device: torch.device
) -> DeepPredictor:
    """Return the trained network: built as for training, then its state loaded.

    state: `model` and `method`, as the engine keeps them
    """
    task = spec.task(trial.task)
    ((name, options),) = trial.model.entry().items()
    if "weights" in options:
        options["weights"] = "none"  # the state replaces them
    generator = torch.Generator().manual_seed(0)  # of weights that the state replaces
    model = models.create(
        name, task.num_outputs, shape=spec.features, generator=generator, **options
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
    # some methods wait for the optimiser with their state
    method.optimizer(make_optimizer(model, trial.training), fit)
    model.load_state_dict(state["model"])
    method.load_state_dict(state["method"])
    model.eval()
    return DeepPredictor(method.predictor(model, model), model.unit_numbers)
