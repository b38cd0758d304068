"""No regularisation: the baseline.

Use it beside every method: a method is worth what it adds to the baseline.

Kind: baseline
"""

from mimic_reg.methods.base import Regulariser


class NoRegulariser(Regulariser):
    """Change nothing."""

    neutral = {}


build = NoRegulariser
