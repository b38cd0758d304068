"""What a learner is to everything behind it: scores, run folders, registry, serving, reports.

Shapes: N samples, C outputs.
"""

from abc import ABC, abstractmethod

import numpy as np

from mimic_reg.samples import Samples


class Predictor(ABC):
    """A fitted model."""

    @abstractmethod
    def predict(self, samples: Samples) -> np.ndarray:
        """Return predictions (N, C): probabilities, or values of a regression."""
