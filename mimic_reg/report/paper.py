"""The paper's figures that are at hand, beside ours."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from mimic_reg.report.results import TrialResult


@dataclass(frozen=True)
class PaperFigure:
    """A score that the paper reports.

    sd:   what follows its plus-minus
    data: what the model was trained on
    """

    value: float
    sd: float | None
    data: str


@cache
def paper() -> dict[str, Any]:
    """The figures of the paper that are at hand (`resources/paper.yaml`)."""
    resource = files("mimic_reg.report") / "resources" / "paper.yaml"
    loaded: dict[str, Any] = yaml.safe_load(resource.read_text("utf-8"))
    return loaded


def paper_figure(trial: TrialResult, score: str, data: str | None = None) -> PaperFigure | None:
    """The paper's test score of this trial's task, model, method and level, if it is at hand.

    data: the images, if they are known: a figure of other ones is left out
    """
    (model,) = trial.settings["model"]
    wanted = {
        "task": trial.task,
        "model": model,
        "score": score,
        "method": f"{trial.strategy}: " * bool(trial.strategy) + " + ".join(trial.regularisers),
        "supervision": trial.supervision,
    }
    for figure in paper()["figures"]:
        other_data = data is not None and data != figure["data"].lower().replace("-", "_")
        if wanted.items() <= figure.items() and not other_data:
            return PaperFigure(figure["value"], figure["sd"], figure["data"])
    return None
