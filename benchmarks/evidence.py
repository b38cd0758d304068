"""Run an experiment for its evidence: a row a trial, kept as the trial ends.

    python benchmarks/evidence.py EXPERIMENT --store STORE --work WORK --rows ROWS.jsonl

EXPERIMENT is the name of a file in configs/experiments, or a YAML file. A trial whose row is in
ROWS is not run again, even if its run folder is gone: commit the rows, and the next piece goes on
from there. A trial that was interrupted goes on from its checkpoint in WORK. There is no tracking.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mimic_reg import experiments, fitting
from mimic_reg.learners.trials import resolve
from mimic_reg.runs import read_history, read_scored, read_trial
from mimic_reg.store import Store


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, an empty list if there is none yet."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def fit(settings: dict[str, Any], store: Path, folder: Path) -> str:
    """Train one trial in this process; how it ended."""
    return fitting.train(resolve(settings), store, folder, threads=1).status


def row(label: str, method: str, folder: Path) -> dict[str, Any]:
    """Return what a finished run says: settings, versions, scores, and its curves by epoch."""
    trial, scored = read_trial(folder), read_scored(folder)
    events = read_history(folder / "history.jsonl")
    epochs = [event for event in events if event["event"] == "epoch"]
    steps = [event for event in events if event["event"] == "steps"]
    metric = scored["selected_by"]
    return {
        "id": trial["id"],
        "label": label,
        "method": method,
        "trial": trial["trial"],
        "data": trial["store"]["fingerprint"],
        "versions": trial["versions"],
        "metric": metric,
        "scores": {split: dict(found[metric]) for split, found in scored["scores"].items()},
        "best_epoch": scored["best_epoch"],
        "seconds": round(sum(seconds(event) for event in epochs), 1),
        "curves": {
            "validation": [_rounded(event["validation"][metric]) for event in epochs],
            "loss": [_rounded(event["data_loss"]) for event in epochs],
            **{
                name: [event["recorded"][name] for event in epochs]
                for name in ("selected_now", "selected_ever", "moved")
                if name in epochs[0]["recorded"]
            },
        },
        "gradients": [
            [event["step"], *(_rounded(event[f"{kind}gradient_norm"]) for kind in ("", "applied_"))]
            for event in steps
        ],
    }


def seconds(event: dict[str, Any]) -> float:
    """Return the seconds that an epoch took."""
    return sum(value for name, value in event["cost"].items() if name.endswith("_seconds"))


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def run(
    experiment: experiments.Experiment, store: Path, work: Path, done: set[str], workers: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the trials that are not done, as they end."""
    data = Store.open(store).manifest["fingerprint"]
    planned = [p for p in experiments.plan(experiment) if p.trial.id(data) not in done]
    print(f"{len(planned)} trials to run", file=sys.stderr)
    waiting: dict[Future[str], tuple[str, str, Path]] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for each in planned:
            folder = work / "runs" / each.folder_name(data)
            task = pool.submit(fit, each.trial.model_dump(mode="json"), store, folder)
            waiting[task] = each.label, each.method, folder
        for task in as_completed(waiting):
            if task.result() != "interrupted":
                yield row(*waiting[task])


def main() -> None:
    """Run what is missing, and append each row as its trial ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("experiment")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    done = {found["id"] for found in read_rows(given.rows)}
    experiment = experiments.load(given.experiment)
    (given.work / "runs").mkdir(parents=True, exist_ok=True)
    for found in run(experiment, given.store, given.work, done, given.workers):
        with given.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        score = found["scores"]["test"]["value"]
        size = found["trial"].get("num_samples") or found["trial"]["supervision"]
        print(f"{found['label']}, {size:g}, seed {found['trial']['seed']}: {score}", flush=True)


if __name__ == "__main__":
    main()
