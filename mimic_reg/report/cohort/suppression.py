"""Small counts: which cells of a table to hide so that no difference of totals tells them.

Shapes: K categories, S columns.
"""

import numpy as np
from scipy.optimize import linprog

from mimic_reg.metrics.small_counts import LEAST, is_small


def hidden(
    counts: np.ndarray, small: np.ndarray, totals: np.ndarray, least: int = LEAST
) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells (K, S) to hide, and which of them may be called small.

    Small cells are hidden, and others, until what is shown leaves each small cell a range of half
    the width from 1 to `least` - 1 or more. The ranges follow from the sums by linear programming.

    counts: (K, S); if S > 1 the last column is the sum of the others
    small:  (K, S) cells to hide in any case
    totals: (S,) whether the sum of the column is shown; without it, the whole column is hidden
    """
    hide = small | ~totals
    named = small & totals & (counts < least)
    while (told := _told(counts, small & totals, hide, named, totals, least)) is not None:
        k, s = told
        beside = np.zeros_like(hide)
        beside[k], beside[:, s] = True, True
        lone = np.zeros_like(hide)  # in a column or row with one hidden cell, which it tells
        lone[:, totals & (hide.sum(0) == 1)] = True
        lone[(hide.sum(1) == 1) & (counts.shape[1] > 1)] = True
        if (cell := _smallest(counts, lone & ~hide)) is not None:
            hide[cell] = True
            continue
        for area in (beside, np.ones_like(hide)):
            if (cell := _smallest(counts, area & ~hide)) is not None:
                hide[cell] = True
                break
            if named[area].any():
                named[area] = False
                break
        else:
            break  # everything is hidden and nothing is said
    return hide, named


def _smallest(counts: np.ndarray, among: np.ndarray) -> tuple[int, int] | None:
    """Return the cell with the smallest count, zeros last; None if there is none."""
    cells = [(int(k), int(s)) for k, s in np.argwhere(among)]
    return min(cells, key=lambda cell: (counts[cell] == 0, counts[cell]), default=None)


def _told(
    counts: np.ndarray,
    small: np.ndarray,
    hide: np.ndarray,
    named: np.ndarray,
    totals: np.ndarray,
    least: int,
) -> tuple[int, int] | None:
    """Return a small cell that can be told from what is shown, or None."""
    cells = [(int(k), int(s)) for k, s in np.argwhere(hide)]
    if not small.any():
        return None
    last = counts.shape[1] - 1
    equations: list[tuple[dict[tuple[int, int], int], int]] = []  # factors of cells, their sum
    for s in map(int, np.flatnonzero(totals)):
        equations.append(({(k, s): 1 for k in range(len(counts))}, int(counts[:, s].sum())))
    for k in range(len(counts) if last else 0):
        equations.append(({(k, s): -1 if s == last else 1 for s in range(last + 1)}, 0))
    a = np.array([[factors.get(cell, 0) for cell in cells] for factors, _ in equations])
    b = np.array(
        [
            total - sum(f * counts[cell] for cell, f in factors.items() if not hide[cell])
            for factors, total in equations
        ]
    )
    used = a.any(1)
    bounds: list[tuple[int, int | None]] = [
        (1, least - 1) if named[cell] else (0, None) for cell in cells
    ]
    for at, cell in enumerate(cells):
        if small[cell] and _width(a[used], b[used], bounds, at) < (least - 2) / 2:
            return cell
    return None


def _width(a: np.ndarray, b: np.ndarray, bounds: list[tuple[int, int | None]], at: int) -> float:
    """Return the width of the range in which an unknown can be."""
    ends = []
    for sign in (1, -1):
        goal = np.zeros(a.shape[1])
        goal[at] = sign
        solved = linprog(goal, A_eq=a, b_eq=b, bounds=bounds)
        if solved.status == 3:  # unbounded
            return float("inf")
        ends.append(sign * solved.fun)
    return float(ends[1] - ends[0])


def apart(numbers: list[int], least: int = LEAST) -> list[bool]:
    """Return which of these sizes to hide: the small ones, and those too near to a shown one.

    Of two sizes that differ by a small number, the larger is shown: one group may lie within the
    other, so their difference would tell a small count.
    """
    shown: set[int] = set()
    hide = [False] * len(numbers)
    for i in sorted(range(len(numbers)), key=lambda i: -numbers[i]):
        near = any(is_small(number - numbers[i], least) for number in shown)
        hide[i] = is_small(numbers[i], least) or near
        if not hide[i]:
            shown.add(numbers[i])
    return hide
