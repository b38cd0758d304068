"""Spaces of a search: component.option → the values it may take.

space:
  lstm.units: [32, 64, 128]                                  # choices
  training.learning_rate: {low: 1e-4, high: 1e-2, log: true} # a range
"""

import itertools
import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Discriminator, Tag, field_validator, model_validator

from mimic_reg.settings.base import Settings
from mimic_reg.settings.names import suggest
from mimic_reg.settings.trial import Training

_LARGEST = 1e15  # integers up to it are exact as floating-point numbers
MOST_CORNERS = 64
DIGITS = 3  # significant digits of a value from a range of numbers that are not integers


class Range(Settings):
    """Numbers from low to high, on a logarithmic scale with `log`.

    Integers, if both ends are; `space_of` makes the ends of a real-valued option real.
    """

    low: int | float
    high: int | float
    log: bool = False

    @field_validator("low", "high", mode="before")
    @classmethod
    def _is_a_number(cls, given: Any) -> Any:
        if type(given) not in (int, float) or not abs(given) <= _LARGEST:
            raise ValueError(f"must be a number, of at most {_LARGEST:g}")
        return given

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"with log, low must be above 0, got {self.low}")
        return self

    @property
    def whole(self) -> bool:
        """Return whether its values are integers."""
        return type(self.low) is int and type(self.high) is int

    def value(self, number: float) -> int | float:
        """Return a number in the range as a setting has it: an integer, or rounded."""
        if self.whole:
            return round(number)
        return min(max(float(f"{number:.{DIGITS}g}"), self.low), self.high)

    def draw(self, rng: np.random.Generator) -> int | float:
        """Return a random value."""
        low, high = (np.log(self.low), np.log(self.high)) if self.log else (self.low, self.high)
        drawn = rng.uniform(low, high)
        return self.value(float(np.exp(drawn) if self.log else drawn))


def _kind(given: Any) -> str | None:
    if isinstance(given, Mapping | Range):
        return "range"
    return "choices" if isinstance(given, list | tuple) else None


Values = Annotated[
    Annotated[Range, Tag("range")] | Annotated[tuple[Any, ...], Tag("choices")],
    Discriminator(
        _kind,
        custom_error_type="space",
        custom_error_message="write choices, as [1, 2], or a range, as {low: 1, high: 2}",
    ),
]
Space = Mapping[str, Values]


def as_search(given: Any) -> Any:
    """Return the values of a search, or of a space, as tuples instead of lists."""
    if not isinstance(given, Mapping):
        return given
    return {k: tuple(values) if isinstance(values, list) else values for k, values in given.items()}


def check_space(space: Space, known: Collection[str] | None = None, what: str = "space") -> None:
    """Raise ValueError if a space names no option, no setting of training, or has no values.

    known: names of components that may have options in it; None: any
    what:  the setting, for messages
    """
    for key, values in space.items():
        group, dot, option = key.partition(".")
        if not (group and dot and option):
            raise ValueError(f"{what} has {key!r}; write component.option, such as lstm.units")
        if group == "training" and option not in Training.model_fields:
            raise ValueError(
                f"{what} has {key!r}, which is no setting. {suggest(option, Training.model_fields)}"
            )
        if not isinstance(values, Range) and not values:
            raise ValueError(f"{what} has no values for {key!r}")
        if known is not None and group not in known:
            raise ValueError(f"{what} has {key!r}. {suggest(group, known)}")


def corners(space: Space) -> list[dict[str, Any]]:
    """Return the points of a space with all choices and the ends of ranges, in every combination.

    If these are more than `MOST_CORNERS`: in every combination of two options, the others at their
    first value.
    """
    ends = {
        key: (values.value(values.low), values.value(values.high))
        if isinstance(values, Range)
        else values
        for key, values in space.items()
    }
    if len(ends) < 3 or math.prod(map(len, ends.values())) <= MOST_CORNERS:
        return [dict(zip(ends, each, strict=True)) for each in itertools.product(*ends.values())]
    first = {key: values[0] for key, values in ends.items()}
    return [
        {**first, one: a, other: b}
        for one, other in itertools.combinations(ends, 2)
        for a, b in itertools.product(ends[one], ends[other])
    ]


def draw(space: Space, rng: np.random.Generator) -> dict[str, Any]:
    """Return a random point of a space."""
    return {
        key: values.draw(rng) if isinstance(values, Range) else values[rng.integers(len(values))]
        for key, values in space.items()
    }
