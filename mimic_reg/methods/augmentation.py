"""Augmentation: change the inputs in each step in ways that keep their label true.

For stays, `jitter` adds noise to each measurement, `scaling` multiplies each channel of a sample by
a factor from N(1, scaling), and `masking` hides one stretch of up to this share of the hours. For
images, `padding` shifts by up to so many pixels, with zeros outside, and `flip` mirrors left to
right with this probability. An option of 0 is off.

Use it if you know which changes of an input do not change its meaning.

Notes:
- Hours are neither warped nor cut, and the last hour is never hidden, because labels may depend on
  how a stay ends. A hidden hour is all zeros: normalised means, no category, nothing observed.
- Jitter and scaling leave channels of 0 and 1 unchanged.

Kind: data

Paper: Um et al., "Data augmentation of wearable sensor data for Parkinson's disease monitoring
using convolutional neural networks", ICMI 2017; Krizhevsky et al., "ImageNet classification with
deep convolutional neural networks", NIPS 2012; He et al., "Deep residual learning for image
recognition", CVPR 2016.

Shapes: B samples, T hours, F channels; images (B, C, H, W).
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mimic_reg.errors import InputError
from mimic_reg.methods._inputs import changeable, continuous_channels
from mimic_reg.methods.base import Batch, Fit, Options, Regulariser, require
from mimic_reg.models.base import Model

OF_HOURS: Options = {"jitter": 0.0, "scaling": 0.1, "masking": 0.1}  # option → default
OF_IMAGES: Options = {"padding": 4, "flip": 0.5}


def hidden_hours(lengths: Tensor, longest: int, share: float, rng: torch.Generator) -> Tensor:
    """Return (B, T) bool: a stretch of up to `share` of each sample's hours, without the last."""
    device = rng.device
    lengths = lengths.to(device, non_blocking=True)
    most = (lengths * share).long().minimum(lengths - 1)
    random = torch.rand(2, len(lengths), generator=rng, device=device)
    count = (random[0] * (most + 1)).long().minimum(most)
    places = lengths - count  # possible first hours, such that the stretch ends before the last
    first = (random[1] * places).long().minimum(places - 1)
    hours = torch.arange(longest, device=device)
    return (hours >= first[:, None]) & (hours < (first + count)[:, None])


def shifted(x: Tensor, padding: int, rng: torch.Generator) -> Tensor:
    """Return each image shifted by its own random number of pixels, up to `padding`."""
    size, _, height, width = x.shape
    padded = F.pad(x, [padding] * 4)
    down, right = torch.randint(2 * padding + 1, (2, size), generator=rng, device=x.device)
    rows = down[:, None] + torch.arange(height, device=x.device)
    columns = right[:, None] + torch.arange(width, device=x.device)
    samples = torch.arange(size, device=x.device)
    moved = padded[samples[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()  # indexing gives (B, H, W, C)


def mirrored(x: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Return images, each mirrored from left to right with probability `share`."""
    turned = torch.rand(len(x), generator=rng, device=x.device) < share
    return torch.where(turned[:, None, None, None], x.flip(3), x)


class Augmentation(Regulariser):
    """Change inputs.

    jitter:  stays: standard deviation of the noise on measurements
    scaling: stays: standard deviation of a channel's factor; without a value 0.1
    masking: stays: largest share of hours that is hidden; without a value 0.1
    padding: images: largest shift, in pixels; without a value 4
    flip:    images: probability of mirroring; without a value 0.5
    """

    neutral = dict.fromkeys((*OF_HOURS, *OF_IMAGES), 0)

    def __init__(
        self,
        jitter: float = 0.0,
        scaling: float | None = None,
        masking: float | None = None,
        padding: int | None = None,
        flip: float | None = None,
    ) -> None:
        name = "augmentation"
        for option, value in (("jitter", jitter), ("scaling", scaling), ("padding", padding)):
            require(value is None or value >= 0, name, f"{option} must be at least 0", value)
        part = masking is None or 0 <= masking < 1
        require(part, name, "masking must be in [0, 1)", masking)
        require(flip is None or 0 <= flip <= 1, name, "flip must be in [0, 1]", flip)
        self.jitter, self.scaling, self.masking = jitter, scaling, masking
        self.padding, self.flip = padding, flip

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Find the channels that are measurements; set the options without a value.

        Raises:
            InputError: an option is for the other kind of samples.
        """
        if fit.train is not None:
            hourly = fit.train.units.sequence
            own, others = (OF_HOURS, OF_IMAGES) if hourly else (OF_IMAGES, OF_HOURS)
            if wrong := [name for name in others if getattr(self, name)]:
                here = "hours" if hourly else "images"
                raise InputError(
                    f"augmentation: {wrong[0]} has no effect on {here}, which this task has. "
                    f"Options for {here}: {', '.join(own)}."
                )
            for option, value in own.items():
                if getattr(self, option) is None:
                    setattr(self, option, value)
        self.channels = continuous_channels(fit.train)
        return model

    def batch(self, batch: Batch, fit: Fit) -> Batch:
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


build = Augmentation
