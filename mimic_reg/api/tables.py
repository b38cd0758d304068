"""Tables over several runs, by the functions that the report uses."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mimic_reg.api.components import MethodLike, as_component
from mimic_reg.api.runs import Run
from mimic_reg.api.stores import PathLike, as_path
from mimic_reg.errors import InputError
from mimic_reg.metrics.scores import metric
from mimic_reg.report import frames
from mimic_reg.report import page as reporting
from mimic_reg.report.leakage import check_results
from mimic_reg.report.results import Results, collect, find_stores
from mimic_reg.report.tables import ScoreTable, main_tables, score_table
from mimic_reg.settings import suggest

if TYPE_CHECKING:
    import pandas as pd

RunLike = Run | PathLike
Scored = Literal["validation", "test"]


def compare(
    runs: Sequence[RunLike],
    *,
    score: str | None = None,
    split: Scored = "test",
    focus: MethodLike | None = None,
) -> "pd.DataFrame":
    """Compare methods by paired differences of their runs.

    Runs of the same task, model, training size and seed are a pair. The test is a two-sided paired
    t-test over seeds with Holm's correction; it needs three pairs.

    Args:
        runs: runs, run folders, or folders that hold run folders.
        score: such as "auroc"; None: the score that selects the task's checkpoints.
        split: of the scores: "test" or "validation".
        focus: the method to compare with all others, by its name in the table, or its class; None:
            the one with the best mean.

    Returns:
        A row a comparison: task, model, score, split, training size, `method`, `baseline`, `n`
        (pairs), `difference` (method minus baseline) with its 95 % interval `low`, `high`, `effect`
        (Cohen's d), `t`, `p`, `p_holm`, `wilcoxon` and `wilcoxon_holm` (p of the signed-rank test),
        `better` (whether the difference is in the method's favour), `significant`, and `reason`
        where there is no test.

    Raises:
        InputError: there is no run; an unknown score or method; runs on different data.
    """
    found = _tables(runs, score, split, focus)
    return frames.comparisons_frame(found).to_pandas()


def mean_scores(
    runs: Sequence[RunLike], *, score: str | None = None, split: Scored = "test"
) -> "pd.DataFrame":
    """Return the mean and standard deviation of each method's scores over its seeds.

    Args:
        runs: as in `compare`.
        score: as in `compare`.
        split: as in `compare`.

    Returns:
        A row for each method and training size: task, model, score, split, method, `n` seeds,
        `mean`, `sd` (null for one seed), the number of `undefined` scores with the `reason`, and
        the published score beside it, where there is one of the same data.

    Raises:
        InputError: as `compare`.
    """
    return frames.scores_frame(_tables(runs, score, split, None)).to_pandas()


def write_report(
    runs: Sequence[RunLike],
    path: PathLike = "report.html",
    *,
    title: str = "Regularisers compared",
    focus: MethodLike | None = None,
) -> Path:
    """Write the report of some runs: one page with tables, intervals, tests, leakage and curves.

    Args:
        runs: as in `compare`.
        path: the page to write.
        title: its title.
        focus: as in `compare`.

    Returns:
        The page's path. It needs no network and no script, and holds nothing of a single patient.

    Raises:
        InputError: as `compare`.
    """
    page = as_path(path, "report")
    found = _collect(runs, focus)
    stores = find_stores(found)
    leaks = check_results(found, stores)
    return reporting.write_report(found, page, title=title, stores=stores, leakage=leaks)


def _collect(runs: Sequence[RunLike], given: MethodLike | None) -> Results:
    focus = given
    if focus is not None and not isinstance(focus, str):
        focus = as_component(focus, "method").name
    if isinstance(runs, str) or not isinstance(runs, Sequence):
        raise InputError(f"A list of runs or run folders is needed, got {runs!r}.")
    paths = [run.folder if isinstance(run, Run) else as_path(run, "run") for run in runs]
    found = collect(paths, focus=focus)
    if focus is not None and found.trials and not any(t.in_focus for t in found.trials):
        raise InputError(f"No run is of the method {focus!r}. {suggest(focus, found.methods())}")
    if found.unfinished:
        told = "; ".join(f"{each.name} ({each.why})" for each in found.unfinished)
        warnings.warn(f"{len(found.unfinished)} run folders are left out: {told}.", stacklevel=4)
    return found


def _tables(
    runs: Sequence[RunLike], score: str | None, split: Scored, focus: MethodLike | None
) -> list[ScoreTable]:
    if split not in ("validation", "test"):
        raise InputError(
            f"There is no split {split!r}. {suggest(str(split), ('validation', 'test'))}"
        )
    found = _collect(runs, focus)
    if score is None:
        return main_tables(found, split)
    name = metric(score).name
    tables = [score_table(found, task, model, name, split) for task, model in found.settings()]
    if not any(table.cells for table in tables):
        known = {name for t in found.trials for name in t.scores.get(split, {})}
        raise InputError(f"No run has the score {score!r}. {suggest(score, known)}")
    return [table for table in tables if table.cells]
