"""Tables and comparisons as data frames: a row for each cell or comparison."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import polars as pl

from mimic_reg.report.evidence import Weighed
from mimic_reg.report.tables import Cell, ScoreTable
from mimic_reg.report.verdicts import Compared, comparisons

_TEXT = ("task", "model", "score", "split", "method", "baseline", "reason", "conclusion")
_COUNT = ("num_samples", "n", "undefined")
_YES_NO = ("better", "significant")
_KEYS = ("task", "model", "score", "split")
_SIZE = ("supervision", "num_samples")
_TESTS = ("effect", "t", "p", "p_holm", "wilcoxon", "wilcoxon_holm")
_SCORES = (
    *(*_KEYS, "method", *_SIZE, "n", "mean", "sd", "undefined", "reason"),
    *("paper", "paper_sd", "minus_paper", "minus_paper_low", "minus_paper_high"),
)
_COMPARISONS = (
    *(*_KEYS, *_SIZE, "method", "baseline", "n", "difference", "low", "high", *_TESTS),
    *("better", "significant", "reason"),
)
_OVER_SUBJECTS = ("subjects_low", "subjects_high", "both_low", "both_high", "delong", "delong_holm")


def scores_frame(tables: Iterable[ScoreTable]) -> pl.DataFrame:
    """Return a row for each cell: method, n, mean, sd, undefined scores and the paper's score.

    sd is null for n = 1, mean if every score is undefined; `undefined` counts undefined scores.
    """
    rows = [
        {**_keys(table), "method": method, **asdict(level), **_scores(cell)}
        for table in tables
        for method in table.methods
        for level in table.levels
        if (cell := table.cells.get((method, level)))
    ]
    return _frame(rows, _SCORES)


def _scores(cell: Cell) -> dict[str, Any]:
    difference, bounds = cell.minus_paper or (None, None)
    low, high = bounds or (None, None)
    return {
        "n": cell.summary.n,
        "mean": cell.summary.mean if cell.scores else None,
        "sd": cell.summary.sd,
        "undefined": len(cell.undefined),
        "reason": "; ".join(dict.fromkeys(cell.undefined.values())) or None,
        "paper": cell.paper.value if cell.paper else None,
        "paper_sd": cell.paper.sd if cell.paper else None,
        "minus_paper": difference,
        "minus_paper_low": low,
        "minus_paper_high": high,
    }


def comparisons_frame(tables: Iterable[ScoreTable]) -> pl.DataFrame:
    """Return a row for each comparison: methods, n pairs, difference, interval, effect and p."""
    rows = [_comparison(table, c) for table in tables for c in comparisons(table)]
    return _frame(rows, _COMPARISONS)


def evidence_frame(weighed: Iterable[Weighed]) -> pl.DataFrame:
    """Return the rows of `comparisons_frame` with what is known over subjects and over both."""
    rows = []
    for found in weighed:
        for e in found.evidence:
            subjects = (None, None) if isinstance(e.subjects, str) else e.subjects
            both = e.both.bounds if e.both else (None, None)
            values = (*subjects, *both, e.delong, e.delong_holm)
            added = dict(zip(_OVER_SUBJECTS, values, strict=True))
            row = _comparison(found.table, e.compared)
            rows.append({**row, **added, "conclusion": e.sentence})
    return _frame(rows, (*_COMPARISONS, *_OVER_SUBJECTS, "conclusion"))


def _keys(table: ScoreTable) -> dict[str, str]:
    return {key: getattr(table, key) for key in _KEYS}


def _comparison(table: ScoreTable, c: Compared) -> dict[str, Any]:
    low, high = c.result.interval or (None, None)
    return {
        **_keys(table),
        **asdict(c.supervision),
        "method": c.method,
        "baseline": c.baseline,
        "n": c.result.n,
        "difference": c.result.difference if c.result.n else None,
        "low": low,
        "high": high,
        **{name: getattr(c.result, name) for name in _TESTS},
        "better": c.better,
        "significant": c.result.significant,
        "reason": c.result.reason,
    }


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pl.DataFrame:
    """Return the rows as a frame whose types do not depend on their values."""
    types: dict[str, Any] = dict.fromkeys(_TEXT, pl.String) | dict.fromkeys(_COUNT, pl.Int64)
    types |= dict.fromkeys(_YES_NO, pl.Boolean)
    return pl.DataFrame(rows, {name: types.get(name, pl.Float64) for name in columns})
