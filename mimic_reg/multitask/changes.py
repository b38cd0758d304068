"""Single settings of a trial changed by name, as `training.learning_rate` or `model.units`.

A name is a group and a setting. The groups are `training`, `model` (or the model's own name), each
method's name, such as `itps.tau`, and the strategy's for several tasks.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from mimic_reg.errors import InputError
from mimic_reg.learners.trials import resolve
from mimic_reg.multitask.trials import resolve_multi
from mimic_reg.settings import Training, Trial, parse_yaml, suggest

Changes = Mapping[str, Any]  # group.setting → value
_Places = dict[str, list[tuple[dict[str, Any], str]]]  # group.setting → where it is


def parse_pairs(
    texts: Sequence[str], option: str, example: str, *, several: bool = False
) -> dict[str, Any]:
    """Return name → value from texts such as training.learning_rate=3e-4; values are YAML.

    option, example: for errors
    several:         whether a text has several values, as itps.tau=0.1,0.2; they become a list

    Raises:
        InputError: no name, no value or no YAML; a name given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        try:
            yaml_text = f"[{value}]" if several else value
            parsed = parse_yaml(yaml_text) if name and value and equals else ...
        except (yaml.YAMLError, ValueError):
            parsed = ...
        if parsed is ...:
            raise InputError(f"{option} {text}: write a name and its value, as {example}.")
        if name in found:
            raise InputError(f"{option} {name} is given twice. Give it once.")
        found[name] = parsed
    return found


def change(trial: Trial, changes: Changes) -> Trial:
    """Return a trial, of one or several tasks, with settings replaced; all of them must be its own.

    Raises:
        InputError: the trial has no such setting; a value that it cannot take.
    """
    check_known(changes, known_settings(trial))
    return change_known(trial, changes)


def change_known(trial: Trial, changes: Changes) -> Trial:
    """Return a trial with those settings replaced that it has.

    Raises:
        InputError: a value that the setting cannot take.
    """
    if not changes:
        return trial
    content = trial.model_dump()
    change_plain(content, changes)
    return resolve_multi(content) if trial.strategy else resolve(content)


def change_plain(content: dict[str, Any], changes: Changes, own: Collection[str] = ()) -> set[str]:
    """Replace what plain settings have, in place; return the names of all that they have.

    own: settings without a group

    Raises:
        InputError: two names of one setting.
    """
    found = _places(content) | {name: [(content, name)] for name in own}
    done: dict[tuple[int, str], str] = {}
    for name in changes.keys() & found.keys():
        for options, setting in found[name]:
            other = done.setdefault((id(options), setting), name)
            if other != name:
                both = " and ".join(sorted((other, name)))
                raise InputError(f"{both} are the same setting. Give one of them.")
            options[setting] = copy.deepcopy(changes[name])
    return set(found)


def known_settings(trial: Trial) -> set[str]:
    """Return the names of all settings of a trial that can be changed."""
    return set(_places(trial.model_dump()))


def check_known(changes: Collection[str], known: Collection[str]) -> None:
    """Refuse changes of settings that nothing has.

    Raises:
        InputError: the first such setting, with the nearest one that there is.
    """
    for name in changes:
        if name not in known:
            raise InputError(f"There is no setting {name!r}. {suggest(name, known)}")


def _places(content: Mapping[str, Any]) -> _Places:
    """Return where in plain settings each setting is: in several places for several tasks."""
    places: _Places = {}

    def add(group: str, options: dict[str, Any], names: Collection[str]) -> None:
        for name in names:
            places.setdefault(f"{group}.{name}", []).append((options, name))

    if strategy := content.get("strategy"):
        for group, options in strategy.items():
            add(group, options, options)
    for part in content.get("trials") or [content]:
        # epochs of several tasks are as long as their strategy says
        fixed = {"epoch_steps"} if strategy else set()
        add("training", part["training"], Training.model_fields.keys() - fixed)
        for group, options in part["model"].items():
            add(group, options, options)
            add("model", options, options)
        for method in part.get("regularisers", ()):
            for group, options in method.items():
                add(group, options, options)
    return places
