"""The comparisons of a sweep, one for each task, and its views in MLflow."""

from mimic_reg.runs.record import read_run
from mimic_reg.settings import TrainingSize
from mimic_reg_pipelines.flows.result import SweepResult
from mimic_reg_pipelines.tracking import comparison
from mimic_reg_pipelines.tracking.comparison import Compared
from mimic_reg_pipelines.tracking.tracked_run import chart_sections


def compared(result: SweepResult) -> list[Compared]:
    """Return what a sweep compares in each task that has a result, in the order of its trials."""
    scores: dict[str, str] = {}
    groups: dict[str, list[tuple[str, str, TrainingSize]]] = {}
    sections: dict[tuple[str, str, str], list[str]] = {}  # by task, model and method
    for trial in result.trials:
        for folder, task in zip(
            result.run_folders(trial), trial.tasks or (trial.task,), strict=True
        ):
            groups.setdefault(task, []).append((trial.model, trial.label, trial.size))
            key = task, trial.model, trial.label
            if trial.done and key not in sections:
                run = read_run(folder)
                scores.setdefault(task, str(run.selected_by))
                sections[key] = chart_sections(run)
    return [
        Compared(
            result.name,
            task,
            score,
            groups[task],
            {name for key, names in sections.items() if key[0] == task for name in names},
        )
        for task, score in scores.items()
    ]


def publish(result: SweepResult, uri: str) -> list[Compared]:
    """Write the views of a sweep, and return what they compare."""
    found = compared(result)
    for one in found:
        comparison.publish(one, uri)
    return found
