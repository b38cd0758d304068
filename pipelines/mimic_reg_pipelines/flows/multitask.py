"""A flow that trains several tasks with one trunk, logs a run for each, and registers them."""

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from pydantic import Field, JsonValue, field_validator

from mimic_reg.experiments import Experiment
from mimic_reg.multitask.trials import strategies
from mimic_reg.progress import SILENT, Progress
from mimic_reg.runs import read_scored
from mimic_reg.settings import suggest
from mimic_reg_pipelines.flows.artifacts import PrefectProgress, artifact_key
from mimic_reg_pipelines.flows.tasks import ONCE_MORE
from mimic_reg_pipelines.flows.train import OneTrial, may_help
from mimic_reg_pipelines.tracking import client, registry, trunks


class MultitaskParameters(OneTrial):
    """Parameters of the flow; each task's model, and the trunk, become registered models.

    tasks:    names in configs/tasks, in the order in which they are trained
    strategy: a module of mimic_reg.multitask; options: its own, as {"inner_steps": 5}
    training_of: task → settings of training that replace those of its YAML file
    """

    tasks: list[str] = Field(
        default=["in_hospital_mortality", "decompensation", "phenotyping"], min_length=1
    )
    strategy: str = "reptile"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    training_of: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)

    @field_validator("strategy")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in strategies():
            raise ValueError(f"there is no strategy {name!r}. {suggest(name, strategies())}")
        return name

    @property
    def name(self) -> str:
        """Return the name of the fit."""
        return (
            f"{self.strategy}-{'-'.join(self.tasks)}-{self.model}-{self.method}-"
            f"{100 * self.supervision:g}-seed{self.seed}"
        )


def train_multitask(
    parameters: MultitaskParameters, *, progress: Progress = SILENT
) -> dict[str, Any]:
    """Train a fit of several tasks in the work folder, log it, register it; return the result.

    Raises:
        TrialFailedError, InputError: see `OneTrial.train`.
    """
    result, trial = parameters.train(as_experiment(parameters), progress)
    folders = result.run_folders(trial)
    registered = []
    if parameters.register_it:
        named: dict[str, Any] = {"uri": parameters.uri, "sweep": result.name, "method": trial.label}
        with client.answering(parameters.uri):
            registered = [registry.register(f, store=result.store, **named) for f in folders]
            registered.append(trunks.register_trunk(result.run_folder(trial), **named))
    return {
        "fit": str(result.run_folder(trial)),
        "status": trial.status,
        "scores": {folder.name: read_scored(folder)["scores"] for folder in folders},
        "registered": [model.uri for model in registered],
        "champions": [model.uri for model in registered if model.champion],
    }


def as_experiment(parameters: MultitaskParameters) -> Experiment:
    """Return the experiment that has this fit only."""
    given = parameters
    grid = {
        "tasks": given.tasks,
        "strategy": {given.strategy: given.options},
        "training_of": given.training_of,
    }
    title = f"{given.strategy}: {given.method}, {given.model}, {' + '.join(given.tasks)}"
    return given.experiment(given.name, title, grid)


@task(
    name="train_together",
    task_run_name="{parameters.name}",
    retry_condition_fn=may_help,  # it continues from its checkpoint
    **ONCE_MORE,
)
def train_together(parameters: MultitaskParameters) -> dict[str, Any]:
    """Train one fit of several tasks."""
    return train_multitask(parameters, progress=PrefectProgress("train-multitask"))


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
