"""Does training in bfloat16 change the score? Pairs of fits on simulated patients.

    mimic-reg synthesize --out raw --patients 2000 && mimic-reg extract --source raw --out store
    python benchmarks/precision.py --store store --work work --out benchmarks/results/precision.json

Each pair has the same initial weights and batches, one fit in float32 and one in bfloat16. It can
be interrupted and continued. The difference is of the test AUROC, with its 95 % interval over
seeds, beside the standard deviation over seeds that float32 has by itself. `seconds` is the ratio
of training times, the median over pairs; it says something if nothing else runs.
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

TASK = "in_hospital_mortality"
PRECISIONS = ("float32", "bfloat16")
MODELS: dict[str, dict[str, Any]] = {
    "lstm": {"lstm": {"units": 64}},
    "gru": {"gru": {"units": 64}},
    "transformer": {"transformer": {"blocks": 2, "key_size": 64}},
}
METHODS: dict[str, list[Any]] = {"none": [], "itps": [{"itps": {"tau": 0.05}}]}


def fit(
    store: Path, folder: Path, model: str, method: str, seed: int, precision: str, epochs: int
) -> dict[str, float]:
    """Train, or read what was trained: test AUROC and seconds of training."""
    trial = resolve(
        {
            "task": TASK,
            "model": MODELS[model],
            "regularisers": METHODS[method],
            "training": {"normalizer": "fitted", "max_epochs": epochs, "precision": precision},
            "seed": seed,
        }
    )
    outcome = train(trial, store, folder, device="cpu", threads=1)
    rows = [row for row in read_history(folder / HISTORY) if row["event"] == "epoch"]
    auroc = outcome.scores[TASK]["test"]["auroc"].value
    assert auroc is not None, "the test split has both classes"
    return {"auroc": auroc, "seconds": sum(row["cost"]["training_seconds"] for row in rows)}


def compared(pairs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """The figures of one model and method over its seeds."""
    exact, rounded = ([pair[p]["auroc"] for pair in pairs] for p in PRECISIONS)
    differences = [b - a for a, b in zip(exact, rounded, strict=True)]
    return {
        "seeds": len(pairs),
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
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    print("| model | method | seeds | float32 | bfloat16 | difference, 95 % interval | seconds |")
    print("|-|-|-|-|-|-|-|")
    for model in arguments.models:
        for method in METHODS:
            pairs = []
            for seed in range(arguments.seeds):
                pair = {}
                for precision in PRECISIONS:
                    folder = arguments.work / f"{model}-{method}-{seed}-{precision}"
                    pair[precision] = fit(
                        arguments.store, folder, model, method, seed, precision, arguments.epochs
                    )
                pairs.append(pair)
            row = found[f"{model}, {method}"] = compared(pairs)
            low, high = row["interval"]
            print(
                f"| {model} | {method} | {row['seeds']} | {row['float32']:.4f} ± "
                f"{row['float32_sd']:.4f} | {row['bfloat16']:.4f} | {row['difference']:+.4f} "
                f"({low:+.4f} to {high:+.4f}) | {row['seconds']:.2f} |",
                flush=True,
            )
    if arguments.out:
        settings = {
            "epochs": arguments.epochs,
            "models": arguments.models,
            "torch": torch.__version__,
        }
        content = {"settings": settings, "results": found}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
