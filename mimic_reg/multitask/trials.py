"""Trials of several tasks from settings: a strategy, and a trial for each task."""

from collections.abc import Mapping, Sequence
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.learners.trials import compose_trial, resolve
from mimic_reg.settings import Trial, checked, find_module, module_names, suggest

_PACKAGE = "mimic_reg.multitask"


def strategies() -> list[str]:
    """Return the strategies for several tasks: the modules of this package that have a `build`."""
    return [n for n in module_names(_PACKAGE) if hasattr(find_module(_PACKAGE, n), "build")]


def resolve_multi(settings: Mapping[str, Any]) -> Trial:
    """Return a trial of several tasks from plain settings.

    Raises:
        InputError: see `resolve`; the trials differ in shared settings; an unknown strategy.
    """
    content = dict(settings)
    if isinstance(content.get("trials"), Sequence):
        content["trials"] = tuple(map(_resolved, content["trials"]))
    given = checked(Trial, content)
    assert given.strategy is not None
    allowed = strategies()
    if given.strategy.name not in allowed:
        raise InputError(
            f"There is no strategy {given.strategy.name!r} for several tasks. "
            f"{suggest(given.strategy.name, allowed)}"
        )
    strategy = given.strategy.completed(_PACKAGE, "Strategy")
    built = find_module(_PACKAGE, strategy.name).build(**strategy.options)
    for trial in given.trials:
        built.check(trial.training)
    own = {"epoch_steps": built.epoch_steps(len(given.trials))}
    trials = tuple(
        trial.model_copy(update={"training": trial.training.model_copy(update=own)})
        for trial in given.trials
    )
    return checked(Trial, {"strategy": strategy, "trials": trials})


def _resolved(trial: Any) -> Trial:
    settings = trial.model_dump() if isinstance(trial, Trial) else trial
    if not isinstance(settings, Mapping):
        raise InputError(f"A trial is settings with their names, as task: …; got {settings!r}.")
    return resolve(settings)


def compose_multi(
    tasks: Sequence[str], model: str, method: str, strategy: str, **given: Any
) -> Trial:
    """Return the trial of several tasks, as the command line names it; see `compose_trial`.

    strategy: the name of a strategy for several tasks; its options are the defaults
    given:    other arguments of `compose_trial`

    Raises:
        InputError: see `resolve_multi` and `compose_trial`.
    """
    trials = [compose_trial(task, model, method, **given) for task in tasks]
    return resolve_multi({"strategy": strategy, "trials": trials})
