"""Tables of results: methods by supervision levels, paired tests, who wins, the paper's figures.

A cell is the mean over seeds ± the standard deviation (ddof 1), with n. The tests are those of
`compare`: paired by seed, two-sided, Holm-corrected over what a method is compared with at one
level; nothing is corrected across levels or tables.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import polars as pl
import yaml

from mimic_reg.evaluation.compare import (
    Comparison,
    Summary,
    compare,
    compare_best,
    summarise,
    winner,
)
from mimic_reg.evaluation.results import (
    BASELINE,
    Results,
    TrialResult,
    find_stores,
    method_order,
)
from mimic_reg.evaluation.scores import LOWER_IS_BETTER

NOT_AT_HAND = "not at hand"
_HOURS = frozenset({"mean_absolute_deviation", "root_mean_squared_error"})
_SCORE_NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "macro_auroc": "macro AUROC",
    "macro_auprc": "macro AUPRC",
    "micro_auroc": "micro AUROC",
    "micro_auprc": "micro AUPRC",
    "brier": "Brier score",
}


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper that our specification quotes.

    sd:   what follows its plus-minus
    data: what the model was trained on
    """

    value: float
    sd: float | None
    quoted: str
    data: str


@dataclass(frozen=True)
class Cell:
    """The trials of one method at one supervision level.

    scores:    seed → score, where it is defined
    undefined: seed → why it is not
    paper:     the paper's figure, if it is at hand
    """

    scores: Mapping[int, float]
    undefined: Mapping[int, str]
    paper: PaperFigure | None = None

    @property
    def summary(self) -> Summary:
        """Mean, standard deviation and number of the defined scores."""
        return summarise(list(self.scores.values()))


@dataclass(frozen=True)
class Compared:
    """A method against a baseline at a level.

    better: whether `result.difference` is in the method's favour, whichever way the score goes
    """

    supervision: float
    method: str
    baseline: str
    result: Comparison
    better: bool


@dataclass(frozen=True)
class Verdict:
    """What can be said of one level, in a sentence.

    best:   the method with the best mean; None where no score is defined
    winner: the same method, if the test tells it apart from every other one; else None
    """

    supervision: float
    best: str | None
    winner: str | None
    sentence: str


@dataclass(frozen=True)
class ScoreTable:
    """One score of one task and model: rows are methods, columns supervision levels.

    focus: the methods with ITPS, or trained trunks; the others are the baselines
    cells: (method, level) → its trials; absent where there is none
    """

    task: str
    model: str
    score: str
    split: str
    methods: tuple[str, ...]
    focus: tuple[str, ...]
    levels: tuple[float, ...]
    cells: Mapping[tuple[str, float], Cell]

    @property
    def lower_is_better(self) -> bool:
        """Whether the score is an error."""
        return self.score in LOWER_IS_BETTER

    @property
    def has_paper(self) -> bool:
        """Whether any of the paper's figures stands beside ours."""
        return any(cell.paper for cell in self.cells.values())

    def by_seed(self, level: float) -> dict[str, Mapping[int, float]]:
        """Method → seed → score at a level, for the methods with any defined score."""
        cells = {m: self.cells.get((m, level)) for m in self.methods}
        return {m: cell.scores for m, cell in cells.items() if cell and cell.scores}


def score_table(
    results: Results, task: str, model: str, score: str, split: str = "test"
) -> ScoreTable:
    """The table of a score; trials that do not have it are left out."""
    trials = [t for t in results.of(task, model) if score in t.scores.get(split, {})]
    groups: dict[tuple[str, float], list[TrialResult]] = {}
    for trial in trials:
        groups.setdefault((trial.method, trial.supervision), []).append(trial)
    methods = method_order(trials)
    focused = {t.method for t in trials if t.in_focus}
    data = _dataset(trials)
    return ScoreTable(
        task=task,
        model=model,
        score=score,
        split=split,
        methods=tuple(methods),
        focus=tuple(m for m in methods if m in focused),
        levels=tuple(sorted({t.supervision for t in trials})),
        cells={key: _cell(members, score, split, data) for key, members in groups.items()},
    )


def score_tables(results: Results, split: str = "test") -> list[ScoreTable]:
    """A table for every task, model and score; the score that selects checkpoints comes first."""
    tables = []
    for task, model in results.settings():
        trials = results.of(task, model)
        selecting = [t.selected_by for t in trials]
        others = [name for t in trials for name in t.scores.get(split, {})]
        for score in dict.fromkeys(selecting + others):
            table = score_table(results, task, model, score, split)
            if table.cells:
                tables.append(table)
    return tables


def main_tables(results: Results, split: str = "test") -> list[ScoreTable]:
    """The tables of the scores that select checkpoints: one for every task and model."""
    return [
        score_table(results, task, model, results.of(task, model)[0].selected_by, split)
        for task, model in results.settings()
    ]


def _dataset(trials: Sequence[TrialResult]) -> str | None:
    """What images were trained on; None where their store is gone, or of patients."""
    names = (s.manifest.get("dataset") for s in find_stores(Results(tuple(trials))))
    return next((str(name) for name in names if name), None)


def _cell(trials: Sequence[TrialResult], score: str, split: str, data: str | None) -> Cell:
    scores, undefined = {}, {}
    for trial in trials:
        found = trial.scores[split][score]
        if found.value is None:
            undefined[trial.seed] = found.reason or "no reason was recorded"
        else:
            scores[trial.seed] = found.value
    paper = paper_figure(trials[0], score, data) if split == "test" else None
    return Cell(scores, undefined, paper)


# --- the paper ------------------------------------------------------------------------------------


@cache
def paper() -> dict[str, Any]:
    """The figures of the paper that are at hand (`resources/paper.yaml`)."""
    resource = files("mimic_reg.evaluation") / "resources" / "paper.yaml"
    loaded: dict[str, Any] = yaml.safe_load(resource.read_text("utf-8"))
    return loaded


def paper_figure(trial: TrialResult, score: str, data: str | None = None) -> PaperFigure | None:
    """The paper's test score of this trial's task, model, method and level, if it is at hand.

    data: the images, if they are known: a figure of other ones is left out
    """
    (model,) = trial.settings["model"]
    wanted = {
        "task": trial.task,
        "model": model,
        "score": score,
        "method": f"{trial.strategy}: " * bool(trial.strategy) + " + ".join(trial.regularisers),
        "supervision": trial.supervision,
    }
    for figure in paper()["figures"]:
        other_data = data is not None and data != figure["data"].lower().replace("-", "_")
        if wanted.items() <= figure.items() and not other_data:
            return PaperFigure(figure["value"], figure["sd"], figure["quoted"], figure["data"])
    return None


# --- tests ----------------------------------------------------------------------------------------


def comparisons(table: ScoreTable) -> list[Compared]:
    """Every method against every baseline but itself, at every level; methods in focus first.

    Holm's correction is over the baselines of one method at one level. Without a method in focus
    all methods are baselines of each other.
    """
    ordered = [*table.focus, *(m for m in table.methods if m not in table.focus)]
    return [
        compared
        for level in table.levels
        for method in ordered
        for compared in _against_baselines(table, method, level)
    ]


def _against_baselines(table: ScoreTable, method: str, level: float) -> list[Compared]:
    scores = table.by_seed(level)
    if method not in scores:
        return []
    baselines = {m: s for m, s in scores.items() if m not in table.focus and m != method}
    sign = -1 if table.lower_is_better else 1
    return [
        Compared(level, method, baseline, result, sign * result.difference > 0)
        for baseline, result in compare(scores[method], baselines).items()
    ]


def verdicts(table: ScoreTable) -> list[Verdict]:
    """Who wins at every level, and whether the test says so."""
    return [_verdict(table, level) for level in table.levels]


def _verdict(table: ScoreTable, level: float) -> Verdict:
    sign = -1 if table.lower_is_better else 1
    signed = {
        method: {seed: sign * value for seed, value in scores.items()}
        for method, scores in table.by_seed(level).items()
    }
    at = f"At {format_supervision(level)}"
    name = _SCORE_NAMES.get(table.score, table.score.replace("_", " "))
    if not signed:
        return Verdict(level, None, None, f"{at}: {name} is undefined for every method.")
    best = max(signed, key=lambda m: summarise(list(signed[m].values())).mean)
    mean = format_score(table.cells[best, level].summary.mean, table.score)
    mean += " hours" * (table.score in _HOURS)
    n = f"n = {len(signed[best])}"
    found = f"({mean}, {n})"
    if len(signed) == 1:
        alone = not any((m, level) in table.cells for m in table.methods if m != best)
        who = f"{_quoted(best)} alone has run:" if alone else f"only {best} has a defined"
        text = f"{at}: {who} {name} {found}, so there is nothing to compare."
        return Verdict(level, best, None, text)
    mean_of = name if name.startswith("mean ") else f"mean {name}"
    if winner(signed) == best:
        others = {m: s for m, s in signed.items() if m != best}
        against = compare(signed[best], others).values()
        largest = max(c.p_holm for c in against if c.p_holm is not None)
        text = (
            f"{at}: {_quoted(best)} wins. Its {mean_of} is {mean} ({n}), and the paired test tells "
            f"it apart from every other method (corrected {format_p(largest)} at most)."
        )
        return Verdict(level, best, best, text)
    text = (
        f"{at}: no winner. {_quoted(best)} has the best {mean_of} {found}, but "
        f"{_against_others(compare_best(best, signed))}."
    )
    return Verdict(level, best, None, text)


_MOST_NAMED = 3  # methods that a sentence names; more are counted


def _against_others(against: Mapping[str, Comparison]) -> str:
    """What the tests of the best method say: whom it is told apart from, and whom not."""
    told = [m for m, c in against.items() if c.significant and c.difference > 0]
    untold = {m: c.p_holm for m, c in against.items() if m not in told and c.p_holm is not None}
    untested: dict[str, list[str]] = {}
    for name, result in against.items():
        if result.p_holm is None:
            untested.setdefault(result.reason or "no reason was recorded", []).append(name)
    parts = []
    if untold:
        who = _not_told_apart(untold, len(against))
        parts.append(f"the paired test does not tell it apart from {who}")
    for reason, names in untested.items():
        parts.append(f"there is no paired test against {_who(names, len(against))} ({reason})")
    if told:
        rest = len(told) > _MOST_NAMED and len(against) - len(told) <= _MOST_NAMED
        parts.append(f"it is better than {'every other one' if rest else _names(told)}")
    return "; ".join(parts)


def _not_told_apart(p_values: Mapping[str, float], total: int) -> str:
    """Methods with their p values; where there are many, how many and the smallest p."""
    by_p: dict[str, list[str]] = {}
    for name, p in p_values.items():
        by_p.setdefault(f"(corrected {format_p(p)})", []).append(name)
    if len(by_p) == 1:
        ((p_text, names),) = by_p.items()
        return f"{_who(names, total)} {p_text}"
    if len(p_values) <= _MOST_NAMED:
        return "; ".join(f"{_names(names)} {p_text}" for p_text, names in by_p.items())
    who = _who(list(p_values), total)
    return f"{who} (corrected {format_p(min(p_values.values()))} or more)"


def _who(names: Sequence[str], total: int) -> str:
    """Some of the `total` other methods, by name if they are few."""
    if len(names) == total > 1:
        return "any other"
    return _names(names) if len(names) <= _MOST_NAMED else f"{len(names)} of the {total} others"


def _names(methods: Sequence[str]) -> str:
    return ", ".join(map(_quoted, methods))


def _quoted(method: str) -> str:
    """A method's name within a sentence, where "none" would be read as no method."""
    return f"“{method}”" if method == BASELINE else method


# --- frames ---------------------------------------------------------------------------------------


def scores_frame(tables: Iterable[ScoreTable]) -> pl.DataFrame:
    """A row a cell: task, model, score, split, method, supervision, n, mean, sd, undefined, paper.

    sd is null for n = 1, mean also where every score is undefined; `undefined` counts those.
    """
    rows = [
        {
            **_keys(table),
            "method": method,
            "supervision": level,
            "n": cell.summary.n,
            "mean": cell.summary.mean if cell.scores else None,
            "sd": cell.summary.sd,
            "undefined": len(cell.undefined),
            "reason": "; ".join(dict.fromkeys(cell.undefined.values())) or None,
            "paper": cell.paper.value if cell.paper else None,
            "paper_sd": cell.paper.sd if cell.paper else None,
        }
        for table in tables
        for method in table.methods
        for level in table.levels
        if (cell := table.cells.get((method, level)))
    ]
    return pl.DataFrame(rows, schema=_SCORES)


def comparisons_frame(tables: Iterable[ScoreTable]) -> pl.DataFrame:
    """A row a comparison: who, n pairs, difference and its interval, effect, t, p, p_holm."""
    rows = [
        {
            **_keys(table),
            "supervision": c.supervision,
            "method": c.method,
            "baseline": c.baseline,
            "n": c.result.n,
            "difference": c.result.difference if c.result.n else None,
            "low": c.result.interval[0] if c.result.interval else None,
            "high": c.result.interval[1] if c.result.interval else None,
            "effect": c.result.effect,
            "t": c.result.t,
            "p": c.result.p,
            "p_holm": c.result.p_holm,
            "better": c.better,
            "significant": c.result.significant,
            "reason": c.result.reason,
        }
        for table in tables
        for c in comparisons(table)
    ]
    return pl.DataFrame(rows, schema=_COMPARISONS)


def _keys(table: ScoreTable) -> dict[str, str]:
    return {"task": table.task, "model": table.model, "score": table.score, "split": table.split}


_KEYS = dict.fromkeys(("task", "model", "score", "split"), pl.String())
_NUMBER, _COUNT, _TEXT = pl.Float64(), pl.Int64(), pl.String()
_SCORES = pl.Schema(
    {
        **_KEYS,
        "method": _TEXT,
        "supervision": _NUMBER,
        "n": _COUNT,
        "mean": _NUMBER,
        "sd": _NUMBER,
        "undefined": _COUNT,
        "reason": _TEXT,
        "paper": _NUMBER,
        "paper_sd": _NUMBER,
    }
)
_COMPARISONS = pl.Schema(
    {
        **_KEYS,
        "supervision": _NUMBER,
        "method": _TEXT,
        "baseline": _TEXT,
        "n": _COUNT,
        **dict.fromkeys(("difference", "low", "high", "effect", "t", "p", "p_holm"), _NUMBER),
        "better": pl.Boolean(),
        "significant": pl.Boolean(),
        "reason": _TEXT,
    }
)


# --- text -----------------------------------------------------------------------------------------


def to_markdown(results: Results, split: str = "test") -> str:
    """All that matters as Markdown, for a terminal or a tracker's note."""
    parts = []
    for table in main_tables(results, split):
        parts += [f"### {title(table)}", scores_markdown(table)]
        parts.append("\n".join(f"- {escape(v.sentence)}" for v in verdicts(table)))
        if table.focus and comparisons(table):
            parts += ["Paired tests", comparisons_markdown(table)]
    if results.unfinished:
        lines = [f"- {escape(u.name)}: {escape(u.why)}" for u in results.unfinished]
        parts += ["### Without a result", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def scores_markdown(table: ScoreTable) -> str:
    """The table with methods as rows and supervision levels as columns."""
    rows = []
    for method in table.methods:
        cells = [table.cells.get((method, level)) for level in table.levels]
        rows.append([method, *(format_cell(cell, table.score) for cell in cells)])
        if table.has_paper:
            rows.append(["(paper)", *(format_paper(cell, table.score) for cell in cells)])
    return _markdown(["method", *map(format_level, table.levels)], rows)


def comparisons_markdown(table: ScoreTable) -> str:
    """The comparisons of the methods in focus; of all methods where none is."""
    rows = [
        [format_level(c.supervision), c.method, c.baseline, *format_comparison(c, table.score)]
        for c in comparisons(table)
        if c.method in table.focus or not table.focus
    ]
    return _markdown(["level", "method", "against", *COMPARISON_COLUMNS], rows, num_left=3)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], num_left: int = 1) -> str:
    """A table, padded for reading as text; `num_left` columns are aligned left."""
    lines = [[escape(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]
    rule = ["-" * w if i < num_left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [
            c.ljust(w) if i < num_left else c.rjust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def escape(text: str) -> str:
    """Text in which Markdown sees no table, tag or line."""
    text = text.replace("\n", " ").replace("|", "\\|")
    return re.sub(r"<(?=[\w/!?])", "&lt;", text)


COMPARISON_COLUMNS = ("n", "difference", "95 % interval", "effect d", "p", "p (Holm)", "verdict")


def format_comparison(compared: Compared, score: str) -> list[str]:
    """A comparison as the texts of `COMPARISON_COLUMNS`; "-" where there is no number."""
    result = compared.result
    decimals = _decimals(score)
    return [
        str(result.n),
        f"{result.difference:+.{decimals}f}" if result.n else "-",
        format_interval(result.interval, score) if result.interval else "-",
        f"{result.effect:+.2f}" if result.effect is not None else "-",
        *(_number_of(p) for p in (result.p, result.p_holm)),
        _conclusion(compared),
    ]


def format_interval(interval: tuple[float, float], score: str) -> str:
    """The bounds of a difference, with their signs."""
    return " to ".join(f"{bound:+.{_decimals(score)}f}" for bound in interval)


def _number_of(p: float | None) -> str:
    return "-" if p is None else format_p(p).removeprefix("p ").removeprefix("= ")


def _conclusion(compared: Compared) -> str:
    result = compared.result
    if result.p_holm is None:
        return f"no test: {result.reason}"
    if not result.significant:
        return "not told apart"
    return "better" if compared.better else "worse"


def title(table: ScoreTable) -> str:
    """What a table is about."""
    return (
        f"{format_task(table.task)}, {table.model}: {table.split} {format_score_name(table.score)}"
    )


def format_task(task: str) -> str:
    """A task's name in words."""
    text = task.replace("in_hospital", "in-hospital").replace("_", " ")
    return text[:1].upper() + text[1:]


def format_score_name(score: str) -> str:
    """A score's name in words, with its unit if it has one."""
    text = _SCORE_NAMES.get(score, score.replace("_", " "))
    return f"{text} (hours)" if score in _HOURS else text


def format_level(level: float) -> str:
    """A supervision level in percent; above 1 it is a number of samples."""
    return f"{100 * level:g} %" if level <= 1 else f"{level:,.0f} samples"


def format_supervision(level: float) -> str:
    """A supervision level within a sentence."""
    return format_level(level) + (" supervision" if level <= 1 else "")


def format_p(p: float) -> str:
    """A p value with its sign of relation."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def format_score(value: float, score: str) -> str:
    """A score with as many decimals as tables give it."""
    return f"{value:.{_decimals(score)}f}"


def format_cell(cell: Cell | None, score: str) -> str:
    """Mean ± sd (n), and what is undefined with the reason."""
    if cell is None:
        return "not run"
    reasons = "; ".join(dict.fromkeys(cell.undefined.values()))
    if not cell.scores:
        return f"undefined: {reasons}"
    summary = cell.summary
    mean = format_score(summary.mean, score)
    spread = f" ± {format_score(summary.sd, score)}" if summary.sd is not None else ""
    notes = [f"n = {summary.n}"]
    if summary.sd is None:
        notes.append("no sd")
    if cell.undefined:
        notes.append(f"{len(cell.undefined)} undefined: {reasons}")
    return f"{mean}{spread} ({', '.join(notes)})"


def format_paper(cell: Cell | None, score: str) -> str:
    """The paper's figure of a cell."""
    if cell is None or cell.paper is None:
        return NOT_AT_HAND
    spread = f" ± {format_score(cell.paper.sd, score)}" if cell.paper.sd is not None else ""
    return f"{format_score(cell.paper.value, score)}{spread}"


def _decimals(score: str) -> int:
    return 2 if score in _HOURS else 4
