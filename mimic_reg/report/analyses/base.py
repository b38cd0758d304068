"""What the analyses share: groups of trials that one figure shows, and a trial's parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mimic_reg.engine.checkpoint import load_state
from mimic_reg.errors import InputError
from mimic_reg.learners.deep import initial_parameters
from mimic_reg.learners.trials import resolve
from mimic_reg.report.figures.drawing import Style, styles
from mimic_reg.report.figures.drawn import file_name, outer
from mimic_reg.report.formats import format_level, format_supervision, format_task
from mimic_reg.report.results import Results, TrialResult, method_order
from mimic_reg.runs import BEST
from mimic_reg.settings import Trial


@dataclass(frozen=True)
class Group:
    """Trials that stand in one figure.

    trials: of one task and model; or those at one supervision level, `level`, in words
    where:  task and model in words, for captions; name: for files
    look:   how methods are drawn, the same for all groups
    """

    trials: tuple[TrialResult, ...]
    where: str
    name: str
    look: dict[str, Style]
    level: str = "all"

    def by_method(self) -> dict[str, list[TrialResult]]:
        """The trials of each method, in the order of tables."""
        order = method_order(self.trials)
        return {m: [t for t in self.trials if t.method == m] for m in order}

    @property
    def at(self) -> str:
        """Where, and at which level; of a group of one level."""
        return f"{self.where} at {format_supervision(min(t.supervision for t in self.trials))}"


def groups(results: Results, trials: Sequence[TrialResult] | None = None) -> Iterator[Group]:
    """A group for each task and model.

    trials: those to look at; None: all
    """
    chosen = results.trials if trials is None else trials
    look = styles(method_order(results.trials))
    for task, model in results.settings():
        found = tuple(t for t in chosen if (t.task, t.model) == (task, model))
        if found:
            where = f"{format_task(task)}, {model}"
            yield Group(found, where, f"{task}_{file_name(model)}", look)


def level_groups(results: Results, trials: Sequence[TrialResult]) -> Iterator[Group]:
    """A group for each task and model at its lowest and at its highest supervision level."""
    for group in groups(results, trials):
        for level in outer(sorted({t.supervision for t in group.trials})):
            found = tuple(t for t in group.trials if t.supervision == level)
            name = f"{group.name}_{level.name}"
            yield Group(found, group.where, name, group.look, format_level(level))


def start_and_best(trial: TrialResult) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The trainable parameters with which the fit started, made anew, and those of the best epoch.

    Raises:
        InputError: the checkpoint is gone, or is not of this trial's model; the fit started from
            another one's trunk.
    """
    described = resolve(trial.settings)
    if described.start is not None and described.start.trunk is not None:
        raise InputError(
            f"{trial.name} started from a trunk that was trained before and is not kept with it: "
            "how far its parameters moved is not known."
        )
    best = _best(trial)
    start = _initial(trial, described, best)
    return start, {name: best[name] for name in start}


def sizes(trial: TrialResult) -> dict[str, int]:
    """Elements of each trainable parameter that the model itself has.

    Raises:
        InputError: the checkpoint is gone, or is not of this trial's model.
    """
    start = _initial(trial, resolve(trial.settings), _best(trial))
    return {name: parameter.numel() for name, parameter in start.items()}


def _best(trial: TrialResult) -> dict[str, Tensor]:
    path = trial.folder / BEST
    if not path.is_file():
        raise InputError(f"{trial.name} has no {BEST}: its parameters are not known any more.")
    return load_state(path, "model")


def _initial(trial: TrialResult, described: Trial, best: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if "head.weight" not in best:
        raise InputError(f"The {BEST} of {trial.name} is not that of a model with one head.")
    start = initial_parameters(described, trial.cohort)
    for name, parameter in start.items():
        if name not in best or best[name].shape != parameter.shape:
            raise InputError(f"The {BEST} of {trial.name} is not that of its model: see {name}.")
    return start


def mean_sd(values: Sequence[float], form: str) -> str:
    """Mean ± standard deviation, for tables."""
    mean = format(float(np.mean(values)), form)
    if len(values) < 2:
        return mean
    return f"{mean} ± {format(float(np.std(values, ddof=1)), form)}"
