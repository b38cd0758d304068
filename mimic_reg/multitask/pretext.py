"""Objectives for a trunk on stays without labels: masked values, and views of the same stay.

Masked: a share of the measured cells (hour, variable) is hidden, and the trunk's features have to
predict their values, hour by hour. A hidden value is also removed from the hours into which it was
carried forward; otherwise the next hour would reveal it.

Contrastive (InfoNCE, van den Oord et al., arXiv 1807.03748; SimCLR, Chen et al., ICML 2020): two
views of a stay have to be more similar than views of different stays in the batch. A view is a
window of half to all of its hours, with hidden cells and jittered values.

`Pretext` returns the root of a stay's loss. With the label 0 and the squared error as the loss, the
ordinary engine can train it, and its root mean squared error is the root of the mean loss.

Shapes: B stays, T hours, F channels, V variables, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimic_reg.errors import InputError
from mimic_reg.models.base import Model, linear
from mimic_reg.models.transformer import sines
from mimic_reg.seeds import generator as seeded
from mimic_reg.store.spec import Channel

Objective = Literal["masked", "contrastive"]

WIDTH = 128  # of the layers that are not kept
PROJECTED = 64  # size of the vectors that compare views
TIME_NUMBERS = 32  # size of the encoding of an hour
LARGEST = 5.0  # standard deviations; larger values to predict are outliers
SMALL = 1e-12  # added under the root, which has no gradient at 0


@dataclass(frozen=True)
class Cells:
    """The channels of measured values, for each variable.

    value:    (V,) the variable's continuous channel
    observed: (V,) the channel that marks measurements, or -1 if it is always measured
    """

    value: Tensor
    observed: Tensor


def find_cells(channels: Sequence[Channel]) -> Cells:
    """Return a cohort's cells.

    Raises:
        InputError: the cohort has no continuous channel.
    """
    observed = {c.variable: i for i, c in enumerate(channels) if c.kind == "observed"}
    values = [(i, c.variable) for i, c in enumerate(channels) if c.kind == "continuous"]
    if not values:
        raise InputError("Self-supervised training needs continuous channels; there are none.")
    return Cells(
        torch.tensor([i for i, _ in values]),
        torch.tensor([observed.get(variable, -1) for _, variable in values]),
    )


def measured(x: Tensor, lengths: Tensor, cells: Cells) -> Tensor:
    """Return (B, T, V): True if a value was measured."""
    hours = torch.arange(x.shape[1], device=x.device)
    valid = hours < lengths.to(x.device)[:, None]
    seen = x[..., cells.observed.clamp(min=0)] > 0.5
    return (seen | (cells.observed < 0)) & valid[..., None]


def hide(x: Tensor, seen: Tensor, hidden: Tensor, cells: Cells) -> Tensor:
    """Return x (B, T, F) as if the hidden cells had not been measured.

    The last measurement before a hidden cell is carried forward to the next one. Before the first
    measurement, values do not change; if the first hour is hidden, they are the mean.

    seen, hidden: (B, T, V)
    """
    values, kept = x[..., cells.value], seen & ~hidden
    hours = torch.arange(x.shape[1], device=x.device)[:, None]
    last = torch.where(kept, hours, -1).cummax(dim=1).values
    was_last = torch.where(seen, hours, -1).cummax(dim=1).values
    before = torch.where(seen[:, :1], 0.0, values[:, :1]).expand_as(values)
    carried = torch.where(last >= 0, values.gather(1, last.clamp(min=0)), before)
    new = x.clone()
    new[..., cells.value] = torch.where(last == was_last, values, carried)
    flags = cells.observed >= 0
    new[..., cells.observed[flags]] = kept[..., flags].to(x.dtype)
    return new


def draw_hidden(seen: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Return (B, T, V): True for a share of the measured cells."""
    draws = torch.rand(seen.shape, generator=generator, device=seen.device)
    return seen & (draws < rate)


def window(x: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a window of each stay, with half to all of its hours: values and lengths."""
    draws = torch.rand(2, len(x), generator=generator, device=x.device).cpu()
    least = (lengths + 1) // 2
    length = least + (draws[0] * (lengths - least + 1)).long()
    first = (draws[1] * (lengths - length + 1)).long().to(x.device)
    hours = torch.arange(int(length.max()), device=x.device)
    source = (first[:, None] + hours).clamp_(max=x.shape[1] - 1)
    cut = x.gather(1, source[..., None].expand(-1, -1, x.shape[2]))
    valid = hours < length.to(x.device)[:, None]
    return cut * valid[..., None], length


def contrastive_losses(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Return InfoNCE (B,) of two views (B, D) of each stay, the mean of both directions."""
    similar = F.normalize(a, dim=1) @ F.normalize(b, dim=1).mT / temperature
    own = torch.arange(len(a), device=a.device)
    both = (similar, similar.mT)
    return torch.stack([F.cross_entropy(s, own, reduction="none") for s in both]).mean(0)


class Decoder(nn.Module):
    """Predicts the values of each hour from features: (B, D) -> (B, T, V)."""

    def __init__(self, dim: int, variables: int, generator: torch.Generator) -> None:
        super().__init__()
        self.features = linear(dim, WIDTH, generator)
        self.time = linear(TIME_NUMBERS, WIDTH, generator)
        self.out = linear(WIDTH, variables, generator)

    def forward(self, features: Tensor, hours: int) -> Tensor:
        """Return the values (B, T, V) of all hours."""
        place = sines(features.new_empty(1, hours, TIME_NUMBERS))
        return self.out((self.features(features)[:, None] + self.time(place)).relu())


class Pretext(Model):
    """A trunk with a head that computes a loss from its features.

    generator: for masks and views in training; evaluation always has the same masks and views
    """

    generator: torch.Generator | None = None
    value: Tensor
    observed: Tensor

    def __init__(
        self,
        model: Model,
        cells: Cells,
        objective: Objective,
        *,
        rate: float,
        noise: float,
        temperature: float,
        generator: torch.Generator,
    ) -> None:
        dim = model.head.in_features
        assert isinstance(dim, int), "the head of a model for hours is a linear layer"
        head: nn.Module
        if objective == "masked":
            head = Decoder(dim, len(cells.value), generator)
        else:
            first, last = linear(dim, WIDTH, generator), linear(WIDTH, PROJECTED, generator)
            head = nn.Sequential(first, nn.ReLU(), last)
        super().__init__(model.trunk, head)
        self.register_buffer("value", cells.value, persistent=False)
        self.register_buffer("observed", cells.observed, persistent=False)
        self.objective = objective
        self.rate, self.noise, self.temperature = rate, noise, temperature

    @property
    def cells(self) -> Cells:
        """Return the cells on the model's device."""
        return Cells(self.value, self.observed)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the root of each stay's loss, (B, 1)."""
        generator = self.generator
        if not self.training or generator is None:
            generator = seeded("pretext", "evaluation", device=x.device)
        losses = self._masked if self.objective == "masked" else self._contrastive
        return (losses(x, lengths, generator) + SMALL).sqrt()[:, None]

    def _masked(self, x: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        seen = measured(x, lengths, self.cells)
        hidden = draw_hidden(seen, self.rate, generator)
        features = self.features(hide(x, seen, hidden, self.cells), lengths)
        wanted = x[..., self.cells.value].clamp(-LARGEST, LARGEST)
        errors = (self.head(features, x.shape[1]) - wanted).square() * hidden
        return errors.sum((1, 2)) / hidden.sum((1, 2)).clamp(min=1)

    def _contrastive(self, x: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        views = [self.head(self.features(*self._view(x, lengths, generator))) for _ in range(2)]
        return contrastive_losses(views[0], views[1], self.temperature)

    def _view(
        self, x: Tensor, lengths: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        cut, length = window(x, lengths, generator)
        seen = measured(cut, length, self.cells)
        cut = hide(cut, seen, draw_hidden(seen, self.rate, generator), self.cells)
        values = cut[..., self.cells.value]
        noise = torch.randn(values.shape, generator=generator, device=x.device) * self.noise
        hours = torch.arange(cut.shape[1], device=x.device) < length.to(x.device)[:, None]
        cut[..., self.cells.value] = values + noise * hours[..., None]
        return cut, length
