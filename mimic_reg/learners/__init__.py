"""Learners: they fit the samples of a task and predict, one module for each kind.

A trial's model names its learner. A module of `models` is a network, which the engine trains
(`deep`). Any other name is a module of this package with a `build`, whose signature is its list of
settings, and a `LEARNER`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mimic_reg import models
from mimic_reg.learners import deep
from mimic_reg.learners.base import Learner, Predictor
from mimic_reg.learners.data import TaskData
from mimic_reg.learners.trunk import Trunk
from mimic_reg.progress import Progress
from mimic_reg.settings import Trial, find_module
from mimic_reg.store.spec import CohortSpec

__all__ = ["Learner", "Predictor", "create", "restore"]


def create(
    trial: Trial, data: TaskData, folder: Path, progress: Progress, trunk: Trunk | None = None
) -> Learner:
    """Return the learner of a trial, which keeps its files in `folder`.

    trunk: trained trunk to start from, if the trial has one

    Raises:
        InputError: the learner cannot fit these data.
    """
    if models.is_known(trial.model.name):
        return deep.DeepLearner(trial, data, folder, progress, trunk)
    return find_module(__name__, trial.model.name).LEARNER(trial, data, folder)


def restore(
    trial: Trial, spec: CohortSpec, state: Mapping[str, Any], device: torch.device
) -> Predictor:
    """Return a trial's fitted model from the state in its `best.safetensors`.

    spec: of the cohort, as its store has it
    """
    if trial.training.indicators != "stored":
        from mimic_reg.store.indicators import with_indicators

        spec = with_indicators(spec, trial.training.indicators)
    if models.is_known(trial.model.name):
        return deep.restore(trial, spec, state, device)
    return find_module(__name__, trial.model.name).restore(trial, spec, state)
