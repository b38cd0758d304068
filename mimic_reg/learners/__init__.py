"""Learners: what fits the samples of a task and predicts them, one module for each kind."""

from collections.abc import Mapping
from typing import Any

import torch

from mimic_reg.learners import deep
from mimic_reg.learners.base import Predictor
from mimic_reg.settings import Trial
from mimic_reg.store.spec import CohortSpec

__all__ = ["Predictor", "restore"]


def restore(
    trial: Trial, spec: CohortSpec, state: Mapping[str, Any], device: torch.device
) -> Predictor:
    """Return a trial's trained model from its saved state."""
    return deep.restore(trial, spec, state, device)
