"""Mollified LSTM: start with a mean over hours, and turn it gradually into an LSTM.

m falls linearly from 1 to 0 over a share of the fit. At hour t of the sequence, counted from 1 in
reading order, the gates are::

    i = m / t           + (1 - m) * sigmoid(.)
    f = m * (1 - 1 / t) + (1 - m) * sigmoid(.)
    o = m               + (1 - m) * sigmoid(.)

At m = 1 the cell state is the running mean of the candidates g_t, a bag of hours that is easy to
optimise. At m = 0 it is the plain LSTM, with the fused kernel.

Use it if an LSTM is hard to train. It costs what `variational_lstm` costs while m > 0, and nothing
afterwards.

Notes:
- t is the position in the sequence, which makes the last cell state the mean of g_t. The paper
  calls t the annealing step; with one t for the whole sequence the cell would have no memory at the
  start of the fit.
- The paper's noise and its skipping of layers are not implemented.
- Evaluation uses the current m. Epochs before m = 0 are not selected and do not count for patience.

Kind: network

Paper: Gulcehre et al., "Mollifying networks", ICLR 2017, arXiv 1608.04980.

Shapes: B samples, T hours, F channels, H units, D directions, G gates (i, f, g, o).
"""

import torch
from torch import Tensor, nn

from mimic_reg.methods.base import Event, Fit, Regulariser, require
from mimic_reg.methods.variational_lstm import per_gate, replace_recurrences
from mimic_reg.models.base import Model, recur, reverse

EXCLUDES = {"variational_lstm": "both replace the recurrent layers."}


def mollified_gates(
    i: Tensor, f: Tensor, o: Tensor, position: int, m: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gates after the sigmoid, mollified by m; position: of the hour, from 1."""
    return (m / position + (1 - m) * i, m * (1 - 1 / position) + (1 - m) * f, m + (1 - m) * o)


def mollified_states(lstm: nn.LSTM, x: Tensor, lengths: Tensor, m: float) -> Tensor:
    """Return the last states (B, D x H) of (B, T, F); at m = 0 those of `models.base.recur`."""
    both = torch.stack([x, reverse(x, lengths)])[:, None]  # (D, 1, B, T, F)
    bias = per_gate(lstm, "bias_ih") + per_gate(lstm, "bias_hh")
    weight = per_gate(lstm, "weight_ih").mT
    inputs = both @ weight[:, :, None] + bias[:, :, None, None]  # (D, G, B, T, H)
    recurrent = per_gate(lstm, "weight_hh").mT
    here = lengths.to(x.device, non_blocking=True)
    valid = torch.arange(x.shape[1], device=x.device)[:, None] < here  # (T, B)

    h = c = x.new_zeros(len(both), len(x), lstm.hidden_size)
    hours = zip(inputs.unbind(3), valid[..., None], strict=True)
    for position, (input_t, valid_t) in enumerate(hours, start=1):
        i, f, g, o = (input_t + h[:, None] @ recurrent).unbind(1)
        i, f, o = mollified_gates(i.sigmoid(), f.sigmoid(), o.sigmoid(), position, m)
        c = f * c + i * g.tanh()  # runs on beyond the end; h does not see it
        h = torch.where(valid_t, o * c.tanh(), h)
    return torch.cat(tuple(h), dim=1)


class MollifiedRecurrence(nn.Module):
    """Replace `Recurrence` in a model; its parameters keep their names."""

    def __init__(self, lstm: nn.LSTM, method: "MollifiedLSTM") -> None:
        super().__init__()
        self.lstm, self.method = lstm, method

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if self.method.m == 0:
            return recur(self.lstm, x, lengths)
        return mollified_states(self.lstm, x[:, : int(lengths.max())], lengths, self.method.m)


class MollifiedLSTM(Regulariser):
    """Replace the model's recurrence, and lower m after each step.

    share: share of the longest fit over which m falls from 1 to 0
    """

    neutral = {"share": 0.0}
    remembered = ("m",)

    def __init__(self, share: float = 0.3) -> None:
        name = "mollified_lstm"
        require(0 <= share < 1, name, "share must be a share of the fit, in [0, 1)", share)
        self.duration, self.m = share, 1.0 if share else 0.0

    def prepare(self, model: Model, fit: Fit) -> Model:
        replace_recurrences(model, "mollified_lstm", lambda lstm: MollifiedRecurrence(lstm, self))
        return model

    def tick(self, event: Event, fit: Fit) -> None:
        if event == "step" and self.m > 0:
            progress = fit.step / (self.duration * fit.epoch_steps * fit.max_epochs)
            self.m = max(0.0, 1 - progress)
        elif event == "before_validation" and self.m > 0:
            fit.eligible = False
        elif event == "epoch_end":
            fit.record("mollified", self.m)
            if self.m > 0:
                fit.started = False


build = MollifiedLSTM
