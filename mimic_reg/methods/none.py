"""No regularisation: the baseline that every other method is compared with."""

from typing import ClassVar, final

from mimic_reg.methods.base import Options, Regulariser


@final
class NoRegulariser(Regulariser):
    """Changes nothing."""

    neutral: ClassVar[Options] = {}


def build() -> NoRegulariser:
    """The baseline."""
    return NoRegulariser()
