"""The comparisons of a sweep, one for each task, and its views in MLflow."""

from mimic_reg.runs import read_scored
from mimic_reg.settings import TrainingSize
from pipelines.flows.result import SweepResult
from pipelines.tracking import comparison
from pipelines.tracking.comparison import Compared


def compared(result: SweepResult) -> list[Compared]:
    """Return what a sweep compares in each task that has a result, in the order of its trials."""
    scores: dict[str, str] = {}
    groups: dict[str, list[tuple[str, str, TrainingSize]]] = {}
    for trial in result.trials:
        for folder, task in zip(
            result.run_folders(trial), trial.tasks or (trial.task,), strict=True
        ):
            groups.setdefault(task, []).append((trial.model, trial.label, trial.size))
            if trial.done and task not in scores:
                scores[task] = str(read_scored(folder)["selected_by"])
    return [Compared(result.name, task, score, groups[task]) for task, score in scores.items()]


def publish(result: SweepResult, uri: str) -> list[Compared]:
    """Write the views of a sweep, and return what they compare."""
    found = compared(result)
    for one in found:
        comparison.publish(one, uri)
    return found
