"""Tables and comparisons as data frames, a row a cell or a comparison."""

from collections.abc import Iterable
from dataclasses import asdict

import polars as pl

from mimic_reg.report.tables import Cell, ScoreTable
from mimic_reg.report.verdicts import comparisons


def scores_frame(tables: Iterable[ScoreTable]) -> pl.DataFrame:
    """A row a cell: whose it is, n, mean, sd, undefined scores, the paper's.

    sd is null for n = 1, mean also where every score is undefined; `undefined` counts those.
    """
    rows = [
        {
            **_keys(table),
            "method": method,
            **asdict(level),
            "n": cell.summary.n,
            "mean": cell.summary.mean if cell.scores else None,
            "sd": cell.summary.sd,
            "undefined": len(cell.undefined),
            "reason": "; ".join(dict.fromkeys(cell.undefined.values())) or None,
            "paper": cell.paper.value if cell.paper else None,
            "paper_sd": cell.paper.sd if cell.paper else None,
            **_minus_paper(cell),
        }
        for table in tables
        for method in table.methods
        for level in table.levels
        if (cell := table.cells.get((method, level)))
    ]
    return pl.DataFrame(rows, schema=_SCORES)


def _minus_paper(cell: Cell) -> dict[str, float | None]:
    difference, bounds = cell.minus_paper or (None, None)
    low, high = bounds or (None, None)
    return {"minus_paper": difference, "minus_paper_low": low, "minus_paper_high": high}


def comparisons_frame(tables: Iterable[ScoreTable]) -> pl.DataFrame:
    """A row a comparison: who, n pairs, difference and its interval, effect, t, p, p_holm."""
    rows = [
        {
            **_keys(table),
            **asdict(c.supervision),
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
        "num_samples": _COUNT,
        "n": _COUNT,
        "mean": _NUMBER,
        "sd": _NUMBER,
        "undefined": _COUNT,
        "reason": _TEXT,
        "paper": _NUMBER,
        "paper_sd": _NUMBER,
        **dict.fromkeys(("minus_paper", "minus_paper_low", "minus_paper_high"), _NUMBER),
    }
)

_COMPARISONS = pl.Schema(
    {
        **_KEYS,
        "supervision": _NUMBER,
        "num_samples": _COUNT,
        "method": _TEXT,
        "baseline": _TEXT,
        "n": _COUNT,
        **dict.fromkeys(("difference", "low", "high", "effect", "t", "p", "p_holm"), _NUMBER),
        "better": pl.Boolean(),
        "significant": pl.Boolean(),
        "reason": _TEXT,
    }
)
