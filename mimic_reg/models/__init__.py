"""The models, one module each; a module's `build` signature is its list of settings."""

from typing import Any

import torch

from mimic_reg.models.base import Model
from mimic_reg.settings import find_module, module_names, resolve_options


def names() -> list[str]:
    """Names of all models: the modules of this package."""
    return module_names(__name__)


# What the engine gives a model; everything else in a `build` is a setting.
GIVEN = ("n_outputs", "shape", "generator")


def create(
    name: str,
    n_outputs: int = 1,
    *,
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    **settings: Any,
) -> Model:
    """Return the model called `name`, with initial weights from `generator` (else torch's own).

    shape: of what it sees: (F,) of an hour, (C, H, W) of an image

    Raises:
        InputError: an unknown name or setting; the text names the nearest one.
    """
    build = find_module(__name__, name).build
    resolved = resolve_options(build, settings, f"Model {name!r}", skip=GIVEN)
    generator = generator or torch.default_generator
    model: Model = build(n_outputs=n_outputs, shape=shape, generator=generator, **resolved)
    return model
