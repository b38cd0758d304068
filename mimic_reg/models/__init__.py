"""The models, one module each; the signature of a module's `build` is its list of settings."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from mimic_reg.errors import InputError
from mimic_reg.models._outside import construct
from mimic_reg.models.base import Model, hourly
from mimic_reg.settings import Component, find_module, module_names, resolve_options
from mimic_reg.settings.callable import Call, find_callable, make_callable
from mimic_reg.settings.plugins import is_plugin
from mimic_reg.store.spec import Channel

BASE = torch.nn.Module  # what a class from outside of the package derives from


def names() -> list[str]:
    """Return the names of all models: the modules of this package."""
    return module_names(__name__)


def is_known(name: str) -> bool:
    """Return whether a name is a model's: a module of this package, or a plugin."""
    return is_plugin(__name__, name) or name in names()


# Arguments of `build` that the engine passes; all others are settings.
GIVEN = ("n_outputs", "shape", "n_features", "cohort_channels", "generator")


def create(
    name: str,
    n_outputs: int = 1,
    *,
    shape: tuple[int, ...],
    cohort_channels: Sequence[Channel] | None = None,
    generator: torch.Generator | None = None,
    **settings: Any,
) -> Model:
    """Return the model called `name`, with initial weights from `generator`, by default torch's.

    shape: shape of its input: (F,) of an hour, (C, H, W) of an image
    cohort_channels: the cohort's channels (F,), for a model that must know whose values they are

    Raises:
        InputError: an unknown name or setting; the text names the nearest one. Or the model needs
            the channels, and there are none.
    """
    build = find_module(__name__, name).build
    resolved = resolve_options(build, settings, f"Model {name!r}", skip=GIVEN)
    generator = generator or torch.default_generator
    if "cohort_channels" in inspect.signature(build).parameters:
        resolved |= {"cohort_channels": _checked(name, shape, cohort_channels)}
    if isinstance(build, type):
        return construct(build, name, n_outputs, shape, generator, resolved)
    model: Model = build(n_outputs=n_outputs, shape=shape, generator=generator, **resolved)
    if not isinstance(model, Model):
        raise InputError(f"{name}: build must return a mimic_reg.Model, got {type(model)}.")
    return model


def _checked(
    name: str, shape: tuple[int, ...], channels: Sequence[Channel] | None
) -> Sequence[Channel]:
    if channels is None or (len(channels),) != shape:
        got = "none" if channels is None else len(channels)
        hourly(name, shape)
        raise InputError(f"{name} needs the cohort's {shape[0]} channels, got {got}.")
    return channels


def check_component(model: Component) -> Component:
    """Return a model's settings, with every default written out.

    Raises:
        InputError: an unknown setting, or a value of another kind.
    """
    return model.completed(__name__, "Model", skip=GIVEN)


def __getattr__(name: str) -> Call:
    return find_callable(__name__, name)


make_callable(__name__)
