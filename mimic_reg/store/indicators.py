"""The sign of the channels that say what was measured: 1 where it was, or 1 where it was not.

A store has one of the two. A trial may ask for the other (`training.indicators`). The channels then
have the other kind for models and methods, and the constants of the normaliser turn the stored
values when hours are read, in training and in serving: x becomes (x - 1) / -1 = 1 - x.

Shapes: F channels.
"""

import numpy as np

from mimic_reg.errors import InputError
from mimic_reg.store.spec import CohortSpec

STORED = "stored"  # as the store has them
KINDS = ("observed", "missing")


def with_indicators(spec: CohortSpec, kind: str) -> CohortSpec:
    """Return the specification with all channels of measurements of one kind.

    kind: one of `KINDS`

    Raises:
        InputError: the cohort has no such channels.
    """
    if not any(channel.kind in KINDS for channel in spec.channels):
        raise InputError(
            f"training.indicators is {kind!r}, but the cohort {spec.name!r} has no channels that "
            "say what was measured. Set training.indicators=stored."
        )
    channels = tuple(
        channel.model_copy(update={"kind": kind}) if channel.kind in KINDS else channel
        for channel in spec.channels
    )
    return spec.model_copy(update={"channels": channels})


def turn(
    constants: tuple[np.ndarray, np.ndarray], stored: CohortSpec, spec: CohortSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation (F,) that also turn the channels whose kind is not the stored one.

    stored: specification of the cohort in the store; spec: as the trial asks for it
    """
    mean, std = constants
    both = zip(stored.channels, spec.channels, strict=True)
    turned = np.array([there.kind != asked.kind for there, asked in both])
    return np.where(turned, 1.0, mean), np.where(turned, -1.0, std)
