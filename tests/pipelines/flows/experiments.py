"""What the tests of sweeps and flows share: small experiments, a work folder with a store."""

from mimic_reg import experiments
from mimic_reg.engine.recorder import read_history
from mimic_reg.runs import HISTORY, SCORES
from mimic_reg.store import read_json

MODEL = {"lstm": {"units": 4}}
TRAINING = {"max_epochs": 2, "batch_size": 16, "learning_rate": 0.01, "normalizer": "fitted"}
GRID = {
    "tasks": ["in_hospital_mortality"],
    "models": [MODEL],
    "methods": ["none", {"itps": {"tau": 1e-4}}],
    "seeds": 2,
    "stopping": False,
}
# with float weights, a step of this size makes everything infinite
DIVERGING = {"norm_penalty": {"l2": 1e38}}


def experiment(name="small", training=None, analyses=(), **changes):
    settings = {"name": name, "title": "A small sweep", "grids": [GRID | changes]}
    settings["analyses"] = list(analyses)
    return experiments.parse(settings | {"training": TRAINING | (training or {})})


def histories(folder):
    return [{k: v for k, v in r.items() if k != "cost"} for r in read_history(folder / HISTORY)]


def content(folder):
    """All that a run comes to, but for what it cost."""
    return histories(folder), read_json(folder / SCORES)["scores"]
