"""Variational LSTM: dropout in a recurrence, with one mask for all hours of a sample.

Formula, with masks drawn once for each sample and direction and kept over time::

    gates_t = W (x_t * m_x) + U (h_{t-1} * m_h) + b
    output  = h_T * m_o

The cell state is not dropped. Evaluation uses the plain LSTM.

Use it with LSTMs in place of dropout. A step takes longer, because no fused kernel supports
such masks.

Notes:
- `tied: false` draws m_x and m_h for each gate, as Keras does with `recurrent_dropout`; `tied:
  true` shares them.
- Table II of Thakur et al. has no rate for it; the default is that of its dropout row.
- It is not the "variational" weight drop of AWD-LSTM, which drops rows of U, hence gate outputs.

Kind: dropout

Paper: Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent neural
networks", NeurIPS 2016.

Shapes: B samples, T hours, F channels, H units, D directions, G gates (i, f, g, o).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Fit, Regulariser, draw_keep, require
from mimic_reg.models.base import Model, Recurrence, recur, reverse

NUM_GATES = 4
DIRECTIONS = ("", "_reverse")  # torch's suffixes


def replace_recurrences(model: Model, method: str, make: Callable[[nn.LSTM], nn.Module]) -> None:
    """Replace every recurrence by `make(its lstm)`, which owns the same parameters.

    Raises:
        InputError: the model has none.
    """
    found = [
        (parent, name, child.lstm)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, Recurrence)
    ]
    if not found:
        raise InputError(f"{method}: the model has no LSTM. Train the model 'lstm'.")
    for parent, name, lstm in found:
        setattr(parent, name, make(lstm))


@dataclass(frozen=True)
class Patterns:
    """Masks of mean 1; x: (D, G or 1, B, F); h: (D, G or 1, B, H); out: (B, D x H)."""

    x: Tensor
    h: Tensor
    out: Tensor


def draw_patterns(
    lstm: nn.LSTM, like: Tensor, rate: float, tied: bool, generator: torch.Generator
) -> Patterns:
    """Return new masks for the batch `like` (B, T, F)."""
    lead = (len(DIRECTIONS), 1 if tied else NUM_GATES, len(like))
    shapes = (
        (*lead, lstm.input_size),
        (*lead, lstm.hidden_size),
        (len(like), len(DIRECTIONS) * lstm.hidden_size),
    )
    return Patterns(*(draw_keep(like.new_empty(shape), rate, generator) for shape in shapes))


def per_gate(lstm: nn.LSTM, name: str) -> Tensor:
    """Return a parameter of both directions: (D, G, H, ...)."""
    stacked = torch.stack([getattr(lstm, f"{name}_l0{suffix}") for suffix in DIRECTIONS])
    return stacked.view(len(DIRECTIONS), NUM_GATES, lstm.hidden_size, *stacked.shape[2:])


def variational_states(lstm: nn.LSTM, x: Tensor, lengths: Tensor, patterns: Patterns) -> Tensor:
    """Return the last states (B, D x H) of (B, T, F); without masks, those of `recur`."""
    num_samples, num_hours, _ = x.shape
    both = torch.stack([x, reverse(x, lengths)])[:, None]  # (D, 1, B, T, F)
    dropped = (both * patterns.x[:, :, :, None]).flatten(2, 3)
    bias = per_gate(lstm, "bias_ih") + per_gate(lstm, "bias_hh")
    inputs = dropped @ per_gate(lstm, "weight_ih").mT + bias[:, :, None]  # (D, G, B x T, H)
    inputs = inputs.view(*inputs.shape[:2], num_samples, num_hours, -1)
    recurrent = per_gate(lstm, "weight_hh").mT
    here = lengths.to(x.device, non_blocking=True)
    valid = torch.arange(num_hours, device=x.device)[:, None] < here  # (T, B)

    h = c = x.new_zeros(len(DIRECTIONS), num_samples, lstm.hidden_size)
    for input_t, valid_t in zip(inputs.unbind(3), valid[..., None], strict=True):
        gates = input_t + (h[:, None] * patterns.h) @ recurrent
        i, f, g, o = gates.unbind(1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()  # runs on beyond the end; h does not see it
        h = torch.where(valid_t, o.sigmoid() * c.tanh(), h)
    return torch.cat(tuple(h), dim=1) * patterns.out


class VariationalRecurrence(nn.Module):
    """Replace `Recurrence` in a model; its parameters keep their names."""

    def __init__(self, lstm: nn.LSTM, rate: float, tied: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.lstm = lstm
        self.rate, self.tied, self.generator = rate, tied, generator

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if not self.training or self.rate == 0:  # nothing to drop: the fused kernel
            return recur(self.lstm, x, lengths)
        x = x[:, : int(lengths.max())]
        patterns = draw_patterns(self.lstm, x, self.rate, self.tied, self.generator)
        return variational_states(self.lstm, x, lengths, patterns)


class VariationalLSTM(Regulariser):
    """Replace the model's recurrence.

    rate: probability of dropping a number
    tied: share the masks of a sample between the gates
    """

    neutral = {"rate": 0.0}

    def __init__(self, rate: float = 0.5, tied: bool = False) -> None:
        require(0 <= rate < 1, "variational_lstm", "rate must be in [0, 1)", rate)
        self.rate, self.tied = rate, tied

    def prepare(self, model: Model, fit: Fit) -> Model:
        replace_recurrences(
            model,
            "variational_lstm",
            lambda lstm: VariationalRecurrence(lstm, self.rate, self.tied, fit.generator),
        )
        return model


build = VariationalLSTM
