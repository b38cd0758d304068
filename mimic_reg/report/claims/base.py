"""What all claims share: which runs count, and how comparisons and claims are decided.

The rules and numbers are those of docs/claims.md.
"""

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from mimic_reg.metrics.comparison import LEVEL, MIN_PAIRS, corrected, paired, summarise
from mimic_reg.metrics.folds import Repeat
from mimic_reg.metrics.scores import metric
from mimic_reg.report.formats import format_level
from mimic_reg.report.paper import (
    PaperScore,
    other_data,
    other_settings,
    paper,
    published,
    row_of,
    sizes_of,
)
from mimic_reg.report.results import Results, TrialResult
from mimic_reg.settings import STOPPING, WHOLE, TrainingSize

Outcome = Literal["for", "against", "open"]
Verdict = Literal["reproduces", "does not reproduce", "cannot be tested here"]
BySeed = Mapping[Repeat, float]


@dataclass(frozen=True)
class Comparison:
    """One difference over seeds, in the direction of its claim.

    what:   what is compared, and where
    n:      seeds; difference: their mean; interval: its 95 % interval, not corrected
    margin: the least that the claim needs, from the paper's own table
    p:      against 0, Holm-corrected over the claim; None without a test, see `reason`
    p_short: against the margin, with the same correction
    runs:   names of the run folders behind it
    """

    what: str
    n: int
    difference: float
    interval: tuple[float, float] | None
    margin: float
    p: float | None
    p_short: float | None
    reason: str | None
    runs: tuple[str, ...]

    @property
    def outcome(self) -> Outcome:
        """Return whether it is for the claim, against it, or open."""
        if self.p is not None and self.p < LEVEL and self.difference > 0:
            return "for"
        short = self.p_short is not None and self.p_short < LEVEL
        return "against" if short and self.difference < self.margin else "open"


@dataclass(frozen=True)
class Measured:
    """Values by seed that the rule of a claim takes from runs, before the test.

    baseline: None if the values of `method` are differences already
    """

    what: str
    method: BySeed
    baseline: BySeed | None
    runs: tuple[str, ...]
    margin: float = 0.0


@dataclass
class Found:
    """What the runs contain for a claim.

    parts:   comparisons that are possible, on one kind of data
    missing: sentences on what is missing for the verdict "reproduces"
    covered: how much of the claim the runs cover
    """

    parts: list[Measured] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    covered: str = ""


@dataclass(frozen=True)
class Line:
    """A claim with its verdict.

    data:  "" for the paper's data, else how the data differs
    shown: the comparison that decides; None if there is none
    """

    name: str
    claim: str
    where: str
    verdict: Verdict
    why: str
    data: str
    comparisons: tuple[Comparison, ...]
    shown: Comparison | None

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the names of all run folders behind it."""
        return tuple(dict.fromkeys(name for c in self.comparisons for name in c.runs))


@cache
def claims() -> dict[str, dict[str, Any]]:
    """Return the claims of the paper (`resources/claims.yaml`)."""
    resource = files("mimic_reg.report") / "resources" / "claims.yaml"
    return yaml.safe_load(resource.read_text("utf-8"))


# --- the runs that count --------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """The runs of one table, model and training size, on one kind of data.

    other:   how the data differs from the paper's; "" if it does not
    by_row:  row of the table → its runs of one variant, see `variant`
    paper:   row → the paper's score
    """

    table: str
    task: str
    model: str
    level: TrainingSize
    score: str
    other: str
    by_row: Mapping[str, Sequence[TrialResult]]
    paper: Mapping[str, PaperScore]

    def scores(self, row: str) -> dict[Repeat, float]:
        """Return seed → test score of a row, if defined; larger is better."""
        sign = -1 if metric(self.score).lower_is_better else 1
        found = {t.repeat: t.scores["test"].get(self.score) for t in self.by_row.get(row, ())}
        return {
            s: sign * v.value for s, v in found.items() if v is not None and v.value is not None
        }

    def compare(self, row: str, baseline: str) -> Measured:
        """Return a row compared with another, with the paper's margin."""
        ours, theirs = self.paper[row], self.paper[baseline]
        margin = 0.0 if ours.remark or theirs.remark else max(0.0, ours.value - theirs.value)
        return Measured(
            f"{self.where}: {row} minus {baseline}",
            self.scores(row),
            self.scores(baseline),
            names((*self.by_row[row], *self.by_row[baseline])),
            margin,
        )

    @property
    def where(self) -> str:
        """Return the column in words."""
        of = f" {self.model}" if self.table in ("III", "IV") else ""
        of += f" {self.task}" if self.table == "XV" else ""
        size = format_level(self.level).replace("samples", "images")
        return f"table {self.table}{of}, {size}"


def names(trials: Iterable[TrialResult]) -> tuple[str, ...]:
    """Return the names of run folders without duplicates."""
    return tuple(dict.fromkeys(t.name for t in trials))


def usable(
    results: Results, task: str, model: str, data: str, rows: Container[str | None]
) -> tuple[dict[str, list[TrialResult]], Counter[str]]:
    """Return runs with the paper's settings, by how their data differs; and why others are out."""
    kept: dict[str, list[TrialResult]] = {}
    left_out: Counter[str] = Counter()
    for trial in results.trials:
        (own,) = trial.settings["model"]
        if (trial.task, own) != (task, model) or row_of(trial) not in rows:
            continue
        other = other_data(trial, data)
        free = {"training.normalizer"} if other else set()
        differing = [
            d.text for d in other_settings(trial, data) if not d.strength and d.option not in free
        ]
        if differing:
            left_out[differing[0]] += 1
        else:
            kept.setdefault(other or "", []).append(trial)
    return kept, left_out


def stopped(trial: TrialResult) -> bool:
    """Return whether a run had early stopping."""
    return any(STOPPING in entry for entry in trial.settings["regularisers"])


def variant(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Return the runs of the best variant, from runs of one method and training size.

    The best variant has the best mean validation score, among those with at least three seeds if
    there are any. Of equal ones, it is the first.
    """
    variants: dict[str, list[TrialResult]] = {}
    for trial in trials:
        settings = {k: v for k, v in trial.settings.items() if k not in _NO_VARIANT}
        variants.setdefault(json.dumps(settings, sort_keys=True), []).append(trial)
    enough = [found for found in variants.values() if len(found) >= MIN_PAIRS]
    return max(enough or variants.values(), key=_validation, default=[])


_NO_VARIANT = ("seed", "fold", "supervision", "num_samples", "together")


def _validation(trials: Sequence[TrialResult]) -> float:
    name = trials[0].selected_by
    sign = -1 if metric(name).lower_is_better else 1
    found = [t.scores.get("validation", {}).get(name) for t in trials]
    values = [sign * s.value for s in found if s is not None and s.value is not None]
    return summarise(values).mean if values else float("-inf")


def columns(results: Results, tables: Iterable[str]) -> tuple[list[Column], Counter[str]]:
    """Return the columns of some tables that have runs; and why other runs are left out."""
    found, left_out = [], Counter[str]()
    for table in tables:
        content = paper()["tables"][table]
        for part in content["parts"]:
            task, model = part["task"], part["model"]
            kept, others = usable(results, task, model, content["data"], part["scores"])
            left_out |= others
            for level in sizes_of(part):
                rows = {
                    p.method: p
                    for p in published()
                    if (p.table, p.task, p.model, p.level) == (table, task, model, level)
                }
                for other, trials in kept.items():
                    here = [t for t in trials if t.supervision == level and stopped(t)]
                    by_row = {r: variant([t for t in here if row_of(t) == r]) for r in rows}
                    by_row = {row: chosen for row, chosen in by_row.items() if chosen}
                    if by_row:
                        score = part["score"]
                        found.append(Column(table, task, model, level, score, other, by_row, rows))
    return found, left_out


def rows_at(
    trials: Iterable[TrialResult],
    row: str,
    *,
    level: TrainingSize = WHOLE,
    tau: float | None = None,
    stopping: bool | None = None,
) -> list[TrialResult]:
    """Return the runs of a method's best variant at a training size; of ITPS with this tau."""
    return variant(
        [
            t
            for t in trials
            if row_of(t) == row
            and t.supervision == level
            and stopping in (None, stopped(t))
            and (tau is None or _tau(t) == tau)
        ]
    )


def _tau(trial: TrialResult) -> Any:
    return next((e["itps"].get("tau") for e in trial.settings["regularisers"] if "itps" in e), None)


# --- the decision ---------------------------------------------------------------------------------

Rule = Callable[[Results], tuple[dict[str, Found], Counter[str]]]


def decide(name: str, rule: Rule, results: Results) -> Line:
    """Return the verdict on a claim."""
    by_data, left_out = rule(results)
    other = "" if "" in by_data else max(by_data, key=lambda k: len(by_data[k].parts), default="")
    found = by_data.get(other, Found())
    comparisons = tested(found.parts)
    verdict, why = _verdict(comparisons, found)
    if not comparisons:
        verdict, why = "cannot be tested here", _no_runs(name, left_out)
    elif other:
        why = f"other data: {other}. With these, the claim {_THERE[verdict]}: {why}"
        verdict = "cannot be tested here"
    facts = claims()[name]
    shown = _shown(verdict, comparisons)
    return Line(name, facts["claim"], facts["where"], verdict, f"{why}.", other, comparisons, shown)


_THERE: Mapping[Verdict, str] = {
    "reproduces": "would be reproduced",
    "does not reproduce": "would not be reproduced",
    "cannot be tested here": "is neither reproduced nor refuted",
}


def _no_runs(name: str, left_out: Mapping[str, int]) -> str:
    runs = claims()[name]["runs"]
    if not runs:
        return "runs do not record memory"
    why = f"no runs to compare; experiments that have them: {runs}"
    if left_out:
        others = "; ".join(f"{count} for {text}" for text, count in left_out.items())
        why += f". Left out for other settings: {others}"
    return why


def _verdict(comparisons: Sequence[Comparison], found: Found) -> tuple[Verdict, str]:
    outcomes = Counter(c.outcome for c in comparisons)
    text = f"{outcomes['for']} of {len(comparisons)} comparisons for it"
    text += f", {outcomes['against']} against it" if outcomes["against"] else ""
    text += f" ({found.covered})" if found.covered else ""
    if outcomes["against"]:
        return "does not reproduce", text
    if outcomes["for"] == len(comparisons) and not found.missing:
        return "reproduces", text
    reasons = list(found.missing)
    few = [c for c in comparisons if c.n < MIN_PAIRS]
    undecided = outcomes["open"] - len(few)
    if few:
        reasons.append(f"fewer than {MIN_PAIRS} seeds in {len(few)} comparisons")
    if undecided:
        reasons.append(f"the seeds leave {undecided} open")
    return "cannot be tested here", f"{text}; {'; '.join(reasons)}"


def _shown(verdict: Verdict, comparisons: Sequence[Comparison]) -> Comparison | None:
    """Return the weakest if the claim reproduces, the strongest against it, or the clearest."""
    if verdict == "reproduces":
        return max(comparisons, key=lambda c: c.p or 0.0, default=None)
    if against := [c for c in comparisons if c.outcome == "against"]:
        return min(against, key=lambda c: 1.0 if c.p_short is None else c.p_short)
    return min(comparisons, key=lambda c: 1.0 if c.p is None else c.p, default=None)


def tested(parts: Sequence[Measured]) -> tuple[Comparison, ...]:
    """Return the comparisons of a claim, corrected over all of them."""
    zero = corrected({str(i): _paired(part, 0.0) for i, part in enumerate(parts)}).values()
    short = corrected({str(i): _paired(part, part.margin) for i, part in enumerate(parts)}).values()
    return tuple(
        Comparison(
            *(part.what, c.n, c.difference, c.interval, part.margin, c.p_holm),
            *(against.p_holm, c.reason, part.runs),
        )
        for part, c, against in zip(parts, zero, short, strict=True)
        if c.n
    )


def _paired(part: Measured, margin: float) -> Any:
    baseline = dict.fromkeys(part.method, 0.0) if part.baseline is None else part.baseline
    return paired(part.method, {seed: value + margin for seed, value in baseline.items()})
