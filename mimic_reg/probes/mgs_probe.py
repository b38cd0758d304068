"""MGS probe: record how alike the gradients of all outputs are (model gradient similarity).

After the first epoch and every `every`-th it records two numbers of the kernel K of
`metrics.similarity`, with R samples times outputs::

    mgs_trace   = tr K / R
    mgs_log_det = log det K / R

They are measured in evaluation mode, on a fixed batch of training samples. The batch has its own
random stream and is the same at every epoch and for every method, so curves can be compared. They
depend on how many samples it has.

Use it to see whether a network memorises. It changes nothing in the fit, so it can join any method.

Notes:
- Dividing by R is our choice. K is singular if units are dead, so a millionth of its mean diagonal
  is added to the diagonal.
- List it last: it sees the model as the methods before it left it.
- Memory: R gradients of the whole model at once, 480 MB for the dnn with ten outputs and eight
  samples.

Paper: Szolnoky et al., "On the interpretability of regularisation for neural networks through model
gradient similarity", NeurIPS 2022.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mimic_reg import seeds
from mimic_reg.methods.base import Event, Fit, Regulariser, differentiation, require, trainable
from mimic_reg.metrics.similarity import Similarity, gradient_rows, similarity
from mimic_reg.models.base import Model
from mimic_reg.probes._schedule import is_due, num_looks
from mimic_reg.samples import Samples

NUM_SAMPLES = 8
# Time of the gradient of one logit of a sample, relative to training on it; one thread, measured.
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
    """Return the logits (C,) of a sample, in a batch of one: its gradient needs less memory."""
    batch = samples.gather(torch.tensor([i]))
    return model(batch.x, batch.lengths)[0]


class MgsProbe(Regulariser):
    """Measure at the ends of epochs.

    every:   epochs between two measurements
    samples: largest number of training samples; time and memory grow with it
    """

    neutral = {"every": 1, "samples": 4}

    def __init__(self, every: int = 10, samples: int = NUM_SAMPLES) -> None:
        require(every >= 1, "mgs_probe", "every must be at least 1", every)
        require(samples >= 1, "mgs_probe", "samples must be at least 1", samples)
        self.every, self.samples = every, samples

    def tick(self, event: Event, fit: Fit) -> None:
        if not is_due(self.every, event, fit):
            return
        require(fit.train is not None, "mgs_probe", "the fit must have samples", fit.train)
        assert fit.train is not None
        found = gradient_similarity(self.model, fit.train, num_samples=self.samples)
        fit.record("mgs_trace", found.trace)
        fit.record("mgs_log_det", found.log_det)


build = MgsProbe


def cost(
    options: Mapping[str, Any], model: str, num_train: float, max_epochs: int, num_outputs: int
) -> float | None:
    """Return the cost of its gradients in a fit, in training steps of one sample."""
    if model not in _GRADIENT_COST:
        return None
    looks = num_looks(options["every"], max_epochs)
    return float(looks * min(options["samples"], num_train) * num_outputs * _GRADIENT_COST[model])
