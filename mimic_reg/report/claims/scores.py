"""Claims about test scores: rows of the paper's tables compared with each other (1 to 6)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mimic_reg.metrics.folds import Repeat
from mimic_reg.report.claims.base import Column, Found, Measured, columns, names
from mimic_reg.report.paper import published
from mimic_reg.report.results import Results

BOTH = "itps_spectral_dropout"
INPUT_PENALTIES = ("data_gradient", "jacobian", "l2")
SINGLE = ("dropout", "guided_dropout", *INPUT_PENALTIES, "spectral_dropout", "variational_lstm")
METHOD_TABLES = ("III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV")
FEWER_SAMPLES_TABLES = ("V", "VI", "VII", "IX", "X", "XII", "XIII")

_Found = tuple[dict[str, Found], Counter[str]]


def itps_beats_all(results: Results) -> _Found:
    """Compare ITPS with each other single method."""
    return _pairs(results, METHOD_TABLES, [("itps", other) for other in SINGLE])


def itps_spectral_best(results: Results) -> _Found:
    """Compare ITPS with spectral dropout with each other method."""
    return _pairs(results, METHOD_TABLES, [(BOTH, other) for other in (*SINGLE, "itps")])


def guided_spectral_next(results: Results) -> _Found:
    """Compare guided and spectral dropout with the others, and dropout with the penalties."""
    others = ("dropout", *INPUT_PENALTIES, "variational_lstm")
    pairs = [(best, other) for best in ("guided_dropout", "spectral_dropout") for other in others]
    return _pairs(results, METHOD_TABLES, pairs + [("dropout", o) for o in INPUT_PENALTIES])


def variational_middle(results: Results) -> _Found:
    """Compare the variational LSTM with the penalties."""
    pairs = [("variational_lstm", other) for other in INPUT_PENALTIES]
    return _pairs(results, ("IX", "X", "XI"), pairs)


def reptile(results: Results) -> _Found:
    """Compare ITPS-Reptile with Reptile."""
    return _pairs(results, ("XV",), [("itps_reptile", "reptile")])


def gain_at_low_data(results: Results) -> _Found:
    """Compare the gain of ITPS at the smallest training size with that at the largest."""
    found, left_out = columns(results, FEWER_SAMPLES_TABLES)
    by_data: dict[str, Found] = {}
    for other, here in _by_data(found).items():
        parts = []
        for table in FEWER_SAMPLES_TABLES:
            levels = sorted({p.level for p in published() if p.table == table})
            ends = {c.level: c for c in here if c.table == table}
            if {levels[0], levels[-1]} <= ends.keys():
                parts.append(_gain(ends[levels[0]], ends[levels[-1]]))
        if known := [part for part in parts if part is not None]:
            covered = f"{len(known)} of {len(FEWER_SAMPLES_TABLES)} tables"
            by_data[other] = Found(known, covered=covered)
    return by_data, left_out


def _gain(few: Column, many: Column) -> Measured | None:
    """Return gains by seed in both columns, over the single methods that both have."""
    others = [m for m in SINGLE if m in few.by_row and m in many.by_row]
    if not others or not all("itps" in column.by_row for column in (few, many)):
        return None
    ours = [_gains(column, others) for column in (few, many)]
    theirs = [
        column.paper["itps"].value - sum(column.paper[m].value for m in others) / len(others)
        for column in (few, many)
    ]
    doubtful = any(c.paper[m].remark for c in (few, many) for m in others)
    runs = [t for c in (few, many) for m in ("itps", *others) for t in c.by_row[m]]
    return Measured(
        f"{few.where} minus {many.where}: itps minus the mean of {len(others)} methods",
        ours[0],
        ours[1],
        names(runs),
        0.0 if doubtful else max(0.0, theirs[0] - theirs[1]),
    )


def _gains(column: Column, others: Sequence[str]) -> Mapping[Repeat, float]:
    scores = {m: column.scores(m) for m in ("itps", *others)}
    seeds = set.intersection(*(set(of_method) for of_method in scores.values()))
    return {s: scores["itps"][s] - sum(scores[m][s] for m in others) / len(others) for s in seeds}


def _pairs(results: Results, tables: Sequence[str], pairs: Iterable[tuple[str, str]]) -> _Found:
    """Return comparisons of rows in every column with runs of both, and the missing rows."""
    pairs = list(pairs)
    found, left_out = columns(results, tables)
    by_data: dict[str, Found] = {}
    for other, here in _by_data(found).items():
        of_data, missing, used = Found(), dict[str, None](), 0
        for column in here:
            if there := [pair for pair in pairs if {*pair} <= column.by_row.keys()]:
                used += 1
                of_data.parts += [column.compare(*pair) for pair in there]
                needed = (row for pair in pairs for row in pair if row in column.paper)
                missing |= {row: None for row in needed if row not in column.by_row}
        if missing:
            of_data.missing.append(f"missing in a column: {', '.join(missing)}")
        total = len({(p.table, p.task, p.model, p.level) for p in published() if p.table in tables})
        of_data.covered = f"{used} of {total} columns"
        if of_data.parts:
            by_data[other] = of_data
    return by_data, left_out


def _by_data(found: Iterable[Column]) -> dict[str, list[Column]]:
    by_data: dict[str, list[Column]] = {}
    for column in found:
        by_data.setdefault(column.other, []).append(column)
    return by_data
