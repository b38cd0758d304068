"""The paper's scores, and which of our trials they can be compared with.

A published score belongs to a trial with the same task, model, method, training size and score. It
is shown only if the data is also the same (`other_data`). Settings that differ from those of the
paper are listed (`other_settings`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from mimic_reg.learners.trials import compose_trial
from mimic_reg.report.labels import format_option
from mimic_reg.report.results import TrialResult
from mimic_reg.settings import (
    BASELINE,
    STOPPING,
    WHOLE,
    Training,
    TrainingSize,
    Trial,
    acting,
    is_probe,
)
from mimic_reg.settings.files import method_called


@dataclass(frozen=True)
class PaperScore:
    """A score that the paper reports.

    table:  number of the table; data: the training data, a name in `data` of paper.yaml
    method: the row, a name in `methods` of paper.yaml
    level:  the training size
    sd:     the number after its plus-minus
    remark: why it is probably a misprint; "" if it is not
    """

    table: str
    data: str
    task: str
    model: str
    score: str
    method: str
    level: TrainingSize
    value: float
    sd: float
    remark: str = ""


@dataclass(frozen=True)
class Difference:
    """A setting in which a trial differs from the paper's.

    option:   as `itps.tau`, `training.learning_rate`, `lstm.units`
    strength: whether the paper tunes it for each model and data set
    """

    option: str
    ours: Any
    paper: Any
    strength: bool

    @property
    def text(self) -> str:
        """Return both values as text."""
        return f"{self.option} {format_option(self.ours)}, paper {format_option(self.paper)}"


@cache
def paper() -> dict[str, Any]:
    """Return the facts of the paper (`resources/paper.yaml`)."""
    resource = files("mimic_reg.report") / "resources" / "paper.yaml"
    return yaml.safe_load(resource.read_text("utf-8"))


@cache
def published() -> tuple[PaperScore, ...]:
    """Return every score of the paper's tables III to XV."""
    return tuple(
        PaperScore(
            table,
            content["data"],
            part["task"],
            part["model"],
            part["score"],
            method,
            size,
            value,
            sd,
            _remark(content, method, size),
        )
        for table, content in paper()["tables"].items()
        for part in content["parts"]
        for method, scores in part["scores"].items()
        for size, (value, sd) in zip(sizes_of(part), scores, strict=True)
    )


def sizes_of(part: Mapping[str, Any]) -> list[TrainingSize]:
    """Return the training sizes of a part of a table."""
    if "num_samples" in part:
        return [TrainingSize(num_samples=number) for number in part["num_samples"]]
    return [TrainingSize(supervision=float(share)) for share in part["supervision"]]


def _remark(content: Mapping[str, Any], method: str, size: TrainingSize) -> str:
    level = size.num_samples or size.supervision
    found = (d for d in content.get("doubtful", []) if (d["method"], d["level"]) == (method, level))
    return str(next(found, {"remark": ""})["remark"])


def paper_scores(trial: TrialResult, score: str) -> list[PaperScore]:
    """Return the paper's scores of this task, model, method and level, one for each data set."""
    method = row_of(trial)
    (model,) = trial.settings["model"]
    wanted = (trial.task, model, score, method, trial.supervision)
    return [p for p in published() if (p.task, p.model, p.score, p.method, p.level) == wanted]


def row_of(trial: TrialResult) -> str | None:
    """Return the row of the paper's tables for a trial's method; None if there is none.

    `none` is not a row of the paper. Claims about training without a method use it.
    """
    if trial.settings.get("start"):
        return None
    given = (name for entry in trial.settings["regularisers"] for name in entry)
    found = _rows().get((trial.strategy, acting(given)))
    return BASELINE if not found and (trial.strategy, acting(given)) == ("", (BASELINE,)) else found


@cache
def _rows() -> dict[tuple[str, tuple[str, ...]], str]:
    """Return (strategy, modules of the method) → row."""
    return {
        (facts.get("strategy", ""), acting(c.name for c in method.regularisers)): row
        for row, facts in paper()["methods"].items()
        if (method := method_called(facts["method"]))
    }


def other_data(trial: TrialResult, data: str) -> str | None:
    """Return how a trial's data differs from a data set of the paper, as a clause; None if equal.

    The name of the cohort identifies simulated patients, corrected extraction and other images. The
    numbers of validation and test samples identify parts of a data set, such as MIMIC-III's demo.
    """
    facts = paper()["data"][data]
    if trial.cohort.name != facts["cohort"]:
        return f"the cohort is {trial.cohort.name!r}"
    expected = facts["sizes"].get(trial.task)
    found = [trial.num_samples.get(split) for split in ("validation", "test")]
    if expected is not None and found != expected:
        ours = " and ".join("unknown" if n is None else f"{n:,}" for n in found)
        return (
            f"it has {ours} validation and test samples, {facts['title']} has "
            f"{' and '.join(f'{n:,}' for n in expected)}"
        )
    return None


def other_settings(trial: TrialResult, data: str) -> tuple[Difference, ...]:
    """Return the settings in which a trial differs from `configs`, which has those of the paper.

    What the paper does not say is left out: epochs, patience, probes. A setting that an older run
    has not recorded counts as equal.
    """
    ours = trial.settings
    (model,) = ours["model"]
    reference = _reference(trial.task, model, row_of(trial) or BASELINE, data)
    # what the paper's settings leave out, because it is newer, has its default there
    training = {name: field.default for name, field in Training.model_fields.items()}
    training |= reference.training.model_dump(mode="json")
    pairs = [
        *_options(dict(ours["model"]), reference.model.entry()),
        *_options(
            _methods(ours["regularisers"]), _methods(r.entry() for r in reference.regularisers)
        ),
        *_options({"training": ours["training"]}, {"training": training}),
    ]
    if trial.strategy == "reptile":
        together, facts = ours["together"], paper()["together"]
        gamma = together["strategy"]["reptile"].get("gamma")
        pairs.append(("reptile.gamma", gamma, facts["gamma"]))
        pairs.append(("tasks", sorted(together["tasks"]), sorted(facts["tasks"])))
    if trial.supervision != WHOLE:
        pairs.append(("supervision_unit", ours["supervision_unit"], "sample"))
    strengths = paper()["strengths"]
    return tuple(
        Difference(name, here, there, name in strengths)
        for name, here, there in pairs
        if name not in _UNSAID and here != there
    )


_UNSAID = ("training.max_epochs", "training.epoch_steps", "itps.track_ever")


@cache
def _reference(task: str, model: str, row: str, data: str) -> Trial:
    """Return the trial for a row of a table."""
    name = paper()["methods"].get(row, {"method": row})["method"]
    if name == BASELINE:  # only methods' files have the learning rate of pretrained networks
        name = "dropout"
    families = method_called(name).families
    family = model + str(paper()["families"].get(data, ""))
    method = f"{family}/{name}" if family in families else name
    if families and family not in families and model not in families:
        method = BASELINE  # not a model of the paper: compare only its own settings
    return compose_trial(task, model, method)


def _methods(entries: Any) -> dict[str, Any]:
    """Return component → options, without probes and early stopping."""
    return {
        name: options
        for entry in entries
        for name, options in entry.items()
        if name not in (BASELINE, STOPPING) and not is_probe(name)
    }


def _options(
    ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, Any, Any]]:
    """Return (component.option, ours, the paper's) for options that both have."""
    return [
        (f"{name}.{option}", options[option], value)
        for name, options in ours.items()
        for option, value in theirs.get(name, {}).items()
        if option in options
    ]
