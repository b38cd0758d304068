"""Compare models that were tuned in folds: the test scores of each fold's choice, and differences.

    python benchmarks/equal_budget.py WORK --baseline boosting

WORK is the work folder of `mimic-reg tune --config equal_budget`. In each fold, validation chooses
a point of each model as `tune` does, and the test score of that point counts. Intervals and
tests are the report's: corrected for folds that share patients (Nadeau and Bengio, 2003), and Holm.
"""

import argparse
from pathlib import Path

from mimic_reg.metrics.comparison import corrected, interval, paired, summarise
from mimic_reg.metrics.folds import Fold, Repeat, by_fold, num_folds
from mimic_reg.runs.record import read_run
from mimic_reg_pipelines.flows.result import SweepResult
from mimic_reg_pipelines.flows.tune import choose

Scores = dict[str, dict[Repeat, float]]  # model → seed in a fold → score


def of_choices(result: SweepResult, split: str) -> Scores:
    """Return the scores of the point that each model chose in each fold."""
    best = {choice.key: choice.best.values for choice in choose(result)}
    found: Scores = {}
    for trial in result.trials:
        key = (trial.task, trial.model, trial.method, trial.size, trial.fold)
        if trial.fold is not None and trial.searched == best[key]:
            run = read_run(result.run_folder(trial))
            score = run.scores[split][str(run.selected_by)]
            if score.value is not None and run.cohort.folds:
                place = Fold(trial.fold, run.cohort.folds, trial.seed)
                found.setdefault(trial.model, {})[place] = score.value
    return found


def rows(result: SweepResult, baseline: str) -> list[str]:
    """Return a line of a Markdown table for each model, in the order of the experiment."""
    validation, test = (of_choices(result, split) for split in ("validation", "test"))
    against = corrected({m: paired(s, test[baseline]) for m, s in test.items() if m != baseline})
    lines = [
        "| model | folds | validation | test | 95 % | minus " + baseline + " | 95 % | p (Holm) |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for model, scores in test.items():
        values = list(by_fold(scores).values())
        cells = [model, str(len(values)), f"{_mean(validation[model]):.3f}", f"{_mean(scores):.3f}"]
        cells.append(_bounds(interval(values, num_folds(scores)), ".3f"))
        if model in against:
            c = against[model]
            p = c.reason or f"{c.p_holm:.2f}"
            cells += [f"{c.difference:+.3f}", _bounds(c.interval, "+.3f"), p]
        else:
            cells += [""] * 3
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _mean(scores: dict[Repeat, float]) -> float:
    return summarise(list(by_fold(scores).values())).mean


def _bounds(bounds: tuple[float, float] | None, form: str) -> str:
    return f"{bounds[0]:{form}} to {bounds[1]:{form}}" if bounds else "undefined"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--name", default="equal_budget", help="of the experiment")
    parser.add_argument("--baseline", default="boosting", help="a model of it")
    given = parser.parse_args()
    result = SweepResult.read(given.work, given.name)
    if result.failed or ", point " in result.title:  # the status of one round of the search
        parser.error(f"the search in {given.work} is not finished: start `mimic-reg tune` again")
    print("\n".join(rows(result, given.baseline)))


if __name__ == "__main__":
    main()
