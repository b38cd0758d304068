"""What a learner is to everything behind it: scores, run folders, registry, serving, reports.

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
        """Return predictions (N, C), and how unsure the model is of each: a deviation (N, C).

        The deviation is None for a model that does not know it.
        """
        return self.predict(samples), None


class Learner(ABC):
    """What fits a trial's samples, and keeps all that it needs in the run folder.

    It leaves `best.safetensors` there, with the tensors of its best model under "model", and
    `history.jsonl` with a row for each epoch, or one row where it has no epochs.
    """

    @abstractmethod
    def fit(self) -> Status:
        """Fit, or go on where the fit was cut off."""

    @abstractmethod
    def best(self) -> tuple[Predictor, int]:
        """Return the best model on validation, and its epoch, counted from 0.

        Raises:
            InputError: there is none, or its file is damaged.
        """
