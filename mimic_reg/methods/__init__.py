"""The methods, one module each; the signature of a module's `build` is its list of options."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mimic_reg import probes
from mimic_reg.errors import InputError
from mimic_reg.methods.base import Composite, Regulariser
from mimic_reg.settings import Component, find_module, module_names, resolve_options, suggest
from mimic_reg.settings.callable import Call, find_callable, make_callable
from mimic_reg.settings.plugins import is_plugin
from mimic_reg.store.spec import Task

BASE = Regulariser  # what a class from outside of the package derives from


def names() -> list[str]:
    """Return the names of all methods: the modules of this package."""
    return module_names(__name__)


def selects_by(name: str) -> str | None:
    """Return the option that decides how many parameters a method selects (its `SELECTS_BY`).

    Return None for a method that selects none, and for an unknown one.
    """
    if name not in names() and not is_plugin(__name__, name):
        return None
    return getattr(find_module(__name__, name), "SELECTS_BY", None)


def check_together(chosen: Iterable[str]) -> None:
    """Check that methods may act together, in the order given.

    A module's `EXCLUDES` names the methods beside which it cannot act, and its `AFTER` those that
    must be listed before it: name → why.

    Raises:
        InputError: two methods exclude each other, or are in the wrong order.
    """
    present = list(dict.fromkeys(chosen))
    for place, name in enumerate(present):
        module = find_module(package_of(name), name)
        excluded: Mapping[str, str] = getattr(module, "EXCLUDES", {})
        first: Mapping[str, str] = getattr(module, "AFTER", {})
        for other in present:
            if other in excluded:
                raise InputError(f"{name} and {other} exclude each other: {excluded[other]}")
        for other in present[place:]:
            if other in first:
                raise InputError(f"List {name} after {other}, not before: {first[other]}")


def check_target(chosen: Iterable[str], task: Task) -> None:
    """Check that methods may act on the labels of a task.

    A module with `CLASSES_ONLY = True` acts on probabilities of classes.

    Raises:
        InputError: a method needs classes, and the task is a regression.
    """
    for name in chosen if task.target == "regression" else ():
        if getattr(find_module(package_of(name), name), "CLASSES_ONLY", False):
            raise InputError(
                f"{name} acts on probabilities of classes, and {task.name} is a regression. Leave "
                "the method out, or choose a task with classes."
            )


def package_of(name: str) -> str:
    """Return the package of a method or a probe.

    Raises:
        InputError: there is no such method; the text names the nearest one.
    """
    if is_plugin(__name__, name):
        return __name__
    known = dict.fromkeys(probes.names(), probes.__name__) | dict.fromkeys(names(), __name__)
    if name not in known:
        near = suggest(name, known, "mimic-reg list methods")
        raise InputError(f"Unknown method {name!r}. {near}")
    return known[name]


def create(name: str, **options: Any) -> Regulariser:
    """Return the method or probe called `name`.

    Raises:
        InputError: an unknown name or option; the text names the nearest one.
    """
    build = find_module(package_of(name), name).build
    method: Regulariser = build(**resolve_options(build, options, f"Regulariser {name!r}"))
    if not isinstance(method, Regulariser):
        raise InputError(f"{name}: build must return a mimic_reg.Regulariser, got {type(method)}.")
    return method


def compose(entries: Iterable[str | Mapping[str, Mapping[str, Any] | None]]) -> Composite:
    """Return the methods of a list such as `["dropout", {"norm_penalty": {"l2": 0.1}}]` as one.

    A name alone is a method with its default options.

    Raises:
        InputError: an entry is not one name with its options, or `create` or `check_together`
            refuses it.
    """
    members, present = [], []
    for given in entries:
        entry = {given: None} if isinstance(given, str) else given
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise InputError(
                "A method must be a name with its options, as 'dropout: {rate: 0.5}', got "
                f"{given!r}."
            )
        ((name, options),) = entry.items()
        members.append(create(name, **(options or {})))
        present.append(name)
    check_together(present)
    return Composite(members)


def check_component(method: Component) -> Component:
    """Return a method with its options, with every default written out.

    Raises:
        InputError: what `create` refuses.
    """
    create(method.name, **method.options)
    return method.completed(package_of(method.name), "Regulariser")


if TYPE_CHECKING:
    itps: Call  # elsewhere it is imported as a module, which is no callable for type checkers


def __getattr__(name: str) -> Call:
    return find_callable(__name__, name)


make_callable(__name__)
