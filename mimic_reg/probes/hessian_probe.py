"""Hessian probe: record the trace of the Hessian, that is, how curved the loss is at the weights.

After the first epoch and every `every`-th it estimates the trace of the Hessian of the data loss
(no penalties), in evaluation mode, on a fixed subset of the training samples, by Hutchinson's
method (`metrics.curvature`). It records `hessian_trace` and its standard error `hessian_trace_se`.
Subset and vectors have their own random stream and are the same at every epoch and for every
method, so curves can be compared.

Use it to compare how flat the solutions of methods are. It changes nothing in the fit, so it can
join any method.

Notes:
- Linear stability of SGD bounds the trace by 2 / learning rate.
- List it last: it sees the model as the methods before it left it.
- A vector takes as long as one (dnn) to five (cnn) training passes over the subset; without a GPU
  use fewer vectors and samples.

Paper: Hutchinson, "A stochastic estimator of the trace of the influence matrix for Laplacian
smoothing splines", Communications in Statistics 18 (1989).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mimic_reg import seeds
from mimic_reg.methods.base import Event, Fit, Regulariser, differentiation, require, trainable
from mimic_reg.metrics.curvature import Estimate, estimate, hessian_trace_samples
from mimic_reg.models.base import Model, loss_of
from mimic_reg.probes._schedule import is_due, num_looks
from mimic_reg.samples import Batch, Samples

NUM_VECTORS = 100
NUM_SAMPLES = 2048
BATCH_NUMBERS = 1 << 18
# Time of a vector, relative to training on its samples; processor time of one thread, measured.
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
    """Return the trace at the model's parameters; its mode and gradients stay as they are.

    train:         the training samples; a fixed subset of at most `num_samples` is used
    batch_numbers: input numbers of a batch, whose graph stays in memory
    """
    device = train.units.values.device
    order = torch.randperm(len(train), generator=seeds.generator("hessian_probe", "samples"))
    subset = train.keep(order[:num_samples].sort().values.numpy())
    order_of_batches = subset.evaluation_batches(batch_numbers, model.unit_numbers)
    batches = (subset.gather(index) for index in order_of_batches)
    losses = ((partial(_loss, model, train, batch), len(batch.index)) for batch in batches)
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


def _loss(model: Model, train: Samples, batch: Batch) -> Tensor:
    return loss_of(train.target, model(batch.x, batch.lengths), batch.y).mean()


class HessianProbe(Regulariser):
    """Estimate the trace at the ends of epochs.

    every:         epochs between two estimates
    vectors:       random vectors of an estimate
    samples:       largest number of training samples
    batch_numbers: input numbers of a batch; fewer need less memory
    """

    neutral = {"every": 1, "vectors": 2, "samples": 16}

    def __init__(
        self,
        every: int = 10,
        vectors: int = NUM_VECTORS,
        samples: int = NUM_SAMPLES,
        batch_numbers: int = BATCH_NUMBERS,
    ) -> None:
        given = {"every": every, "vectors": vectors, "samples": samples}
        for name, value in {**given, "batch_numbers": batch_numbers}.items():
            require(value >= 1, "hessian_probe", f"{name} must be at least 1", value)
        self.every, self.num_vectors, self.num_samples = every, vectors, samples
        self.batch_numbers = batch_numbers

    def tick(self, event: Event, fit: Fit) -> None:
        if not is_due(self.every, event, fit):
            return
        require(fit.train is not None, "hessian_probe", "the fit must have samples", fit.train)
        assert fit.train is not None
        found = hessian_trace(
            self.model,
            fit.train,
            num_vectors=self.num_vectors,
            num_samples=self.num_samples,
            batch_numbers=self.batch_numbers,
        )
        fit.record("hessian_trace", found.mean)
        fit.record("hessian_trace_se", found.standard_error)


build = HessianProbe


def cost(
    options: Mapping[str, Any], model: str, num_train: float, max_epochs: int, num_outputs: int
) -> float:
    """Return the cost of its estimates in a fit, in training steps of one sample."""
    looks = num_looks(options["every"], max_epochs)
    samples = looks * options["vectors"] * min(options["samples"], num_train)
    return float(samples) * _VECTOR_COST.get(model, _OTHER_VECTOR_COST)
