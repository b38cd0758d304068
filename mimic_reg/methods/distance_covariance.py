"""Distance-covariance penalty: make predictions independent of protected attributes.

Formula::

    L + weight * dCov²(p, a),   dCov²(x, y) = mean(A(x) * A(y))

A(x) is the matrix of the distances between the rows of x in a batch, double-centred: less its row
and column means, plus its mean. p are the predictions and a the attributes of the samples (the
concatenated distance covariance of the paper, CCdCov). Over many samples dCov² is 0 only if they
are independent, so it sees any dependence, not only a linear one.

Attributes come from the store's stays and are never inputs, neither in training nor for
predictions. Texts are one-hot, with a category for an empty cell; numbers are standardised.

Use it if predictions should not depend on gender or ethnicity, for example. It may cost accuracy.

Notes:
- The predictions of a sample are one point. Distances are Euclidean over outputs, of
  probabilities or of a regression's values.
- A step costs O(B²). dCov² of a batch is biased upwards by about 1 / B: use batches of 128 or more.
- The paper's joint variant (JdCov) is not implemented.

Kind: penalty

Paper: Lee, Antonio, Avanzi, Marchi, Zhou, arXiv 2509.08163 (2025); Szekely, Rizzo, Bakirov,
"Measuring and testing dependence by correlation of distances", Annals of Statistics 35 (2007).

Shapes: N training samples, B samples, C outputs, G numbers of attributes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.methods._penalty import Penalty
from mimic_reg.methods.base import Fit, Step, require
from mimic_reg.models.base import Model, prediction


def distances(x: Tensor) -> Tensor:
    """Return Euclidean distances (B, B) between the rows of (B, D); their gradient at 0 is 0."""
    squared = (x[:, None] - x[None]).square().sum(-1)
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)


def centred(matrix: Tensor) -> Tensor:
    """Return a matrix less its row and column means, plus its mean."""
    return matrix - matrix.mean(0, keepdim=True) - matrix.mean(1, keepdim=True) + matrix.mean()


def distance_covariance(x: Tensor, y: Tensor) -> Tensor:
    """Return dCov² of two samples of points, (B, D) and (B, E)."""
    return (centred(distances(x)) * centred(distances(y))).mean()


def encoded(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return attributes as numbers (N, G): texts one-hot, numbers standardised.

    Raises:
        InputError: an attribute has no value for some samples, or the same value for all.
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


class DistanceCovariance(Penalty):
    """Penalise the dependence of predictions on attributes.

    weight:     weight of the penalty
    attributes: columns of the store's table of stays, such as gender, ethnicity, age
    """

    needs = frozenset({"index"})

    def __init__(
        self, weight: float = 1.0, attributes: Sequence[str] = ("gender", "ethnicity")
    ) -> None:
        super().__init__(weight)
        name = "distance_covariance"
        require(len(attributes) > 0, name, "attributes must name one or more", attributes)
        unique = len(set(attributes)) == len(attributes)
        require(unique, name, "attributes must be different", list(attributes))
        self.attributes = tuple(attributes)

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Read the attributes of the training samples; predictions need none.

        Raises:
            InputError: the store does not have them.
        """
        if self.weight and fit.train is not None:
            if fit.attributes is None:
                raise InputError("distance_covariance needs a store that has the attributes.")
            columns = fit.attributes(self.attributes)
            self.values = torch.from_numpy(encoded(columns)).to(fit.generator.device)
        return model

    def penalty(self, step: Step, fit: Fit) -> Tensor:
        groups = self.values[step.batch.index.to(self.values.device, non_blocking=True)]
        return distance_covariance(prediction(fit.target, step.logits), groups)


build = DistanceCovariance
