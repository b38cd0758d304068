"""Tables and figures of the study on simulated mortality, from the rows that `evidence.py` keeps.

    python benchmarks/simulated_mortality.py

reads benchmarks/results/simulated_mortality.jsonl, prints the tables of simulated_mortality.md, and
draws the figures beside it. What has no rows yet is left out and said.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from evidence import read_rows

from mimic_reg.metrics.comparison import compare, interval, summarise

RESULTS = Path(__file__).parent / "results"
ROWS = RESULTS / "simulated_mortality.jsonl"
TRUE_RISK = (
    0.8797  # AUROC of the true risk on the 321 test samples: true_risk.json of the simulation
)
BASELINE = "none"
LEVELS = (0.25, 1.0)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")

Row = dict[str, Any]
Groups = Mapping[tuple[str, float], Mapping[int, Row]]


def stops(row: Row) -> bool:
    """Return whether the run had early stopping."""
    return any("early_stopping" in entry for entry in row["trial"]["regularisers"])


def groups(rows: Sequence[Row]) -> Groups:
    """Return (label with its strength, level) → seed → row."""
    found: defaultdict[tuple[str, float], dict[int, Row]] = defaultdict(dict)
    for row in rows:
        trial = row["trial"]
        found[row["label"], trial["supervision"]][trial["seed"]] = row
    return found


def chosen(rows: Sequence[Row]) -> dict[tuple[str, float], str]:
    """Return (method, level) → the label whose validation score of seed 0 is best."""
    best: dict[tuple[str, float], Row] = {}
    for row in rows:
        key = row["method"], row["trial"]["supervision"]
        if row["trial"]["seed"] == 0 and (
            key not in best or _score(row, "validation") > _score(best[key], "validation")
        ):
            best[key] = row
    return {key: row["label"] for key, row in best.items()}


def _score(row: Row, split: str) -> float:
    return float(row["scores"][split]["value"])


def strengths(rows: Sequence[Row]) -> str:
    """Return a Markdown table: the validation AUROC of each strength, the chosen one bold."""
    found, best = groups(rows), chosen(rows)
    lines = ["| method | 25 % | 100 % |", "|-|-|-|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for level in LEVELS:
            texts = []
            for (label, at), seeds in found.items():
                if at == level and 0 in seeds and seeds[0]["method"] == method:
                    text = f"{_strength(label)} {_score(seeds[0], 'validation'):.4f}".strip()
                    texts.append(f"**{text}**" if best[method, level] == label else text)
            cells.append("; ".join(sorted(texts, key=lambda text: text.strip("*"))) or "not run")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _strength(label: str) -> str:
    return label.partition("(")[2].rstrip(")")


def comparison(rows: Sequence[Row], level: float) -> str:
    """Return a Markdown table: test AUROC of the chosen strengths, and the difference from none."""
    found, best = groups(rows), chosen(rows)
    of = {m: found[label, at] for (m, at), label in best.items() if at == level}
    scores = {m: {s: _score(row, "test") for s, row in seeds.items()} for m, seeds in of.items()}
    order = sorted(scores, key=lambda m: -summarise(list(scores[m].values())).mean)
    # each method against none, corrected over all methods: the test is symmetric
    against = compare(scores[BASELINE], {m: s for m, s in scores.items() if m != BASELINE})
    lines = [
        "| method | strength | seeds | test AUROC | minus none, 95 % interval | corrected p | "
        "best epoch | selected then | seconds |",
        "|-|-|-|-|-|-|-|-|-|",
    ]
    for method in order:
        seeds, result = of[method], against.get(method)
        summary = summarise(list(scores[method].values()))
        difference = p = ""
        if result is not None:
            difference = f"{-result.difference:+.4f}"
            if result.interval:
                low, high = result.interval
                difference += f" ({-high:+.4f} to {-low:+.4f})"
            p = f"{result.p_holm:.3f}" if result.p_holm is not None else result.reason or ""
        selected = [
            row["curves"]["selected_now"][row["best_epoch"]]
            for row in seeds.values()
            if "selected_now" in row["curves"]
        ]
        spread = "" if summary.sd is None else f" ± {summary.sd:.4f}"
        lines.append(
            f"| {method} | {_strength(best[method, level])} | {summary.n} | "
            f"{summary.mean:.4f}{spread} | {difference} | {p} | "
            f"{np.mean([row['best_epoch'] + 1 for row in seeds.values()]):.0f} | "
            f"{f'{np.mean(selected):,.0f}' if selected else ''} | "
            f"{np.mean([row['seconds'] for row in seeds.values()]):.0f} |"
        )
    return "\n".join(lines)


def draw_comparison(rows: Sequence[Row], path: Path) -> None:
    """Draw each method's test AUROC at both levels: mean with its 95 % interval, and every seed."""
    found, best = groups(rows), chosen(rows)
    methods = list(dict.fromkeys(row["method"] for row in rows))[::-1]
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 0.5 + 0.36 * len(methods)), layout="constrained", sharey=True
    )
    for ax, level in zip(axes, LEVELS, strict=True):
        for place, method in enumerate(methods):
            values = [_score(r, "test") for r in found[best[method, level], level].values()]
            mean, bounds = float(np.mean(values)), interval(values)
            colour = COLOURS[1] if "itps" in method else COLOURS[0]
            ax.plot(values, [place] * len(values), "o", color=colour, alpha=0.3, markersize=4)
            error = [[mean - bounds[0]], [bounds[1] - mean]] if bounds else None
            ax.errorbar(mean, place, xerr=error, fmt="|", color=colour, markersize=12, capsize=3)
        ax.axvline(TRUE_RISK, color="0.4", linestyle="dotted")
        ax.annotate(
            "true risk", (TRUE_RISK, -0.4), rotation=90, ha="right", va="bottom", color="0.4"
        )
        ax.set_yticks(range(len(methods)), [m.replace("_", " ") for m in methods])
        ax.set(xlabel="test AUROC", title=f"{100 * level:g} % of the training samples")
    figure.savefig(path, dpi=150)


def threshold_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: tau against scores and selected parameters, without stopping."""
    lines = [
        "| tau | seeds | test AUROC at the best epoch | best epoch | validation AUROC: best, last "
        "epoch | selected: best, last epoch |",
        "|-|-|-|-|-|-|",
    ]
    for (label, _), seeds in sorted(groups(rows).items()):
        runs = list(seeds.values())
        test = summarise([_score(row, "test") for row in runs])
        curves = [row["curves"] for row in runs]
        best = [row["best_epoch"] for row in runs]
        at = [np.mean([c["validation"][b] for c, b in zip(curves, best, strict=True)])]
        at.append(np.mean([c["validation"][-1] for c in curves]))
        now = [np.mean([c["selected_now"][b] for c, b in zip(curves, best, strict=True)])]
        now.append(np.mean([c["selected_now"][-1] for c in curves]))
        spread = "" if test.sd is None else f" ± {test.sd:.4f}"
        lines.append(
            f"| {_strength(label).removeprefix('tau=')} | {test.n} | {test.mean:.4f}{spread} | "
            f"{np.mean(best) + 1:.0f} | {at[0]:.4f}, {at[1]:.4f} | {now[0]:,.0f}, {now[1]:,.0f} |"
        )
    return "\n".join(lines)


def draw_thresholds(rows: Sequence[Row], path: Path) -> None:
    """Draw validation AUROC and selected parameters against epochs, one line a threshold."""
    figure, (scores, counts) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for colour, ((label, _), seeds) in zip(COLOURS, sorted(groups(rows).items()), strict=False):
        for ax, curve in ((scores, "validation"), (counts, "selected_now")):
            found = [row["curves"][curve] for row in seeds.values()]
            length = min(map(len, found))
            mean = np.mean([values[:length] for values in found], axis=0)
            ax.plot(np.arange(1, length + 1), mean, color=colour, label=_strength(label))
    scores.set(xlabel="epoch", ylabel="validation AUROC")
    counts.set(xlabel="epoch", ylabel="parameters selected", yscale="log")
    scores.legend(frameon=False)
    figure.savefig(path, dpi=150)


def draw_gradients(rows: Sequence[Row], path: Path) -> None:
    """Draw the norms of the raw gradient and of the applied one against steps, mean over seeds."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharex=True)
    for colour, ((label, _), seeds) in zip(COLOURS, sorted(groups(rows).items()), strict=False):
        found = [np.array(row["gradients"]) for row in seeds.values()]
        length = min(map(len, found))
        steps, *norms = np.mean([values[:length] for values in found], axis=0).T
        for ax, norm in zip(axes, norms, strict=True):
            ax.plot(steps, norm, color=colour, label=label)
    axes[0].set(xlabel="step", ylabel="norm of the raw gradient")
    axes[1].set(xlabel="step", ylabel="norm of the gradient that is applied")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Print and draw what there are rows for."""
    rows = read_rows(ROWS)
    stopped = [row for row in rows if stops(row)]
    free = [row for row in rows if not stops(row)]
    print(f"{len(stopped)} runs with early stopping, {len(free)} without", file=sys.stderr)
    if stopped:
        print(f"Validation AUROC of seed 0\n\n{strengths(stopped)}")
        for level in LEVELS:
            print(f"\n{100 * level:g} % of the training samples\n\n{comparison(stopped, level)}")
        draw_comparison(stopped, RESULTS / "simulated_mortality.png")
    thresholds = [row for row in free if "tau" in row["label"]]
    if thresholds:
        print(f"\nThresholds\n\n{threshold_table(thresholds)}")
        draw_thresholds(thresholds, RESULTS / "simulated_thresholds.png")
    gradients = [row for row in free if row["label"] in (BASELINE, "itps (tau=0.15)")]
    if {row["label"] for row in gradients} > {BASELINE}:
        draw_gradients(gradients, RESULTS / "simulated_gradients.png")


if __name__ == "__main__":
    main()
