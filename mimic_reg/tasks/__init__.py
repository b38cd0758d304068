"""The prediction tasks, one module each."""

from importlib import import_module
from pkgutil import iter_modules

from mimic_reg.tasks.base import Task


def names() -> tuple[str, ...]:
    """Names of all tasks: the modules of this package that define one."""
    return tuple(sorted(m.name for m in iter_modules(__path__) if m.name != "base"))


def get(name: str) -> Task:
    """The task called `name`; it must be one of `names()`."""
    task: Task = import_module(f"{__name__}.{name}").TASK
    return task
