"""Run folders with made-up scores, histories and predictions, for tests of what reads them."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import polars as pl

from mimic_reg import tasks
from mimic_reg.metrics.scores import Score
from mimic_reg.report.results import collect
from mimic_reg.report.tables import ScoreTable, main_tables
from mimic_reg.store import Store, write_json
from mimic_reg.tasks import get

COHORT = tasks.cohort(tasks.names())
SPLITS = {"val": "validation", "test": "test"}
TRAINING = {"optimizer": "adam", "learning_rate": 0.001, "batch_size": 32, "max_epochs": 60}
ITPS = ({"itps": {"tau": 0.15, "beta": 0.1}},)
DROPOUT = ({"dropout": {"rate": 0.5}},)
STOPPING = {"early_stopping": {"patience": 10, "min_delta": 0.0}}


def settings(method=("none",), **changed):
    """Resolved settings; `method`: names, or {name: options}."""
    entries = [{e: {}} if isinstance(e, str) else e for e in method]
    return {
        "task": "in_hospital_mortality",
        "model": {"lstm": {"units": 256}},
        "regularisers": [*entries, STOPPING],
        "supervision": 1.0,
        "supervision_unit": "sample",
        "seed": 0,
        "training": TRAINING,
        **changed,
    }


def write_run(
    folder,
    trial,
    scores,
    *,
    store=None,
    fingerprint="f" * 64,
    selected_by="auroc",
    best_epoch=3,
    epochs=(),
    done=True,
    versions=None,
    num_samples=(100, 120),
    cohort=None,
):
    """A run folder; scores: split → name → Score or number."""
    folder.mkdir(parents=True)
    fingerprint = store.manifest["fingerprint"] if store else fingerprint
    text = json.dumps([trial, fingerprint], sort_keys=True)
    trial_id = hashlib.sha256(text.encode()).hexdigest()[:16]
    where = str(store.folder) if store else "/nowhere"
    versions = versions or {"mimic_reg": "0.1.0", "code": "0123abc", "python": "3.11", "cuda": None}
    write_json(
        folder / "trial.json",
        {
            "id": trial_id,
            "trial": trial,
            "store": {"path": where, "fingerprint": fingerprint},
            "cohort": (cohort or (store.spec if store else COHORT)).model_dump(mode="json"),
            "device": "cpu",
            "versions": versions,
        },
    )
    lines = [json.dumps(row) + "\n" for row in epochs]
    (folder / "history.jsonl").write_text("".join(lines))
    if not done:
        return folder
    plain = {
        split: {
            name: asdict(s if isinstance(s, Score) else Score(s, low=s - 0.02, high=s + 0.02))
            for name, s in of_split.items()
        }
        for split, of_split in scores.items()
    }
    write_json(
        folder / "scores.json",
        {
            "trial": trial_id,
            "best_epoch": best_epoch,
            "selected_by": selected_by,
            "num_samples": dict(zip(("validation", "test"), num_samples, strict=True)),
            "scores": plain,
        },
    )
    write_json(folder / "done.json", {"trial": trial_id})
    return folder


def history(rng, score, *, num_epochs=20, itps=False, selected_by="auroc", selected=20_000):
    """Rows that close epochs: a loss that falls, a validation score that rises to `score`."""
    rows = []
    for epoch in range(num_epochs):
        rise = 1 - np.exp(-(epoch + 1) / 5)
        value = 0.5 + (score - 0.5) * rise + rng.normal() * 0.003
        recorded = {"penalty": 0.1}
        if itps:
            now = int(selected * rise * 0.6)
            recorded = {
                "selected_now": now,
                "selected_now/trunk.weight": now,
                "selected_ever": int(selected * rise),
            }
        rows.append(
            {
                "event": "epoch",
                "epoch": epoch,
                "step": 100 * (epoch + 1),
                "loss": 0.2 + 0.5 * np.exp(-epoch / 6) + rng.normal() * 0.004,
                "validation": {selected_by: value},
                "best_epoch": epoch,
                "stop_reason": None,
                "recorded": recorded,
                "cost": {"training_seconds": 1.0},
            }
        )
    return rows


def write_predictions(folder, store: Store, task_name, rng, skill=1.5):
    """Predictions that know the labels a little."""
    task = store.spec.task(task_name)
    table = store.read(f"tasks/{task_name}.parquet").with_row_index("row")
    for split, name in SPLITS.items():
        part = table.filter(pl.col("split") == split)
        y = part.select(task.labels).to_numpy()
        noise = rng.normal(size=y.shape)
        p = 1 / (1 + np.exp(-(skill * (y - 0.5) + noise - 0.4)))
        columns = {f"p{c}": p[:, c].astype(np.float32) for c in range(p.shape[1])}
        frame = pl.DataFrame({"row": part["row"], **columns})
        frame.write_parquet(folder / f"predictions_{name}.parquet")


METHODS = {
    "none": (("none",), 0.0),
    "dropout": (({"dropout": {"rate": 0.5}},), 0.006),
    "l2": (({"norm_penalty": {"l2": 0.005}},), 0.003),
    "spectral": (({"spectral_dropout": {"eta": 0.1, "tau": 0.1}},), 0.007),
    "itps": (({"itps": {"tau": 0.15, "beta": 0.1}},), 0.017),
    "both": (
        ({"spectral_dropout": {"eta": 0.1, "tau": 0.1}}, {"itps": {"tau": 0.1, "beta": 0.1}}),
        0.013,
    ),
}


def write_sweep(
    root,
    *,
    store=None,
    tasks=("in_hospital_mortality",),
    methods=tuple(METHODS),
    levels=(0.25, 1.0),
    seeds=range(5),
    predictions=False,
):
    """A sweep in which ITPS is best and the seeds spread."""
    rng = np.random.default_rng(7)
    for task_name in tasks:
        by = (store.spec.task if store else get)(task_name).score
        for level in levels:
            for seed in seeds:
                shared = rng.normal() * 0.004
                for method in methods:
                    entries, gain = METHODS[method]
                    value = 0.80 + 0.04 * level + gain + shared + rng.normal() * 0.002
                    trial = settings(entries, task=task_name, supervision=level, seed=seed)
                    folder = root / f"{task_name}-{method}-{100 * level:g}-{seed}"
                    rows = history(
                        rng,
                        value + 0.01,
                        itps="itps" in str(entries),
                        selected_by=by,
                        num_epochs=14 + seed,
                        selected=int(26_000 * level**0.5),
                    )
                    scores = {by: value, "brier": 0.1 - gain / 5 + rng.normal() * 0.001}
                    write_run(
                        folder,
                        trial,
                        {"validation": scores, "test": scores},
                        store=store,
                        selected_by=by,
                        epochs=rows,
                        best_epoch=10,
                    )
                    if predictions:
                        write_predictions(folder, store, task_name, rng, 1.2 + 20 * gain)
    return root


def write_seeds(root, method, values, score="auroc", files=None, **changed):
    """A run a seed, with these scores; a text is the reason of an undefined one.

    files: what `write_run` takes besides
    """
    for seed, value in enumerate(values):
        given = Score(None, value) if isinstance(value, str) else value
        scores = {"validation": {score: 0.5}, "test": {score: given}}
        trial = settings(method, seed=seed, **changed)
        number = len(list(root.iterdir())) if root.exists() else 0
        write_run(root / f"{number:03}", trial, scores, selected_by=score, **(files or {}))


def only_table(root, focus="itps") -> ScoreTable:
    (table,) = main_tables(collect([root], focus=focus))
    return table
