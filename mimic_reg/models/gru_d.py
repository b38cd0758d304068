"""GRU-D: a GRU that lets old measurements, and its state, fade with the hours since (Che et al.).

Where a value was not measured, the last measurement counts less the older it is, and so does the
state::

    g = exp(-max(0, w d + b))               d: hours since the measurement before this hour
    x <- m x + (1 - m) g x_last             m: 1 where it was measured; the mean is 0
    h <- exp(-max(0, W d + b)) h

The GRU also reads m. Without a channel that tells when it was measured, a variable counts as
measured in every hour. The features of an hour depend on it and the hours before it alone, so one
pass over a stay gives the predictions of all its hours. 28,407 trainable parameters with one
output, 29,967 with 25.

Notes:
- The last measurement is found in the sample, so how the store fills empty hours does not matter.
- The mean of measurements, to which they fade, is that of the normaliser: 0. A category fades to
  none.
- Hours since a measurement are those of its variable, and so is m.
- Weights of the decay of values begin above 0: below, they would never learn.

Paper: Che et al., "Recurrent neural networks for multivariate time series with missing values",
Scientific Reports 8 (2018).

Shapes: S rows, B samples, T hours, F channels, V variables, K values (channels that are no flags),
H units, C outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mimic_reg.models.base import Model, Site, at_hours, check_hours, hourly, linear, require_sizes
from mimic_reg.samples.variables import Variable, measured, variables
from mimic_reg.store.spec import Channel


class GRUDTrunk(nn.Module):
    """(S, T, F) -> (B, H): the state at each sample's last hour; one site after it.

    values: positions (K,) of the values
    owner:  the variable (K,) of each
    """

    def __init__(
        self, n_features: int, of: Sequence[Variable], units: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.n_features, self.of = n_features, of
        both = [(p, v) for v, each in enumerate(of) for p in (*each.values, *each.categories)]
        self.values = [position for position, _ in both]
        self.owner = [variable for _, variable in both]
        limit = units**-0.5
        self.value_decay = nn.Parameter(torch.empty(len(both)))
        nn.init.uniform_(self.value_decay, 0, limit, generator=generator)
        self.value_bias = nn.Parameter(torch.zeros(len(both)))
        self.state_decay = linear(len(of), units, generator)
        nn.init.uniform_(self.state_decay.weight, -limit, limit, generator=generator)
        self.read = linear(len(both) + len(of), 3 * units, generator)
        self.gates = nn.Parameter(torch.empty(2 * units, units))
        self.candidate = nn.Parameter(torch.empty(units, units))
        for weight in (self.gates, self.candidate):
            nn.init.orthogonal_(weight, generator=generator)
        self.site = Site(units)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, H)."""
        check_hours(x, "gru_d", self.n_features)
        m = measured(x, self.of)
        since = hours_since(m)
        filled = self.fill(x[..., self.values], m[..., self.owner], since[..., self.owner])
        fading = torch.exp(-self.state_decay(since).relu())
        inputs = self.read(torch.cat([filled, m.to(x.dtype)], dim=2))
        return self.site(at_hours(self.recur(inputs, fading), lengths))

    def fill(self, x: Tensor, m: Tensor, since: Tensor) -> Tensor:
        """Return the values (S, T, K) with faded measurements where there was none."""
        fade = torch.exp(-(self.value_decay * since + self.value_bias).relu())
        return torch.where(m, x, fade * last_measured(x, m))

    def recur(self, inputs: Tensor, fading: Tensor) -> Tensor:
        """Return the states (S, T, H); inputs: of update, reset and candidate (S, T, 3H)."""
        h, states = torch.zeros_like(fading[:, 0]), []
        for now, fade in zip(inputs.unbind(1), fading.unbind(1), strict=True):
            h = fade * h
            gates = now[:, : len(self.gates)] + h @ self.gates.T
            update, reset = gates.sigmoid().chunk(2, dim=1)
            new = (now[:, len(self.gates) :] + (reset * h) @ self.candidate.T).tanh()
            h = (1 - update) * h + update * new
            states.append(h)
        return torch.stack(states, dim=1)


def hours_since(m: Tensor) -> Tensor:
    """Return the hours (S, T, V) since the last measurement before this hour, or since hour 0."""
    hours = torch.arange(m.shape[1], device=m.device)[:, None]
    last = torch.where(m, hours, 0).cummax(dim=1).values
    before = torch.cat([torch.zeros_like(last[:, :1]), last[:, :-1]], dim=1)
    return (hours - before).float()


def last_measured(x: Tensor, m: Tensor) -> Tensor:
    """Return the last measurement (S, T, K) until each hour, and 0 before the first."""
    hours = torch.arange(m.shape[1], device=m.device)[:, None]
    last = torch.where(m, hours, -1).cummax(dim=1).values
    return torch.where(last >= 0, x.gather(1, last.clamp(min=0)), 0.0)


def build(
    *,
    n_outputs: int,
    shape: tuple[int, ...],
    cohort_channels: Sequence[Channel],
    generator: torch.Generator,
    units: int = 64,
) -> Model:
    """Return the model.

    shape: (F,) of an hour
    cohort_channels: its channels (F,)
    units: number H of units

    Raises:
        InputError: a size below 1.
    """
    n_features = hourly("gru_d", shape)
    require_sizes("gru_d", units=units)
    trunk = GRUDTrunk(n_features, variables(cohort_channels), units, generator)
    return Model(trunk, linear(units, n_outputs, generator), causal=True)
