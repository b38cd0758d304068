"""Data-gradient penalty: keep the loss from changing when the input changes a little.

Formula::

    L + weight * mean_i ||d loss_i / d x_i||²

Use it if inputs are noisy, or few samples let the network react to details. A step needs second
derivatives, which makes recurrent networks slow.

Notes:
- The gradient is that of each sample's own loss. The gradient of the mean loss would be smaller by
  the batch size, and the penalty by its square.
- Padded hours have no gradient.
- Layers that mix samples (batch norm) mix the gradients.

Kind: penalty

Paper: Drucker & LeCun, "Improving generalization performance using double backpropagation", IEEE
TNN 3 (1992); Ororbia et al., "Unifying adversarial training algorithms with data gradient
regularization", Neural Computation 29 (2017); Varga et al., "Gradient regularization improves
accuracy of discriminative models", arXiv 1712.09936.

Shapes: B samples.
"""

import torch
from torch import Tensor

from mimic_reg.methods._penalty import Penalty
from mimic_reg.methods.base import Fit, Step


def data_gradient_penalty(per_sample: Tensor, x: Tensor) -> Tensor:
    """Return the mean over samples of the squared norm of the loss's gradient, differentiable.

    per_sample: (B,) losses of x: (B, ...)
    """
    (gradient,) = torch.autograd.grad(per_sample.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()


class DataGradient(Penalty):
    """Penalise the gradient of the loss by the input.

    weight: weight of the penalty; `configs/methods` has the paper's Table II for each model
    """

    needs = frozenset({"input_grad", "double_backward"})

    def penalty(self, step: Step, fit: Fit) -> Tensor:
        return data_gradient_penalty(step.per_sample, step.batch.x)


build = DataGradient
