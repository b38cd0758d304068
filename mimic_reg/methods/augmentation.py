"""Augmentation: inputs are changed in ways that leave their label true, anew in every step.

Of stays (Um et al. 2017): `jitter` adds noise to each measurement; `scaling` multiplies a channel
of a sample by N(1, scaling); `masking` hides up to this share of a sample's hours, one stretch.
Of images (Krizhevsky et al. 2012; He et al. 2016): `padding` moves them by up to so many pixels,
with zeros from outside; `flip` mirrors them from left to right with this probability.
Without a value, `scaling` and `masking` are 0.1 where samples are stays, `padding` is 4 and `flip`
0.5 where they are images; 0 turns an option off.

Rulings: hours are neither warped nor cut off, and the last hour is never hidden, for labels may
depend on how a stay ends. A hidden hour is zeros: normalised means, no category, nothing observed.
Jitter and scaling leave channels of 0 and 1 alone.

Shapes: B samples, T hours, F channels; images (B, C, H, W).
"""

from dataclasses import replace
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from mimic_reg.errors import InputError
from mimic_reg.methods._inputs import changeable, continuous_channels
from mimic_reg.methods.base import Batch, Fit, Options, Regulariser, require
from mimic_reg.models.base import Model

OF_HOURS, OF_IMAGES = ("jitter", "scaling", "masking"), ("padding", "flip")
DEFAULTS_OF_HOURS: Options = {"scaling": 0.1, "masking": 0.1}
DEFAULTS_OF_IMAGES: Options = {"padding": 4, "flip": 0.5}


def hidden_hours(lengths: Tensor, longest: int, share: float, rng: torch.Generator) -> Tensor:
    """Return (B, T) bool: a stretch of up to `share` of each sample's hours, without the last."""
    device = rng.device
    lengths = lengths.to(device)
    most = (lengths * share).long().minimum(lengths - 1)
    random = torch.rand(2, len(lengths), generator=rng, device=device)
    count = (random[0] * (most + 1)).long().minimum(most)
    places = lengths - count  # a stretch may begin at 0, ..., so that it ends before the last hour
    first = (random[1] * places).long().minimum(places - 1)
    hours = torch.arange(longest, device=device)
    return (hours >= first[:, None]) & (hours < (first + count)[:, None])


def shifted(x: Tensor, padding: int, rng: torch.Generator) -> Tensor:
    """Return images moved by up to `padding` pixels, each by its own number."""
    size, _, height, width = x.shape
    padded = F.pad(x, [padding] * 4)
    down, right = torch.randint(2 * padding + 1, (2, size), generator=rng, device=x.device)
    rows = down[:, None] + torch.arange(height, device=x.device)
    columns = right[:, None] + torch.arange(width, device=x.device)
    samples = torch.arange(size, device=x.device)
    moved = padded[samples[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()  # (B, H, W, C) by the rules of indexing


def mirrored(x: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Return images of which about a share is mirrored from left to right."""
    turned = torch.rand(len(x), generator=rng, device=x.device) < share
    return torch.where(turned[:, None, None, None], x.flip(3), x)


@final
class Augmentation(Regulariser):
    """Changes inputs."""

    neutral: ClassVar[Options] = dict.fromkeys(OF_HOURS + OF_IMAGES, 0)

    def __init__(
        self,
        jitter: float,
        scaling: float | None,
        masking: float | None,
        padding: int | None,
        flip: float | None,
    ) -> None:
        name = "augmentation"
        require(jitter >= 0, name, "jitter must be at least 0", jitter)
        positive = scaling is None or scaling >= 0
        require(positive, name, "scaling must be at least 0", scaling)
        part = masking is None or 0 <= masking < 1
        require(part, name, "masking must be in [0, 1)", masking)
        require(padding is None or padding >= 0, name, "padding must be at least 0", padding)
        require(flip is None or 0 <= flip <= 1, name, "flip must be in [0, 1]", flip)
        self.jitter, self.scaling, self.masking = jitter, scaling, masking
        self.padding, self.flip = padding, flip

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Find the channels that are measurements; set the options without a value.

        Raises:
            InputError: an option is of the other kind of samples.
        """
        if fit.train is not None:
            hourly = fit.train.units.sequence
            self._check(hourly=hourly)
            self._complete(DEFAULTS_OF_HOURS if hourly else DEFAULTS_OF_IMAGES)
        self.channels = continuous_channels(fit.train)
        return model

    def _check(self, *, hourly: bool) -> None:
        wrong = [name for name in (OF_IMAGES if hourly else OF_HOURS) if getattr(self, name)]
        if wrong:
            here, allowed = ("hours", OF_HOURS) if hourly else ("images", OF_IMAGES)
            raise InputError(
                f"augmentation: {wrong[0]} does nothing to {here}, which this task has. "
                f"Options for {here}: {', '.join(allowed)}."
            )

    def _complete(self, defaults: Options) -> None:
        for option, value in defaults.items():
            if getattr(self, option) is None:
                setattr(self, option, value)

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        """Change the inputs."""
        x, rng = batch.x, fit.generator
        if self.scaling or self.jitter:
            x = x + self._change(batch, rng) * changeable(batch, self.channels)
        if self.masking:
            hidden = hidden_hours(batch.lengths, x.shape[1], self.masking, rng)
            x = x.masked_fill(hidden[..., None], 0)
        if self.padding:
            x = shifted(x, self.padding, rng)
        if self.flip:
            x = mirrored(x, self.flip, rng)
        return batch if x is batch.x else replace(batch, x=x)

    def _change(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return what scaling and jitter add to (B, T, F)."""
        x = batch.x
        change = torch.zeros_like(x)
        if self.scaling:
            change = x * x.new_empty(len(x), 1, x.shape[2]).normal_(0, self.scaling, generator=rng)
        if self.jitter:
            change = change + torch.empty_like(x).normal_(0, self.jitter, generator=rng)
        return change


def build(
    jitter: float = 0.0,
    scaling: float | None = None,
    masking: float | None = None,
    padding: int | None = None,
    flip: float | None = None,
) -> Augmentation:
    """Return the method.

    jitter:  of hours: deviation of the noise on measurements
    scaling: of hours: deviation of a channel's factor from 1; 0.1 without a value
    masking: of hours: the largest share of them that is hidden; 0.1 without a value
    padding: of images: the largest shift, in pixels; 4 without a value
    flip:    of images: the probability of mirroring; 0.5 without a value
    """
    return Augmentation(jitter, scaling, masking, padding, flip)
