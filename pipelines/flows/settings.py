"""Settings of the pipelines: where a work folder keeps what, and how trials are run.

Those of Prefect and MLflow themselves are in `pipelines/__init__.py`: they come before any import.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mimic_reg.errors import InputError
from mimic_reg.store.atomic import refuse_link
from mimic_reg.threads import DEFAULT_THREADS, MAX_THREADS

TAGS = ["mimic-reg"]
Threads = Annotated[int, Field(ge=1, le=MAX_THREADS)]


class Parameters(BaseModel):
    """Typed parameters of a flow: what is not known, or out of range, is refused at submission."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OfExperiment(Parameters):
    """Parameters that name an experiment: in configs/experiments, or a YAML file."""

    experiment: str

    @property
    def name(self) -> str:
        """What the experiment is called."""
        return Path(self.experiment).stem


class Running(Parameters):
    """How trials are run; their results are the same whichever way it is.

    runner:  in_process: one after the other, here; pool: in processes of their own; ray: on a
             cluster, which shares the work folder
    workers: trials at a time; null: as many as processors allow (in_process: one)
    threads: of torch for a trial. Another number changes a result's last digits, so it is a setting
             and not a consequence of the machine; a trial that goes on keeps its own.
    device:  cpu, cuda, cuda:1; null: the GPUs there are, in turn, or the CPU
    address: of the Ray cluster; null: one of this machine, for the time of the sweep
    gpus_per_run: that Ray reserves for a trial; a share is possible
    """

    runner: Literal["in_process", "pool", "ray"] = "pool"
    workers: int | None = Field(default=None, ge=1)
    threads: Threads = DEFAULT_THREADS
    device: str | None = None
    address: str | None = None
    gpus_per_run: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "Running":
        if self.runner != "ray" and (self.address or self.gpus_per_run):
            raise ValueError("address and gpus_per_run belong to the runner ray")
        if self.runner == "in_process" and (self.workers or 1) > 1:
            raise ValueError("the runner in_process runs one trial at a time; for more, use pool")
        return self


class Work:
    """A work folder: everything that a source and experiments come to.

    store/            the cohort store
    runs/             a folder a trial, shared by all sweeps of this work folder
    sweeps/<name>/    status, tables, figures and report of a sweep
    tuned/            the settings that searches found
    mlflow.db         MLflow's database, with mlflow-artifacts/ beside it
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> "Work":
        """Make it, for this user only.

        Raises:
            InputError: there is a file of that name.
            MimicRegError: the disk is full, or it may not be made.
        """
        # here, since a new process sets its number of threads before it imports Polars
        from mimic_reg.store import make_folder

        self.check()
        make_folder(self.folder)
        return self

    def check(self) -> None:
        """Refuse what can be no work folder.

        Raises:
            InputError: there is a file of that name, or something in it is a symbolic link.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; --out names a folder.")
        own = (self.store, self.runs, self.tuned, self.folder / "sweeps")
        refuse_link(*own, *self.runs.glob("*"), *(self.folder / "sweeps").glob("*"))

    @property
    def store(self) -> Path:
        """The cohort store, unless an experiment names another."""
        return self.folder / "store"

    @property
    def runs(self) -> Path:
        """The run folders."""
        return self.folder / "runs"

    @property
    def tuned(self) -> Path:
        """What searches found."""
        return self.folder / "tuned"

    def sweep(self, name: str) -> Path:
        """The folder of a sweep."""
        return self.folder / "sweeps" / name


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))
