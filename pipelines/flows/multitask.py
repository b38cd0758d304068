"""Several tasks with one trunk as a flow: trained, logged as a run each, registered."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from pydantic import Field, JsonValue

from mimic_reg.experiments import Experiment, parse
from mimic_reg.progress import Progress
from mimic_reg.runs import read_scored
from mimic_reg.threads import DEFAULT_THREADS
from pipelines.flows.artifacts import PrefectProgress, artifact_key
from pipelines.flows.result import SweepResult
from pipelines.flows.settings import TAGS, Work
from pipelines.flows.sweep import TrialFailedError, sweep
from pipelines.runners import Ended
from pipelines.runners.settings import Parameters, Running, Threads
from pipelines.tracking import client, registry
from pipelines.tracking.registry import Registered


class MultitaskParameters(Parameters):
    """Parameters of the flow.

    tasks:        names in configs/tasks, in the order in which they are trained
    strategy:     reptile or joint; options: its own, as {"inner_steps": 5}
    method:       a name in configs/regularisers, for the model or for all
    training:     replaces what the tasks' YAML says, for all of them; training_of: task → for one
    work:         the work folder; runs are kept in its runs/
    store:        the cohort store, if it is not in the work folder
    tracking_uri: MLflow's store; null: the database in the work folder
    register_it:  make each task's model, and the trunk, a version of its registered model
    """

    work: Path
    tasks: list[str] = Field(
        default=["in_hospital_mortality", "decompensation", "phenotyping"], min_length=1
    )
    model: str = "lstm"
    method: str = "none"
    strategy: Literal["reptile", "joint"] = "reptile"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    supervision: float = Field(default=1.0, gt=0, le=1)
    supervision_unit: Literal["sample", "subject"] = "sample"
    seed: int = Field(default=0, ge=0)
    max_epochs: int | None = Field(default=None, ge=1)
    training: dict[str, JsonValue] = Field(default_factory=dict)
    training_of: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    store: Path | None = None
    threads: Threads = DEFAULT_THREADS
    device: str | None = None
    tracking_uri: str | None = None
    register_it: bool = True

    @property
    def name(self) -> str:
        """What the fit is called."""
        return (
            f"{self.strategy}-{'-'.join(self.tasks)}-{self.model}-{self.method}-"
            f"{100 * self.supervision:g}-seed{self.seed}"
        )


def train_multitask(
    parameters: MultitaskParameters, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Train a fit of several tasks in the work folder, log it, register it; what came of it.

    It is a sweep of one trial, so whatever was trained there before is not trained again.

    Raises:
        TrialFailedError: it has no result.
        InputError: see `sweep`.
    """
    given = parameters
    result = sweep(
        as_experiment(given),
        given.work,
        store=given.store,
        running=Running(runner="in_process", threads=given.threads, device=given.device),
        tracking_uri=given.tracking_uri,
        progress=progress,
    )
    (trial,) = result.trials
    if not trial.done:
        raise TrialFailedError(Ended(status="failed", error=trial.error))
    registered = _register(given, result) if given.register_it else []
    return {
        "fit": str(result.run_folder(trial)),
        "status": trial.status,
        "scores": {
            folder.name: read_scored(folder)["scores"] for folder in result.run_folders(trial)
        },
        "registered": [model.uri for model in registered],
        "champions": [model.uri for model in registered if model.champion],
    }


def _register(given: MultitaskParameters, result: SweepResult) -> list[Registered]:
    """Each task's best model, and the trunk."""
    (trial,) = result.trials
    uri = given.tracking_uri or client.database(Work(given.work).folder)
    models = [
        registry.register(
            folder, uri=uri, store=result.store, sweep=result.name, method=trial.label
        )
        for folder in result.run_folders(trial)
    ]
    trunk = registry.register_trunk(
        result.run_folder(trial), uri=uri, sweep=result.name, method=trial.label
    )
    return [*models, trunk]


def as_experiment(parameters: MultitaskParameters) -> Experiment:
    """The experiment that has this fit only."""
    given = parameters
    most = {"max_epochs": given.max_epochs} if given.max_epochs else {}
    return parse(
        {
            "name": given.name,
            "title": f"{given.strategy}: {given.method}, {given.model}, {' + '.join(given.tasks)}",
            "grids": [
                {
                    "tasks": given.tasks,
                    "models": [given.model],
                    "methods": [given.method],
                    "strategy": {given.strategy: given.options},
                    "supervision": [given.supervision],
                    "supervision_unit": given.supervision_unit,
                    "seeds": [given.seed],
                    "training": {**given.training, **most},
                    "training_of": given.training_of,
                }
            ],
        }
    )


@task(
    name="train_together",
    task_run_name="{parameters.name}",
    tags=TAGS,
    retries=1,  # it goes on from its checkpoint
    retry_delay_seconds=10,
    retry_condition_fn=lambda task, run, state: _may_help(state),
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_together(parameters: MultitaskParameters) -> dict[str, Any]:
    """One fit of several tasks."""
    return train_multitask(parameters, progress=PrefectProgress("train-multitask"))


def _may_help(state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), OSError)


@flow(name="train_multitask", flow_run_name="train {parameters.name}", persist_result=False)
def train_multitask_flow(parameters: MultitaskParameters) -> dict[str, Any]:
    """Train several tasks together, log and register them and their trunk."""
    trained = train_together(parameters)
    create_table_artifact(
        key=artifact_key("fit", parameters.name),
        table=[
            {"task": name, "split": split, "score": score_name, **score}
            for name, of_task in trained["scores"].items()
            for split, scores in of_task.items()
            for score_name, score in scores.items()
        ],
        description=parameters.name,
    )
    return {name: trained[name] for name in ("fit", "status", "registered", "champions")}
