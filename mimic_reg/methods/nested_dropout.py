"""Nested dropout: order features by importance, and use only the first K of them.

For each batch a k from 1 to N is drawn, and only the first k features of the last site reach the
head, without rescaling::

    P(k) proportional to exp(-((k - mu) / sigma)²)

After each epoch, evaluation takes the K with the best validation score, less 1e-5 for each feature.

Use it if labels are noisy, or if you want to know how many features a task needs.

Notes:
- K is one of `candidates` numbers from 1 to N, evenly spaced on a log scale; the authors' code
  tries all. The score is accuracy, AUROC, macro AUROC or mean absolute deviation, by target; if it
  is undefined, all features are kept.
- The paper's other half, the co-training of two networks, is not implemented.
- No other method may act at the last site (dropout, for example).

No neutral setting: every batch keeps a random number of features.

Kind: dropout

Paper: Chen, Shen, Hu, Suykens, "Boosting co-teaching with compression regularization for label
noise", CVPR workshops 2021, arXiv 2104.13766; Rippel et al., "Learning ordered representations with
nested dropout", ICML 2014.

Shapes: B samples, N features.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Event, Fit, Regulariser, require
from mimic_reg.metrics.scores import metric, score
from mimic_reg.models.base import Model, prediction, require_head
from mimic_reg.samples import Samples
from mimic_reg.store.spec import Target

EXCLUDES = dict.fromkeys(
    (
        *("curriculum_dropout", "dropout", "gaussian_dropout"),
        *("guided_dropout", "mc_dropout", "spectral_dropout"),
    ),
    "both act at the last site of the network, which takes one method.",
)

SCORES: dict[Target, str] = {
    "multiclass": "accuracy",
    "binary": "auroc",
    "multilabel": "macro_auroc",
    "regression": "mean_absolute_deviation",
}
TIE_BREAK = 1e-5  # price of a feature, in units of the score
EVALUATION_NUMBERS = 1 << 20


def prefix_probabilities(n: int, mu: float, sigma: float) -> Tensor:
    """Return the probabilities (N,) of keeping the first 1 .. N features."""
    k = torch.arange(1, n + 1, dtype=torch.float64)
    return (-(((k - mu) / sigma) ** 2)).softmax(0)


def candidate_numbers(n: int, count: int) -> list[int]:
    """Return at most `count` numbers from 1 to n, evenly spaced on a log scale."""
    return np.unique(np.geomspace(1, n, count).round().astype(int)).tolist()


class NestedUnits(nn.Module):
    """Keep the first features: a random number of them in training, `kept` in evaluation."""

    def __init__(self, dim: int, mu: float, sigma: float, generator: torch.Generator) -> None:
        super().__init__()
        self.kept, self.generator = dim, generator
        self.probabilities = prefix_probabilities(dim, mu, sigma).float().to(generator.device)

    def forward(self, x: Tensor) -> Tensor:
        position = torch.arange(x.shape[-1], device=x.device)
        if self.training:
            # as torch.multinomial draws, which may wait for a GPU to check the probabilities
            times = torch.empty_like(self.probabilities).exponential_(generator=self.generator)
            drawn = (self.probabilities / times).argmax(0, keepdim=True)
            return x * (position <= drawn)  # drawn is 0-based
        return x if self.kept == len(position) else x * (position < self.kept)


class NestedDropout(Regulariser):
    """Fill the last site, and choose K.

    mu:         centre of the number of features that a batch keeps
    sigma:      width of that number; 100 suits 512 features
    candidates: numbers of features that validation chooses from
    """

    def __init__(self, mu: float = 0.0, sigma: float = 100.0, candidates: int = 16) -> None:
        name = "nested_dropout"
        require(sigma > 0, name, "sigma must be above 0", sigma)
        require(candidates >= 2, name, "candidates must be at least 2", candidates)
        self.mu, self.sigma, self.candidates = mu, sigma, candidates

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Fill the last site.

        Raises:
            InputError: the model has no site; mu and sigma give no probabilities.
        """
        require_head(model, "nested_dropout")
        sites = model.sites
        if not sites:
            raise InputError("nested_dropout: the model has no site before its head.")
        self.site = sites[-1]
        self.units = NestedUnits(self.site.dim, self.mu, self.sigma, fit.generator)
        possible = bool(self.units.probabilities.isfinite().all())
        require(possible, "nested_dropout", "mu and sigma give no probabilities", self.mu)
        self.site.append(self.units)
        return super().prepare(model, fit)

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Check the last site, now that all methods have changed the model.

        Raises:
            InputError: another method acts there.
        """
        if len(list(self.site.children())) != 1:
            raise InputError(
                "nested_dropout: another method acts on the features, too (dropout, for example). "
                "Use one of them."
            )
        return optimizer

    def tick(self, event: Event, fit: Fit) -> None:
        """Choose K before validation."""
        if event == "before_validation" and fit.validation is not None:
            self.units.kept = best_prefix(self.model, self.units, fit.validation, self.candidates)
            fit.record("kept_features", self.units.kept)

    def state_dict(self) -> dict[str, int]:
        return {"kept": self.units.kept}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.units.kept = int(state["kept"])


@torch.no_grad()
def best_prefix(model: Model, units: NestedUnits, validation: Samples, candidates: int) -> int:
    """Return the K with the best validation score; the model's mode stays as it is."""
    target, training, dim = validation.target, model.training, len(units.probabilities)
    numbers, labels = candidate_numbers(dim, candidates), validation.label.cpu().numpy()
    model.eval()
    units.kept = dim
    features, order = [], []
    for index in validation.evaluation_batches(EVALUATION_NUMBERS, model.unit_numbers):
        batch = validation.gather(index)
        features.append(model.features(batch.x, batch.lengths))
        order.append(index)
    everything = torch.cat(features)
    labels = labels[torch.cat(order).numpy()]
    values = []
    for kept in numbers:
        mask = torch.arange(dim, device=everything.device) < kept
        predicted = prediction(target, model.head(everything * mask)).float().cpu().numpy()
        value = score(target, labels, predicted)[SCORES[target]].value
        if value is None:
            model.train(training)
            return dim
        better = -value if metric(SCORES[target]).lower_is_better else value
        values.append(better - TIE_BREAK * kept)
    model.train(training)
    return numbers[int(np.argmax(values))]


build = NestedDropout
