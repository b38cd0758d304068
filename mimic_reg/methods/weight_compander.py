"""Weight compander: weights are a bounded function of what is trained.

Cakaj, Mehnert, Yang, IJCNN 2023, arXiv 2306.16993. Each weight is w = a atan(v / b), with a and b
above 0 of its tensor, which are trained, too. So |w| < a pi / 2, and steps in v move small weights
more than large ones.

Not verified: the paper's abstract speaks of a nonlinear function that bounds weights, pushes them
away from zero and has learned parameters; this form of it is from memory, for its body was not
retrievable. Treat results as those of this reading.

Rulings: a = b = the largest |w| of the tensor at the start, and v = b tan(w / a), so the first
forward pass is the plain one, up to rounding, and the slope at 0 is 1. a and b are kept positive by
a softplus. Matrices and kernels only. Penalties on weights act on v, not on a and b: so
spectral_norm keeps the norms of v small, which are not those of the weights in the layers.

No neutral setting: a and b are trained, so the model has further parameters.
"""

from typing import final

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
    """Return the v of a weight: b tan(w / a)."""
    return b * torch.tan(w / a)


def inverse_softplus(x: Tensor) -> Tensor:
    """Return the y with softplus(y) = x, for x above 0."""
    return x + torch.log(-torch.expm1(-x))


@final
class Compander(nn.Module):
    """What makes a tensor's weights of v."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        largest = w.detach().abs().max().clamp(min=1e-3)  # a tensor of zeros has a scale, too
        self.raw_a = nn.Parameter(inverse_softplus(largest))
        self.raw_b = nn.Parameter(inverse_softplus(largest))

    def _scales(self) -> tuple[Tensor, Tensor]:
        return F.softplus(self.raw_a), F.softplus(self.raw_b)

    def forward(self, v: Tensor) -> Tensor:
        """Return the weights."""
        return compand(v, *self._scales())

    @torch.no_grad()
    def right_inverse(self, w: Tensor) -> Tensor:
        """Return the v of the weights."""
        return expand(w, *self._scales())


@final
class WeightCompander(Regulariser):
    """Places the parametrisations."""

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Parametrise all matrices and kernels that are trained."""
        found = [
            (module, name, parameter)
            for module in model.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.ndim >= 2 and parameter.requires_grad
        ]
        for module, name, parameter in found:
            parametrize.register_parametrization(module, name, Compander(parameter))
        return model


def build() -> WeightCompander:
    """The method; a and b are learned, so there is nothing to choose."""
    return WeightCompander()
