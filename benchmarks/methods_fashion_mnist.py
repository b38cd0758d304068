"""Rows, table and figure of the comparison of all methods; it can be rerun while trials end.

    mimic-reg import-images DIR --out WORK/fashion_mnist
    mimic-reg compare --out WORK --seeds 3 --config configs/experiments/methods_fashion_mnist.yaml
    python benchmarks/methods_fashion_mnist.py WORK

It reads the two sweeps of that comparison: the search and the winners. Rows measured before and not
in this work folder stay in the results. Of points of a search that did not win only validation
scores are read. Written into benchmarks/results: methods_fashion_mnist.json, .md and .png.
"""
# ruff: noqa: E501  # the text of the page

import argparse
import json
import re
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from fashion_mnist import interval, spread

from mimic_reg.errors import InputError
from mimic_reg.experiments.catalogue import entries
from mimic_reg.experiments.method_pages import why_not_compared
from mimic_reg.metrics.trained import hardly_trained
from mimic_reg.runs import HISTORY, read_history, read_scored, read_trial
from mimic_reg_pipelines.flows.result import SweepResult, TrialStatus

NAME = "methods_fashion_mnist"
RESULTS = Path(__file__).parent / "results"
SCORE = "accuracy"


def row(sweep: SweepResult, trial: TrialStatus, stage: str) -> dict[str, Any]:
    """One finished trial, as far as the comparison needs it."""
    folder = sweep.run_folder(trial)
    scored, history = read_scored(folder), read_history(folder / HISTORY)
    made = read_trial(folder)
    epochs = [entry for entry in history if entry["event"] == "epoch"]
    scores = scored["scores"]
    found = {
        "stage": stage,
        "method": trial.method,
        "values": dict(trial.searched),
        "seed": trial.seed,
        "validation": scores["validation"][SCORE]["value"],
        "best_epoch": scored["best_epoch"] + 1,
        "epochs": len(epochs),
        "hardly_trained": hardly_trained(history, scored["best_epoch"]),
        "seconds": sum(e["cost"]["training_seconds"] for e in epochs),
        "code": made["versions"]["code"],
        "device": made["device"],
    }
    if stage == "chosen":
        found["test"] = scores["test"][SCORE]["value"]
    return found


def read(work: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a comparison: of its search, and of what won, where it has come so far."""
    rows = []
    for stage, sweep in (("search", name), ("chosen", f"{name}-chosen")):
        try:
            found = SweepResult.read(work, sweep)
        except InputError as error:
            print(error)
            continue
        rows += [
            row(found, t, stage)
            for t in found.trials
            if (found.run_folder(t) / "done.json").is_file()
        ]
    return rows


def with_earlier(rows: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """These rows, and those of the results that were not run again."""

    def key(found: dict[str, Any]) -> tuple[Any, ...]:
        return found["stage"], found["method"], json.dumps(found["values"]), found["seed"]

    earlier = json.loads(path.read_text("utf-8"))["rows"] if path.is_file() else []
    fresh = {key(found) for found in rows}
    chosen = {found["method"] for found in rows if found["stage"] == "chosen"}
    kept = [
        found
        for found in earlier
        if key(found) not in fresh
        and not (found["stage"] == "chosen" and found["method"] in chosen)
    ]
    return sorted(rows + kept, key=key)


def strength(found: dict[str, Any]) -> list[float]:
    """The values of a row, to sort by."""
    return [float(v) for v in found["values"].values() if isinstance(v, int | float)]


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A method a line: what it tried, what won, test accuracy, the difference from no method."""
    chosen: dict[str, list[dict[str, Any]]] = {}
    for found in rows:
        if found["stage"] == "chosen":
            chosen.setdefault(found["method"], []).append(found)
    plain = {found["seed"]: found for found in chosen.get("none", [])}
    lines = []
    for method, seeds in chosen.items():
        tried = {
            ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in f["values"].values()): (
                f["validation"]
            )
            for f in sorted(rows, key=strength)
            if f["stage"] == "search" and f["method"] == method and f["values"]
        }
        both = [f for f in seeds if f["seed"] in plain]
        lines.append(
            {
                "method": method,
                "values": seeds[0]["values"],
                "tried": tried,
                "seeds": len(seeds),
                "test": spread([100 * f["test"] for f in seeds]),
                "mean": 100 * statistics.fmean(f["test"] for f in seeds),
                "difference": ""
                if method == "none"
                else interval([100 * (f["test"] - plain[f["seed"]]["test"]) for f in both]),
                "epochs": statistics.fmean(f["epochs"] for f in seeds),
                "hardly_trained": sum(bool(f["hardly_trained"]) for f in seeds),
            }
        )
    return sorted(lines, key=lambda line: -line["mean"])


def finding(lines: list[dict[str, Any]]) -> str:
    """Sentences: whose interval of the difference from no method is above zero, or below."""
    sides: dict[str, list[str]] = {"above": [], "below": []}
    for line in lines:
        if bounds := re.search(r"\(([-+].*) to ([-+].*)\)", line["difference"]):
            low, high = (float(bound) for bound in bounds.groups())
            if low > 0 or high < 0:
                sides["above" if low > 0 else "below"].append(line["method"])
    said = [
        f"The interval is {side} zero for {', '.join(names) or 'no method'}."
        for side, names in sides.items()
    ]
    return f"{len(lines) - 1} methods against none. {' '.join(said)}"


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown."""
    found = [
        "| method | strength: validation of each, % | chosen | seeds | test accuracy, % | "
        "minus none, 95 % interval | epochs |",
        "|-|-|-|-|-|-|-|",
    ]
    for line in lines:
        tried = ", ".join(f"{v}: {100 * s:.2f}" for v, s in line["tried"].items())
        values = ", ".join(
            f"{k} = {v:g}" if isinstance(v, float) else f"{k} = {v}"
            for k, v in line["values"].items()
        )
        mark = f" ({line['hardly_trained']} hardly trained)" if line["hardly_trained"] else ""
        found.append(
            f"| {line['method']} | {tried} | {values} | {line['seeds']} | {line['test']}{mark} | "
            f"{line['difference']} | {line['epochs']:.0f} |"
        )
    return "\n".join(found)


def idle(rows: list[dict[str, Any]]) -> str:
    """A sentence about methods that changed nothing: in each seed they score as no method."""
    scores: dict[str, dict[int, tuple[float, ...]]] = {}
    for found in rows:
        if found["stage"] == "chosen":
            of_method = scores.setdefault(found["method"], {})
            of_method[found["seed"]] = found["validation"], found["test"], found["best_epoch"]
    plain = scores.pop("none", {})
    same = [name for name, of_method in scores.items() if of_method.items() <= plain.items()]
    if not same:
        return ""
    return f" Equal to none in every seed, so without any effect here: {', '.join(same)}."


def missing(lines: list[dict[str, Any]]) -> str:
    """A list in Markdown: methods without a line, and why."""
    there = {line["method"] for line in lines}
    return "\n".join(
        f"- {entry.name}: {why_not_compared(entry) or 'It has not been run.'}"
        for entry in entries()
        if entry.name not in there
    )


def figure(rows: list[dict[str, Any]], lines: list[dict[str, Any]], path: Path) -> None:
    """Test accuracy of every seed and its mean, the best method on top."""
    drawn, ax = plt.subplots(figsize=(6, 1 + 0.24 * len(lines)), layout="constrained")
    for place, line in enumerate(reversed(lines)):
        seeds = [
            100 * f["test"]
            for f in rows
            if f["stage"] == "chosen" and f["method"] == line["method"]
        ]
        ax.plot(seeds, [place] * len(seeds), "o", color="#56B4E9", markersize=4)
        ax.plot([line["mean"]], [place], "|", color="#D55E00", markersize=12, markeredgewidth=2)
        if line["method"] == "none":
            ax.axvline(line["mean"], color="0.6", linewidth=0.8, linestyle="dashed")
    ax.set_yticks(range(len(lines)), [line["method"] for line in reversed(lines)], fontsize=8)
    ax.set_xlabel("test accuracy, %: a dot a seed, a bar their mean")
    drawn.savefig(path, dpi=150)
    plt.close(drawn)


TEXT = """# All methods on a quarter of Fashion-MNIST

The DNN (1,494,154 parameters) on 12,500 training images. Each method tries the values of its strength
that its file in `configs/methods` has under `search`, as many as every other one, with seed 0; the value
with the best validation accuracy is trained with seeds 0, 1 and 2. Methods of a seed share initial
weights, batches and images. Adam, learning rate 1e-3, batches of 128, pixels in [0, 1]; at most 25 epochs,
early stopping with patience 10; the epoch that validates best is tested once.

    mimic-reg import-images DIR --out WORK/fashion_mnist
    mimic-reg compare --out WORK --seeds 3 --config configs/experiments/methods_fashion_mnist.yaml
    python benchmarks/methods_fashion_mnist.py WORK

{finding}

{table}

Test accuracy: mean ± standard deviation over seeds. Differences are paired over seeds, with their t
interval, not corrected for the number of methods. Values of a strength were tried with one seed, so
differences of a few tenths of a percent between them are within chance. A method without values has the
one setting of its file.{idle}

The row of bagging is of single members. Averaging three fits gains more than any method here, with bagging
or without a method: [ensembles of seeds](ensembles_fashion_mnist.md).

Not in the table:

{missing}

![Test accuracy by method](methods_fashion_mnist.png)

{code}
"""


def main() -> None:
    """Read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path, help="the work folder of the comparison")
    parser.add_argument("--name", default=NAME, help="the comparison's name in it")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--note", default="", help="how it was run, for the end of the page")
    arguments = parser.parse_args()
    out = arguments.out / f"{NAME}.json"
    rows = with_earlier(read(arguments.work, arguments.name), out)
    lines = summary(rows)
    print(table(lines))
    out.write_text(json.dumps({"summary": lines, "rows": rows}, indent=1) + "\n", "utf-8")
    if lines:
        figure(rows, lines, out.with_suffix(".png"))
        code = " ".join(
            f"{name}: {', '.join(sorted({str(f[key]) for f in rows}))}."
            for name, key in (("Code", "code"), ("Device", "device"))
        )
        code = f"{code} {arguments.note}".strip()
        out.with_suffix(".md").write_text(
            TEXT.format(
                finding=finding(lines),
                table=table(lines),
                idle=idle(rows),
                missing=missing(lines),
                code=code,
            ),
            "utf-8",
        )


if __name__ == "__main__":
    main()
