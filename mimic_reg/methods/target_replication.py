"""Target replication: the label is also predicted at each hour before the last.

Formula, with the loss L_t of a prediction after hour t, and T hours of a sample::

    (1 - alpha) L_T + alpha (L_1 + ... + L_T) / T

Use it for tasks with one label a stay, such as in-hospital mortality and phenotyping: it teaches a
recurrent network at every hour. Tasks with a label for each hour train by whole stays instead
(`training.by_stay`), which is the benchmark's deep supervision.

Notes:
- The model must be causal: causal_lstm, causal_transformer, gru, gru_d, tcn, or standard_lstm and
  channel_wise_lstm with `bidirectional: false`. One more pass gives the losses of all hours.
- What draws noise in a forward pass, such as dropout, draws again for that pass.
- Predictions are those after the last hour.

Kind: penalty

Paper: Lipton et al., "Learning to diagnose with LSTM recurrent neural networks", ICLR 2016;
Harutyunyan et al., "Multitask learning and benchmarking with clinical time series data", Scientific
Data 6 (2019).

Shapes: B samples, N hours of all of them, C outputs.
"""

import torch
from torch import Tensor

from mimic_reg.methods.base import Fit, Regulariser, Step, require
from mimic_reg.models.base import loss_of

EXCLUDES = {"bagging": "it would train on samples of patients that were not drawn."}


def every_hour(lengths: Tensor) -> Tensor:
    """Return the sample and the hours (N, 2) of every prefix of samples of `lengths` (B,)."""
    sample = torch.arange(len(lengths)).repeat_interleave(lengths)
    before = (lengths.cumsum(0) - lengths)[sample]
    return torch.stack([sample, torch.arange(len(sample)) - before + 1], dim=1)


class TargetReplication(Regulariser):
    """Add the losses of all hours.

    alpha: share of their mean in the loss
    """

    needs = frozenset({"causal"})
    neutral = {"alpha": 0.0}
    by_stay = False

    def __init__(self, alpha: float = 0.5) -> None:
        require(0 <= alpha <= 1, "target_replication", "alpha must be in [0, 1]", alpha)
        self.alpha = alpha

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        if self.alpha == 0:
            return loss
        places, device = every_hour(step.batch.lengths), step.logits.device
        sample = places[:, 0].to(device, non_blocking=True)
        logits = step.model(step.batch.x, places)
        losses = loss_of(fit.target, logits, step.batch.y[sample], fit.class_weights)
        hours = step.batch.lengths.to(device, non_blocking=True)
        means = torch.zeros_like(step.per_sample).index_add(0, sample, losses) / hours
        return loss + self.alpha * (means - step.per_sample).mean()


build = TargetReplication
