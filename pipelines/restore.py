"""A trained model as its method evaluates it, from settings and state; shared by what serves it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mimic_reg import models, regularisers
from mimic_reg.config import load_yaml, resolve
from mimic_reg.engine.trainer import make_optimizer
from mimic_reg.errors import InputError
from mimic_reg.regularisers.base import Fit, Predict
from mimic_reg.seals import unsealed
from mimic_reg.tasks.base import Task

FORMAT = 1  # of model.yaml


def read_settings(path: Path) -> dict[str, Any]:
    """Return the content of a `model.yaml`.

    Raises:
        InputError: it is missing, damaged, or of something else.
    """
    content = unsealed(load_yaml(path), path)
    if isinstance(content, dict) and content.get("format") != FORMAT:
        raise InputError(
            f"{path} was written for another version of mimic-reg: this one reads format {FORMAT}. "
            "Export the model again."
        )
    parts = {"task": str, "trial": dict, "normalizer": dict}
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), kind) for name, kind in parts.items()
    ):
        raise InputError(f"{path} is not the description of a model. Export the model again.")
    return content


def restore(
    settings: Mapping[str, Any],
    task: Task,
    state: Mapping[str, Any],
    device: torch.device,
    *,
    num_outputs: int | None = None,
) -> Predict:
    """The model built as for training, then its state loaded.

    settings:    with the resolved `trial`
    state:       `model` and `method`
    num_outputs: logits, if not the task's own
    """
    outputs = num_outputs or task.num_outputs
    trial = resolve(settings["trial"])
    ((name, options),) = trial.model.entry().items()
    if "weights" in options:
        options["weights"] = "none"  # the state replaces them
    generator = torch.Generator().manual_seed(0)  # of weights that the state replaces
    model = models.create(name, outputs, generator=generator, **options)
    method = regularisers.compose([r.entry() for r in trial.regularisers])
    fit = Fit(
        target=task.target,
        num_outputs=outputs,
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
    return method.predictor(model, model)
