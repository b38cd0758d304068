"""Models and methods as arguments: a name, settings, or a class of your own."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from mimic_reg import methods, models
from mimic_reg.errors import InputError
from mimic_reg.settings import Component
from mimic_reg.settings.plugins import as_module, name_of_class
from mimic_reg.settings.sources import hash_source

ModelLike = str | type[Any] | Component | Mapping[str, Any]
MethodLike = str | type[Any] | Component | Mapping[str, Any]


def component(kind: type[Any], **options: Any) -> Component:
    """Return a model or method of your own with its options, for `fit` and `Classifier`.

    Args:
        kind: a class that derives from `torch.nn.Module` or from `mr.Regulariser`, defined at the
            top level of a notebook cell, a script or a module.
        options: arguments of its `__init__`: numbers, texts, true or false, lists of them. What a
            model is given by name, such as `n_features` and `n_outputs`, is no option.

    Returns:
        The settings; `mr.methods.itps(tau=0.1)` returns the same kind for a method of mimic-reg.

    Raises:
        InputError: another class, an unknown option, or a class whose source cannot be found.

    Example:
        >>> mr.fit(store, task=task, methods=[mr.component(Noise, std=0.1)])  # doctest: +SKIP
    """
    if not isinstance(kind, type):
        raise InputError(
            f"A class is needed, got {kind!r}. Give the class and its options: "
            "mr.component(MyMethod, strength=0.1)."
        )
    name = name_of_class(kind)
    is_method = issubclass(kind, methods.BASE)
    package, base = (methods, methods.BASE) if is_method else (models, models.BASE)
    as_module(kind, base, name)
    hash_source(package.__name__, name)
    given = Component.model_validate({name: plain(name, options)})
    return methods.check_component(given) if is_method else models.check_component(given)


def plain(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as JSON holds them: NumPy's numbers become Python's.

    Raises:
        InputError: one is something else.
    """
    found = {key: _plain(value) for key, value in options.items()}
    for key, value in found.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{name}: the option {key!r} is a {type(value).__name__}, which a run cannot "
                "record. Give a number, a text, true or false, or a list of them."
            ) from error
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value


def as_component(given: Any, what: str) -> Component:
    """Return a model or method in any of its forms as settings.

    Raises:
        InputError: it has no such form.
    """
    if isinstance(given, Component):
        return given
    if isinstance(given, type):
        return component(given)
    if isinstance(given, str | Mapping):
        try:
            return Component.model_validate(given)
        except ValueError as error:
            raise InputError(
                f"A {what} as a dictionary is a name with its options, as {{'dropout': "
                f"{{'rate': 0.5}}}}; got {given!r}."
            ) from error
    if isinstance(given, functools.partial) or not isinstance(given, type):
        name = type(given).__name__
        raise InputError(
            f"The {what} is a {name} object. Give a name, mr.{what}s.NAME(…), a class, or "
            "mr.component(MyClass, option=…): every run makes its own object."
        )
    raise AssertionError("all forms are above")
