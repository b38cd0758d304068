"""The benchmark's prediction tasks, one module each, and the specification of its cohort."""

from collections.abc import Callable, Iterable
from importlib import import_module
from pkgutil import iter_modules

import polars as pl

from mimic_reg.clinical.datasets import MIMIC_III, Dataset
from mimic_reg.clinical.schema import CHANNELS, CONTINUOUS_CHANNELS, OBSERVED_CHANNELS
from mimic_reg.errors import InputError
from mimic_reg.settings import suggest
from mimic_reg.store.spec import BENCHMARK, Channel, ChannelKind, CohortSpec, Task

Samples = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]


def names() -> tuple[str, ...]:
    """Return the names of all tasks: the modules of this package that define one."""
    return tuple(sorted(m.name for m in iter_modules(__path__) if m.name != "base"))


def get(name: str) -> Task:
    """Return the task called `name`.

    Raises:
        InputError: the benchmark has no such task; the text names the nearest one.
    """
    if name not in names():
        raise InputError(f"There is no task {name!r} in the benchmark. {suggest(name, names())}")
    return import_module(f"{__name__}.{name}").TASK


def samples_of(name: str) -> Samples:
    """Return the function that makes a task's samples: (stays, diagnoses) -> the sample table."""
    return import_module(f"{__name__}.{name}").samples


def cohort(
    names: Iterable[str],
    *,
    corrected: bool = False,
    simulated: bool = False,
    dataset: Dataset = MIMIC_III,
) -> CohortSpec:
    """Return the specification of a store with these tasks of the benchmark.

    corrected: whether known defects of the published cohorts are repaired
    simulated: whether patients are simulated
    dataset:   whose patients they are; only MIMIC-III's are the published benchmark
    """
    published = dataset.is_benchmark
    name = BENCHMARK if published else dataset.name
    if corrected:
        name = f"{dataset.name}-corrected"
    return CohortSpec(
        name=f"{name}-simulated" if simulated else name,
        unit=dataset.unit,
        subject="subject_id",
        time="hour",
        end="period_length",
        channels=tuple(map(_channel, CHANNELS)),
        tasks=tuple(get(n) for n in names),
        splits="the published ones, by subject"
        if published
        else "70 % train, 15 % val and 15 % test, by the SHA-256 of the subject's id",
        normalizers=("published", "fitted") if published else ("fitted",),
    )


def _channel(name: str) -> Channel:
    before, _, after = name.partition("->")
    kind: ChannelKind = "indicator"
    if name in CONTINUOUS_CHANNELS:
        kind = "continuous"
    if name in OBSERVED_CHANNELS:
        kind, before = "observed", after
    return Channel(name=name, kind=kind, variable=before)
