"""Who was left out, step by step, as CONSORT asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimic_reg.metrics.small_counts import is_small

UNITS = ("stays", "admissions", "subjects")


@dataclass(frozen=True)
class Box:
    """A step: who is left, and who was left out before.

    step:    what is left, in words
    left:    unit → number; None: not shown
    reasons: why others were left out; out: their numbers
    """

    step: str
    left: Mapping[str, int | None]
    reasons: tuple[str, ...] = ()
    out: Mapping[str, int] | None = None


def boxes(steps: Sequence[Mapping[str, Any]], least: int) -> list[Box]:
    """Return the boxes of a flow; a step that leaves out few is joined with its neighbour.

    steps: step, and the number of each unit that is left after it
    """
    if not steps:
        return []
    units = [unit for unit in UNITS if all(unit in step for step in steps)]
    kept = [{unit: int(step[unit]) for unit in units} for step in steps]
    groups: list[list[int]] = []  # of steps that are told together
    for number in range(1, len(steps)):
        if groups and _few(kept, groups[-1], units, least):
            groups[-1].append(number)
        else:
            groups.append([number])
    while len(groups) > 1 and _few(kept, groups[-1], units, least):
        last = groups.pop()
        groups[-1] += last
    left_out = {u: kept[0][u] - kept[-1][u] for u in units}  # by all steps together
    first = {
        u: None if is_small(kept[0][u], least) or is_small(left_out[u], least) else kept[0][u]
        for u in units
    }
    found = [Box(str(steps[0]["step"]), first)]
    for group in groups:
        before, after = kept[group[0] - 1], kept[group[-1]]
        left = {u: None if is_small(after[u], least) else after[u] for u in units}
        out = {u: before[u] - after[u] for u in units}
        if any(is_small(n, least) for n in (*out.values(), *before.values(), *after.values())):
            out = {}
        reasons = tuple(str(steps[i]["step"]) for i in group)
        found.append(Box(reasons[-1], left, reasons, out))
    return found


def _few(
    kept: Sequence[Mapping[str, int]], group: Sequence[int], units: Sequence[str], least: int
) -> bool:
    """Return whether steps together leave out a small number of some unit."""
    before, after = kept[group[0] - 1], kept[group[-1]]
    return any(is_small(before[unit] - after[unit], least) for unit in units)
