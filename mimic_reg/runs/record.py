"""The content of a run folder, for reports, tracking and registry; no patient data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_reg import runs
from mimic_reg.errors import InputError
from mimic_reg.metrics.scores import Score, metric
from mimic_reg.metrics.trained import hardly_trained
from mimic_reg.store import reading
from mimic_reg.store.remote import find_recorded
from mimic_reg.store.spec import CohortSpec, Task


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trial's run folder. Epochs count from 1 here, and from 0 in the files.

    id:           the trial's identity (settings, data, code)
    settings:     the resolved settings
    fingerprint, store: of the data, and the place of the store during training
    cohort:       specification of the data
    threads:      of torch; None for runs of older versions, which did not record it
    finished:     whether it has a result; if not, the fields below are empty or None
    scores:       split → name → score with its interval, or undefined with the reason
    num_samples:  split → samples that were scored
    selected_by:  the validation score that selected the epoch `best_epoch`
    hardly_trained: why the scores may be those of the initial model; None if they are not
    """

    folder: Path
    id: str
    settings: Mapping[str, Any]
    fingerprint: str
    store: Path
    cohort: CohortSpec
    device: str
    threads: int | None
    versions: Mapping[str, str | None]
    finished: bool
    scores: Mapping[str, Mapping[str, Score]]
    num_samples: Mapping[str, int]
    selected_by: str | None
    best_epoch: int | None
    hardly_trained: str | None

    @property
    def task(self) -> str:
        """Return the task's name."""
        return str(self.settings["task"])

    @property
    def target(self) -> Task:
        """Return the task as its cohort defines it."""
        return self.cohort.task(self.task)

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the modules of its method, in order."""
        return tuple(name for entry in self.settings["regularisers"] for name in entry)

    def history(self) -> list[dict[str, Any]]:
        """Return the rows of the history; every call reads the file."""
        return counted_from_1(runs.read_history(self.folder / runs.HISTORY))

    def epochs(self) -> list[dict[str, Any]]:
        """Return the rows of the history at the ends of epochs."""
        return [row for row in self.history() if row["event"] == "epoch"]


def counted_from_1(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of a history for people: files count epochs from 0."""
    return [{**row, "epoch": row["epoch"] + 1} if "epoch" in row else {**row} for row in rows]


def read_run(folder: Path) -> Run:
    """Return the content of a run folder.

    Raises:
        InputError: the folder has no trial, or its files are damaged.
    """
    described = runs.read_trial(folder)
    finished = runs.is_done(folder, described["id"])
    runs.check_finished(folder)
    scored = runs.read_scored(folder) if finished else {}
    if scored.get("trial", described["id"]) != described["id"]:
        raise InputError(
            f"{folder / runs.SCORES} belongs to another trial. Make it again: "
            f"`mimic-reg evaluate {folder} --overwrite`."
        )
    with reading(folder, "a run"):
        best = scored.get("best_epoch")
        history = runs.read_history(folder / runs.HISTORY) if finished else []
        return Run(
            folder=folder,
            id=described["id"],
            settings=described["trial"],
            fingerprint=described["store"]["fingerprint"],
            store=find_recorded(described["store"]["path"], described["store"]["fingerprint"]),
            cohort=CohortSpec.read(described["cohort"]),
            device=described["device"],
            threads=described.get("threads"),
            versions=described["versions"],
            finished=finished,
            scores=_scores(scored.get("scores", {})),
            num_samples=scored.get("num_samples", {}),
            selected_by=scored.get("selected_by"),
            best_epoch=None if best is None else best + 1,
            hardly_trained=hardly_trained(history, best),
        )


def read_scores(folder: Path) -> dict[str, dict[str, Score]]:
    """Return the scores in a run folder: split → name → score.

    Raises:
        InputError: they are missing or damaged.
    """
    content = runs.read_scored(folder)["scores"]
    with reading(folder / runs.SCORES, "a run's scores"):
        return _scores(content)


def _scores(content: Mapping[str, Any]) -> dict[str, dict[str, Score]]:
    return {
        split: {metric(name).name: Score(**values) for name, values in of_split.items()}
        for split, of_split in content.items()
    }
