"""Boosted trees as arrays: stored without pickle, and predicted without the library that grew them.

Shapes: N samples, D features, M nodes, K trees, C outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mimic_reg.errors import InputError

_LEAF = -1


class Node(NamedTuple):
    """A node: `left` if the feature is at most `threshold`; a leaf has no children.

    left, right: positions in its tree; -1 of a leaf
    empty_left:  whether an empty feature, NaN, goes to the left
    value:       of a leaf
    """

    feature: int
    threshold: float
    left: int
    right: int
    empty_left: bool
    value: float


@dataclass(frozen=True)
class Forest:
    """The sum of trees.

    base:   (C,) what the sums begin with
    root:   (K,) position of each tree's first node
    output: (K,) the output that a tree adds to
    feature, threshold, left, right, empty_left, value: (M,) see `Node`; a leaf's children are -1
    """

    base: np.ndarray
    root: np.ndarray
    output: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    empty_left: np.ndarray
    value: np.ndarray

    def raw(self, x: np.ndarray) -> np.ndarray:
        """Return the sums (N, C) of features (N, D), in float64 and in the order of the trees."""
        found = np.tile(self.base, (len(x), 1))
        rows = np.arange(len(x))
        for root, output in zip(self.root, self.output, strict=True):
            node = np.full(len(x), root)
            while (inner := self.left[node] != _LEAF).any():
                value = x[rows, self.feature[node]]
                goes_left = np.where(
                    np.isnan(value), self.empty_left[node], value <= self.threshold[node]
                )
                node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
            found[:, output] += self.value[node]
        return found

    def state(self) -> dict[str, Tensor]:
        """Return the arrays by name."""
        return {f.name: torch.from_numpy(getattr(self, f.name)) for f in fields(self)}


def grown(base: Sequence[float], trees: Sequence[tuple[int, Sequence[Node]]]) -> Forest:
    """Return the forest of these trees: output and nodes of each."""
    root = np.cumsum([0, *(len(nodes) for _, nodes in trees)])[:-1].astype(np.int64)
    columns: dict[str, list[Any]] = {name: [] for name in Node._fields}
    for first, (_, nodes) in zip(root, trees, strict=True):
        for node in nodes:
            for name, value in node._asdict().items():
                child = name in ("left", "right") and value != _LEAF
                columns[name].append(value + first if child else value)
    return Forest(
        base=np.array(base, np.float64),
        root=root,
        output=np.array([output for output, _ in trees], np.int64),
        **{name: np.array(columns[name], kind) for name, kind in _KINDS.items()},
    )


_KINDS = {
    **dict.fromkeys(("feature", "left", "right"), np.int64),
    **dict.fromkeys(("threshold", "value"), np.float64),
    "empty_left": np.bool_,
}


def together(forests: Sequence[Forest]) -> Forest:
    """Return one forest of several, with their outputs side by side."""
    outputs = np.cumsum([0, *(len(f.base) for f in forests)])
    nodes = np.cumsum([0, *(len(f.value) for f in forests)])

    def moved(name: str, by: Sequence[int] | np.ndarray) -> np.ndarray:
        parts = [getattr(f, name) for f in forests]
        return np.concatenate(
            [np.where(p == _LEAF, p, p + b) for p, b in zip(parts, by, strict=False)]
        )

    same = ("base", "feature", "threshold", "empty_left", "value")
    return Forest(
        output=moved("output", outputs),
        **{name: moved(name, nodes) for name in ("root", "left", "right")},
        **{name: np.concatenate([getattr(f, name) for f in forests]) for name in same},
    )


def from_state(state: Mapping[str, Tensor], num_features: int, num_outputs: int) -> Forest:
    """Return a forest from its arrays.

    Raises:
        InputError: they are not trees, or are for other features or outputs.
    """
    forest = Forest(**{f.name: state[f.name].numpy() for f in fields(Forest)})
    count, trees = len(forest.value), len(forest.root)
    inner = forest.left != _LEAF
    here = np.flatnonzero(inner)
    of_nodes = [getattr(forest, name) for name in _KINDS]
    fits = (
        forest.base.shape == (num_outputs,)
        and all(
            a.shape == (count,) and a.dtype == k
            for a, k in zip(of_nodes, _KINDS.values(), strict=True)
        )
        and forest.root.shape == forest.output.shape == (trees,)
        and _within(forest.root, count)
        and _within(forest.output, num_outputs)
        and _within(forest.feature[inner], num_features)
        # a child follows its parent, so every path ends
        and all(
            (c > here).all() and (c < count).all()
            for c in (forest.left[inner], forest.right[inner])
        )
    )
    if not fits:
        raise InputError(
            f"The trees of the model are damaged, or not for {num_features} features and "
            f"{num_outputs} outputs."
        )
    return forest


def _within(numbers: np.ndarray, end: int) -> bool:
    return bool(((numbers >= 0) & (numbers < end)).all())


# --- from the libraries ---------------------------------------------------------------------------


def of_lightgbm(dump: Mapping[str, Any], num_outputs: int, rounds: int) -> Forest:
    """Return the first rounds of a model of LightGBM, from its `dump_model`."""
    infos = dump["tree_info"][: rounds * num_outputs]
    trees = [
        (number % num_outputs, _lightgbm_nodes(info["tree_structure"]))
        for number, info in enumerate(infos)
    ]
    return grown([0.0] * num_outputs, trees)


def _lightgbm_nodes(tree: Mapping[str, Any]) -> list[Node]:
    """Return the nodes of a tree, each before its children."""
    found: list[Node] = []
    waiting: list[tuple[Mapping[str, Any], int, str]] = [(tree, -1, "")]
    while waiting:
        now, parent, side = waiting.pop()
        if parent >= 0:
            above = found[parent]
            found[parent] = (
                above._replace(left=len(found))
                if side == "left"
                else above._replace(right=len(found))
            )
        if "split_feature" not in now:
            found.append(Node(0, 0.0, _LEAF, _LEAF, False, now["leaf_value"]))
            continue
        assert now["decision_type"] == "<=", "there are no categorical features"
        threshold = float(now["threshold"])
        # a feature that was never empty in training: LightGBM takes NaN as 0
        never = now["missing_type"] == "None"
        empty_left = threshold >= 0 if never else bool(now["default_left"])
        waiting += [(now[f"{s}_child"], len(found), s) for s in ("left", "right")]
        found.append(Node(now["split_feature"], threshold, _LEAF, _LEAF, empty_left, 0.0))
    return found


def of_scikit_learn(model: Any, rounds: int) -> Forest:
    """Return the first rounds of a histogram gradient boosting of scikit-learn."""
    base = np.ravel(model._baseline_prediction)
    trees = [
        (output, [_scikit_learn_node(node) for node in tree.nodes])
        for of_round in model._predictors[:rounds]
        for output, tree in enumerate(of_round)
    ]
    return grown(list(base), trees)


def _scikit_learn_node(node: Any) -> Node:
    if node["is_leaf"]:
        return Node(0, 0.0, _LEAF, _LEAF, False, float(node["value"]))
    return Node(
        int(node["feature_idx"]),
        float(node["num_threshold"]),
        int(node["left"]),
        int(node["right"]),
        bool(node["missing_go_to_left"]),
        0.0,
    )
