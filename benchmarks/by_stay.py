"""Does a causal model become as good if it trains by whole stays? On simulated patients.

    mimic-reg synthesize --out raw --patients 2000 && mimic-reg extract --source raw --out store
    python benchmarks/by_stay.py --store store --work work --out benchmarks/results/by_stay.json

Each small model trains on decompensation for about the same processor time in three ways: a sample
at a time in random batches of 32, as published; so in batches of similar lengths, which saves
padding; and by whole stays in batches of 512 samples. A fourth way is by whole stays with only as
many samples as the first way. The best of 10 validations is tested. The fits of a seed share their
initial weights, so differences to the first way are paired; their 95 % interval is over seeds.
`half_width` is the uncertainty of one test score, half of the bootstrap interval over patients.
`seconds` are the processor's, with loading and validation. It can be interrupted and continued.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from mimic_reg.fitting import train
from mimic_reg.learners.trials import resolve
from mimic_reg.metrics.comparison import interval

TASK, EPOCHS = "decompensation", 10
MODELS: dict[str, dict[str, Any]] = {
    "gru": {"gru": {"units": 32}},
    "tcn": {"tcn": {"channels": 32}},
}
SAMPLES = "samples, random"
WAYS: dict[str, dict[str, Any]] = {
    SAMPLES: {"batch_size": 32},
    "samples, similar lengths": {"batch_size": 32, "by_length": True},
    "stays": {"batch_size": 512, "by_stay": True},
    "stays, as many samples": {"batch_size": 512, "by_stay": True},
}
STEPS = {"gru": (32, 120, 70, 2), "tcn": (16, 40, 40, 1)}  # of an epoch, in each way


def fit(
    store: Path, folder: Path, model: str, training: dict[str, Any], seed: int
) -> dict[str, float]:
    """Train, or read what was trained: test AUROC, half its interval, seconds."""
    kept = folder / "figures.json"
    if kept.is_file():
        figures: dict[str, float] = json.loads(kept.read_text("utf-8"))
        return figures
    settings = {"task": TASK, "model": MODELS[model], "regularisers": [], "seed": seed}
    training = {"normalizer": "fitted", "max_epochs": EPOCHS, **training}
    trial = resolve({**settings, "training": training})
    begin = time.process_time()
    outcome = train(trial, store, folder, device="cpu", threads=1)
    seconds = time.process_time() - begin
    auroc = outcome.scores[TASK]["test"]["auroc"]
    assert auroc.value is not None, "the test split has both classes"
    assert auroc.low is not None
    assert auroc.high is not None
    half = (auroc.high - auroc.low) / 2
    figures = {"auroc": auroc.value, "half_width": half, "seconds": seconds}
    kept.write_text(json.dumps(figures), "utf-8")
    return figures


def main() -> None:
    """Train all, print the figures, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {"torch": torch.__version__, "seeds": given.seeds}
    for model, all_steps in STEPS.items():
        first: list[float] = []
        for (way, training), steps in zip(WAYS.items(), all_steps, strict=True):
            fits = []
            for seed in range(given.seeds):
                folder = given.work / f"{model}-{way}-{seed}".replace(", ", "-").replace(" ", "-")
                fits.append(
                    fit(given.store, folder, model, {**training, "epoch_steps": steps}, seed)
                )
            scores = [one["auroc"] for one in fits]
            first = first or scores
            gains = [score - other for score, other in zip(scores, first, strict=True)]
            row = {
                "steps": EPOCHS * steps,
                "samples": EPOCHS * steps * training["batch_size"],
                "seconds": statistics.mean(one["seconds"] for one in fits),
                "auroc": statistics.mean(scores),
                "auroc_sd": statistics.stdev(scores),
                "half_width": statistics.mean(one["half_width"] for one in fits),
                "difference": statistics.mean(gains),
                "interval": None if way == SAMPLES else interval(gains),
            }
            found[f"{model}, {way}"] = row
            print(f"{model}, {way}: {json.dumps(row)}", flush=True)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
