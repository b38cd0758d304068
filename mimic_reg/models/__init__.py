"""The models, one module each; the signature of a module's `build` is its list of settings."""

from typing import Any

import torch

from mimic_reg.models.base import Model
from mimic_reg.settings import find_module, module_names, resolve_options


def names() -> list[str]:
    """Return the names of all models: the modules of this package."""
    return module_names(__name__)


# Arguments of `build` that the engine passes; all others are settings.
GIVEN = ("n_outputs", "shape", "generator")


def create(
    name: str,
    n_outputs: int = 1,
    *,
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    **settings: Any,
) -> Model:
    """Return the model called `name`, with initial weights from `generator`, by default torch's.

    shape: shape of its input: (F,) of an hour, (C, H, W) of an image

    Raises:
        InputError: an unknown name or setting; the text names the nearest one.
    """
    build = find_module(__name__, name).build
    resolved = resolve_options(build, settings, f"Model {name!r}", skip=GIVEN)
    generator = generator or torch.default_generator
    model: Model = build(n_outputs=n_outputs, shape=shape, generator=generator, **resolved)
    return model
