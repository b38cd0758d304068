"""Search of the options of methods or models, judged on validation.

An experiment with `search: {dropout.rate: [...]}` in its grids is a sweep like any other; one with
`points: 20` takes so many points of the space of each model and method (`studies`). Test scores are
not read: the best mean validation score over seeds wins; of equal ones, the first in the order of
the search. In a cross-validation each fold has a winner of its own, by its own validation part:
that of another fold may be its test patients. The winner is written as YAML files that `mimic-reg
train` takes: with --method, and with --model if options of the model were searched.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State

from mimic_reg.errors import MimicRegError
from mimic_reg.experiments import Experiment
from mimic_reg.report.formats import format_level, format_supervision
from mimic_reg.runs import read_trial
from mimic_reg.settings import STOPPING, TrainingSize, is_probe
from mimic_reg.store import atomic, make_folder
from mimic_reg_pipelines.flows.artifacts import artifact_key
from mimic_reg_pipelines.flows.points import Point, beats, format_values, point_of
from mimic_reg_pipelines.flows.result import SweepResult, TrialStatus
from mimic_reg_pipelines.flows.search import Key, check
from mimic_reg_pipelines.flows.settings import OfExperiment, Work
from mimic_reg_pipelines.flows.studies import explore
from mimic_reg_pipelines.flows.sweep import final_state, sweep, sweep_as_tasks


@dataclass(frozen=True)
class Choice:
    """The best point of a task, model, method and level, and the files that have it.

    fold:       in which it was chosen; None without folds
    file:       of the method; of the model, if nothing else was searched
    model_file: of the model, if its options were searched
    """

    task: str
    model: str
    method: str
    size: TrainingSize
    best: Point
    points: tuple[Point, ...]
    file: Path
    model_file: Path | None = None
    fold: int | None = None

    @property
    def key(self) -> Key:
        """Return the search that it is the result of."""
        return self.task, self.model, self.method, self.size, self.fold

    @property
    def title(self) -> str:
        """Return what it is of: task, model, method, level and fold."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.task}, {self.model}, {self.method}, {format_level(self.size)}{fold}"

    @property
    def sentence(self) -> str:
        """Return which point is best, or the first of equals, and its score."""
        whole = [point for point in self.points if not point.missing]
        equal = sum(not beats(self.best, point) for point in whole)
        best = f"the first of {equal} equally good ones" if equal > 1 else "the best"
        if any(bool(p.hardly_trained) != bool(self.best.hardly_trained) for p in whole):
            best += " without a run that hardly trained"
        return (
            f"{self.title}: of {len(self.points)} points, {format_values(self.best.values)} is "
            f"{best}, with validation {self.best.score} {self.best.mean:.4f}."
        )

    @property
    def options(self) -> list[str]:
        """Return the options of `mimic-reg train` that use the files."""
        method = self.method if self.file == self.model_file else self.file
        words = ["--task", self.task, "--model", str(self.model_file or self.model)]
        words += ["--method", str(method)]
        words += [] if self.fold is None else ["--fold", str(self.fold)]
        for key, value in self.best.values.items():
            if key.startswith(f"{STOPPING}."):  # in no file of a model or method
                words += ["--set", f"{key}={json.dumps(value)}"]
        return words


@dataclass(frozen=True)
class Tuned:
    """Result of a search.

    problems: of each task, model, method, level and fold without a best point, why
    """

    result: SweepResult
    choices: tuple[Choice, ...]
    problems: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Return 0 if every trial has its result, else 1."""
        return self.result.exit_code


def tune(experiment: Experiment, work: Path, **options: Any) -> Tuned:
    """Run a search, as `sweep` does, and write the best points.

    options: of `sweep`

    Raises:
        InputError: the experiment has no search; see also `sweep`.
        MimicRegError: no point has all its results.
    """
    check(experiment)
    _, result = explore(experiment, work, run=sweep, **options)
    choices, problems = choose(result)
    return Tuned(result, tuple(choices), tuple(problems))


def choose(result: SweepResult) -> tuple[list[Choice], list[str]]:
    """Write the best point of each search; return them, and why other searches have none.

    Raises:
        MimicRegError: no search has a point with all its results.
    """
    choices, problems = [], []
    for trials in searches(result):
        try:
            choices.append(choose_point(result, trials))
        except MimicRegError as error:
            problems.append(str(error))
    if problems and not choices:
        raise MimicRegError(problems[0])
    return choices, problems


def searches(result: SweepResult) -> list[list[TrialStatus]]:
    """Return the trials of every task, model, method, level and fold that was searched."""
    groups: dict[Key, list[TrialStatus]] = {}
    for trial in result.trials:
        if trial.searched:
            key = (trial.task, trial.model, trial.method, trial.size, trial.fold)
            groups.setdefault(key, []).append(trial)
    return list(groups.values())


def choose_point(result: SweepResult, trials: Sequence[TrialStatus]) -> Choice:
    """Return the best point of one search; written as YAML.

    trials: those of one task, model, method, level and fold

    Raises:
        MimicRegError: no point has all its results.
    """
    by_values: dict[str, list[TrialStatus]] = {}
    for trial in trials:
        by_values.setdefault(trial.label, []).append(trial)
    points = tuple(point_of(result, of_point) for of_point in by_values.values())
    best: tuple[Point, TrialStatus] | None = None
    for point, (first, *_) in zip(points, by_values.values(), strict=True):
        if not point.missing and (best is None or beats(point, best[0])):
            best = point, first
    if best is None:
        first = next((t for t in trials if not t.done), trials[0])
        fold = "" if first.fold is None else f" in fold {first.fold}"
        raise MimicRegError(
            f"No point of {first.method} for {first.task} with {first.model}{fold} has all its "
            f"results: {(first.error or first.status).rstrip('.')}. What is there is kept; start "
            "it again."
        )
    chosen, winner = best
    files = _write(result, winner, chosen, points)
    what = winner.task, winner.model, winner.method, winner.size
    return Choice(*what, chosen, points, *files, fold=winner.fold)


def _write(
    result: SweepResult, winner: TrialStatus, best: Point, points: Sequence[Point]
) -> tuple[Path, Path | None]:
    """Write the winner; return the file of the method, and that of the model if it was searched.

    If only options of the model were searched, both are the file of the model.
    """
    settings = read_trial(result.run_folder(winner))["trial"]
    own = [e for e in settings["regularisers"] if STOPPING not in e and not any(map(is_probe, e))]
    groups = [key.partition(".") for key in best.values]
    searched = {group for group, _, _ in groups}
    task, model, method = winner.task, winner.model, winner.method
    tried = [format_values(p.values) for p in points]
    fold = "" if winner.fold is None else f" in fold {winner.fold}"
    lines = [
        f"# {method} for {model}, {task} at {format_supervision(winner.size)}{fold}: found by the "
        f"search {result.name!r}.",
        f"# Mean validation {best.score} over {len(best.scores)} seeds: {best.mean:.4f}; "
        f"{len(points)} points:",
        *(
            f"#   {values}: {'no result' if p.missing else f'{p.mean:.4f}'}{p.mark}"
            for values, p in zip(tried, points, strict=True)
        ),
        f"# Data {result.data}.",
    ]
    name = f"{task}-{model}-{method.replace(' ', '')}-{winner.size.name}"
    name += "" if winner.fold is None else f"-fold{winner.fold}"

    def write(name: str, content: Any) -> Path:
        place = Work(result.work).tuned / f"{name}.yaml"
        make_folder(place.parent)
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        atomic.write_text(place, "\n".join([*lines, text]))
        return place

    if searched == {model}:
        alone = write(name, settings["model"])
        return alone, alone
    content: dict[str, Any] = {"regularisers": own}
    of_training = [option for group, _, option in groups if group == "training"]
    if of_training:
        # a trial leaves out defaults of newer settings
        content["training"] = {option: best.values[f"training.{option}"] for option in of_training}
    of_model = write(f"{name}-model", settings["model"]) if model in searched else None
    return write(name, content), of_model


# --- Prefect --------------------------------------------------------------------------------------


class TuneParameters(OfExperiment):
    """Parameters of the flow: the experiment has a search."""


@flow(name="tune", flow_run_name="tune {parameters.name}", persist_result=False)
def tune_flow(parameters: TuneParameters) -> State[Any]:
    """Run a search, and write the best point as YAML."""
    experiment = parameters.load()
    check(experiment)
    _, result = explore(experiment, parameters.work, run=sweep_as_tasks, **parameters.how)
    for choice in choose(result)[0]:
        show_choice(choice)
    return final_state(result)


def show_choice(choice: Choice) -> None:
    """Show the points of a search, and the file of the best, in Prefect."""
    fold = () if choice.fold is None else (f"fold{choice.fold}",)
    key = artifact_key("tuned", choice.task, choice.model, choice.method, *fold)
    create_table_artifact(key=key, table=rows(choice), description=str(choice.file))
    create_markdown_artifact(
        key=f"{key}-yaml", markdown=f"```yaml\n{choice.file.read_text('utf-8')}\n```"
    )


def rows(choice: Choice) -> list[dict[str, Any]]:
    """Return the points of a search, for a table."""
    return [
        {
            **point.values,
            f"validation {choice.best.score}": None if point.missing else round(point.mean, 4),
            "seeds": len(point.scores),
            "hardly trained": len(point.hardly_trained),
            "best": "*" if point is choice.best else "",
        }
        for point in choice.points
    ]
