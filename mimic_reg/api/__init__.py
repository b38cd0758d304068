"""The Python interface of mimic-reg, also at the top of the package: `import mimic_reg as mr`.

    import mimic_reg as mr

    store = mr.open_store("store")
    run = mr.fit(store, task="in_hospital_mortality", methods=[mr.methods.itps(tau=0.1)], seed=0)
    run.scores["test"]["auroc"]

Torch is loaded when it is first needed, not by the import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mimic_reg.api.classifier import Classifier
    from mimic_reg.api.components import component
    from mimic_reg.api.judging import board, card, check
    from mimic_reg.api.runs import Run, fit, open_run
    from mimic_reg.api.samples import SampleSet, Splits
    from mimic_reg.api.stores import Store, extract, open_store, synthesize, write_store
    from mimic_reg.api.tables import compare, mean_scores, write_report
    from mimic_reg.errors import InputError, MimicRegError
    from mimic_reg.methods.base import Batch, Fit, Regulariser, Step
    from mimic_reg.methods.itps import ITPSOptimizer
    from mimic_reg.metrics.scores import Score
    from mimic_reg.models.base import Model, Site
    from mimic_reg.serving.external import External
    from mimic_reg.settings import Component
    from mimic_reg.store.spec import Channel, CohortSpec, Task

__all__ = [
    "Batch",
    "Channel",
    "Classifier",
    "CohortSpec",
    "Component",
    "External",
    "Fit",
    "ITPSOptimizer",
    "InputError",
    "MimicRegError",
    "Model",
    "Regulariser",
    "Run",
    "SampleSet",
    "Score",
    "Site",
    "Splits",
    "Step",
    "Store",
    "Task",
    "board",
    "card",
    "check",
    "compare",
    "component",
    "extract",
    "fit",
    "mean_scores",
    "open_run",
    "open_store",
    "synthesize",
    "write_report",
    "write_store",
]

_ROOMS = {
    "api.classifier": ("Classifier",),
    "api.components": ("component",),
    "api.judging": ("board", "card", "check"),
    "api.runs": ("Run", "fit", "open_run"),
    "api.samples": ("SampleSet", "Splits"),
    "api.stores": ("Store", "extract", "open_store", "synthesize", "write_store"),
    "api.tables": ("compare", "mean_scores", "write_report"),
    "errors": ("InputError", "MimicRegError"),
    "methods.base": ("Batch", "Fit", "Regulariser", "Step"),
    "methods.itps": ("ITPSOptimizer",),
    "metrics.scores": ("Score",),
    "models.base": ("Model", "Site"),
    "serving.external": ("External",),
    "settings": ("Component",),
    "store.spec": ("Channel", "CohortSpec", "Task"),
}
_PLACES = {name: room for room, names in _ROOMS.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        package = __name__.partition(".")[0]
        return getattr(import_module(f"{package}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
