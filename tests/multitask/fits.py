"""Small fits of several tasks for tests."""

from mimic_reg.engine.recorder import read_history
from mimic_reg.multitask.trials import resolve_multi
from mimic_reg.runs import HISTORY
from tests.fits import make_trainer

TASKS = ("in_hospital_mortality", "decompensation", "phenotyping")
SMALL = {
    "lstm": {"units": 4},
    "channel_wise_lstm": {"units": 2, "size": 2, "bidirectional": False},
    "transformer": {"blocks": 1, "heads": 1, "key_size": 8, "filters": 2, "dense": 8},
}
BATCH = {"in_hospital_mortality": 16, "decompensation": 12, "phenotyping": 8, "length_of_stay": 12}
OPTIONS = {
    "reptile": {"epoch_iterations": 3, "inner_steps": 2},
    "joint": {"epoch_iterations": 5},
}


def multi(strategy, methods, *, tasks=TASKS, model="lstm", max_epochs=2, seed=0, **trial):
    """Resolved settings; a strategy's name alone stands for small options."""
    if isinstance(strategy, str):
        strategy = {strategy: OPTIONS[strategy]}
    return resolve_multi(
        {
            "strategy": strategy,
            "trials": [
                {
                    "task": task,
                    "model": {model: SMALL[model]},
                    "regularisers": methods,
                    "seed": seed,
                    "training": {
                        "max_epochs": max_epochs,
                        "batch_size": BATCH[task],
                        "learning_rate": 0.01,
                        "normalizer": "fitted",
                        "by_length": task != "in_hospital_mortality",
                    },
                    **trial,
                }
                for task in tasks
            ],
        }
    )


def history(folder):
    """All rows, without what differs between two runs of the same fit."""
    return [{k: v for k, v in r.items() if k != "cost"} for r in read_history(folder / HISTORY)]


def epochs(folder):
    """The rows that close an epoch."""
    return [row for row in history(folder) if row["event"] == "epoch"]


def prepared(trial, store, folder):
    """The engine of a trial."""
    folder.mkdir(parents=True)
    return make_trainer(trial, store, folder)
