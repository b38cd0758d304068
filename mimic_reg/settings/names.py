"""Names in settings: the known ones, and the options of a module.

Names are module names: `dropout: {rate: 0.5}` means the module `dropout` and the option `rate` of
its `build`. An unknown name is refused, and the nearest known name suggested.
"""

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from mimic_reg.errors import InputError
from mimic_reg.settings.nearest import suggest
from mimic_reg.settings.plugins import is_plugin, load_plugin, plugin_names

BASELINE = "none"  # the method that changes no fit
_SINGULAR = {"analyses": "analysis", "multitask": "strategy"}  # of packages; others lose an s
STOPPING = "early_stopping"  # the method that ends fits; the files of tasks add it


def module_names(package: str) -> list[str]:
    """Return the names a configuration may use: a package's public modules, and entry points.

    The module `base` is not among them.
    """
    return sorted({*_own_names(package), *plugin_names(package)})


@cache  # an experiment asks thousands of times
def _own_names(package: str) -> tuple[str, ...]:
    folder = Path(__file__).parents[1].joinpath(*package.split(".")[1:])
    found = pkgutil.iter_modules([str(folder)])
    return tuple(m.name for m in found if m.name != "base" and not m.name.startswith("_"))


def find_module(package: str, name: str) -> ModuleType:
    """Return the module `name` of `package`, or a plugin as a module: see `plugins`.

    Raises:
        InputError: there is no such module; the text names the nearest one.
    """
    own = _own_names(package)
    if is_plugin(package, name):
        if name in own:
            raise InputError(
                f"{name!r} is ambiguous: an installed package offers one, too. Write that one as "
                "package.module:Class, or remove the package."
            )
        return load_plugin(package, name)
    if name not in own:
        room = package.rpartition(".")[2]
        kind = _SINGULAR.get(room, room.removesuffix("s"))
        how = ""
        if "." in name and hasattr(importlib.import_module(package), "BASE"):
            how = " A class of another package is written package.module:Class."
        all_of_them = f"mimic-reg list {room}" if room in ("methods", "models") else ""
        near = suggest(name, module_names(package), all_of_them)
        raise InputError(f"Unknown {kind} {name!r}.{how} {near}")
    return importlib.import_module(f"{package}.{name}")


def docstring(package: str, name: str) -> str:
    """Return the docstring of a module that `find_module` finds, "" without one.

    A module of ours is read, not imported: most import torch, which takes seconds.
    """
    if name not in _own_names(package):
        return inspect.cleandoc(find_module(package, name).__doc__ or "")
    path = Path(__file__).parents[1].joinpath(*package.split(".")[1:], f"{name}.py")
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


def is_probe(name: str) -> bool:
    """Return whether a method is a probe: a module of `mimic_reg/probes`, which only measures."""
    return name in _probes()


@cache
def _probes() -> frozenset[str]:
    """Return the names of the probes from their files, since settings import nothing above them."""
    room = Path(__file__).parents[1] / "probes"
    return frozenset(path.stem for path in room.glob("[!_]*.py"))


def acting(names: Iterable[str], silent: Collection[str] = (BASELINE, STOPPING)) -> tuple[str, ...]:
    """Return the methods that name a fit: all but probes and `silent` ones, or the baseline."""
    kept = (name for name in names if name not in silent and not is_probe(name))
    return tuple(kept) or (BASELINE,)


def resolve_options(
    function: Callable[..., Any], given: Mapping[str, Any], what: str, skip: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the options of `function`: `given`, completed by the defaults of its signature.

    Raises:
        InputError: an option is unknown or missing, or a value has another type than the signature
            says.
    """
    skipped = set(skip)
    known = {n: p for n, p in inspect.signature(function).parameters.items() if n not in skipped}
    for name in given:
        if name not in known:
            raise InputError(f"{what} has no option {name!r}. {suggest(name, known)}")
    if missing := [n for n, p in known.items() if p.default is p.empty and n not in given]:
        raise InputError(f"{what} needs the option {missing[0]!r}.")
    for name, value in given.items():
        kind = known[name].annotation
        if not _is_of(value, kind):
            raise InputError(f"{what}: {name} must be {_kind_name(kind)}, got {value!r}.")
    return {n: _plain(given.get(n, p.default)) for n, p in known.items()}


_KINDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
}
_LISTS = (tuple, list, Sequence)


def _is_of(value: Any, kind: Any) -> bool:
    """Return whether a value fits an annotation; True for one that YAML has no type for."""
    if isinstance(kind, UnionType):
        return any(_is_of(value, one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in _LISTS:
        inner = get_args(kind)[0]
        return isinstance(value, list | tuple) and all(_is_of(each, inner) for each in value)
    if kind not in _KINDS:
        return True
    if isinstance(value, bool):  # which Python counts among the integers
        return kind is bool
    if kind is float:
        return isinstance(value, float) or (
            isinstance(value, int) and abs(value) <= sys.float_info.max
        )
    return isinstance(value, kind)


def is_real(kind: Any) -> bool:
    """Return whether an annotation has real numbers among its values."""
    return kind is float or (isinstance(kind, UnionType) and float in get_args(kind))


def _kind_name(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(map(_kind_name, get_args(kind)))
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if get_origin(kind) in _LISTS:
        return f"a list, each {_kind_name(get_args(kind)[0])}"
    return _KINDS[kind]


def _plain(value: Any) -> Any:
    """Return the value as JSON and YAML hold it, so that a tuple and a list are the same."""
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value
