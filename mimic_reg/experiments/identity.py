"""The code that determines a trial's result, as one hash: a part of the trial's identity.

This is the code of the engine and of the modules that the trial names (model, methods, probes,
strategy), and of their imports. The definition of a task is a part of the data. The hash is of
syntax trees without docstrings and comments, so a new module, another method, a reworded docstring
or a change of the report does not change it. Nor does a new setting, in trials that do not use it:
what an `if` on the setting adds (`_OPTIONAL`) is left out there.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mimic_reg.settings import Training, Trial
from mimic_reg.settings.plugins import is_plugin, room
from mimic_reg.settings.sources import imported, imports_of, plain_text

_PACKAGE = __name__.partition(".")[0]
_ROOT = Path(__file__).parents[2]
# Rooms in which imports are followed. Other rooms (messages, storage, progress, pages) do not
# change the numbers of a fit.
_DECIDING = (
    *("seeds", "store.spec", "samples", "models", "methods", "probes", "engine"),
    *("fitting", "learners", "multitask", "clinical.normalizers"),
    *("metrics.scores", "metrics.bootstrap", "metrics.curvature", "metrics.similarity"),
    *("metrics.trained", "store.indicators"),
)
# Modules in these rooms that only make settings. Settings are a part of the identity themselves.
_SETTINGS = ("learners.trials", "multitask.trials")
# newer settings of training → the module that carries them out
_OPTIONAL = {"indicators": "store.indicators"}
_ENGINE = ("fitting", "engine.trainer", "samples", "samples.splits", "metrics.scores")


def code_of(trial: Trial) -> str:
    """Return the hash of the code that determines a trial's result."""
    return _hash(frozenset(_named(trial)))


def _named(trial: Trial) -> Iterator[str]:
    """Yield the modules that a trial names, below the package."""
    from mimic_reg.methods import package_of  # loads torch

    yield from _ENGINE
    network = f"models.{trial.model.name}"
    if is_plugin(room("models"), trial.model.name):
        yield from _used(room("models"), trial.model.name)
    else:
        yield network if _is_module(f"{_PACKAGE}.{network}") else f"learners.{trial.model.name}"
    for method in (method for part in trial.trials or (trial,) for method in part.regularisers):
        package = package_of(method.name)
        if is_plugin(package, method.name):
            yield from _used(package, method.name)
        else:
            yield f"{package.removeprefix(f'{_PACKAGE}.')}.{method.name}"
    for setting, module in _OPTIONAL.items():
        if getattr(trial.training, setting) != Training.model_fields[setting].default:
            yield module
    if trial.strategy:
        yield from ("multitask.fit", f"multitask.{trial.strategy.name}")


def _used(package: str, plugin: str) -> Iterator[str]:
    """Yield the deciding modules that a plugin uses; its own source is in the trial's settings."""
    for name in imports_of(package, plugin):
        if _decides(name) and _is_module(name):
            yield name.removeprefix(f"{_PACKAGE}.")


@cache
def _hash(roots: frozenset[str]) -> str:
    unused = frozenset(name for name, module in _OPTIONAL.items() if module not in roots)
    found: dict[str, str] = {}
    waiting = [f"{_PACKAGE}.{root}" for root in roots]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name], imports = _read(name, unused)
            waiting += imports
    digest = hashlib.sha256()
    for name, text in sorted(found.items()):
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()[:16]


@cache
def _read(module: str, unused: frozenset[str] = frozenset()) -> tuple[str, tuple[str, ...]]:
    """Return a module's code without docstrings and comments, and its imports in these rooms.

    unused: settings; what the module does only with them is left out
    """
    tree = _Without(unused).visit(ast.parse(_file(module).read_text("utf-8")))
    names = {
        name
        for node in ast.walk(tree)
        for name in imported(node)
        if name != module and _decides(name) and _is_module(name)
    }
    return plain_text(tree), tuple(sorted(names))


class _Without(ast.NodeTransformer):
    """Takes out what stands in an `if` on unused settings."""

    def __init__(self, unused: frozenset[str]) -> None:
        self.unused = unused

    def visit_If(self, node: ast.If) -> ast.If | list[ast.stmt]:
        """Return the statement, or what is in its `else`."""
        self.generic_visit(node)
        read = {n.attr for n in ast.walk(node.test) if isinstance(n, ast.Attribute)}
        return node.orelse if read & self.unused else node


def _decides(module: str) -> bool:
    below = module.removeprefix(f"{_PACKAGE}.")
    if below == module or below in _SETTINGS:
        return False
    return any(below == d or below.startswith(f"{d}.") for d in _DECIDING)


def _is_module(name: str) -> bool:
    return _file(name).is_file()


def _file(module: str) -> Path:
    path = _ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
