"""Small counts: below ten they can tell of single patients, so no page, card or tracker has them.

Shapes: N samples.
"""

import numpy as np

LEAST = 10  # counts from 1 up to, but not including, this number are small
FEW = f"fewer than {LEAST}"


def is_small(number: int, least: int = LEAST) -> bool:
    """Return whether a count must not be shown."""
    return 0 < number < least


def in_tens(number: int) -> str:
    """Return a count rounded down to tens, from which no difference tells a small count."""
    return FEW if number < LEAST else f"{number // 10 * 10:,}"


def about(number: int) -> str:
    """Return roughly how many there are, in a sentence: `in_tens`."""
    return FEW if number < LEAST else f"about {in_tens(number)}"


def enough_of_each(y: np.ndarray, subject: np.ndarray) -> bool:
    """Return whether ten subjects or more have positive samples, and as many negative ones.

    y, subject: (N,) labels, and numbers of the subjects
    """
    positive = y > 0
    return all(len(np.unique(subject[side])) >= LEAST for side in (positive, ~positive))
