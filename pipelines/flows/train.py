"""One trial as a flow, of a task or of several: trained, logged and, if wanted, registered."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from pydantic import Field

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


class TrainParameters(Parameters):
    """Parameters of the flow, as `mimic-reg train` has them.

    method:       a name in configs/regularisers, for the model or for all
    work:         the work folder; runs are kept in its runs/
    store:        the cohort store, if it is not in the work folder
    max_epochs:   instead of the task's own
    tracking_uri: MLflow's store; null: the database in the work folder
    register_it:  make it a version of its registered model
    """

    work: Path
    task: str = "in_hospital_mortality"
    model: str = "lstm"
    method: str = "none"
    supervision: float = Field(default=1.0, gt=0, le=1)
    supervision_unit: Literal["sample", "subject"] = "sample"
    seed: int = Field(default=0, ge=0)
    max_epochs: int | None = Field(default=None, ge=1)
    store: Path | None = None
    threads: Threads = DEFAULT_THREADS
    device: str | None = None
    tracking_uri: str | None = None
    register_it: bool = True

    @property
    def name(self) -> str:
        """What the trial is called."""
        return f"{self.task}-{self.model}-{self.method}-{100 * self.supervision:g}-seed{self.seed}"


def train_model(parameters: TrainParameters, *, progress: Progress | None = None) -> dict[str, Any]:
    """Train one trial in the work folder, log it, register it; what came of it, as JSON.

    It is a sweep of one trial, so whatever was trained there before is not trained again.

    Raises:
        TrialFailedError: it has no result.
        InputError: see `sweep`.
    """
    result = sweep(
        as_experiment(parameters),
        parameters.work,
        store=parameters.store,
        running=Running(runner="in_process", threads=parameters.threads, device=parameters.device),
        tracking_uri=parameters.tracking_uri,
        progress=progress,
    )
    return _conclude(parameters, result)


def as_experiment(parameters: TrainParameters) -> Experiment:
    """The experiment that has this trial only."""
    given = parameters
    return parse(
        {
            "name": given.name,
            "title": f"{given.method}, {given.model}, {given.task}",
            "grids": [
                {
                    "tasks": [given.task],
                    "models": [given.model],
                    "methods": [given.method],
                    "supervision": [given.supervision],
                    "supervision_unit": given.supervision_unit,
                    "seeds": [given.seed],
                }
            ],
            "training": {"max_epochs": given.max_epochs} if given.max_epochs else {},
        }
    )


def _conclude(parameters: TrainParameters, result: SweepResult) -> dict[str, Any]:
    (trial,) = result.trials
    if not trial.done:
        raise TrialFailedError(Ended(status="failed", error=trial.error))
    folder = result.run_folder(trial)
    registered = None
    if parameters.register_it:
        uri = parameters.tracking_uri or client.database(Work(parameters.work).folder)
        registered = registry.register(
            folder, uri=uri, store=result.store, sweep=result.name, method=trial.label
        )
    return {
        "run": str(folder),
        "status": trial.status,
        "scores": read_scored(folder)["scores"],
        "registered": registered.uri if registered else None,
        "champion": bool(registered and registered.champion),
    }


@task(
    name="train",
    task_run_name="{parameters.name}",
    tags=TAGS,
    retries=1,  # it goes on from its checkpoint
    retry_delay_seconds=10,
    retry_condition_fn=lambda task, run, state: _may_help(state),
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train(parameters: TrainParameters) -> dict[str, Any]:
    """One trial."""
    return train_model(parameters, progress=PrefectProgress("train"))


def _may_help(state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), OSError)


@flow(name="train_model", flow_run_name="train {parameters.name}", persist_result=False)
def train_flow(parameters: TrainParameters) -> dict[str, Any]:
    """Train, log and register one trial."""
    trained = train(parameters)
    create_table_artifact(
        key=artifact_key("trial", parameters.name),
        table=[
            {"split": split, "score": name, **score}
            for split, scores in trained["scores"].items()
            for name, score in scores.items()
        ],
        description=parameters.name,
    )
    return {name: trained[name] for name in ("run", "status", "registered", "champion")}
