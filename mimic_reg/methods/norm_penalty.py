"""L2 penalty: penalise the squared weights.

Formula::

    L + l2 * sum w²

Only weight matrices and kernels count: no biases, scales of norms or learned strengths.

Use it if the network is large for its training set. Search the weight.

Notes:
- The gradient is 2 * l2 * w, as in Keras; torch's `weight_decay` gives l2 * w.
- The penalty is a term of the loss, not a decay in the optimiser. So a method that selects
  parameters sees the gradient of the whole objective, and nothing else moves.

Kind: penalty

Paper: Krogh & Hertz, "A simple weight decay can improve generalization", NIPS 1991.
"""

from torch import Tensor

from mimic_reg.methods._penalty import squared_norm, weights
from mimic_reg.methods.base import Fit, Regulariser, Step, require


class NormPenalty(Regulariser):
    """Penalise the squared weights.

    l2: weight of the penalty; `configs/methods/l2.yaml` has the paper's Table II for each model
    """

    neutral = {"l2": 0.0}

    def __init__(self, l2: float) -> None:
        require(l2 >= 0, "norm_penalty", "l2 must be at least 0", l2)
        self.l2 = l2

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        return loss + self.l2 * squared_norm(weights(step.model))


build = NormPenalty
