"""The card of a trained model: data, use, scores, calibration, subgroups, cost and limits.

It has counts and scores of at least ten subjects, and nothing about a single one. What cannot be
known from a run is said to be missing, and is left to the user.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from mimic_reg.errors import InputError
from mimic_reg.metrics.scores import metric
from mimic_reg.report.card_parts import evaluation_parts, on_data
from mimic_reg.report.cohort.published import samples_by_split, scored_samples, store_of
from mimic_reg.report.document import Document, Grid, Part, to_html, to_markdown, write_texts
from mimic_reg.report.formats import (
    HIDDEN,
    count,
    format_level,
    format_repeat,
    format_score,
    format_task,
)
from mimic_reg.report.labels import format_option
from mimic_reg.report.results import TrialResult, collect
from mimic_reg.runs import TRIAL, read_trial
from mimic_reg.store import Store

MARKDOWN, PAGE = "card.md", "card.html"
_USE = (
    "Nobody has stated an intended use (option --intended-use). Without one, the model "
    "is for research on its own data only."
)
_SIMULATED = "The patients are simulated: these numbers say nothing about real patients."
_NOT_A_DEVICE = (
    "It is not a medical device, and nobody has tested it on patients other than those below. Do "
    "not use it to decide about a patient."
)


def build(folder: Path, store: Path | None = None, intended_use: str = "") -> Document:
    """Return the card of a run.

    store:        where the store is, if it was moved
    intended_use: for whom, when and for what, in the words of the user

    Raises:
        InputError: the folder has no finished run of one task, or the store is another one.
    """
    trial = _read(folder)
    opened = _store(trial, store)
    evaluated = on_data(trial, opened)
    sizes = samples_by_split(trial, opened)
    parts = [
        _model(trial),
        Part("use", "For what is it meant?", [intended_use.strip() or _USE, _NOT_A_DEVICE]),
        *evaluation_parts(trial, opened, evaluated, sizes),
        _cost(trial),
        _limits(trial, opened, evaluated is not None),
    ]
    there = [part for part in parts if part is not None]
    there.append(_checklist(_answered(there, intended_use)))
    warnings = []
    if opened is not None and opened.manifest.get("source", {}).get("simulated"):
        warnings.append(_SIMULATED)
    if trial.hardly_trained:
        warnings.append(f"Hardly trained: {trial.hardly_trained}.")
    return Document(
        title=f"Model card: {format_task(trial.task)}, {trial.model}, {trial.method}",
        lead=_lead(trial, scored_samples(trial, sizes)["test"]),
        parts=there,
        warnings=warnings,
    )


def write(document: Document, folder: Path) -> list[Path]:
    """Write the card into a folder, as Markdown and as a page; return the files."""
    return write_texts(folder, {MARKDOWN: to_markdown(document), PAGE: str(to_html(document))})


def _read(folder: Path) -> TrialResult:
    inside = sorted(folder.glob(f"*/{TRIAL}"))
    if inside and not (folder / TRIAL).is_file():
        raise InputError(f"{folder} holds several runs. Name one, such as {inside[0].parent}.")
    read_trial(folder)  # says what a folder without a run lacks
    results = collect([folder])
    trial = next((t for t in results.trials if t.folder == folder), None)
    if trial is None:
        why = next((u.why for u in results.unfinished), "it holds no result")
        raise InputError(
            f"{folder} has no result: {why.rstrip('.')}. Finish it with `mimic-reg train`."
        )
    return trial


def _store(trial: TrialResult, store: Path | None) -> Store | None:
    if store is None:
        return store_of(trial)
    opened = Store.open(store)
    if opened.manifest["fingerprint"] != trial.fingerprint:
        raise InputError(f"{store} is not the store that {trial.folder} was trained on.")
    return opened


def _lead(trial: TrialResult, size: str) -> str:
    score = trial.scores["test"][trial.selected_by]
    name = metric(trial.selected_by).title
    if score.value is None:
        return f"Test {name} is undefined: {score.reason}."
    interval = ""
    if score.low is not None and score.high is not None:
        low, high = (format_score(v, trial.selected_by) for v in (score.low, score.high))
        interval = f" (95 % {low} to {high}, over {trial.cohort.subjects})"
    on = f" on {size} samples" * (size != HIDDEN)
    return f"Test {name} {format_score(score.value, trial.selected_by)}{interval}{on}."


def _model(trial: TrialResult) -> Part:
    training = trial.settings["training"]
    ((model, options),) = trial.settings["model"].items()
    methods = [
        f"{name} ({_options(given)})" if given else name
        for entry in trial.settings["regularisers"]
        for name, given in entry.items()
    ]
    numbers = [row.get("parameters") for row in trial.epochs()]
    known = [n for n in numbers if isinstance(n, int)]
    task, repeat = trial.target, format_repeat(trial.seed, trial.fold)
    facts = {
        "task": f"{trial.task}: {task.target}, {count(len(task.labels), 'label')}",
        "output": _OUTPUTS[task.target],
        "model": f"{model} ({_options(options)})" if options else model,
        "parameters": f"{known[-1]:,}" if known else "",
        "method": ", ".join(methods) or "none",
        "training": _options(training),
        "training size": f"{format_level(trial.supervision)}, {repeat}",
        "selected": f"epoch {trial.best_epoch}, by validation {metric(trial.selected_by).title}",
        "code": trial.versions.get("code") or f"mimic-reg {trial.versions.get('mimic_reg')}",
        "data": f"{trial.cohort.name}, fingerprint {trial.fingerprint[:12]}",
        "identity": trial.id,
    }
    facts = {name: text for name, text in facts.items() if text}
    return Part("model", "What model is this?", facts=facts)


_OUTPUTS = {
    "binary": "the probability of the event",
    "multilabel": "a probability of each label",
    "multiclass": "a probability of each class",
    "regression": "a value, in the unit of the label",
}


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {format_option(value)}" for name, value in options.items())


def _cost(trial: TrialResult) -> Part:
    """Return the seconds of training: of the processor that the run used."""
    costs = [row.get("cost") or {} for row in trial.epochs()]
    training, validation = (
        sum(float(cost.get(f"{name}_seconds") or 0.0) for cost in costs)
        for name in ("training", "validation")
    )
    spent = training + validation
    memory = [int(cost["peak_memory_bytes"]) for cost in costs if cost.get("peak_memory_bytes")]
    kind = "CPU" if trial.device == "cpu" else "GPU"
    threads = trial.threads or 1
    seconds = spent * (threads if kind == "CPU" else 1)
    at_most = "at most " * (kind == "CPU" and threads > 1)
    known = f"{at_most}{seconds:,.1f}" if spent else "not recorded"
    facts = {
        f"{kind} seconds": known,
        "of which validation": f"{validation:,.1f} s of {spent:,.1f} s",
        "device": f"{trial.device}, {count(threads, 'thread')}",
        "epochs": str(len(costs)),
    }
    if memory:
        facts["peak memory"] = f"{max(memory) / 2**20:,.0f} MiB"
    note = "One fit, without the search of its settings and without runs of other seeds."
    return Part("cost", "What did training cost?", facts=facts, notes=[note])


def _limits(trial: TrialResult, store: Store | None, evaluated: bool) -> Part:
    """Return what the numbers above do not show, as far as a run tells."""
    found = [
        f"One fit with {format_repeat(trial.seed, trial.fold)}: the intervals are over "
        f"{trial.cohort.subjects}, and another seed would give another model.",
        "Training and test are parts of one data set: no other hospital, no later time and no "
        "other source was tested. The command “mimic-reg evaluate” scores it on another store.",
        "All scores are on the test split. If many models were compared there, the best one looks "
        "better than it is.",
    ]
    if trial.cohort.is_hourly:
        found.append("Nothing is known about groups of fewer than ten patients: see subgroups.")
    if trial.target.target == "multilabel":
        found.append("The labels' probabilities are calibrated on average at best: see each label.")
    if not trial.supervision.is_share or trial.supervision.value < 100:
        found.append(f"It was trained on {format_level(trial.supervision)} of the training data.")
    if store is None:
        found.append("The store was not found: calibration, net benefit and subgroups are missing.")
    elif not evaluated:
        found.append("The predictions were removed: calibration and subgroups are missing.")
    return Part("limits", "What are its limits?", found)


@dataclass(frozen=True)
class Item:
    """An item of TRIPOD+AI: whether a card answers it ("card", "partly" or "you"), and where.

    needs: names of parts without which it answers less
    """

    item: str
    what: str
    by: str
    where: str = ""
    needs: tuple[str, ...] = ()

    def within(self, there: Collection[str]) -> "Item":
        """Return the item for a card that has only these parts."""
        missing = [name for name in self.needs if name not in there]
        if not missing:
            return self
        where = f"{self.where}; missing here: {', '.join(missing)}"
        return replace(self, by={"card": "partly"}.get(self.by, "you"), where=where)


def checklist() -> list[Item]:
    """Return the items of TRIPOD+AI in their order."""
    path = files("mimic_reg.report") / "resources" / "tripod_ai.yaml"
    return [Item(**entry) for entry in yaml.safe_load(path.read_text("utf-8"))]


def _answered(parts: Sequence[Part], intended_use: str) -> set[str]:
    """Return what a card has, by the names that items need."""
    there = {part.name for part in parts if part.facts or part.grids} - {"use"}
    flow = any(grid.header[0] == "step" for part in parts for grid in part.grids)
    return there | ({"flow"} if flow else set()) | ({"use"} if intended_use.strip() else set())


_BY = {"card": "yes", "partly": "partly", "you": "no: yours to write"}


def _checklist(there: Collection[str]) -> Part:
    items = [item.within(there) for item in checklist()]
    numbers = {by: sum(item.by == by for item in items) for by in _BY}
    text = (
        f"Of {len(items)} items, this card answers {numbers['card']}, answers "
        f"{numbers['partly']} in part, and leaves {numbers['you']} to you."
    )
    rows = [(item.item, item.what, _BY[item.by], item.where or "-") for item in items]
    source = "TRIPOD+AI (Collins et al., BMJ 2024; 385: e078378), shortened."
    header = ("item", "what to report", "in this card", "where")
    grid = Grid(source, header, rows, left=(2,), wrap=(1, 3))
    return Part("tripod", "Which items of TRIPOD+AI does it answer?", [text], grids=[grid])
