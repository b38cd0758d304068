"""Model gradient similarity during training: how alike are the gradients of all outputs?

A probe: it changes nothing of the fit. Szolnoky et al., "On the interpretability of regularisation
for neural networks through model gradient similarity", NeurIPS 2022. After the first epoch and
every `every`-th it records `mgs_trace`, tr K / R, and `mgs_log_det`, log det K / R, of the kernel K
of `metrics.similarity`, in evaluation mode, on a fixed batch of training samples. The batch has a
stream of its own and is the same at every epoch and for every method, so that curves can be
compared; the metrics depend on how many samples it has.

Rulings: both are divided by R, the number of samples times outputs; the paper says nothing of it. K
is singular where units are dead, so a millionth of its mean diagonal is added to the diagonal.

List it last: it looks at the model as the methods before it left it. Memory: R gradients of the
whole model at once, 480 MB for the dnn with ten outputs and eight samples.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from mimic_reg import seeds
from mimic_reg.methods.base import (
    Event,
    Fit,
    Options,
    Regulariser,
    differentiation,
    require,
    trainable,
)
from mimic_reg.metrics.similarity import Similarity, gradient_rows, similarity
from mimic_reg.models.base import Model
from mimic_reg.probes._schedule import is_due, num_looks
from mimic_reg.samples import Samples

NUM_SAMPLES = 8
# The gradient of one logit of one sample, times training on a sample; measured, one thread.
_GRADIENT_COST: Mapping[str, float] = {"dnn": 37.0, "lstm": 13.5, "transformer": 2.2}


def gradient_similarity(
    model: Model, train: Samples, *, num_samples: int = NUM_SAMPLES
) -> Similarity:
    """Return the metrics at the model's parameters; its mode and gradients stay as they are.

    train: the training samples; a fixed subset of at most `num_samples` is used
    """
    order = torch.randperm(len(train), generator=seeds.generator("mgs_probe", "samples"))
    subset = train.keep(order[:num_samples].sort().values.numpy())
    samples = [partial(_logits, model, subset, i) for i in range(len(subset))]
    training = model.training
    model.eval()
    try:
        with torch.enable_grad(), differentiation(frozenset({"double_backward"})):
            return similarity(gradient_rows(samples, trainable(model)))
    finally:
        model.train(training)


def _logits(model: Model, samples: Samples, i: int) -> Tensor:
    """Return the logits (C,) of a sample, in a batch of its own: fewer numbers a gradient."""
    batch = samples.gather(torch.tensor([i]))
    logits: Tensor = model(batch.x, batch.lengths)[0]
    return logits


@final
class MgsProbe(Regulariser):
    """Places `gradient_similarity` at the ends of epochs."""

    neutral: ClassVar[Options] = {"every": 1, "samples": 4}

    def __init__(self, every: int, samples: int) -> None:
        require(every >= 1, "mgs_probe", "every must be at least 1", every)
        require(samples >= 1, "mgs_probe", "samples must be at least 1", samples)
        self.every, self.samples = every, samples

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model; where it only predicts, there are no samples, and nothing to measure."""
        self.model = model
        return model

    def tick(self, event: Event, fit: Fit) -> None:
        """Measure and record."""
        if not is_due(self.every, event, fit):
            return
        require(fit.train is not None, "mgs_probe", "the fit must show its samples", fit.train)
        assert fit.train is not None
        found = gradient_similarity(self.model, fit.train, num_samples=self.samples)
        fit.record("mgs_trace", found.trace)
        fit.record("mgs_log_det", found.log_det)


def build(every: int = 10, samples: int = NUM_SAMPLES) -> MgsProbe:
    """The probe.

    every:   epochs between two measurements
    samples: training samples, at most; time and memory grow with it
    """
    return MgsProbe(every, samples)


def cost(
    options: Mapping[str, Any], model: str, num_train: float, max_epochs: int, num_outputs: int
) -> float | None:
    """Return what its gradients cost in a fit: as many training steps of one sample."""
    if model not in _GRADIENT_COST:
        return None
    looks = num_looks(options["every"], max_epochs)
    return float(looks * min(options["samples"], num_train) * num_outputs * _GRADIENT_COST[model])
