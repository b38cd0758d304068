"""Torch modules from outside the package as models: constructed, checked, with draws of a seed.

A class gets what its `__init__` asks for by name: `n_features` (F of an hour), `shape`, `n_outputs`
and `generator`; all other arguments are its settings. Its `forward(x, lengths)` returns logits
(B, C); of images `forward(x)` will do.

Its weights, and what it draws while it trains (`nn.Dropout`, say), come from torch's global
generator. That is set from the model's own stream around each call and put back afterwards. So a
run is repeatable, and goes on after an interruption as if there had been none.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mimic_reg.errors import InputError
from mimic_reg.models.base import Model


def construct(
    kind: type[nn.Module],
    name: str,
    n_outputs: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    settings: Mapping[str, Any],
) -> Model:
    """Return a class's model, with initial weights that depend on `generator` alone.

    Raises:
        InputError: it is for hours and the data are images.
    """
    wanted = inspect.signature(kind).parameters
    if "n_features" in wanted and len(shape) != 1:
        raise InputError(
            f"{name} asks for n_features, the features of an hour, but this cohort holds images of "
            f"the shape {shape}. Ask for 'shape' instead."
        )
    known = {"n_outputs": n_outputs, "shape": shape, "generator": generator}
    known["n_features"] = shape[0]
    given = {key: value for key, value in known.items() if key in wanted}
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = kind(**given, **settings)
    model = built if isinstance(built, Model) else Outside(built, name, n_outputs, len(shape) == 1)
    for module in {model, model.trunk, model.head}:
        _draw_from(module, seed)
    return model


class Outside(Model):
    """A torch module that is all of the model: its logits are the features, without a head."""

    def __init__(self, module: nn.Module, name: str, n_outputs: int, is_hourly: bool) -> None:
        super().__init__(module, nn.Identity())
        self.called, self.n_outputs = name, n_outputs
        places = inspect.signature(module.forward).parameters.values()
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        count = sum(p.kind in positional for p in places)
        several = count > 1 or any(p.kind is p.VAR_POSITIONAL for p in places)
        if is_hourly and not several:
            raise InputError(
                f"{name}: forward must take (x, lengths). Hours beyond a sample's length are "
                "padding, which it must leave out."
            )
        self.takes_lengths = several

    def features(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits (B, C).

        Raises:
            InputError: they have another shape.
        """
        found = self.trunk(x, lengths) if self.takes_lengths else self.trunk(x)
        expected = (len(x), self.n_outputs)
        if not isinstance(found, Tensor) or tuple(found.shape) != expected:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"{self.called}: forward must return logits of the shape (samples, outputs), here "
                f"{expected}; got {got}."
            )
        return found


def _draw_from(module: nn.Module, seed: int) -> None:
    """Let a module draw from numbers of its own while it trains; a checkpoint holds how many."""
    module.register_buffer("draws", torch.tensor(seed))
    module.register_forward_pre_hook(_enter)
    module.register_forward_hook(_leave, always_call=True)


def _enter(module: nn.Module, args: Any) -> None:
    if not module.training:
        return
    draws = module.draws
    assert isinstance(draws, Tensor)
    devices = [draws.device.index] if draws.device.type == "cuda" else []
    forked = torch.random.fork_rng(devices=devices)
    forked.__enter__()
    vars(module).setdefault("forked", []).append(forked)
    draws += 1
    torch.default_generator.manual_seed(int(draws))
    if devices:
        torch.cuda.manual_seed(int(draws))


def _leave(module: nn.Module, args: Any, output: Any) -> None:
    if vars(module).get("forked"):
        module.forked.pop().__exit__(None, None, None)  # type: ignore[operator,union-attr]
