"""Distance-covariance penalty: predictions should not depend on protected attributes.

Lee, Antonio, Avanzi, Marchi, Zhou, arXiv 2509.08163 (2025), concatenated distance covariance
(CCdCov), after Szekely, Rizzo, Bakirov, Annals of Statistics 35 (2007): L + weight * dCov², with
dCov² = mean(A * B), A and B the double-centred matrices of the distances between the predictions of
a batch, and between its protected attributes. Its expectation over many samples is 0 only where
they are independent, so it sees any dependence, not only a linear one.

The attributes come from the store's stays and are never among the inputs: neither here nor when a
model predicts. Texts are one-hot, an empty cell a category of its own; numbers are standardised.

Rulings: the predictions of a sample are one point: the distance is Euclidean over outputs, of
probabilities (or values of a regression). Cost O(B²). A batch's dCov² is biased upwards by about
1 / B, so take batches of 128 or more. The paper's joint
variant (JdCov) is left out.

Shapes: N training samples, B samples, C outputs, G numbers of attributes.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Fit, Need, Options, Regulariser, Step, require
from mimic_reg.models.base import Model


def distances(x: Tensor) -> Tensor:
    """Return Euclidean distances (B, B) between the rows of (B, D); their gradient at 0 is 0."""
    squared = (x[:, None] - x[None]).square().sum(-1)
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)


def centred(matrix: Tensor) -> Tensor:
    """Return it less its row and column means, plus its mean."""
    return matrix - matrix.mean(0, keepdim=True) - matrix.mean(1, keepdim=True) + matrix.mean()


def distance_covariance(x: Tensor, y: Tensor) -> Tensor:
    """Return dCov² of two samples of points, (B, D) and (B, E)."""
    return (centred(distances(x)) * centred(distances(y))).mean()


def encoded(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return attributes (N, G) as numbers: texts one-hot, numbers standardised.

    Raises:
        InputError: an attribute has no value for some samples, or the same one for all.
    """
    parts = []
    for name, column in columns.items():
        if column.dtype.kind in "OUSTb":
            texts = np.array(["" if value is None else str(value) for value in column])
            categories = np.unique(texts)
            numbers = (texts[:, None] == categories).astype(np.float32)
        else:
            numbers = column.astype(np.float64)[:, None]
            if not np.isfinite(numbers).all():
                raise InputError(
                    f"distance_covariance: the attribute {name!r} has no number for "
                    f"{int((~np.isfinite(numbers)).sum()):,} training samples. Leave it out."
                )
            spread = numbers.std()
            numbers = (numbers - numbers.mean()) / (spread if spread > 0 else 1.0)
        if (numbers == numbers[0]).all():
            raise InputError(
                f"distance_covariance: the attribute {name!r} is the same for all training "
                "samples, so nothing can depend on it. Leave it out."
            )
        parts.append(numbers)
    return np.concatenate(parts, axis=1).astype(np.float32)


@final
class DistanceCovariance(Regulariser):
    """Adds the penalty."""

    neutral: ClassVar[Options] = {"weight": 0.0}
    needs = frozenset[Need]({"index"})

    def __init__(self, weight: float, attributes: Sequence[str]) -> None:
        name = "distance_covariance"
        require(weight >= 0, name, "weight must be at least 0", weight)
        require(len(attributes) > 0, name, "attributes must name one or more", attributes)
        unique = len(set(attributes)) == len(attributes)
        require(unique, name, "attributes must be different", list(attributes))
        self.weight, self.attributes = weight, tuple(attributes)
        self.values = torch.empty(0)

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Read the attributes of the training samples; to predict none are needed.

        Raises:
            InputError: the store does not know them.
        """
        if self.weight == 0 or fit.train is None:
            return model
        if fit.attributes is None:
            raise InputError("distance_covariance needs a store that knows the attributes.")
        columns = fit.attributes(self.attributes)
        self.values = torch.from_numpy(encoded(columns)).to(fit.generator.device)
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the penalty."""
        if self.weight == 0:
            return loss
        p = step.logits
        if fit.target != "regression":
            p = p.softmax(1) if fit.target == "multiclass" else p.sigmoid()
        groups = self.values[step.batch.index.to(self.values.device)]
        return loss + self.weight * distance_covariance(p, groups)


def build(
    weight: float = 1.0, attributes: Sequence[str] = ("gender", "ethnicity")
) -> DistanceCovariance:
    """The method; `attributes`: columns of the store's stays, such as gender, ethnicity, age."""
    return DistanceCovariance(weight, attributes)
