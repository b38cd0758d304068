"""Parts of every model: a trunk, a head, and sites where dropout-like methods act.

Shapes: B samples, T hours, F channels, D features, C outputs.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimic_reg.errors import InputError
from mimic_reg.store.spec import Target

Layer = TypeVar("Layer", bound=nn.Module)
Convolution = TypeVar("Convolution", nn.Conv1d, nn.Conv2d)

LSTM_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # torch's names, in its order


class Site(nn.Sequential):
    """A place where dropout-like methods act; the identity until a method appends a module.

    dim: size of the last axis of what passes here: (B, dim) or (B, T, dim)
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim


class Model(nn.Module):
    """A trunk, which tasks can share, and a head.

    trunk: (x, lengths) -> features (B, D)
    head:  (B, D) -> logits (B, C)
    unit_numbers: input numbers of a unit as the trunk sees it, if it resizes units; else 0
    normalizer:   the only `training.normalizer` that the trunk accepts; None: any
    causal:       whether the features of an hour depend on it and the hours before it alone, and
                  the trunk takes samples that share the hours of their stay (`at_hours`)
    """

    def __init__(
        self,
        trunk: nn.Module,
        head: nn.Module,
        *,
        unit_numbers: int = 0,
        normalizer: str | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.unit_numbers, self.normalizer, self.causal = unit_numbers, normalizer, causal

    def features(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the features (B, D), the input of the head."""
        return self.trunk(x, lengths)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits (B, C).

        x:       (B, T, F) float32; hours beyond a sample's length are ignored
        lengths: (B,) int64, at least 1; on the CPU, where packing needs them, or on x's device. A
                 causal model also takes (B, 2), the row of x and the hours of each sample
        """
        return self.head(self.features(x, lengths))

    @property
    def sites(self) -> list[Site]:
        """Return the sites, in the order in which data passes them."""
        return [module for module in self.modules() if isinstance(module, Site)]

    def fill_sites(self, make: Callable[[int], nn.Module]) -> None:
        """Append `make(dim)` to every site.

        Raises:
            InputError: the model has none, so that a method of this kind would change nothing.
        """
        if not self.sites:
            raise InputError(
                "This model has no site, so dropout and methods like it have no place to act. Put "
                "a mimic_reg.Site(dim) into its forward pass, or choose another method."
            )
        for site in self.sites:
            site.append(make(site.dim))


def require_head(model: Model, who: str) -> None:
    """Refuse a model that is a trunk without a head.

    who: what needs the head, for the error

    Raises:
        InputError: its head is the identity.
    """
    if isinstance(model.head, nn.Identity):
        raise InputError(
            f"{who} needs a model with a trunk and a head, and this one has no head. Derive your "
            "class from mimic_reg.Model."
        )


def hourly(model: str, shape: tuple[int, ...]) -> int:
    """Return the number F of features of an hour.

    Raises:
        InputError: the shape is of images.
    """
    if len(shape) != 1:
        raise InputError(
            f"The model {model} is for hours; this cohort has images of shape {shape}. "
            "Models for images: dnn, cnn, vgg16, resnet50, efficientnet_b0."
        )
    return shape[0]


def images(model: str, shape: tuple[int, ...]) -> int:
    """Return the number C of channels of an image.

    Raises:
        InputError: the shape is of hours.
    """
    if len(shape) != 3:
        raise InputError(
            f"The model {model} is for images; this cohort has hours of {shape[0]} channels. "
            "Models for hours: causal_lstm, causal_transformer, channel_wise_lstm, gru, gru_d, "
            "lstm, standard_lstm, tcn, transformer."
        )
    return shape[0]


def check_hours(x: Tensor, model: str, n_features: int) -> None:
    """Check that a batch has hours (B, T, F) of the model's features.

    Raises:
        InputError: it has images, or another number of features.
    """
    if x.dim() != 3 or x.shape[-1] != n_features:
        raise InputError(
            f"The model {model} was made for hours of {n_features} features; this batch has the "
            f"shape {tuple(x.shape)}. Models for images are dnn, cnn, vgg16, resnet50 and "
            "efficientnet_b0."
        )


def at_hours(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the states (B, D) of samples at their last hours.

    states:  (S, T, D) of each hour of each row
    lengths: (B,) hours of the sample in each row; or (B, 2), the row and the hours of each sample
    """
    if lengths.dim() == 1:
        row, hours = torch.arange(len(lengths)), lengths
    else:
        row, hours = lengths.unbind(1)
    here, last = (at.to(states.device, non_blocking=True) for at in (row, hours - 1))
    return states[here, last]


class Recurrence(nn.Module):
    """A bidirectional one-layer LSTM that returns its last states.

    Methods that change the recurrence replace this module by one with the same `lstm`, so that
    parameters keep their names.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the last states (B, 2H)."""
        return recur(self.lstm, x, lengths)


def recur(lstm: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """Return the state (B, 2H) of each direction after the last hour that it reads."""
    longest = int(lengths.max())
    x = x[:, :longest]
    if x.device.type == "cpu":
        return last_states(lstm, x, lengths)
    if int(lengths.min()) == longest:
        _, (state, _) = lstm(x)
    else:
        # sorted here, since torch would wait for the device to sort
        lengths, order = lengths.cpu().sort(descending=True)
        there, back = (i.to(x.device, non_blocking=True) for i in (order, order.argsort()))
        packed = nn.utils.rnn.pack_padded_sequence(x[there], lengths, batch_first=True)
        _, (state, _) = lstm(packed)
        state = state[:, back]
    return torch.cat(tuple(state), dim=1)


def last_states(lstm: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """Return the last states (B, 2H) of a bidirectional LSTM, without packing.

    Padding is at the end, so each direction reads a sample's valid hours first (the backward one in
    reverse), and its state is taken there. On the CPU this takes a third to half of the time of
    packed sequences, for which oneDNN has no kernel.
    """
    states = []
    samples = torch.arange(len(x), device=x.device)
    zeros = x.new_zeros(1, len(x), lstm.hidden_size)
    for sequence, suffix in ((x, ""), (reverse(x, lengths), "_reverse")):
        weights = [getattr(lstm, f"{n}_l0{suffix}") for n in LSTM_WEIGHTS]
        out, _, _ = torch.lstm(
            sequence, (zeros, zeros), weights, True, 1, 0.0, lstm.training, False, True
        )
        states.append(out[samples, lengths - 1])
    return torch.cat(states, dim=1)


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, T, F) with the valid hours of each sample in reverse; padding is arbitrary."""
    hours = torch.arange(x.shape[1], device=x.device)
    source = (lengths.to(x.device, non_blocking=True)[:, None] - 1 - hours).clamp_(min=0)
    return x.gather(1, source[..., None].expand_as(x))


def linear(
    n_in: int, n_out: int, generator: torch.Generator, fans: tuple[int, int] | None = None
) -> nn.Linear:
    """Return a linear layer initialised as in Keras: Glorot-uniform weights, zero bias.

    fans: (fan_in, fan_out) if they are not (n_in, n_out)
    """
    layer = uninitialised(nn.Linear, n_in, n_out)
    glorot_uniform_(layer.weight, fans or (n_in, n_out), generator)
    nn.init.zeros_(layer.bias)
    return layer


def convolution(
    kind: type[Convolution],
    n_in: int,
    n_out: int,
    kernel: int,
    generator: torch.Generator,
    **options: int,
) -> Convolution:
    """Return a convolution initialised as in Keras: Glorot-uniform weights, zero bias.

    kernel: its size along each axis
    """
    layer = uninitialised(kind, n_in, n_out, kernel, **options)
    size = layer.weight[0, 0].numel()
    glorot_uniform_(layer.weight, (n_in * size, n_out * size), generator)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def uninitialised(kind: type[Layer], *sizes: int, **options: Any) -> Layer:
    """Return a layer without initial weights: torch's would draw from the global generator."""
    return kind(*sizes, **options, device="meta").to_empty(device="cpu")


def glorot_uniform_(weight: Tensor, fans: tuple[int, int], generator: torch.Generator) -> None:
    """Fill `weight` in place from U(-a, a) with a² = 6 / (fan_in + fan_out)."""
    limit = math.sqrt(6 / sum(fans))
    nn.init.uniform_(weight, -limit, limit, generator=generator)


def require_sizes(model: str, **sizes: int | Sequence[int]) -> None:
    """Raise InputError if a size is below 1, or a list of sizes is empty."""
    for name, size in sizes.items():
        values = [size] if isinstance(size, int) else size
        if not values or min(values) < 1:
            what = "at least 1" if isinstance(size, int) else "one or more numbers of at least 1"
            raise InputError(f"{model}: {name} must be {what}, got {size}.")


@torch.no_grad()
def balanced_weights(target: Target, label: Tensor, num_outputs: int) -> Tensor:
    """Return weights with which the classes of each label count equally, for `loss_of`.

    A class of N_c of N samples gets N / (K * N_c), with K classes, so the mean over the samples
    is 1. A label that all or no samples have keeps the weight 1, and so do absent classes.

    label:  (N, C), or (N,) integer classes
    result: (2, C), the weights of 0 and of 1; or (C,) of classes that exclude each other

    Raises:
        InputError: a regression has no classes.
    """
    if target == "regression":
        raise InputError(
            "training.class_weights must be 'none', got 'balanced': a regression has no classes."
        )
    if target == "multiclass":
        counts = torch.bincount(label.long(), minlength=num_outputs).double()
        present = int((counts > 0).sum())
    else:
        ones = label.double().sum(0)
        counts, present = torch.stack([len(label) - ones, ones]), 2
    weights = torch.where(counts > 0, len(label) / (present * counts), 1.0)
    if target != "multiclass":
        weights = torch.where((counts > 0).all(0), weights, 1.0)
    return weights.float()


def constant_logits(
    target: Target, label: Tensor, num_outputs: int, weights: Tensor | None = None
) -> Tensor:
    """Return the logits (C,) of the best constant prediction: the log-odds of the prevalence.

    They are log shares for classes that exclude each other, and means for a regression. If all
    samples have a label, or none, half a sample is counted otherwise, so that logits are finite.

    label:   (N, C), or (N,) integer classes
    weights: see `balanced_weights`
    """
    if weights is not None:
        plain = constant_logits(target, label, num_outputs)
        of_weights = weights.log()
        return plain + (of_weights if target == "multiclass" else of_weights[1] - of_weights[0])
    if target == "multiclass":
        counts = torch.bincount(label.long(), minlength=num_outputs).double()
        return (counts.clamp(min=0.5) / len(label)).log().float()
    mean = label.double().mean(0)
    if target == "regression":
        return mean.float()
    least = 0.5 / len(label)
    return mean.clamp(least, 1 - least).logit().float()


def loss_of(target: Target, logits: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the data losses (B,) of samples; the data loss is their mean.

    Losses are means over labels, not sums: a sum would change the scale of gradients, and so the
    meaning of thresholds on them.

    logits: (B, C); y: (B, C), or (B,) integer classes; soft targets (B, C) work for every target
    weights: of the classes: see `balanced_weights`

    Raises:
        InputError: the shapes of logits and y do not fit.
    """
    if target == "multiclass":
        return F.cross_entropy(logits, y, weights, reduction="none")
    if logits.shape != y.shape:
        raise InputError(
            f"A {target} target needs labels of the logits' shape {tuple(logits.shape)}, "
            f"got {tuple(y.shape)}."
        )
    if weights is not None:
        zero, one = weights[0], weights[1]
        losses = F.binary_cross_entropy_with_logits(
            logits, y, reduction="none", pos_weight=one / zero
        )
        return (zero * losses).mean(dim=1)
    kinds: dict[str, Callable[..., Tensor]] = {
        "binary": F.binary_cross_entropy_with_logits,
        "multilabel": F.binary_cross_entropy_with_logits,
        "regression": F.mse_loss,
    }
    return kinds[target](logits, y, reduction="none").mean(dim=1)


def prediction(target: Target, logits: Tensor) -> Tensor:
    """Return probabilities (B, C), or the predicted values of a regression."""
    if target == "multiclass":
        return logits.softmax(1)
    return logits if target == "regression" else logits.sigmoid()
