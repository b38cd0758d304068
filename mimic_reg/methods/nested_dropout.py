"""Nested dropout: features in an order of importance, of which the first K are used.

Chen, Shen, Hu, Suykens, "Boosting co-teaching with compression regularization for label noise",
CVPR workshops 2021, arXiv 2104.13766, after Rippel et al., ICML 2014; as its code: for each batch a
k from 1 to N is drawn, with a probability proportional to exp(-((k - mu) / sigma)²), and only the
first k features of the last site reach the head, without rescaling. For evaluation the K with the
best validation score is taken after each epoch, less 1e-5 for each feature.

Rulings: K is one of `candidates` numbers between 1 and N, evenly spaced on a log scale, where the
code tries all; it goes by the target's usual score (accuracy, AUROC, macro AUROC, mean absolute
deviation); where that is undefined all features are kept. The co-training of two networks, the
paper's other half, is left out. Nothing else may stand at the last site (dropout, say).

No neutral setting: every batch keeps a random number of features.

Shapes: B samples, N features.

Kind: dropout
"""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Event, Fit, Regulariser, require
from mimic_reg.metrics.scores import metric, score
from mimic_reg.models.base import Model, Site, require_head
from mimic_reg.samples import Samples
from mimic_reg.store.spec import Target

_ONE_SITE = "both act at the last site of the network, which takes one method."
EXCLUDES = dict.fromkeys(
    (
        "curriculum_dropout",
        "dropout",
        "gaussian_dropout",
        "guided_dropout",
        "mc_dropout",
        "spectral_dropout",
    ),
    _ONE_SITE,
)

SCORES: dict[Target, str] = {
    "multiclass": "accuracy",
    "binary": "auroc",
    "multilabel": "macro_auroc",
    "regression": "mean_absolute_deviation",
}
TIE_BREAK = 1e-5  # a feature's price, in units of the score
EVALUATION_NUMBERS = 1 << 20


def prefix_probabilities(n: int, mu: float, sigma: float) -> Tensor:
    """Return (N,) probabilities of keeping the first 1 .. N features."""
    k = torch.arange(1, n + 1, dtype=torch.float64)
    return (-(((k - mu) / sigma) ** 2)).softmax(0)


def candidate_numbers(n: int, count: int) -> list[int]:
    """Return at most `count` numbers from 1 to n, evenly spaced on a log scale."""
    found: list[int] = np.unique(np.geomspace(1, n, count).round().astype(int)).tolist()
    return found


@final
class NestedUnits(nn.Module):
    """Stands at the last site; `kept` features are used at evaluation."""

    def __init__(self, dim: int, mu: float, sigma: float, generator: torch.Generator) -> None:
        super().__init__()
        self.kept = dim
        self.generator = generator
        self.probabilities = prefix_probabilities(dim, mu, sigma).float()
        self.probabilities = self.probabilities.to(generator.device)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the first features of x (..., N), as many for all samples."""
        position = torch.arange(x.shape[-1], device=x.device)
        if self.training:
            drawn = torch.multinomial(self.probabilities, 1, generator=self.generator)
            return x * (position <= drawn)  # drawn is 0-based
        return x if self.kept == len(position) else x * (position < self.kept)


@final
class NestedDropout(Regulariser):
    """Fills the last site and chooses K."""

    def __init__(self, mu: float, sigma: float, candidates: int) -> None:
        name = "nested_dropout"
        require(sigma > 0, name, "sigma must be above 0", sigma)
        require(candidates >= 2, name, "candidates must be at least 2", candidates)
        self.mu, self.sigma, self.candidates = mu, sigma, candidates

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Fill the last site.

        Raises:
            InputError: the model has none, or the values are impossible.
        """
        require_head(model, "nested_dropout")
        sites = model.sites
        if not sites:
            raise InputError("nested_dropout: the model has no site before its head.")
        self.model, self.site = model, sites[-1]
        self.units = NestedUnits(self.site.dim, self.mu, self.sigma, fit.generator)
        possible = bool(self.units.probabilities.isfinite().all())
        require(possible, "nested_dropout", "mu and sigma give no probabilities", self.mu)
        self.site.append(self.units)
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Refuse what stands beside it, now that all methods have prepared the model.

        Raises:
            InputError: another method acts on the last site.
        """
        if _acting(self.site) != 1:
            raise InputError(
                "nested_dropout: another method acts on the features, too (dropout, say). Use one "
                "of them."
            )
        return optimizer

    def tick(self, event: Event, fit: Fit) -> None:
        """Choose K before validation."""
        if event == "before_validation" and fit.validation is not None:
            self.units.kept = best_prefix(self.model, self.units, fit.validation, self.candidates)
            fit.record("kept_features", self.units.kept)

    def state_dict(self) -> dict[str, Any]:
        """K."""
        return {"kept": self.units.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.units.kept = int(state["kept"])


def _acting(site: Site) -> int:
    return len(list(site.children()))


@torch.no_grad()
def best_prefix(model: Model, units: NestedUnits, validation: Samples, candidates: int) -> int:
    """Return the K with the best validation score; the model's mode stays as it is."""
    name, training, dim = SCORES[validation.target], model.training, len(units.probabilities)
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
        logits: Tensor = model.head(everything * mask)
        value = score(validation.target, labels, _predictions(validation.target, logits))[name]
        if value.value is None:
            model.train(training)
            return dim
        better = -value.value if metric(name).lower_is_better else value.value
        values.append(better - TIE_BREAK * kept)
    model.train(training)
    return numbers[int(np.argmax(values))]


def _predictions(target: Target, logits: Tensor) -> np.ndarray:
    if target == "multiclass":
        logits = logits.softmax(1)
    elif target != "regression":
        logits = logits.sigmoid()
    found: np.ndarray = logits.float().cpu().numpy()
    return found


def build(mu: float = 0.0, sigma: float = 100.0, candidates: int = 16) -> NestedDropout:
    """The method.

    mu, sigma:  of the number of features that a batch keeps; 100 is for 512 features
    candidates: numbers of features that validation chooses from
    """
    return NestedDropout(mu, sigma, candidates)
