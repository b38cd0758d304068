"""The result of a sweep, as its work folder keeps it for flows and reports."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mimic_reg.errors import InputError
from mimic_reg.experiments import Planned
from mimic_reg.report.formats import format_level, format_repeat
from mimic_reg.runs import check_finished, is_done
from mimic_reg.settings import TrainingSize
from mimic_reg.store import read_json, reading, write_json
from mimic_reg.store.atomic import refuse_links
from mimic_reg.store.remote import find_recorded, recorded
from mimic_reg_pipelines.flows.settings import Work

STATUS = "status.json"

Status = Literal["unfinished", "skipped", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class TrialStatus:
    """A trial of a sweep, and its status.

    task:    its task; of a fit of several, all of them, which `tasks` names each
    method:  what the experiment calls its method
    label:   with the values of a search, unless each fold chose its own
    folder:  of its run, in the work folder's runs/; a fit of several tasks has a run folder for
             each in there
    status:  "skipped": it was finished before
    """

    identity: str
    folder: str
    task: str
    model: str
    method: str
    label: str
    searched: Mapping[str, Any]
    supervision: float | None
    seed: int
    status: Status = "unfinished"
    seconds: float = 0.0
    error: str | None = None
    tasks: tuple[str, ...] = ()
    num_samples: int | None = None
    fold: int | None = None

    @property
    def done(self) -> bool:
        """Return whether it has a result."""
        return self.status in ("finished", "skipped")

    @property
    def size(self) -> TrainingSize:
        """Return the training size, from `supervision` and `num_samples`."""
        return TrainingSize(self.supervision, self.num_samples)

    @property
    def name(self) -> str:
        """Return a name for people."""
        what = f"{self.task}, {self.model}, {self.label}, {format_level(self.size)}"
        return f"{what}, {format_repeat(self.seed, self.fold)}"


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    store:     the cohort store, absolute
    simulated: whether its patients are; None: unknown
    """

    name: str
    title: str
    work: Path
    store: Path
    data: str
    configuration: Mapping[str, Any]
    trials: tuple[TrialStatus, ...]
    simulated: bool | None = None

    @property
    def folder(self) -> Path:
        """Return the folder of the sweep."""
        return Work(self.work).sweep(self.name)

    @property
    def failed(self) -> tuple[TrialStatus, ...]:
        """Return the trials without a result."""
        return tuple(t for t in self.trials if not t.done)

    @property
    def exit_code(self) -> int:
        """Return 0 if every trial has its result, else 1."""
        return 1 if self.failed else 0

    def run_folder(self, trial: TrialStatus) -> Path:
        """Return the folder of a trial's run, or of a fit of several tasks."""
        return Work(self.work).runs / trial.folder

    def run_folders(self, trial: TrialStatus) -> list[Path]:
        """Return the run folders of a trial: one for each task."""
        folder = self.run_folder(trial)
        return [folder / task for task in trial.tasks] or [folder]

    def write(self) -> None:
        """Write the status."""
        write_json(
            self.folder / STATUS,
            {
                "title": self.title,
                "store": recorded(self.store),
                "data": self.data,
                "simulated": self.simulated,
                "configuration": self.configuration,
                "trials": [asdict(t) for t in self.trials],
            },
        )

    @classmethod
    def read(cls, work: Path, name: str) -> "SweepResult":
        """Return the status of a sweep, as it was written last.

        Raises:
            InputError: there is no such sweep in the work folder.
        """
        from mimic_reg_pipelines.tracking.mlflow_runs import check_name  # slow: it loads MLflow

        check_name(name)
        path = Work(work).sweep(name) / STATUS
        if not path.is_file():
            raise InputError(f"{work} holds no sweep {name!r}. Start it with `mimic-reg sweep`.")
        refuse_links(path.parent)
        content = read_json(path)
        with reading(path, "the status of a sweep"):
            content.pop("code", None)  # written until the code became part of a trial's identity
            trials = tuple(map(_read_trial, content.pop("trials")))
            store = find_recorded(content.pop("store"), content["data"])
            return cls(name=name, work=work, store=store, trials=trials, **content)


def _read_trial(content: Mapping[str, Any]) -> TrialStatus:
    size = content["supervision"]
    if size is not None and size > 1:  # a number was written there until it got its own field
        content = {**content, "supervision": None, "num_samples": int(size)}
    return TrialStatus(**{**content, "tasks": tuple(content.get("tasks", ()))})


def trial_status(
    identity: str, planned: Planned, data: str, work: Work, *, chosen: bool = False
) -> TrialStatus:
    """Return a trial with the status of its run folder: finished before, or not.

    chosen: whether its values are the best of a search. Of a fold they are its own, and in the same
            row of a table as those of the other folds
    """
    trial = planned.trial
    folder = planned.folder_name(data)
    tasks = trial.tasks if trial.strategy else ()
    finished = _is_sound(work.runs / folder, trial.id(data), tasks)
    return TrialStatus(
        identity=identity,
        folder=folder,
        task=trial.task,
        model=trial.model.name,
        method=planned.method,
        label=planned.method if chosen and trial.fold else planned.label,
        searched=dict(planned.searched),
        tasks=tasks,
        **asdict(trial.size),
        seed=trial.seed,
        fold=trial.fold,
        status="skipped" if finished else "unfinished",
    )


def _is_sound(folder: Path, trial_id: str, tasks: Sequence[str]) -> bool:
    """Return whether a trial is finished and its files are intact; if not, training says why."""
    try:
        for place in (folder, *(folder / task for task in tasks)):
            check_finished(place)
        return is_done(folder, trial_id)
    except InputError:
        return False


def rows(result: SweepResult) -> list[dict[str, Any]]:
    """Return the trials of a sweep, for a table."""
    return [
        {
            "task": t.task,
            "model": t.model,
            "method": t.label,
            "supervision": format_level(t.size),
            "seed": t.seed,
            **({} if t.fold is None else {"fold": t.fold}),
            "status": t.status,
            "seconds": round(t.seconds, 1),
            "error": t.error or "",
        }
        for t in result.trials
    ]
