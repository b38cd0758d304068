"""Small counts: which cells of a table to hide so that no difference of totals tells them.

Shapes: K categories, S columns.
"""

import numpy as np
from scipy.optimize import linprog

LEAST = 10  # counts from 1 up to, but not including, this number are small


def is_small(number: int, least: int = LEAST) -> bool:
    """Return whether a count must not be shown."""
    return 0 < number < least


def hidden(
    counts: np.ndarray, small: np.ndarray, totals: np.ndarray, least: int = LEAST
) -> np.ndarray:
    """Return which cells (K, S) to hide.

    Each small cell is hidden, and other cells until nobody can tell it better than from 1 to
    `least` - 1 by half that width: its bounds follow from the sums and from all cells that are
    shown, by linear programming.

    counts: (K, S); if S > 1 the last column is the sum of the others
    small:  (K, S) cells to hide in any case
    totals: (S,) whether the sum of the column is shown; without it, the whole column is hidden
    """
    hide = small | ~totals
    for _ in range(hide.size):
        told = _told(counts, small & totals, hide, totals, least)
        if told is None:
            break
        cell = _next(counts, hide, told)
        if cell is None:
            break
        hide[cell] = True
    return hide


def _told(
    counts: np.ndarray, small: np.ndarray, hide: np.ndarray, totals: np.ndarray, least: int
) -> tuple[int, int] | None:
    """Return a small cell that can be told from what is shown, or None."""
    cells = [tuple(map(int, cell)) for cell in np.argwhere(hide)]
    at = {cell: i for i, cell in enumerate(cells)}
    rows, sums = [], []
    for s in np.flatnonzero(totals):
        line = np.zeros(len(cells))
        for k in np.flatnonzero(hide[:, s]):
            line[at[int(k), s]] = 1
        rows.append(line)
        sums.append(counts[hide[:, s], s].sum())
    last = counts.shape[1] - 1
    for k in range(counts.shape[0] if last else 0):
        line, total = np.zeros(len(cells)), 0
        for s in range(last + 1):
            sign = -1 if s == last else 1
            if hide[k, s]:
                line[at[k, s]] = sign
            else:
                total -= sign * counts[k, s]
        rows.append(line)
        sums.append(total)
    used = [i for i, line in enumerate(rows) if line.any()]
    a, b = np.array([rows[i] for i in used]), np.array([sums[i] for i in used])
    bounds = [
        (1, least - 1) if small[cell] and is_small(counts[cell], least) else (0, None)
        for cell in cells
    ]
    for cell in cells:
        if small[cell] and _width(a, b, bounds, at[cell]) < (least - 2) / 2:
            return cell[0], cell[1]
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


def _next(counts: np.ndarray, hide: np.ndarray, told: tuple[int, int]) -> tuple[int, int] | None:
    """Return the smallest cell beside one that is told, or anywhere; None if none is left."""
    k, s = told
    cells = [(i, s) for i in range(counts.shape[0])] + [(k, j) for j in range(counts.shape[1])]
    left = [cell for cell in cells if not hide[cell]]
    if not left:
        rest = [tuple(map(int, cell)) for cell in np.argwhere(~hide)]
        left = [(cell[0], cell[1]) for cell in rest]
    return min(left, key=lambda cell: (counts[cell] == 0, counts[cell]), default=None)


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
