"""The paper's claims, each with a verdict from finished runs; docs/claims.md has the rules."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mimic_reg.report.claims import recorded, scores
from mimic_reg.report.claims.base import Comparison, Line, Rule, claims, decide
from mimic_reg.report.formats import format_p
from mimic_reg.report.results import Results

__all__ = ["COLUMNS", "Comparison", "Line", "as_plain", "as_rows", "in_words", "judge", "shortened"]

_RULES: tuple[Rule, ...] = (
    scores.itps_beats_all,
    scores.itps_spectral_best,
    scores.gain_at_low_data,
    scores.guided_spectral_next,
    scores.variational_middle,
    scores.reptile,
    recorded.selection_grows_with_data,
    recorded.threshold,
    recorded.selection_settles,
    recorded.hessian,
    recorded.gradient_norm,
    recorded.little_movement,
    recorded.memory,
)

COLUMNS = (
    "claim",
    "verdict",
    "comparison",
    "n",
    "effect",
    "95 % interval",
    "p (Holm)",
    "runs",
    "why",
)


def judge(results: Results) -> list[Line]:
    """Return every claim of the paper with its verdict, in the paper's order."""
    lines = [decide(rule.__name__, rule, results) for rule in _RULES]
    assert [line.name for line in lines] == list(claims()), "a rule a claim"
    return lines


def as_rows(lines: Sequence[Line]) -> list[list[str]]:
    """Return the texts of `COLUMNS`, a row for each claim."""
    return [
        [
            f"{line.claim} ({line.where})",
            line.verdict,
            *_numbers(line.shown),
            str(len(line.runs)),
            line.why,
        ]
        for line in lines
    ]


def _numbers(shown: Comparison | None) -> list[str]:
    if shown is None:
        return ["-"] * 5
    p = format_p(shown.p, sign=False)
    if shown.outcome == "against" and shown.p_short is not None:
        short = format_p(shown.p_short, sign=False)
        p += f"; below the paper's {_signed(shown.margin)}: {short}" * (shown.margin > 0)
    bounds = "-" if shown.interval is None else " to ".join(map(_signed, shown.interval))
    return [shown.what, str(shown.n), _signed(shown.difference), bounds, p]


def _signed(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.4f}"


def in_words(shown: Comparison) -> str:
    """Return a comparison in one line."""
    what, n, effect, bounds, p = _numbers(shown)
    tested = f"corrected p = {p}".replace("= <", "<") if p != "-" else f"no test: {shown.reason}"
    interval = "" if bounds == "-" else f"95 % {bounds}, "
    return f"{what}: {effect} ({interval}n = {n}, {tested})"


def shortened(names: Sequence[str], most: int = 4) -> str:
    """Return names of runs, and a count of those beyond `most`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def as_plain(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return claims with all their comparisons and runs, as JSON has them."""
    return [
        {
            "claim": line.name,
            "text": line.claim,
            "where": line.where,
            "verdict": line.verdict,
            "why": line.why,
            "other_data": line.data or None,
            "shown": line.comparisons.index(line.shown) if line.shown else None,
            "comparisons": [{**asdict(c), "outcome": c.outcome} for c in line.comparisons],
        }
        for line in lines
    ]
