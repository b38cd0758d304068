"""Packages whose modules can be called from Python: `mr.methods.itps(tau=0.1)`."""

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from mimic_reg.settings.names import find_module, module_names, suggest
from mimic_reg.settings.plugins import is_plugin
from mimic_reg.settings.trial import Component

Call = Callable[..., Component]


def _component(package: str, name: str, **options: Any) -> Component:
    """Return a component, checked by the `check_component` of its package."""
    checked: Component = sys.modules[package].check_component(
        Component.model_validate({name: options})
    )
    return checked


class _Module(ModuleType):
    """A module with a `build`; a call returns the component of that name with these options."""

    def __call__(self, **options: Any) -> Component:
        package, _, name = self.__name__.rpartition(".")
        return _component(package, name, **options)


class _Room(ModuleType):
    """A package; a module of it becomes callable once it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if type(value) is ModuleType and hasattr(value, "build"):
            value.__class__ = _Module
        super().__setattr__(name, value)


def make_callable(package: str) -> None:
    """Make the modules of a package callable, those to come and those that are there."""
    room = sys.modules[package]
    room.__class__ = _Room
    for name, value in list(vars(room).items()):
        setattr(room, name, value)


def find_callable(package: str, name: str) -> Call:
    """Return a module of a package for its `__getattr__`.

    Raises:
        AttributeError: it has none; the text names the nearest one.
    """
    if name.startswith("_") or name not in module_names(package):
        listing = f"mimic-reg list {package.rpartition('.')[2]}"
        near = "" if name.startswith("_") else f" {suggest(name, module_names(package), listing)}"
        raise AttributeError(f"There is no {name!r} in {package}.{near}")
    if is_plugin(package, name):
        return partial(_component, package, name)
    found: Call = find_module(package, name)  # type: ignore[assignment]
    return found
