"""The trace of the Hessian during training: how curved the loss is where the fit has come to.

A probe: it changes nothing of the fit. After the first epoch and every `every`-th it estimates the
trace of the Hessian of the data loss (no penalties) in evaluation mode, on a fixed subset of the
training samples, by Hutchinson's method (`metrics.curvature`), and records `hessian_trace` and
`hessian_trace_se`, its standard error. Subset and vectors have a stream of their own and are the
same at every epoch and for every method, so that curves can be compared.

Linear stability of SGD bounds the trace by 2 / learning rate.

List it last: it looks at the model as the methods before it left it. Time: a vector costs
one (dnn) to five (cnn) training passes over the subset; without a GPU take fewer of both.
"""

from collections.abc import Callable, Mapping
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
from mimic_reg.metrics.curvature import Estimate, estimate, hessian_trace_samples
from mimic_reg.models.base import Model, loss_of
from mimic_reg.probes._schedule import is_due, num_looks
from mimic_reg.samples import Batch, Samples

NUM_VECTORS = 100
NUM_SAMPLES = 2048
BATCH_NUMBERS = 1 << 18
# A vector, times training on its samples: measured on one thread, processor time.
_VECTOR_COST: Mapping[str, float] = {"dnn": 0.8, "lstm": 2.5, "transformer": 3.5, "cnn": 4.7}
_OTHER_VECTOR_COST = 4.0


def hessian_trace(
    model: Model,
    train: Samples,
    *,
    num_vectors: int = NUM_VECTORS,
    num_samples: int = NUM_SAMPLES,
    batch_numbers: int = BATCH_NUMBERS,
) -> Estimate:
    """The trace at the model's parameters; the model's mode and gradients stay as they are.

    train:         the training samples; a fixed subset of at most `num_samples` is used
    batch_numbers: input numbers of a batch, whose graph is held
    """
    device = train.units.values.device
    order = torch.randperm(len(train), generator=seeds.generator("hessian_probe", "samples"))
    subset = train.keep(order[:num_samples].sort().values.numpy())
    order_of_batches = subset.evaluation_batches(batch_numbers, model.unit_numbers)
    batches = (subset.gather(index) for index in order_of_batches)
    losses = ((_loss(model, train, batch), len(batch.index)) for batch in batches)
    training = model.training
    model.eval()
    try:
        with torch.enable_grad(), differentiation(frozenset({"double_backward"})):
            samples = hessian_trace_samples(
                losses,
                trainable(model),
                num_vectors,
                seeds.generator("hessian_probe", "vectors", device=device),
            )
    finally:
        model.train(training)
    return estimate(samples)


def _loss(model: Model, train: Samples, batch: Batch) -> Callable[[], Tensor]:
    return partial(_mean_loss, model, train, batch)


def _mean_loss(model: Model, train: Samples, batch: Batch) -> Tensor:
    return loss_of(train.target, model(batch.x, batch.lengths), batch.y).mean()


@final
class HessianProbe(Regulariser):
    """Places `hessian_trace` at the ends of epochs."""

    neutral: ClassVar[Options] = {"every": 1, "vectors": 2, "samples": 16}

    def __init__(self, every: int, vectors: int, samples: int, batch_numbers: int) -> None:
        for name, value in (
            ("every", every),
            ("vectors", vectors),
            ("samples", samples),
            ("batch_numbers", batch_numbers),
        ):
            require(value >= 1, "hessian_probe", f"{name} must be at least 1", value)
        self.every = every
        self.options = {
            "num_vectors": vectors,
            "num_samples": samples,
            "batch_numbers": batch_numbers,
        }

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model; where it only predicts, there are no samples, and nothing to estimate."""
        self.model = model
        return model

    def tick(self, event: Event, fit: Fit) -> None:
        """Estimate and record."""
        if not is_due(self.every, event, fit):
            return
        require(fit.train is not None, "hessian_probe", "the fit must show its samples", fit.train)
        assert fit.train is not None
        found = hessian_trace(self.model, fit.train, **self.options)
        fit.record("hessian_trace", found.mean)
        fit.record("hessian_trace_se", found.standard_error)


def build(
    every: int = 10,
    vectors: int = NUM_VECTORS,
    samples: int = NUM_SAMPLES,
    batch_numbers: int = BATCH_NUMBERS,
) -> HessianProbe:
    """The probe.

    every:         epochs between two estimates
    vectors:       random vectors of an estimate
    samples:       training samples, at most
    batch_numbers: input numbers of a batch; fewer need less memory
    """
    return HessianProbe(every, vectors, samples, batch_numbers)


def cost(
    options: Mapping[str, Any], model: str, num_train: float, max_epochs: int, num_outputs: int
) -> float:
    """Return what its estimates cost in a fit: as many training steps of one sample."""
    looks = num_looks(options["every"], max_epochs)
    samples = looks * options["vectors"] * min(options["samples"], num_train)
    return float(samples) * _VECTOR_COST.get(model, _OTHER_VECTOR_COST)
