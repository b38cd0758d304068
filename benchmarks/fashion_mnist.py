"""Figures of the Fashion-MNIST runs: a JSON file, two tables in Markdown, one figure.

    mimic-reg run --source DIR --out WORK --config configs/experiments/itps_readings.yaml
    mimic-reg run --source DIR --out WORK --config configs/experiments/fashion_mnist.yaml
    python benchmarks/fashion_mnist.py WORK

It reads all finished runs of the work folders that are of the DNN on Fashion-MNIST; runs measured
before and not in these folders stay in the results. What it writes lies in benchmarks/results:
fashion_mnist.md and itps_readings.md there are the texts that the figures belong to.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from mimic_reg.report.paper import published
from mimic_reg.settings import is_probe

RESULTS = Path(__file__).parent / "results"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PARAMETERS = 1_494_154
PAPERS_SELECTION = 27_000  # figure 4b
DROPOUT_RATE = 0.5  # Table II
METHODS = (
    *("none", "dropout", "guided dropout", "L2", "spectral dropout", "ITPS (tau 0.25)"),
    "spectral dropout + ITPS (tau 0.1)",
)
ROWS = dict(
    zip(
        METHODS[1:],
        ("dropout", "guided_dropout", "l2", "spectral_dropout", "itps", "itps_spectral_dropout"),
        strict=True,
    )
)
PAPER = {
    (name, score.level): f"{100 * score.value:.2f} ± {100 * score.sd:.2f}"
    for score in published()
    for name, row in ROWS.items()
    if (score.table, score.method) == ("VIII", row)
}
TAUS = ("0.25", "0.1", "0.05", "0.01")
# method → what its own parameter was chosen from, by validation; as many each
TUNED = {
    "ITPS, tau": {tau: f"ITPS (tau {tau})" for tau in TAUS},
    "ITPS (update, latched), tau": {tau: f"ITPS (tau {tau}, update, latched)" for tau in TAUS},
    "dropout, rate": {
        "0.5": "dropout",
        **{rate: f"dropout ({rate})" for rate in ("0.3", "0.2", "0.1")},
    },
}
READINGS = (
    *("none", "dropout", "ITPS (tau 0.25)", "ITPS (tau 0.25, update, latched)"),
    *("ITPS (tau 0.05)", "ITPS (tau 0.01)"),
)


def read(folder: Path) -> dict[str, Any] | None:
    """One finished run, as far as the study needs it."""
    if not (folder / "done.json").is_file():
        return None
    description = json.loads((folder / "trial.json").read_text("utf-8"))
    trial, scores = description["trial"], json.loads((folder / "scores.json").read_text("utf-8"))
    if trial["task"] != "image_classification" or "dnn" not in trial["model"]:
        return None
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text("utf-8").splitlines()]
    epochs = [row for row in rows if row["event"] == "epoch"]
    best = epochs[scores["best_epoch"]]
    test = scores["scores"]["test"]["accuracy"]
    return {
        "reading": label(trial),
        "supervision": trial["supervision"],
        "seed": trial["seed"],
        "test": test["value"],
        "interval": [test["low"], test["high"]],
        "validation": scores["scores"]["validation"]["accuracy"]["value"],
        "best_epoch": scores["best_epoch"],
        "epochs": len(epochs),
        "selected": best.get("recorded", {}).get(selection_of(trial)),
        "curve": [row["validation"]["accuracy"] for row in epochs],
        "selection": [row.get("recorded", {}).get(selection_of(trial)) for row in epochs],
        "seconds": sum(sum(v for k, v in e["cost"].items() if "seconds" in k) for e in epochs),
        "code": description["versions"]["code"],
    }


def selection_of(trial: dict[str, Any]) -> str:
    """What counts as selected: where selection is latched, whatever ever was."""
    latched = any(options.get("latch") for e in trial["regularisers"] for options in e.values())
    return "selected_ever" if latched else "selected_now"


def label(trial: dict[str, Any]) -> str:
    """What the run is, in words: method and whatever is not the default."""
    parts, patience = [], None
    for entry in trial["regularisers"]:
        ((name, options),) = entry.items()
        if name == "early_stopping":
            patience = options["patience"]
        elif is_probe(name):
            continue
        elif name == "itps":
            words = [f"tau {options['tau']:g}"]
            words += [options["mode"]] if options["mode"] != "grad" else []
            words += ["latched"] if options["latch"] else []
            parts.append(f"ITPS ({', '.join(words)})")
        elif name == "dropout" and options["rate"] != DROPOUT_RATE:
            parts.append(f"dropout ({options['rate']:g})")
        elif name == "norm_penalty":
            parts.append("L2")
        else:
            parts.append(name.replace("_", " "))
    settings = {
        "pixels 0 to 255": trial["training"]["normalizer"] == "raw",
        "pixels standardised": trial["training"]["normalizer"] == "fitted",
        f"{trial['model']['dnn']['init']} initial weights": trial["model"]["dnn"]["init"]
        != "glorot",
        "no early stopping": patience is None,
        f"patience {patience}": patience not in (None, 10),
    }
    return "; ".join([" + ".join(parts), *(text for text, there in settings.items() if there)])


def by_reading(
    runs: list[dict[str, Any]], level: float
) -> defaultdict[str, dict[int, dict[str, Any]]]:
    """Reading → seed → run, of a supervision level."""
    groups: defaultdict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for run in runs:
        if run["supervision"] == level:
            groups[run["reading"]][run["seed"]] = run
    return groups


def table(runs: list[dict[str, Any]], level: float) -> str:
    """Markdown: mean and deviation over seeds, beside the paired difference from no method."""
    groups = by_reading(runs, level)
    lines = [
        "| reading | seeds | test accuracy, % | minus no method, 95 % interval | best epoch | "
        f"selected then, of {PARAMETERS:,} |",
        "|-|-|-|-|-|-|",
    ]
    for name, of_seed in sorted(groups.items(), key=lambda g: -mean(g[1], "test")):
        baseline = groups.get(baseline_of(name), {})
        shared = sorted(of_seed.keys() & baseline.keys())
        differences = [100 * (of_seed[s]["test"] - baseline[s]["test"]) for s in shared]
        selected = [r["selected"] for r in of_seed.values() if r["selected"] is not None]
        lines.append(
            f"| {name} | {len(of_seed)} | {spread([100 * r['test'] for r in of_seed.values()])} | "
            f"{interval(differences) if baseline_of(name) != name else ''} | "
            f"{mean(of_seed, 'best_epoch'):.0f} | "
            f"{f'{np.mean(selected):,.0f}' if selected else ''} |"
        )
    return "\n".join(lines)


def overview(runs: list[dict[str, Any]]) -> str:
    """Markdown: Table VIII's methods at both levels, beside the paper's."""
    lines = [
        "| method | seeds | 25 % | minus none | the paper | 100 % | minus none | the paper |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for name in METHODS:
        cells, counts = [], []
        for level in (0.25, 1.0):
            values, baseline = (
                {
                    r["seed"]: 100 * r["test"]
                    for r in runs
                    if (r["supervision"], r["reading"]) == key
                }
                for key in ((level, name), (level, "none"))
            )
            differences = [values[s] - baseline[s] for s in sorted(values.keys() & baseline.keys())]
            counts.append(str(len(values)))
            cells += [
                spread(list(values.values())) if values else "not run",
                interval(differences) if name != "none" else "",
                PAPER.get((name, level), ""),
            ]
        lines.append(f"| {name} | {' and '.join(dict.fromkeys(counts))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tuned(runs: list[dict[str, Any]], level: float) -> str:
    """Markdown: each method with the value of its parameter that validates best over all seeds."""
    groups = by_reading(runs, level)
    lines = [
        "| method | chosen from | validation accuracy, % | chosen | test accuracy, % | "
        "minus no method, 95 % interval |",
        "|-|-|-|-|-|-|",
    ]
    for name, options in TUNED.items():
        found = {value: groups[reading] for value, reading in options.items() if groups[reading]}
        if any(len(of_seed) < 3 for of_seed in found.values()) or len(found) < len(options):
            lines.append(f"| {name} | {', '.join(options)} | not all run | | | |")
            continue
        validated = {value: 100 * mean(of_seed, "validation") for value, of_seed in found.items()}
        best = max(validated, key=validated.__getitem__)
        values = {seed: 100 * run["test"] for seed, run in found[best].items()}
        differences = [values[s] - 100 * groups["none"][s]["test"] for s in sorted(values)]
        lines.append(
            f"| {name} | {', '.join(validated)} | "
            f"{', '.join(f'{v:.2f}' for v in validated.values())} | {best} | "
            f"{spread(list(values.values()))} | {interval(differences)} |"
        )
    return "\n".join(lines)


def baseline_of(name: str) -> str:
    """The same run without a method."""
    _, semicolon, settings = name.partition(";")
    return f"none{semicolon}{settings}"


def mean(of_seed: dict[int, dict[str, Any]], key: str) -> float:
    """Over seeds."""
    return statistics.fmean(run[key] for run in of_seed.values())


def spread(values: list[float]) -> str:
    """Mean and deviation over seeds."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{deviation}"


def interval(differences: list[float]) -> str:
    """Mean of paired differences and its t interval."""
    if not differences:
        return ""
    center = statistics.fmean(differences)
    if len(differences) < 3:
        return f"{center:+.2f} (too few seeds)"
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return f"{center:+.2f} ({center - half:+.2f} to {center + half:+.2f})"


def figure(
    runs: list[dict[str, Any]], level: float, shown: Sequence[str], reference: int, path: Path
) -> None:
    """Validation accuracy and selection against epochs, seed 0; where all of these were run.

    reference: parameters selected in the paper, a dashed line; 0: unknown
    """
    first = {r["reading"]: r for r in runs if r["supervision"] == level and r["seed"] == 0}
    if not all("curve" in first.get(name, {}) for name in shown):
        print(f"{path.name} is left as it is: its runs are not all here.", file=sys.stderr)
        return
    drawn, (scores, counts) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for colour, name in zip(COLOURS, shown, strict=False):
        epochs = np.arange(1, first[name]["epochs"] + 1)
        scores.plot(epochs, [100 * v for v in first[name]["curve"]], color=colour, label=name)
        if first[name]["selected"] is not None:
            counts.plot(epochs, first[name]["selection"], color=colour, label=name)
    scores.set(xlabel="epoch", ylabel="validation accuracy, %", ylim=(80, None))
    counts.set(xlabel="epoch", ylabel="parameters selected", yscale="log")
    lines = {"all": PARAMETERS} | ({"the paper, epoch 100": reference} if reference else {})
    for text, number in lines.items():
        counts.axhline(number, color="0.6", linewidth=0.8, linestyle="dashed")
        counts.annotate(text, (1, number), va="bottom", color="0.4")
    counts.set_ylim(None, 2 * PARAMETERS)
    scores.legend(frameon=False, fontsize=8)
    drawn.savefig(path, dpi=150)


def with_earlier(runs: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """These runs, and those of the results that were not run again."""

    def key(run: dict[str, Any]) -> tuple[Any, ...]:
        return run["reading"], run["supervision"], run["seed"]

    earlier = json.loads(path.read_text("utf-8"))["runs"] if path.is_file() else []
    fresh = {key(run) for run in runs}
    return runs + [run for run in earlier if key(run) not in fresh]


def main() -> None:
    """Read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path, nargs="+", help="work folders")
    folders = sorted(f for work in parser.parse_args().work for f in (work / "runs").iterdir())
    results = RESULTS / "fashion_mnist.json"
    runs = with_earlier([run for folder in folders if (run := read(folder))], results)
    for level in sorted({run["supervision"] for run in runs}):
        print(f"\n{100 * level:g} % of the training images\n\n{table(runs, level)}")
    print(f"\nTuned on validation, 25 %\n\n{tuned(runs, 0.25)}")
    print(f"\nTable VIII, test accuracy in %\n\n{overview(runs)}")
    figure(runs, 0.25, READINGS, 0, RESULTS / "itps_readings.png")
    figure(runs, 1.0, METHODS[:6], PAPERS_SELECTION, RESULTS / "fashion_mnist.png")
    kept = [{k: v for k, v in r.items() if k not in ("curve", "selection")} for r in runs]
    results.write_text(json.dumps({"runs": kept}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
