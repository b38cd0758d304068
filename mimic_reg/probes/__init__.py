"""The probes, one module each: they measure a fit and change nothing in it.

A probe has the hooks of a method and is listed among a trial's `regularisers` by its module's name.
It is not part of the name of a trial's method.
"""

from collections.abc import Mapping
from typing import Any

from mimic_reg.settings import find_module, module_names


def names() -> list[str]:
    """Return the names of all probes: the modules of this package."""
    return module_names(__name__)


def cost(
    name: str,
    options: Mapping[str, Any],
    model: str,
    num_train: float,
    max_epochs: int,
    num_outputs: int,
) -> float | None:
    """Return the cost of a probe in a fit, in training steps of one sample; None: unknown."""
    found = getattr(find_module(__name__, name), "cost", None)
    seconds: float | None = None
    if found is not None:
        seconds = found(options, model, num_train, max_epochs, num_outputs)
    return seconds
