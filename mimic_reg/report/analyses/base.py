"""What the analyses share: groups of trials for one figure, and the parameters of a trial."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from mimic_reg.engine.checkpoint import load_state
from mimic_reg.errors import InputError
from mimic_reg.learners.deep import initial_parameters
from mimic_reg.learners.trials import resolve
from mimic_reg.report.figures.drawing import Look, styles
from mimic_reg.report.figures.drawn import Analysis, Drawn, outer
from mimic_reg.report.formats import file_name, format_level, format_supervision, format_task
from mimic_reg.report.results import Results, TrialResult, method_order
from mimic_reg.runs import BEST
from mimic_reg.settings import Trial
from mimic_reg.threads import DEFAULT_THREADS, torch_threads

T = TypeVar("T")
ByMethod = dict[str, list[TrialResult]]


@dataclass(frozen=True)
class Group:
    """Trials in one figure.

    trials: of one task and model; or those of one supervision level, `level`, in words
    where:  task and model in words, for captions; name: for files
    look:   the style of each method, the same for all groups
    """

    trials: tuple[TrialResult, ...]
    where: str
    name: str
    look: Look
    level: str = "all"

    def by_method(self) -> ByMethod:
        """Return the trials of each method, in the order of tables."""
        order = method_order(self.trials)
        return {m: [t for t in self.trials if t.method == m] for m in order}

    @property
    def at(self) -> str:
        """Return task, model and level, for a group of one level."""
        return f"{self.where} at {format_supervision(min(t.supervision for t in self.trials))}"


def groups(results: Results, trials: Sequence[TrialResult]) -> Iterator[Group]:
    """Yield a group of these trials for each task and model."""
    look = styles(method_order(results.trials))
    for task, model in results.settings():
        if found := tuple(t for t in trials if (t.task, t.model) == (task, model)):
            where = f"{format_task(task)}, {model}"
            yield Group(found, where, f"{task}_{file_name(model)}", look)


def level_groups(results: Results, trials: Sequence[TrialResult]) -> Iterator[Group]:
    """Yield a group for each task and model at its lowest and at its highest supervision level."""
    for group in groups(results, trials):
        for level in outer(sorted({t.supervision for t in group.trials})):
            found = tuple(t for t in group.trials if t.supervision == level)
            name = f"{group.name}_{level.name}"
            yield Group(found, group.where, name, group.look, format_level(level))


def by_level(
    name: str,
    title: str,
    found: Iterator[Group],
    measure: Callable[[list[TrialResult]], T | None],
    draw: Callable[[Group, dict[str, T]], tuple[Figure, str]],
    row: Callable[[T], tuple[str, ...]],
    columns: tuple[str, ...],
    note: str,
) -> Analysis:
    """Return an analysis with a figure for each group, and a row for each method of a group.

    measure: the trials of a method → what is measured; None: nothing, so that it is left out
    draw:    a group and what is measured, by method → the figure and the end of its caption
    row:     what is measured → cells of `columns`, after those of method and level
    """
    drawn: list[Drawn] = []
    tables: dict[str, list[tuple[str, ...]]] = {}
    for group in found:
        every = {method: measure(trials) for method, trials in group.by_method().items()}
        measured = {method: value for method, value in every.items() if value is not None}
        if not measured:
            continue
        figure, caption = draw(group, measured)
        drawn.append(Drawn(f"{group.name}_{name}", "analysis", f"{group.at}: {caption}", figure))
        rows = tables.setdefault(group.where, [])
        rows += [(method, group.level, *row(value)) for method, value in measured.items()]
    return Analysis(name, title, tuple(drawn), ("method", "level", *columns), tables, note)


def start_and_best(trial: TrialResult) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the trainable parameters at the start of the fit, made again, and at the best epoch.

    Raises:
        InputError: the checkpoint was removed or is not of this trial's model; the fit started from
            a trained trunk.
    """
    described = resolve(trial.settings)
    if described.start is not None and described.start.trunk is not None:
        raise InputError(
            f"{trial.name} started from a trained trunk that is not in its folder: how far its "
            "parameters moved is not known."
        )
    best = _best(trial)
    start = _initial(trial, described, best)
    return start, {name: best[name] for name in start}


def sizes(trial: TrialResult) -> dict[str, int]:
    """Return the number of elements of each trainable parameter of the model itself.

    Raises:
        InputError: the checkpoint was removed or is not of this trial's model.
    """
    start = _initial(trial, resolve(trial.settings), _best(trial))
    return {name: parameter.numel() for name, parameter in start.items()}


def _best(trial: TrialResult) -> dict[str, Tensor]:
    path = trial.folder / BEST
    if not path.is_file():
        raise InputError(f"{trial.name} has no {BEST}, so its parameters are not known.")
    return load_state(path, "model")


def _initial(trial: TrialResult, described: Trial, best: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if "head.weight" not in best:
        raise InputError(f"{BEST} of {trial.name} is not that of a network with one head.")
    with torch_threads(trial.threads or DEFAULT_THREADS):  # another number gives other last digits
        start = initial_parameters(described, trial.cohort)
    for name, parameter in start.items():
        if name not in best or best[name].shape != parameter.shape:
            raise InputError(f"{BEST} of {trial.name} does not fit its model: see {name}.")
    return start


def epochs_of(last: Sequence[float]) -> str:
    """Return the range of some epochs, such as "3" or "3 to 8"."""
    found = sorted({int(epoch) for epoch in last})
    return " to ".join(map(str, dict.fromkeys([found[0], found[-1]])))


def mean_sd(values: Sequence[float], form: str) -> str:
    """Return mean ± standard deviation, for tables."""
    mean = format(float(np.mean(values)), form)
    if len(values) < 2:
        return mean
    return f"{mean} ± {format(float(np.std(values, ddof=1)), form)}"
