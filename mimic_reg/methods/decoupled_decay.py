"""Decoupled weight decay (AdamW): shrink the weights before each step of the optimiser.

Formula::

    w <- (1 - lr * decay) * w,   then the step of the optimiser

The optimiser does not see the decay. Adam would divide the gradient of an L2 penalty by its size.
With plain SGD it equals the L2 penalty with l2 = decay / 2.

Use it instead of `l2` with Adam.

Notes:
- Only weight matrices and kernels shrink, not biases or the scales of norms.
- It also moves weights that another method keeps from moving.
- `training.weight_decay` does the same beside any method; use one of them.

Kind: optimiser

Paper: Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019.
"""

from torch.optim import Optimizer

from mimic_reg.methods._optimizers import DecayingOptimizer
from mimic_reg.methods.base import Fit, Regulariser, require


class DecoupledDecay(Regulariser):
    """Shrink the weights.

    decay: a step multiplies the weights by 1 - learning rate * decay
    """

    neutral = {"decay": 0.0}

    def __init__(self, decay: float = 0.01) -> None:
        require(decay >= 0, "decoupled_decay", "decay must be at least 0", decay)
        self.decay = decay

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Wrap the optimiser.

        Raises:
            InputError: a step would change the sign of the weights.
        """
        rate = max(group["lr"] for group in optimizer.param_groups)
        rule = f"learning rate ({rate:g}) times decay must be below 1"
        require(rate * self.decay < 1, "decoupled_decay", rule, self.decay)
        return DecayingOptimizer(optimizer, self.decay)


build = DecoupledDecay
