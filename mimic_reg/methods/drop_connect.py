"""DropConnect: set random single weights to zero in each training step.

Each forward pass in training uses, in place of a weight matrix or kernel w::

    w * k / (1 - rate),   k ~ Bernoulli(1 - rate) for each element

Evaluation uses the weights themselves.

Use it as an alternative to dropout. It acts on all layers, recurrences included.

Notes:
- One mask serves all samples of a batch. The paper draws one for each sample, which would need a
  matrix product for each sample.
- The paper's inference from a Gaussian fitted to each unit's input is replaced by its mean, which
  the plain weights give.

Kind: dropout

Paper: Wan et al., "Regularization of neural networks using DropConnect", ICML 2013.
"""

from mimic_reg.methods._noise import InTraining
from mimic_reg.methods._weights import parametrize_weights
from mimic_reg.methods.base import Fit, Regulariser, draw_keep, require
from mimic_reg.models.base import Model


class DropConnect(Regulariser):
    """Drop weights.

    rate: probability of dropping a weight
    """

    neutral = {"rate": 0.0}

    def __init__(self, rate: float = 0.2) -> None:
        require(0 <= rate < 1, "drop_connect", "rate must be in [0, 1)", rate)
        self.rate = rate

    def prepare(self, model: Model, fit: Fit) -> Model:
        if self.rate > 0:
            parametrize_weights(
                model,
                lambda: InTraining(lambda w: w * draw_keep(w.detach(), self.rate, fit.generator)),
            )
        return model


build = DropConnect
