"""The benchmark's hand-made features: statistics of what was measured, over seven sub-periods.

Of each series: minimum, maximum, mean, standard deviation, skewness and number of measurements,
over the time from its first measurement to its last one, and over the first and last 10 %, 25 % and
50 % of that time. A feature is NaN where the sub-period has no measurement. The 17 variables of the
benchmark give 714 features, in the order (series, sub-period, statistic).

A series is a continuous channel, or the categories of a variable if they are numbers or the
benchmark gives them numbers. Any other category is a series of its own, 0 or 1.

Notes:
- Only hours in which the variable was measured count, not those that the store has filled.
- The store has one value an hour, the last one. The published features are of every measurement.

Shapes: N samples, B samples at once, T hours, F channels, V variables, S series, D features.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import yaml
from torch import Tensor

from mimic_reg.clinical.schema import EPSILON, resource
from mimic_reg.errors import InputError
from mimic_reg.samples import Samples
from mimic_reg.samples.variables import Variable, measured, variables
from mimic_reg.store.spec import Channel

STATISTICS = ("min", "max", "mean", "std", "skew", "count")
# which end of the time between first and last measurement, and its share
PERIODS = (
    *(("first", 1.0), ("first", 0.1), ("first", 0.25), ("first", 0.5)),
    *(("last", 0.1), ("last", 0.25), ("last", 0.5)),
)

_NUMBERS = 1 << 21  # input numbers gathered at once


@dataclass(frozen=True)
class Layout:
    """How channels make series.

    of:      the variables (V,)
    owner:   the variable (S,) of each series
    numbers: (F, S): a series is the sum of the channels times these numbers
    """

    of: tuple[Variable, ...]
    owner: tuple[int, ...]
    numbers: Tensor

    @property
    def num_features(self) -> int:
        """Return the number D of features."""
        return len(self.owner) * len(PERIODS) * len(STATISTICS)


def layout(channels: Sequence[Channel]) -> Layout:
    """Return how a cohort's channels make series.

    Raises:
        InputError: no channel holds values.
    """
    of = variables(channels)
    columns, owner = [], []
    for number, variable in enumerate(of):
        for series in _series(variable, channels):
            column = torch.zeros(len(channels), dtype=torch.float64)
            for position, factor in series.items():
                column[position] = factor
            columns.append(column)
            owner.append(number)
    if not columns:
        raise InputError(
            f"The cohort has {len(channels)} channels, and none of them holds values: it needs one "
            "that is continuous, or an indicator."
        )
    return Layout(of, tuple(owner), torch.stack(columns, dim=1))


def _series(variable: Variable, channels: Sequence[Channel]) -> Iterator[dict[int, float]]:
    """Yield the series of a variable: position of a channel → its number."""
    for position in variable.values:
        yield {position: 1.0}
    texts = [channels[p].name.rpartition("->")[2] for p in variable.categories]
    numbers = _numbers(variable.name, texts) if len(texts) > 1 else None
    if numbers is not None:
        yield dict(zip(variable.categories, numbers, strict=True))
    else:
        yield from ({position: 1.0} for position in variable.categories)


def _numbers(variable: str, texts: Sequence[str]) -> list[float] | None:
    """Return the numbers of categories; None if they have none."""
    known = _known().get(variable, {})
    try:
        found = [float(known.get(text, text)) for text in texts]
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


@cache
def _known() -> dict[str, dict[str, float]]:
    return yaml.safe_load(resource("category_numbers.yaml").read_text("utf-8"))


def features(samples: Samples, of: Layout) -> np.ndarray:
    """Return the features (N, D) of hourly samples, float32."""
    found = np.empty((len(samples), of.num_features), np.float32)
    for index, part in _parts(samples, of):
        found[index] = part
    return found


def apply(
    samples: Samples, of: Layout, function: Callable[[np.ndarray], Tensor], num_outputs: int
) -> np.ndarray:
    """Return a function of the features, (N, C) float32, without all features in memory.

    function: features (B, D) float32 -> (B, C)
    """
    found = np.empty((len(samples), num_outputs), np.float32)
    for index, part in _parts(samples, of):
        found[index] = function(part).numpy()
    return found


def _parts(samples: Samples, of: Layout) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions (B,) of samples and their features (B, D)."""
    for index in samples.evaluation_batches(_NUMBERS):
        batch = samples.gather(index)
        found = statistics(batch.x, batch.lengths.to(batch.x.device), of)
        yield index.numpy(), found.float().cpu().numpy()


def statistics(x: Tensor, lengths: Tensor, of: Layout) -> Tensor:
    """Return the features (B, D) of the first `lengths` (B,) hours of x (B, T, F)."""
    # 32 bits would not see the tolerance
    hours = torch.arange(x.shape[1], device=x.device, dtype=torch.float64)[:, None]
    there = measured(x, of.of)[..., of.owner] & (hours < lengths[:, None, None])
    values = x.double() @ of.numbers.to(x.device)
    first = torch.where(there, hours, torch.inf).amin(1, keepdim=True)
    last = torch.where(there, hours, -torch.inf).amax(1, keepdim=True)
    parts = []
    for end, share in PERIODS:
        span = (last - first) * share
        low, high = (first, first + span) if end == "first" else (last - span, last)
        parts.append(_moments(values, there & (hours > low - EPSILON) & (hours < high + EPSILON)))
    return torch.stack(parts, dim=2).flatten(1)


def _moments(values: Tensor, inside: Tensor) -> Tensor:
    """Return the statistics (B, S, 6) of the values (B, T, S) inside a sub-period."""
    count = inside.sum(1)
    mean = torch.where(inside, values, 0.0).sum(1) / count
    away = torch.where(inside, values - mean[:, None], 0.0)
    variance = away.square().sum(1) / count
    third = (away**3).sum(1) / count
    # the benchmark's SciPy had the skewness 0 of equal values, today's has NaN
    skew = torch.where(variance == 0, 0.0, third / variance**1.5)
    found = torch.stack(
        [
            torch.where(inside, values, torch.inf).amin(1),
            torch.where(inside, values, -torch.inf).amax(1),
            *(mean, variance.sqrt(), skew, count.double()),
        ],
        dim=2,
    )
    # without a measurement the benchmark's count is NaN, too
    return torch.where(count[..., None] > 0, found, torch.nan)
