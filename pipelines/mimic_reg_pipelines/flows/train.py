"""A flow of one trial: train it, log it and, if wanted, register it."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from pydantic import Field, JsonValue

from mimic_reg.experiments import Experiment, parse
from mimic_reg.progress import SILENT, Progress
from mimic_reg.runs import read_scored
from mimic_reg.threads import DEFAULT_THREADS
from mimic_reg_pipelines.flows.artifacts import PrefectProgress, artifact_key
from mimic_reg_pipelines.flows.result import SweepResult, TrialStatus
from mimic_reg_pipelines.flows.sweep import TrialFailedError, sweep
from mimic_reg_pipelines.flows.tasks import ONCE_MORE
from mimic_reg_pipelines.runners import Ended
from mimic_reg_pipelines.runners.settings import Parameters, Running, Threads
from mimic_reg_pipelines.tracking import client, registry


class OneTrial(Parameters):
    """Parameters that the flows of one trial share, as `mimic-reg train` has them.

    method:       a name in configs/methods, for the model or for all
    work:         the work folder; runs are kept in its runs/
    store:        the cohort store, if it is not in the work folder
    set:          group.setting → value, as {"training.max_epochs": 5}; see --set
    tracking_uri: MLflow's store; null: the database in the work folder
    register_it:  make it a version of its registered model
    """

    work: Path
    model: str = "lstm"
    method: str = "none"
    supervision: float = Field(default=1.0, gt=0, le=1)
    supervision_unit: Literal["sample", "subject"] = "sample"
    seed: int = Field(default=0, ge=0)
    set: dict[str, JsonValue] = Field(default_factory=dict)
    store: Path | None = None
    threads: Threads = DEFAULT_THREADS
    device: str | None = None
    tracking_uri: str | None = None
    register_it: bool = True

    @property
    def uri(self) -> str:
        """Return where MLflow keeps the run."""
        return self.tracking_uri or client.database(self.work)

    def experiment(self, name: str, title: str, grid: dict[str, Any]) -> Experiment:
        """Return the experiment that has this trial only."""
        own = {
            "models": [self.model],
            "methods": [self.method],
            "supervision": [self.supervision],
            "supervision_unit": self.supervision_unit,
            "seeds": [self.seed],
        }
        return parse({"name": name, "title": title, "grids": [{**grid, **own}], "set": self.set})

    def train(self, experiment: Experiment, progress: Progress) -> tuple[SweepResult, TrialStatus]:
        """Train the one trial of an experiment, unless it was trained in the work folder before.

        Raises:
            TrialFailedError: it has no result.
            InputError: see `sweep`.
        """
        result = sweep(
            experiment,
            self.work,
            store=self.store,
            running=Running(runner="in_process", threads=self.threads, device=self.device),
            tracking_uri=self.tracking_uri,
            progress=progress,
        )
        (trial,) = result.trials
        if not trial.done:
            raise TrialFailedError(Ended(status="failed", error=trial.error))
        return result, trial


class TrainParameters(OneTrial):
    """Parameters of the flow."""

    task: str = "in_hospital_mortality"

    @property
    def name(self) -> str:
        """Return the name of the trial."""
        return f"{self.task}-{self.model}-{self.method}-{100 * self.supervision:g}-seed{self.seed}"


def train_model(parameters: TrainParameters, *, progress: Progress = SILENT) -> dict[str, Any]:
    """Train one trial in the work folder, log it, register it; return the result as JSON.

    Raises:
        TrialFailedError, InputError: see `OneTrial.train`.
    """
    given = parameters
    title = f"{given.method}, {given.model}, {given.task}"
    experiment = given.experiment(given.name, title, {"tasks": [given.task]})
    result, trial = given.train(experiment, progress)
    folder = result.run_folder(trial)
    registered = None
    if given.register_it:
        with client.answering(given.uri):
            registered = registry.register(
                folder, uri=given.uri, store=result.store, sweep=result.name, method=trial.label
            )
    return {
        "run": str(folder),
        "status": trial.status,
        "scores": read_scored(folder)["scores"],
        "registered": registered.uri if registered else None,
        "champion": bool(registered and registered.champion),
    }


def may_help(task: Any, run: Any, state: State[Any]) -> bool:
    """Return whether a retry can help: a file system was away."""
    return isinstance(state.result(raise_on_failure=False), OSError)


@task(
    name="train",
    task_run_name="{parameters.name}",
    retry_condition_fn=may_help,  # it continues from its checkpoint
    **ONCE_MORE,
)
def train(parameters: TrainParameters) -> dict[str, Any]:
    """Train one trial."""
    return train_model(parameters, progress=PrefectProgress("train"))


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
