"""The probes, one module each: what measures a fit and changes nothing of it.

A probe has the hooks of a method, stands among a trial's `regularisers` under its module's name,
and no method is called after it.
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
    """Return what a probe costs in a fit: as many training steps of one sample; None: unknown."""
    found = getattr(find_module(__name__, name), "cost", None)
    seconds: float | None = None
    if found is not None:
        seconds = found(options, model, num_train, max_epochs, num_outputs)
    return seconds
