"""Settings of the flows: which experiment, and where a work folder keeps what.

Those of Prefect and MLflow themselves are in `pipelines/__init__.py`: they come before any import.
"""

from pathlib import Path

from pydantic import Field

from mimic_reg.errors import InputError
from mimic_reg.store import make_folder
from mimic_reg.store.atomic import refuse_link
from pipelines.runners.settings import Parameters, Running

TAGS = ["mimic-reg"]


class OfExperiment(Parameters):
    """Parameters of a flow that runs an experiment.

    experiment:   its name in configs/experiments, or a YAML file
    work:         the work folder
    store:        the cohort store, if it is not in the work folder
    tracking_uri: MLflow's store; null: the database in the work folder
    """

    experiment: str
    work: Path
    store: Path | None = None
    tracking_uri: str | None = None
    running: Running = Field(default_factory=Running)

    @property
    def name(self) -> str:
        """What the experiment is called."""
        return Path(self.experiment).stem


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
