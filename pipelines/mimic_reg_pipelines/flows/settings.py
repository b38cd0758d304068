"""Settings of the flows: which experiment, and where its store, source and results are.

Those of Prefect and MLflow are in the package itself, since they come before any import.
"""

from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue

from mimic_reg import experiments
from mimic_reg.clinical.datasets import MIMIC_IV
from mimic_reg.errors import InputError
from mimic_reg.experiments import Experiment
from mimic_reg.store import make_folder
from mimic_reg.store.atomic import refuse_link
from mimic_reg.store.remote import locate
from mimic_reg_pipelines.runners.settings import Parameters, Running

TAGS = ["mimic-reg"]


class OfExperiment(Parameters):
    """Parameters of a flow that runs an experiment.

    experiment:   its name in configs/experiments, or a YAML file
    work:         the work folder
    store:        the cohort store, if it is not in the work folder
    tracking_uri: MLflow's store; null: the database in the work folder
    set:          group.setting → value, which replaces that of every trial
    """

    experiment: str
    work: Path
    store: Path | None = None
    tracking_uri: str | None = None
    running: Running = Field(default_factory=Running)
    set: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of the experiment."""
        return Path(self.experiment).stem

    @property
    def how(self) -> dict[str, Any]:
        """Return where and how to run it: options of `sweep`, `tune` and `compare`."""
        return {name: getattr(self, name) for name in ("store", "running", "tracking_uri")}

    def load(self) -> Experiment:
        """Return the experiment.

        Raises:
            InputError: see `experiments.load`.
        """
        return experiments.load(self.experiment, self.set)


class Work:
    """A work folder: the store, and the results of all experiments on it.

    store/            the cohort store
    runs/             a folder for each trial, shared by all sweeps of this work folder
    sweeps/<name>/    status, tables, figures and report of a sweep
    tuned/            the best settings of searches
    mlflow.db         MLflow's database, with mlflow-artifacts/ beside it
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> "Work":
        """Make the folder, for this user only.

        Raises:
            InputError: there is a file of that name.
            MimicRegError: the disk is full, or it may not be made.
        """
        self.check()
        make_folder(self.folder)
        return self

    def check(self) -> None:
        """Refuse a place that cannot be a work folder.

        Raises:
            InputError: there is a file of that name, or something in it is a symbolic link.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; --out names a folder.")
        own = (self.store, self.runs, self.tuned, self.folder / "sweeps")
        refuse_link(*own, *self.runs.glob("*"), *(self.folder / "sweeps").glob("*"))

    @property
    def store(self) -> Path:
        """Return the cohort store, unless an experiment names another."""
        return self.folder / "store"

    @property
    def runs(self) -> Path:
        """Return the folder of the run folders."""
        return self.folder / "runs"

    @property
    def tuned(self) -> Path:
        """Return the folder of the results of searches."""
        return self.folder / "tuned"

    def sweep(self, name: str) -> Path:
        """Return the folder of a sweep."""
        return self.folder / "sweeps" / name


def find_store(experiment: Experiment, work: Work, store: Path | None) -> Path:
    """Return where the store is: as given, as the experiment says, or in the work folder.

    In the work folder a cohort is in `store`, and a set of images in a folder of its name. A store
    at a URL is copied to this machine.
    """
    if store is not None:
        return locate(store)
    if experiment.store:
        return experiments.within(work.folder, experiment.store)
    return work.folder / experiment.data if experiment.data else work.store


def find_source(experiment: Experiment, work: Work, source: Path | None) -> Path | None:
    """Return the raw tables, as given or as the experiment says; None: nothing to extract.

    Raises:
        InputError: the experiment's cohort cannot be made from raw tables.
    """
    if source is None and experiment.source:
        source = experiments.within(work.folder, experiment.source)
    extracted = str(experiment.data).startswith(MIMIC_IV.name)
    if source is not None and experiment.data and not experiment.images and not extracted:
        raise InputError(
            f"{experiment.name} trains on the cohort {experiment.data!r}, which is not made from "
            "raw tables here. Import it first, and name its store with --store."
        )
    return source
