"""Labels that two channels tell together, though neither does alone: such as "one of two is high".

Shapes: N samples, F features.
"""

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from mimic_reg.checks.base import Outcome, View, outcome, some
from mimic_reg.checks.shortcuts import ADVICE, TELLS, as_features, auroc_over, aurocs, low
from mimic_reg.learners.windows import STATISTICS
from mimic_reg.metrics.small_counts import enough_of_each

CANDIDATES = 10  # pairs that are tried on other patients, of each label
_SURE = 0.9  # the lower end of the interval
_CHECK = "no two channels tell the label together"


def readable(view: View) -> Outcome:
    """Return whether two channels separate a label almost perfectly for other patients.

    Channels that tell a label alone are left out. Every feature is cut at its median in training,
    and all pairs of features are ranked by how well their four cells tell the label there. A tree
    on each of the best pairs is then scored outside of training.
    """
    table, names = as_features(view)
    train = (view.samples["split"] == "train").to_numpy()
    subject = view.samples["subject"].to_numpy()
    judged = {
        name: y
        for name, y in view.labels.items()
        if all(enough_of_each(y[part], subject[part]) for part in (train, ~train))
    }
    if not judged:
        text = "No label has 10 patients or more of both kinds, in training and outside it."
        return Outcome(_CHECK, "not checked", text)
    high, ranks = _halved(table, train), rankdata(table, axis=0)
    best, told = (0.0, ""), []
    for label, y in judged.items():
        alone = aurocs(ranks, y).reshape(len(STATISTICS), -1).max(0) < TELLS  # by channel
        for i, j in _pairs(high[train], y[train], np.tile(alone, len(STATISTICS))):
            p = _predicted(table[:, [i, j]], y, train)
            auroc, both = float(roc_auc_score(y[~train], p)), f"{names[i]} and {names[j]}"
            best = max(best, (auroc, both))
            if auroc >= TELLS and low(auroc_over(y[~train], p, subject[~train])) >= _SURE:
                told.append(f"{both} tell {label} (AUROC {auroc:.3f})")
                break
    passed = (
        f"A tree on two channels reaches AUROC {best[0]:.3f} outside of training, with "
        f"{best[1]}.{view.samples_read}"
    )
    text = f"Two channels together separate a label almost perfectly: {some(told, '; ')}."
    text += view.samples_read
    return outcome(_CHECK, len(told), passed, text, ADVICE.format(noun="channel"))


def _halved(table: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return which features (N, F) are above their median in training; of most 1s, which are 1."""
    middle = np.median(table[train], axis=0)
    above: np.ndarray = table > middle
    flat = ~above[train].any(0)
    above[:, flat] = table[:, flat] >= middle[flat]
    return above


def _pairs(high: np.ndarray, y: np.ndarray, allowed: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of features (N, F) whose four cells tell a label (N,) best.

    allowed: (F,) which features may be in a pair
    """
    x, of_positive = high.astype(np.float32), high[y].astype(np.float32)
    cells, positive = _cells(x), _cells(of_positive)  # (4, F, F)
    share = positive / np.maximum(cells, 1)
    negative = cells - positive
    order = np.argsort(share, axis=0)
    positive, negative = (np.take_along_axis(n, order, 0) for n in (positive, negative))
    below = np.cumsum(negative, 0) - negative / 2
    auroc = (positive * below).sum(0) / max(1, int(y.sum())) / max(1, int((~y).sum()))
    rows, columns = np.nonzero(np.triu(allowed[:, None] & allowed, 1))
    best = np.argsort(-auroc[rows, columns], kind="stable")[:CANDIDATES]
    return [(int(rows[k]), int(columns[k])) for k in best]


def _cells(x: np.ndarray) -> np.ndarray:
    """Return how many samples (N, F) are in each cell of every pair: (4, F, F)."""
    both = x.T @ x
    own = x.sum(0)
    first, second = own[:, None] - both, own[None, :] - both
    return np.stack([both, first, second, len(x) - both - first - second])


def _predicted(x: np.ndarray, y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return the probabilities, outside of training, of a tree on two features (N, 2)."""
    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=3, random_state=0)
    p: np.ndarray = tree.fit(x[train], y[train]).predict_proba(x[~train])[:, -1]
    return p
