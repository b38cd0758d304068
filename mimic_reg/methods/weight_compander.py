"""Weight compander: make each weight a bounded function of a trained number.

Formula, with a > 0 and b > 0 trained for each tensor::

    w = a * atan(v / b)

So |w| < a * pi / 2, and a step in v moves small weights more than large ones.

Use it as an alternative to weight decay. There is nothing to search.

Notes:
- This form is not verified: we could not obtain the paper's full text. Its abstract describes a
  nonlinear function with learned parameters that bounds weights and pushes them away from zero.
- At the start a = b = the largest |w| of the tensor, and v = b * tan(w / a). So the first forward
  pass is the plain one, up to rounding, and the slope at 0 is 1. A softplus keeps a and b positive.
- Only matrices and kernels change. Penalties on weights act on v, not on a and b: `spectral_norm`
  keeps the norms of v small, which are not those of the weights in the layers.

No neutral setting: a and b are trained, so the model has more parameters.

Kind: network

Paper: Cakaj, Mehnert, Yang, "Weight compander: a simple weight reparameterization for
regularization", IJCNN 2023, arXiv 2306.16993.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from mimic_reg.methods.base import Fit, Regulariser
from mimic_reg.models.base import Model


def compand(v: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return a atan(v / b)."""
    return a * torch.atan(v / b)


def expand(w: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return b tan(w / a), the v of a weight."""
    return b * torch.tan(w / a)


def inverse_softplus(x: Tensor) -> Tensor:
    """Return the y with softplus(y) = x, for x above 0."""
    return x + torch.log(-torch.expm1(-x))


class Compander(nn.Module):
    """Make the weights of a tensor from v."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        largest = w.detach().abs().max().clamp(min=1e-3)  # a tensor of zeros needs a scale, too
        self.raw_a = nn.Parameter(inverse_softplus(largest))
        self.raw_b = nn.Parameter(inverse_softplus(largest))

    def _scales(self) -> tuple[Tensor, Tensor]:
        return F.softplus(self.raw_a), F.softplus(self.raw_b)

    def forward(self, v: Tensor) -> Tensor:
        return compand(v, *self._scales())

    @torch.no_grad()
    def right_inverse(self, w: Tensor) -> Tensor:
        return expand(w, *self._scales())


class WeightCompander(Regulariser):
    """Parametrise all matrices and kernels that are trained."""

    def prepare(self, model: Model, fit: Fit) -> Model:
        found = [
            (module, name, parameter)
            for module in model.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.ndim >= 2 and parameter.requires_grad
        ]
        for module, name, parameter in found:
            parametrize.register_parametrization(module, name, Compander(parameter))
        return model


build = WeightCompander
