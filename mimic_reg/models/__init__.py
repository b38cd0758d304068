"""The models, one module each; a module's `build` signature is its list of settings."""

from typing import Any

import torch

from mimic_reg.config import find_module, module_names, resolve_options
from mimic_reg.models.base import Model


def names() -> list[str]:
    """Names of all models: the modules of this package."""
    return module_names(__name__)


def create(
    name: str, n_outputs: int = 1, *, generator: torch.Generator | None = None, **settings: Any
) -> Model:
    """The model called `name`, with initial weights from `generator` (else from torch's own).

    Raises:
        InputError: an unknown name or setting; the text names the nearest one.
    """
    build = find_module(__name__, name).build
    given = {"n_outputs": n_outputs, **settings}
    resolved = resolve_options(build, given, f"Model {name!r}", skip=("generator",))
    model: Model = build(generator=generator or torch.default_generator, **resolved)
    return model
