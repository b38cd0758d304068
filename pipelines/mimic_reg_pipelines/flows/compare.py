"""A comparison of methods: a search of each one's best values, then several seeds with them.

The search is that of `tune`: each method tries the values that its file in `configs/methods` has
under `search`, or so many points of its space, as many as every other method. The best validation
score wins, in a cross-validation within each fold. Then a sweep
trains the winners with all seeds, and the report compares them. Both use the run folders of the
work folder, so no trial is trained twice, and the same call continues after a stop. Only the report
reads test scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed
from pydantic import Field

from mimic_reg.experiments import Experiment
from mimic_reg.progress import SILENT, Progress
from mimic_reg_pipelines.flows.artifacts import PrefectProgress
from mimic_reg_pipelines.flows.report import Concluded, as_json, conclude, publish
from mimic_reg_pipelines.flows.result import SweepResult
from mimic_reg_pipelines.flows.search import check_fair, notes, winners
from mimic_reg_pipelines.flows.settings import OfExperiment, Work, find_store
from mimic_reg_pipelines.flows.studies import budgets, explore
from mimic_reg_pipelines.flows.sweep import final_state, sweep, sweep_as_tasks
from mimic_reg_pipelines.flows.tune import Choice, choose, show_choice
from mimic_reg_pipelines.runners.settings import Running


@dataclass(frozen=True)
class Compared:
    """Result of a comparison.

    choices:   the best point of each search
    problems:  of each search without one, why; its method is not in `result`
    search, result: the sweeps of the search and of the winners
    concluded: None where no trial of the winners has a result
    """

    choices: tuple[Choice, ...]
    problems: tuple[str, ...]
    search: SweepResult
    result: SweepResult
    concluded: Concluded | None

    @property
    def exit_code(self) -> int:
        """Return 0 if every method has all its results, else 1."""
        return 1 if self.problems or self.search.failed else self.result.exit_code


def compare(
    experiment: Experiment,
    work: Path,
    *,
    seeds: Sequence[int],
    store: Path | None = None,
    running: Running | None = None,
    tracking_uri: str | None = None,
    commands: Sequence[str] = (),
    progress: Progress = SILENT,
    run: Callable[..., SweepResult] = sweep,
) -> Compared:
    """Search, train the winners with all seeds, report.

    experiment: the search; its grids have `own_search`, or a `search`
    seeds:      of the winners
    run:        how a sweep is run

    Raises:
        InputError: the methods are too few, or have different numbers of tries; see also `sweep`.
        MimicRegError: no method has a result.
    """
    check_fair(experiment)
    for note in notes(experiment):
        progress.note(note)
    options: dict[str, Any] = {
        "store": find_store(experiment, Work(work), store),
        "running": running,
        "tracking_uri": tracking_uri,
        "progress": progress,
    }
    whole, search = explore(experiment, work, run=run, **options)
    choices, problems = choose(search)
    best = {choice.key: choice.best.values for choice in choices}
    chosen = winners(whole, best, seeds)
    tuned = budgets(whole, search, best)
    result = run(chosen.model_copy(update={"tuned": tuned}), work, **options)
    concluded = None
    if any(trial.done for trial in result.trials):
        concluded = conclude(result, tracking_uri=tracking_uri, commands=commands)
    return Compared(tuple(choices), tuple(problems), search, result, concluded)


# --- Prefect --------------------------------------------------------------------------------------


class CompareParameters(OfExperiment):
    """Parameters of the flow: the experiment has a search.

    seeds: trials of each method with its best values
    """

    seeds: int = Field(default=5, ge=1)


@flow(name="compare", flow_run_name="compare {parameters.name}", persist_result=False)
def compare_flow(parameters: CompareParameters) -> State[Any]:
    """Search each method's values, train the winners with all seeds, register and report."""
    compared = compare(
        parameters.load(),
        parameters.work,
        seeds=range(parameters.seeds),
        **parameters.how,
        progress=PrefectProgress("compare"),
        run=sweep_as_tasks,
    )
    for choice in compared.choices:
        show_choice(choice)
    if compared.concluded:
        publish(compared.result.name, as_json(compared.concluded))
    if compared.problems:
        return Failed(message="; ".join(compared.problems))
    return final_state(compared.search if compared.search.failed else compared.result)
