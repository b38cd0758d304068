"""Models and methods from other packages, from a script or from a notebook.

A name with a colon, `package.module:Class`, names a class: `__main__:Class` is one of the running
script or notebook. An installed package may also offer names without a colon, by an entry point of
the group `mimic_reg.models` or `mimic_reg.methods`.

Only rooms with a `BASE` take such names, and only classes that derive from it. So settings from a
file cannot call anything else. The module of the class is imported from the Python path, never from
a run folder.
"""

import importlib
import inspect
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.settings.nearest import suggest

MAIN = "__main__"
_ONLY_HERE = (
    " Run the cell or script that defines it. Other programs, such as the command line, only find "
    "classes of modules."
)
_BASES = {"Module": "torch.nn.Module", "Regulariser": "mimic_reg.Regulariser"}  # for people
_DECLARED = ("EXCLUDES", "AFTER", "SELECTS_BY")  # what a method says of itself beside its hooks


def room(name: str) -> str:
    """Return the full name of a room, which is also its group of entry points."""
    return f"{__name__.partition('.')[0]}.{name}"


def is_plugin(package: str, name: str) -> bool:
    """Return whether a name is that of a class or an entry point outside of mimic-reg."""
    return ":" in name or name in plugin_names(package)


def plugin_names(package: str) -> list[str]:
    """Return the names that installed packages add to a room, such as `mimic_reg.methods`."""
    return sorted({point.name for point in _entry_points(package)})


@cache
def _entry_points(package: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=package))


def load_plugin(package: str, name: str) -> ModuleType:
    """Return what a plugin's name stands for, as a module with a `build`.

    Raises:
        InputError: it cannot be imported, or is not a class of the room's kind.
    """
    room = package.rpartition(".")[2]
    base = getattr(importlib.import_module(package), "BASE", None)
    if base is None:
        raise InputError(
            f"{name!r}: {room} are modules of mimic-reg. Allowed elsewhere: models, methods."
        )
    target = name
    if ":" not in name:
        points = [point for point in _entry_points(package) if point.name == name]
        if len(points) > 1:
            offering = ", ".join(sorted(point.value for point in points))
            raise InputError(
                f"{name!r} is ambiguous: installed packages offer {offering}. Write one of these."
            )
        target = points[0].value
    found = _find(target)
    if isinstance(found, ModuleType) and ":" not in name and callable(getattr(found, "build", 0)):
        return found
    return as_module(found, base, name)


def name_of_class(found: type) -> str:
    """Return the name of a class in settings: `package.module:Class`.

    Raises:
        InputError: it cannot be found again by that name.
    """
    name = f"{found.__module__}:{found.__qualname__}"
    if "<locals>" in found.__qualname__:
        raise InputError(
            f"{found.__qualname__} is defined within a function, so it cannot be found again when "
            "the run is opened. Define the class at the top level of a cell or a module."
        )
    if _find(name) is not found:
        raise InputError(
            f"{name} is another class now. Run the cell or module that defines it again, and give "
            "the class that it defines."
        )
    return name


def as_module(found: Any, base: type, name: str) -> ModuleType:
    """Return a class as a module whose `build` it is.

    Raises:
        InputError: it does not derive from `base`, or takes options without names.
    """
    if not (isinstance(found, type) and issubclass(found, base)):
        what = f"the {'class' if isinstance(found, type) else type(found).__name__} {name!r}"
        raise InputError(
            f"A class that derives from {_BASES.get(base.__name__, base.__name__)} is needed; got "
            f"{what}."
        )
    for parameter in inspect.signature(found).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InputError(
                f"{name}: its options must have names, so that a run can record them. Its "
                f"__init__ takes {parameter}; write the arguments out."
            )
    module = ModuleType(found.__module__, found.__doc__)
    declared = {key: getattr(found, key) for key in _DECLARED if hasattr(found, key)}
    vars(module).update({found.__name__: found, "build": found, **declared})
    return module


def _find(target: str) -> Any:
    """Return what `package.module:Class`, or `package.module`, names."""
    place, _, path = target.partition(":")
    found: Any = _import(place, target)
    for part in path.split(".") if path else ():
        if not hasattr(found, part):
            where = "this script or notebook" if place == MAIN else f"the module {place}"
            classes = [n for n, value in vars(found).items() if isinstance(value, type)]
            again = _ONLY_HERE if place == MAIN else ""
            raise InputError(f"There is no {part!r} in {where}. {suggest(part, classes)}{again}")
        found = getattr(found, part)
    return found


def _import(place: str, target: str) -> ModuleType:
    if place == MAIN:
        return sys.modules[MAIN]
    if not all(part.isidentifier() for part in place.split(".")):
        raise InputError(f"{target!r} is not a class's name. Write package.module:Class.")
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{target}: there is no module {error.name!r} on the Python path. Install its package, "
            "or add its folder to PYTHONPATH."
        ) from error
    except Exception as error:
        raise InputError(
            f"{target}: importing {place} failed with {type(error).__name__}: {error}"
        ) from error
