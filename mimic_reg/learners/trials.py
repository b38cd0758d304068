"""Make a trial from settings: look up every name, and write out every default."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from mimic_reg import methods, models
from mimic_reg.errors import InputError
from mimic_reg.methods.base import Regulariser
from mimic_reg.settings import (
    BASELINE,
    STOPPING,
    Component,
    Training,
    Trial,
    checked,
    find_module,
    is_real,
    module_names,
)
from mimic_reg.settings.files import compose, read_method, read_model, read_task
from mimic_reg.settings.plugins import is_plugin
from mimic_reg.settings.sources import hash_source
from mimic_reg.settings.trial import RECIPE
from mimic_reg.store.spec import Channel

_PACKAGE = "mimic_reg.learners"


def resolve(settings: Mapping[str, Any]) -> Trial:
    """Return a trial from plain settings, with every name looked up and every default written out.

    Raises:
        InputError: a key, name or option is unknown; a type is wrong; a value is out of range.
    """
    trial = checked(Trial, settings, inner=Training)
    name = trial.model.name
    if not takes_methods(name):
        model = trial.model.completed(_PACKAGE, "Model")
        find_module(_PACKAGE, name).build(**model.options)
        _check_no_recipe(name, trial.training)
        return trial.model_copy(update={"model": model, "regularisers": _no_methods(trial)})
    model = trial.model.completed(models.__name__, "Model", skip=models.GIVEN)
    chosen = tuple(
        r.completed(methods.package_of(r.name), "Regulariser") for r in trial.regularisers
    )
    # check their options now, before data are loaded or a sweep begins
    made = [methods.create(method.name, **method.options) for method in chosen]
    if trial.training.by_stay:
        _check_causal(model, "training.by_stay", "Set training.by_stay=false")
        _check_by_stay(made)
    named = {c.name: m for c, m in zip(chosen, made, strict=True)}
    for name, method in named.items():
        if "causal" in method.needs:
            _check_causal(model, name, "Leave out this method")
    _check_recipe(trial.training, named)
    methods.check_together(method.name for method in chosen)
    sources = _sources(model.name, [method.name for method in chosen], trial.sources)
    return trial.model_copy(update={"model": model, "regularisers": chosen, "sources": sources})


def _check_causal(model: Component, who: str, instead: str) -> None:
    """Refuse a model that is not causal.

    who, instead: what needs one, and what to do without one
    """
    one = (Channel(name="x", kind="continuous", variable="x"),)
    if not models.create(model.name, shape=(1,), cohort_channels=one, **model.options).causal:
        raise InputError(
            f"{who} needs a causal model, and {model.name} is none: its prediction for "
            f"an hour depends on which hours are read with it. {instead}, or "
            "choose causal_lstm, causal_transformer, gru, gru_d, tcn, or standard_lstm or "
            "channel_wise_lstm with bidirectional: false."
        )


def _check_by_stay(chosen: Iterable[Regulariser]) -> None:
    """Refuse methods for which a row must be a sample."""
    if refused := [name for method in chosen for name in method.not_by_stay()]:
        raise InputError(
            f"training.by_stay: {', '.join(refused)} cannot act on samples that share the hours of "
            "their stay. Set training.by_stay=false, or leave out this method."
        )


def _check_recipe(training: Training, chosen: Mapping[str, Regulariser]) -> None:
    """Refuse settings that act on what a method acts on as well."""
    own = next((name for name, method in chosen.items() if method.own_schedule), None)
    if own and (training.schedule != "constant" or training.warmup_epochs):
        raise InputError(
            f"{own} sets the learning rate itself. Set training.schedule=constant and "
            "training.warmup_epochs=0, or leave out this method."
        )
    if training.weight_decay and "decoupled_decay" in chosen:
        raise InputError(
            "training.weight_decay and the method decoupled_decay both shrink the weights. Leave "
            "out one of them."
        )


def _sources(model: str, chosen: Iterable[str], recorded: Mapping[str, str]) -> dict[str, str]:
    """Return the hash of each plugin's source, by name.

    Raises:
        InputError: one is not what a run recorded when it was trained.
    """
    named = {model: models.__name__, **dict.fromkeys(chosen, methods.__name__)}
    found = {n: hash_source(room, n) for n, room in named.items() if is_plugin(room, n)}
    for name in found.keys() & recorded.keys():
        if found[name] != recorded[name]:
            raise InputError(
                f"The source of {name} is not the one that the run was trained with. Define it as "
                "it was then, or train again in another folder."
            )
    return found


def check_model(name: str) -> None:
    """Refuse a model that is not known, before a method is found to have no values for it.

    Raises:
        InputError: there is none of that name; the text names the nearest one.
    """
    if takes_methods(name):
        find_module(models.__name__, name)


def learners() -> list[str]:
    """Return the learners that are not networks: modules of this package with a `build`."""
    return [n for n in module_names(_PACKAGE) if hasattr(find_module(_PACKAGE, n), "build")]


def takes_methods(model: str) -> bool:
    """Return whether methods act on a model: on networks only."""
    return models.is_known(model) or model not in learners()


def takes_reals(key: str, model: str) -> bool:
    """Return whether an option, as component.option, takes numbers that are not whole.

    model: of the trial; other components are methods, or `training`
    """
    name, _, option = key.partition(".")
    if name == "training":
        field = Training.model_fields.get(option)
        return field is not None and is_real(field.annotation)
    package = methods.package_of(name) if name != model else _PACKAGE
    if name == model and takes_methods(model):
        package = models.__name__
    known = inspect.signature(find_module(package, name).build).parameters
    return option in known and is_real(known[option].annotation)


def _no_methods(trial: Trial) -> tuple[Component, ...]:
    """Return no methods, for a learner without methods; raise InputError if the trial has some."""
    if acting := [m.name for m in trial.regularisers if m.name not in (BASELINE, STOPPING)]:
        raise InputError(
            f"The method {acting[0]!r} acts on networks, and {trial.model.name} is not one. Use "
            "the method 'none'."
        )
    return ()


def _check_no_recipe(name: str, training: Training) -> None:
    """Refuse settings of a network's steps, for a learner that takes none."""
    for setting in RECIPE:
        value = getattr(training, setting)
        if value != Training.model_fields[setting].default:
            raise InputError(
                f"training.{setting} acts on networks, and {name} is not one: leave it out, got "
                f"{value!r}."
            )


def compose_trial(
    task: str,
    model: str,
    method: str,
    *,
    supervision: float = 1.0,
    supervision_unit: str = "sample",
    seed: int = 0,
    fold: int | None = None,
    training: Mapping[str, Any] | None = None,
) -> Trial:
    """Return the trial of a task, a model and a method, as the command line does.

    task:   a YAML file, or the name of a task. `configs/tasks` has a file for each known task, and
            `default.yaml` for tasks of other cohorts. Its regularisers, such as early stopping, act
            after those of the method
    model:  a YAML file, or the model's name
    method: a YAML file; or a name in `configs/methods`, alone (`l2`), or after a family of models
            whose values to use instead of this model's (`resnet50_cifar/l2`)
    fold:   the fold to test on, of a cohort with folds
    training: settings that replace those of the method, which replace those of the task

    Raises:
        InputError: see `resolve`; or there is no such file.
    """
    found = read_model(model)
    check_model(found.name)
    return resolve(
        compose(
            read_task(task),
            found,
            read_method(method, family=found.name),
            training=training or {},
            supervision=supervision,
            supervision_unit=supervision_unit,
            seed=seed,
            fold=fold,
        )
    )
