"""The interface of learners to scores, run folders, registry, serving and reports.

Shapes: N samples, C outputs.
"""

from abc import ABC, abstractmethod
from typing import Literal, Protocol

import numpy as np

from mimic_reg.samples import Samples

Status = Literal["finished", "interrupted"]


class Predictor(Protocol):
    """A fitted model."""

    def predict(self, samples: Samples) -> np.ndarray:
        """Return predictions (N, C): probabilities, or values of a regression."""

    def predict_with_spread(self, samples: Samples) -> tuple[np.ndarray, np.ndarray | None]:
        """Return predictions (N, C) and their standard deviation (N, C), or None if unknown."""
        return self.predict(samples), None


class Learner(ABC):
    """Fit a trial's samples, and keep everything it needs in the run folder.

    It writes `best.safetensors`, with the tensors of its best model under "model", and
    `history.jsonl`, with a row for each epoch, or one row if it has no epochs.
    """

    @abstractmethod
    def fit(self) -> Status:
        """Fit, or continue an interrupted fit."""

    @abstractmethod
    def best(self) -> tuple[Predictor, int]:
        """Return the best model on validation, and its epoch, counted from 0.

        Raises:
            InputError: there is none, or its file is damaged.
        """
