"""Does training in bfloat16 change the score? Pairs of fits on simulated patients and on images.

    mimic-reg synthesize --out raw --patients 2000 && mimic-reg extract --source raw --out store
    mimic-reg import-images /usr/share/datasets/fashion-mnist --out fashion
    python benchmarks/precision.py --store store --work work
    python benchmarks/precision.py --store store --work work --models transformer --methods none \\
        --seeds 4 --epochs 5
    python benchmarks/precision.py --store fashion --work work --models dnn --methods none \\
        --seeds 6 --epochs 4  # and cnn, --seeds 4

Each pair has the same initial weights and batches, one fit in float32 and one in bfloat16. It can
be interrupted and continued. The difference is of the test score (AUROC of in-hospital mortality,
accuracy after 8,000 training images), with its 95 % interval over seeds, beside the standard
deviation over seeds that float32 has by itself. `seconds` is the ratio of training times, the
median over pairs; it says something if nothing else runs. --out adds to a file of results.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from mimic_reg.engine.recorder import read_history
from mimic_reg.fitting import train
from mimic_reg.learners.trials import resolve
from mimic_reg.metrics.comparison import interval
from mimic_reg.runs import HISTORY

STAYS = {"task": "in_hospital_mortality", "training": {"normalizer": "fitted"}}
IMAGES = {
    "task": "image_classification",
    "training": {"normalizer": "unit"},
    "num_samples": 8_000,
}
SCORES = {"in_hospital_mortality": "auroc", "image_classification": "accuracy"}
PRECISIONS = ("float32", "bfloat16")
MODELS: dict[str, dict[str, Any]] = {
    "lstm": {"model": {"lstm": {"units": 64}}, **STAYS},
    "gru": {"model": {"gru": {"units": 64}}, **STAYS},
    "transformer": {"model": {"transformer": {"blocks": 2, "key_size": 64}}, **STAYS},
    "dnn": {"model": "dnn", **IMAGES},
    "cnn": {"model": {"cnn": {"filters": [8, 16, 32], "dense": 64}}, **IMAGES},
}
METHODS: dict[str, list[Any]] = {"none": [], "itps": [{"itps": {"tau": 0.05}}]}


def fit(
    store: Path, folder: Path, model: str, method: str, seed: int, precision: str, epochs: int
) -> dict[str, float]:
    """Train, or read what was trained: test score and seconds of training."""
    given = MODELS[model]
    training = {**given["training"], "max_epochs": epochs, "precision": precision}
    trial = resolve({**given, "training": training, "regularisers": METHODS[method], "seed": seed})
    outcome = train(trial, store, folder, device="cpu", threads=1)
    rows = [row for row in read_history(folder / HISTORY) if row["event"] == "epoch"]
    score = outcome.scores[trial.task]["test"][SCORES[trial.task]].value
    assert score is not None, "the test split has all classes"
    return {"score": score, "seconds": sum(row["cost"]["training_seconds"] for row in rows)}


def compared(pairs: list[dict[str, dict[str, float]]], epochs: int) -> dict[str, Any]:
    """The figures of one model and method over its seeds."""
    exact, rounded = ([pair[p]["score"] for pair in pairs] for p in PRECISIONS)
    differences = [b - a for a, b in zip(exact, rounded, strict=True)]
    return {
        "seeds": len(pairs),
        "epochs": epochs,
        "float32": statistics.mean(exact),
        "float32_sd": statistics.stdev(exact),
        "bfloat16": statistics.mean(rounded),
        "difference": statistics.mean(differences),
        "interval": interval(differences),
        "seconds": statistics.median(
            pair["bfloat16"]["seconds"] / pair["float32"]["seconds"] for pair in pairs
        ),
    }


def main() -> None:
    """Train all pairs, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["lstm"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    print("| model | method | seeds | float32 | bfloat16 | difference, 95 % interval | seconds |")
    print("|-|-|-|-|-|-|-|")
    for model in arguments.models:
        for method in arguments.methods:
            pairs = []
            for seed in range(arguments.seeds):
                pair = {}
                for precision in PRECISIONS:
                    folder = arguments.work / f"{model}-{method}-{seed}-{precision}"
                    pair[precision] = fit(
                        arguments.store, folder, model, method, seed, precision, arguments.epochs
                    )
                pairs.append(pair)
            row = found[f"{model}, {method}"] = compared(pairs, arguments.epochs)
            low, high = row["interval"]
            print(
                f"| {model} | {method} | {row['seeds']} | {row['float32']:.4f} ± "
                f"{row['float32_sd']:.4f} | {row['bfloat16']:.4f} | {row['difference']:+.4f} "
                f"({low:+.4f} to {high:+.4f}) | {row['seconds']:.2f} |",
                flush=True,
            )
    if arguments.out:
        there = json.loads(arguments.out.read_text("utf-8")) if arguments.out.is_file() else {}
        content = {"torch": torch.__version__, "results": {**there.get("results", {}), **found}}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
