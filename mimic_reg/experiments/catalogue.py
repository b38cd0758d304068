"""The catalogue of methods: what each does, for which models, at which cost.

An entry is a file of `configs/methods`, or a module of `mimic_reg.methods` or `mimic_reg.probes`
that no such file names alone. Its text comes from the module's docstring: the first sentence, a
line "Kind: dropout" and a paragraph "Paper: …", works separated by semicolons. Without the line, as
a plugin may be, the kind follows from the hooks that the method overrides.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mimic_reg.errors import InputError
from mimic_reg.experiments.costs import step_costs
from mimic_reg.settings import BASELINE, CONFIGS, find_module, is_probe, module_names, suggest
from mimic_reg.settings.files import method_called, names
from mimic_reg.settings.names import docstring
from mimic_reg.settings.plugins import room

# hook → kind of a method that overrides it; the first that fits
_BY_HOOK = {
    "predictor": "averaging",
    "loss": "penalty",
    "optimizer": "optimiser",
    "batch": "data",
    "prepare": "network",
    "tick": "schedule",
}
_PROBE = "probe"
_A_SENTENCE = 4  # words: a header with fewer is only a name


@dataclass(frozen=True)
class Entry:
    """A method.

    name:    of its file, for --method; or of its module
    file:    whether it has a file
    modules: its modules, in order
    kind:    for example "dropout"; several modules have all their kinds
    models:  the models that it has values for; empty for all networks
    summary: a sentence without its full stop
    sources: the works that it is from, the first one first
    """

    name: str
    file: bool
    modules: tuple[str, ...]
    kind: str
    models: tuple[str, ...]
    summary: str
    sources: tuple[str, ...]

    @property
    def source(self) -> str:
        """The first work without its title; "" if none is cited."""
        return re.sub(r' "[^"]*",', "", self.sources[0]) if self.sources else ""

    def costs(self, model: str) -> float | None:
        """Return the cost of a step relative to a plain one; None if not measured on that model."""
        found = [step_costs().get(module, {}).get(model) for module in self.modules]
        return None if None in found else math.prod(cost for cost in found if cost is not None)


def entries(like: str | None = None) -> list[Entry]:
    """Return all methods, or those of a kind, by name.

    like: a kind, or a method of this kind

    Raises:
        InputError: there is no such kind or method.
    """
    alone = {parts[0] for name in names("methods") if len(parts := _modules(name)) == 1}
    found = [_of_file(name) for name in names("methods")]
    modules = [*module_names(room("methods")), *module_names(room("probes"))]
    found += [_of_module(name) for name in modules if name not in alone]
    found.sort(key=lambda entry: entry.name)
    if like is None:
        return found
    kinds = {entry.name: entry.kind for entry in found}
    wanted = kinds.get(like, like)
    chosen = [entry for entry in found if wanted in (entry.kind, *entry.kind.split(" + "))]
    if not chosen:
        raise InputError(
            f"There is no kind of methods {like!r}. {suggest(like, {*kinds.values(), *kinds})}"
        )
    return chosen


def _of_file(name: str) -> Entry:
    found, modules = method_called(name), _modules(name)
    main = name if name in modules else modules[-1]
    served = sorted(
        model
        for model in network_names()
        if any(_is_of(family, model) for family in found.families)
    )
    return Entry(
        name=name,
        file=True,
        modules=modules,
        kind=" + ".join(dict.fromkeys(kind_of(module) for module in modules)),
        models=tuple(served),
        summary=_summary(name, main),
        sources=sources_of(_doc(main)),
    )


def _summary(name: str, main: str) -> str:
    """Return the summary of the module, or a more specific one from the file's header."""
    own = header(name)
    return summary_of(_doc(main)) if name == main or len(own.split()) < _A_SENTENCE else own


def _of_module(name: str) -> Entry:
    doc = _doc(name)
    return Entry(name, False, (name,), kind_of(name), (), summary_of(doc), sources_of(doc))


def _is_of(family: str, model: str) -> bool:
    return family == model or family.startswith(f"{model}_")


def _modules(name: str) -> tuple[str, ...]:
    return tuple(component.name for component in method_called(name).regularisers)


def _package(name: str) -> str:
    return room("probes" if is_probe(name) else "methods")


def _doc(name: str) -> str:
    return docstring(_package(name), name)


def network_names() -> list[str]:
    """Return the names of the models that the engine trains."""
    return module_names(room("models"))


def summary_of_model(name: str) -> str:
    """Return the first line of a model's docstring, without its full stop."""
    package = room("models" if name in network_names() else "learners")
    return docstring(package, name).partition("\n")[0].rstrip(".")


def kind_of(name: str) -> str:
    """Return the kind of a module."""
    if is_probe(name):
        return _PROBE
    if said := re.search(r"^Kind: (.+)$", _doc(name), re.MULTILINE):
        return said.group(1).strip().rstrip(".")
    if name == BASELINE:
        return "baseline"
    from mimic_reg.methods.base import Regulariser

    module = find_module(_package(name), name)
    own = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Regulariser) and c.__module__ == module.__name__
    ]
    acting = {
        hook for c in own for hook in _BY_HOOK if getattr(c, hook) is not getattr(Regulariser, hook)
    }
    return next((kind for hook, kind in _BY_HOOK.items() if hook in acting), "other")


def summary_of(doc: str) -> str:
    """Return the first sentence of a docstring, without its full stop."""
    first = " ".join(doc.partition("\n\n")[0].split())
    return re.split(r"(?<!\bal)\. ", first)[0].rstrip(".")


def sources_of(doc: str) -> tuple[str, ...]:
    """Return the works that a docstring cites in its paragraph "Paper: …"."""
    said = re.search(r"^Paper: (.+?)(?:\n\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return tuple(" ".join(said.group(1).split()).rstrip(".").split("; ")) if said else ()


def header(name: str) -> str:
    """Return the first sentence of the comment at the top of a method's file."""
    lines = (CONFIGS / "methods" / f"{name}.yaml").read_text("utf-8").splitlines()
    taken = []
    for line in lines:
        if not line.startswith("#"):
            break
        taken.append(line.removeprefix("#").strip())
    return re.split(r"(?<!\bal)\. |: values of ", " ".join(taken))[0].rstrip(".")


def measured_costs(entry: Entry, wanted: tuple[str, ...]) -> Mapping[str, float]:
    """Return model → relative cost of a step, for the models that the method fits."""
    found = {m: entry.costs(m) for m in wanted if not entry.models or m in entry.models}
    return {model: cost for model, cost in found.items() if cost is not None}
