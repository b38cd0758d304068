"""Search of a method's own parameters: a sweep over their product, judged on validation.

An experiment with `search: {dropout.rate: [...]}` in its grids is a sweep like any other, resumable
and isolated. Test scores are not looked at: the best mean validation score over seeds wins, the
first in the order of the search where two are equal. What won is written as a YAML file that
`mimic-reg train` takes: with --method, or with --model where options of the model were searched.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State

from mimic_reg import experiments
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.experiments import Experiment, parse
from mimic_reg.experiments.grid import name_of
from mimic_reg.metrics.scores import improves
from mimic_reg.metrics.trained import hardly_trained
from mimic_reg.progress import Progress
from mimic_reg.report.formats import format_supervision
from mimic_reg.runs import HISTORY, read_history, read_scored, read_trial
from mimic_reg.settings import STOPPING, TrainingSize, is_probe, parse_yaml
from mimic_reg.store import atomic, make_folder
from pipelines.flows.artifacts import artifact_key
from pipelines.flows.result import SweepResult, TrialStatus
from pipelines.flows.settings import OfExperiment, Work
from pipelines.flows.sweep import SweepParameters, final_state, sweep, sweep_flow
from pipelines.runners.settings import Running


@dataclass(frozen=True)
class Point:
    """A point of a search: its values, and the validation scores of its seeds.

    score:   the name of the score
    missing: seeds without a result; a point that lacks one cannot win
    hardly_trained: seeds whose score is about that of the initial model; a point with one wins only
             where all have
    """

    values: Mapping[str, Any]
    score: str
    scores: Mapping[int, float]
    missing: tuple[int, ...]
    hardly_trained: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return math.fsum(self.scores.values()) / len(self.scores) if self.scores else math.nan


@dataclass(frozen=True)
class Choice:
    """The best point of a task, model, method and level, and the file that holds it."""

    task: str
    model: str
    method: str
    size: TrainingSize
    best: Point
    points: tuple[Point, ...]
    file: Path


@dataclass(frozen=True)
class Tuned:
    """What a search came to."""

    result: SweepResult
    choices: tuple[Choice, ...]

    @property
    def exit_code(self) -> int:
        """0 if every trial has its result, else 1."""
        return self.result.exit_code


def parse_options(options: Sequence[str], method: str) -> dict[str, list[Any]]:
    """What a search multiplies, from texts such as rate=0.1,0.2: {"dropout.rate": [0.1, 0.2]}.

    A name without a component is an option of the component that is called as the method.

    Raises:
        InputError: no name, no values or no YAML; an option given twice.
    """
    found: dict[str, list[Any]] = {}
    for text in options:
        name, _, values = (part.strip() for part in text.partition("="))
        key = name if "." in name else f"{method}.{name}"
        try:
            found_values = parse_yaml(f"[{values}]")
        except (yaml.YAMLError, ValueError):
            found_values = None
        if not name or not found_values:
            raise InputError(f"--option {text}: write a name and its values, as tau=0.1,0.2.")
        if key in found:
            raise InputError(f"--option {name} is given twice; write all its values in one.")
        found[key] = found_values
    return found


def search(
    task: str,
    model: str,
    method: str,
    values: Mapping[str, Sequence[Any]],
    *,
    supervision: float = 1.0,
    seeds: int = 1,
    training: Mapping[str, Any] | None = None,
) -> Experiment:
    """The experiment of a search, as the command line names it; values: {"dropout.rate": [0.1]}.

    Raises:
        InputError: see `experiments.parse`.
    """
    return parse(
        {
            "name": f"tune-{task}-{model}-{method}-{100 * supervision:g}",
            "title": f"Search: {method}, {model}, {task}",
            "grids": [
                {
                    "tasks": [task],
                    "models": [model],
                    "methods": [method],
                    "supervision": [supervision],
                    "seeds": seeds,
                    "search": {key: list(v) for key, v in values.items()},
                }
            ],
            "training": dict(training or {}),
        }
    )


def tune(
    experiment: Experiment,
    work: Path,
    *,
    store: Path | None = None,
    running: Running | None = None,
    tracking_uri: str | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Run a search, as `sweep` does, and write what won.

    Raises:
        InputError: the experiment has no search; see also `sweep`.
        MimicRegError: no point has all its results.
    """
    check(experiment)
    result = sweep(
        experiment,
        work,
        store=store,
        running=running,
        tracking_uri=tracking_uri,
        progress=progress,
    )
    return Tuned(result, tuple(choose(result)))


def check(experiment: Experiment) -> None:
    """Refuse an experiment without anything to search."""
    searching = [grid for grid in experiment.grids if grid.search or grid.own_search]
    if not searching:
        raise InputError(
            f"{experiment.title} has nothing to search. Give its grid a search, as "
            "search: {dropout.rate: [0.2, 0.5]}."
        )
    if any(grid.together for grid in searching):
        raise InputError(
            f"{experiment.title} searches where several tasks are trained together: which point "
            "is best may differ from task to task. Compare the points with `mimic-reg sweep`."
        )
    for grid in experiment.grids:
        models = {name_of(model) for model in grid.models}
        of_models = [key.partition(".")[0] in models for key in grid.search]
        if any(of_models) and not all(of_models):
            raise InputError(
                f"{experiment.title} searches options of a model and of a method at once, but the "
                "best of both stands in two files. Search one, then the other."
            )


def choose(result: SweepResult) -> list[Choice]:
    """The best point of every task, model, method and level that was searched; written as YAML.

    Raises:
        MimicRegError: of one of them no point has all its results.
    """
    return [choose_point(result, trials) for trials in searches(result)]


def searches(result: SweepResult) -> list[list[TrialStatus]]:
    """Return the trials of every task, model, method and level that was searched."""
    groups: dict[tuple[str, str, str, TrainingSize], list[TrialStatus]] = {}
    for trial in result.trials:
        if trial.searched:
            key = (trial.task, trial.model, trial.method, trial.size)
            groups.setdefault(key, []).append(trial)
    return list(groups.values())


def choose_point(result: SweepResult, trials: Sequence[TrialStatus]) -> Choice:
    """Return the best point of one search; written as YAML.

    trials: those of one task, model, method and level

    Raises:
        MimicRegError: no point has all its results.
    """
    by_values: dict[str, list[TrialStatus]] = {}
    for trial in trials:
        by_values.setdefault(trial.label, []).append(trial)
    points = tuple(_point(result, of_point) for of_point in by_values.values())
    best: tuple[Point, TrialStatus] | None = None
    for point, (first, *_) in zip(points, by_values.values(), strict=True):
        if not point.missing and (best is None or _beats(point, best[0])):
            best = point, first
    if best is None:
        first = trials[0]
        raise MimicRegError(
            f"No point of {first.method} for {first.task} with {first.model} has all its results: "
            f"{first.error or first.status}. What is there is kept; start it again."
        )
    chosen, winner = best
    path = _write(result, winner, chosen, points)
    return Choice(winner.task, winner.model, winner.method, winner.size, chosen, points, path)


def _beats(point: Point, other: Point) -> bool:
    if bool(point.hardly_trained) != bool(other.hardly_trained):
        return not point.hardly_trained
    return improves(point.score, point.mean, other.mean)


def _point(result: SweepResult, trials: Sequence[TrialStatus]) -> Point:
    scores: dict[int, float] = {}
    name, hardly = "", []
    for trial in trials:
        if trial.done:
            folder = result.run_folder(trial)
            scored = read_scored(folder)
            if hardly_trained(read_history(folder / HISTORY), scored["best_epoch"]):
                hardly.append(trial.seed)
            name = scored["selected_by"]
            scores[trial.seed] = scored["scores"]["validation"][name]["value"]
    missing = tuple(t.seed for t in trials if not t.done)
    return Point(dict(trials[0].searched), name, scores, missing, tuple(hardly))


def _write(result: SweepResult, winner: TrialStatus, best: Point, points: Sequence[Point]) -> Path:
    """The winner as a file: a method's for `--method`, or a model's for `--model`."""
    settings = read_trial(result.run_folder(winner))["trial"]
    own = [e for e in settings["regularisers"] if STOPPING not in e and not any(map(is_probe, e))]
    content = {"regularisers": own}
    if any(key.partition(".")[0] == winner.model for key in best.values):
        content = settings["model"]
    task, model, method = winner.task, winner.model, winner.method
    tried = [", ".join(f"{key}={value}" for key, value in p.values.items()) for p in points]
    lines = [
        f"# {method} for {model}, {task} at {format_supervision(winner.size)}: found by the search "
        f"{result.name!r}.",
        f"# Mean validation {best.score} over {len(best.scores)} seeds: {best.mean:.4f}; "
        f"{len(points)} points:",
        *(
            f"#   {values}: {'no result' if p.missing else f'{p.mean:.4f}'}{_mark(p)}"
            for values, p in zip(tried, points, strict=True)
        ),
        f"# Data {result.data}.",
        yaml.safe_dump(content, sort_keys=False, allow_unicode=True),
    ]
    name = f"{task}-{model}-{method.replace(' ', '')}-{winner.size.name}.yaml"
    place = Work(result.work).tuned / name
    make_folder(place.parent)
    atomic.write_text(place, "\n".join(lines))
    return place


def _mark(point: Point) -> str:
    num, total = len(point.hardly_trained), len(point.scores)
    return f", {num} of {total} hardly trained" if num else ""


# --- Prefect --------------------------------------------------------------------------------------


class TuneParameters(OfExperiment):
    """Parameters of the flow: the experiment has a search."""


@flow(name="tune", flow_run_name="tune {parameters.name}", persist_result=False)
def tune_flow(parameters: TuneParameters) -> State[Any]:
    """A search, and the YAML of what won."""
    experiment = experiments.load(parameters.experiment)
    check(experiment)
    sweep_flow(SweepParameters(**dict(parameters), conclude=False), return_state=True)
    result = SweepResult.read(parameters.work, experiment.name)
    for choice in choose(result):
        key = artifact_key("tuned", choice.task, choice.model, choice.method)
        create_table_artifact(key=key, table=rows(choice), description=str(choice.file))
        create_markdown_artifact(
            key=f"{key}-yaml", markdown=f"```yaml\n{choice.file.read_text('utf-8')}\n```"
        )
    return final_state(result)


def rows(choice: Choice) -> list[dict[str, Any]]:
    """The points of a search, for a table."""
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
