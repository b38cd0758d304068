"""Dropout: set random units to zero in each training step.

Formula, at each site of the model::

    y = x * k / (1 - rate),   k ~ Bernoulli(1 - rate) for each element

Evaluation uses y = x.

Use it if the training loss still falls while the validation score no longer rises. Training takes
more epochs.

Notes:
- Each model has one set of sites for all dropout-like methods. None is between the steps of a
  recurrence; `variational_lstm` drops there.

Kind: dropout

Paper: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR
15 (2014).
"""

from mimic_reg.methods._noise import InTraining
from mimic_reg.methods.base import Fit, Regulariser, draw_keep, require
from mimic_reg.models.base import Model


class Dropout(Regulariser):
    """Drop units.

    rate: probability of dropping a unit
    """

    neutral = {"rate": 0.0}

    def __init__(self, rate: float = 0.5) -> None:
        require(0 <= rate < 1, "dropout", "rate must be in [0, 1)", rate)
        self.rate = rate

    def prepare(self, model: Model, fit: Fit) -> Model:
        model.fill_sites(
            lambda dim: InTraining(lambda x: x * draw_keep(x, self.rate, fit.generator))
        )
        return model


build = Dropout
