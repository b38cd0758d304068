"""Gradient boosting: each library's trees predict as the library, in every kind of task."""

import json
import sys
from dataclasses import replace

import lightgbm
import numpy as np
import polars as pl
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from mimic_reg.clinical.schema import PHENOTYPES
from mimic_reg.errors import InputError
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners import boosting
from mimic_reg.learners._forest import (
    Node,
    from_state,
    grown,
    of_lightgbm,
    of_scikit_learn,
    together,
)
from mimic_reg.learners.boosting import best_round
from mimic_reg.learners.data import TaskData
from mimic_reg.learners.trials import resolve
from mimic_reg.runs import read_trial
from mimic_reg.runs.record import read_scores
from mimic_reg.samples import load
from mimic_reg.samples.base import CPU
from mimic_reg.store import Store
from tests.stores import write_store

SMALL = {"max_rounds": 8, "patience": 4, "min_leaf_samples": 5, "leaves": 4}
LIBRARIES = ("lightgbm", "scikit_learn")


def trial(task="in_hospital_mortality", **options):
    settings = {"task": task, "model": {"boosting": {**SMALL, **options}}}
    return resolve({**settings, "training": {"normalizer": "fitted"}})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return write_store(folder, num_subjects=90, hours=(48, 50))


def data():
    """Features with empty ones, and classes; some features are empty in prediction only."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)).astype(np.float32).astype(float)
    y = (x[:, 0] + rng.normal(size=300) > 0).astype(int) + (x[:, 1] > 0.5)
    x[rng.random((300, 6)) < 0.2] = np.nan
    x[:, 2:4] = np.nan_to_num(x[:, 2:4])
    new = rng.normal(size=(200, 6))
    new[rng.random((200, 6)) < 0.3] = np.nan
    return x, y, new


@pytest.mark.parametrize("classes", [2, 3])
def test_trees_of_lightgbm_predict_as_lightgbm(classes):
    x, y, new = data()
    options = (
        {"objective": "multiclass", "num_class": 3} if classes == 3 else {"objective": "binary"}
    )
    options |= {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    model = lightgbm.train(options, lightgbm.Dataset(x, np.minimum(y, classes - 1)), 7)
    outputs = 3 if classes == 3 else 1
    found = of_lightgbm(model.dump_model(), outputs, 5).raw(new)
    expected = model.predict(new, raw_score=True, num_iteration=5)
    assert found.reshape(expected.shape) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_trees_of_scikit_learn_predict_as_scikit_learn(classes):
    x, y, new = data()
    model = HistGradientBoostingClassifier(max_iter=5, early_stopping=False, min_samples_leaf=5)
    model.fit(x, np.minimum(y, classes - 1))
    found = of_scikit_learn(model, 5).raw(new)
    expected = model.decision_function(new)
    assert found.reshape(expected.shape) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_feature_without_any_value_is_never_split(library):
    x, y, new = data()
    x[:, 5], y = np.nan, torch.tensor(np.minimum(y, 1))
    part, grow = (x, y), getattr(boosting, f"_with_{library}")
    forest = grow(boosting.build(**SMALL, library=library), "binary", 1, part, part, 0)
    other = new.copy()
    other[:, 5] = 1 - np.nan_to_num(new[:, 5])
    assert np.ptp(forest.raw(new)) > 0
    assert np.array_equal(forest.raw(new), forest.raw(other))


def test_two_trees_by_hand():
    """0.5 at first; +1 if x0 <= 1 or empty, else +2; the other output has a tree of one leaf."""
    nodes = [Node(0, 1.0, 1, 2, True, 0.0), Node(0, 0, -1, -1, False, 1.0)]
    nodes.append(nodes[1]._replace(value=2.0))
    forest = grown([0.5, 0.0], [(0, nodes), (1, [nodes[2]])])
    x = np.array([[1.0], [1.1], [np.nan]])
    assert forest.raw(x).tolist() == [[1.5, 2], [2.5, 2], [1.5, 2]]
    both = together([forest, grown([7.0], []), forest])
    assert both.raw(x)[1].tolist() == [2.5, 2, 7, 2.5, 2]


@pytest.mark.parametrize(
    ("name", "value"),
    [("left", 0), ("right", 99), ("feature", 5), ("output", -1), ("root", 3), ("left", -2)],
)
def test_damaged_trees_are_refused(name, value):
    nodes = [Node(0, 1.0, 1, 2, True, 0.0), *[Node(0, 0, -1, -1, False, 1.0)] * 2]
    state = grown([0.0], [(0, nodes)]).state()
    assert from_state(state, 5, 1).raw(np.zeros((1, 5))).tolist() == [[1.0]]
    state[name][0] = value
    with pytest.raises(InputError, match="damaged, or not for 5 features and 1 outputs"):
        from_state(state, 5, 1)


def test_the_best_round():
    losses = [3.0, 2.0, 2.5, 2.0, 2.1]
    assert best_round(losses, 3) == 2  # an equal loss is not better
    assert best_round(losses, 4) is None
    assert best_round([], 1) is None


@pytest.mark.parametrize(
    ("library", "task"),
    [
        ("lightgbm", "in_hospital_mortality"),
        ("scikit_learn", "length_of_stay"),
    ],
)
def test_it_is_a_run_like_any_other(library, task, store, tmp_path):
    """Of a binary task and a regression."""
    chosen = trial(task, library=library, max_samples=200)
    train(chosen, store, tmp_path / "run")
    scores = read_scores(tmp_path / "run")
    if task == "in_hospital_mortality":
        assert scores["test"]["auroc"].value > 0.7
    assert evaluate(tmp_path / "run") == scores
    (row,) = map(json.loads, (tmp_path / "run" / "history.jsonl").read_text().splitlines())
    assert row["library"].startswith(library.replace("_", "-"))
    assert all(1 <= rounds <= 8 for rounds in row["rounds"])


@pytest.mark.parametrize("library", LIBRARIES)
def test_several_labels_or_classes(library, store):
    opened = Store.open(store)
    task = opened.spec.task("phenotyping").model_copy(update={"labels": PHENOTYPES[:3]})
    splits = load(opened, opened.spec.task("phenotyping"), normalizer="fitted")

    def fitted(task, change):
        parts = [replace(splits[s], label=change(splits[s].label)) for s in ("train", "val")]
        data = TaskData(opened.spec, task, *parts, parts[0], CPU)
        settings = boosting.build(**SMALL, library=library)
        models, facts = zip(
            *(settings.fit(data, np.random.default_rng(0)) for _ in range(2)), strict=True
        )
        states = [model.state() for model in models]
        assert all(torch.equal(part, states[1][name]) for name, part in states[0].items())
        return models[0].predict(splits["test"]), facts[0]["rounds"]

    never = torch.tensor([0, 1, 1], dtype=torch.int8)
    found, rounds = fitted(task, lambda label: label[:, :3] * never)
    share = 0.5 / len(splits["train"])  # half a sample has the label that never is
    assert found[:, 0] == pytest.approx(share)
    assert rounds[0] == 0 < min(rounds[1:])
    classes = {"target": "multiclass", "labels": ("y",), "classes": ("a", "b", "c")}
    task = task.model_copy(update=classes)
    with pytest.raises(InputError, match="has the class 'b', so boosting cannot"):
        fitted(task, lambda label: label[:, 0] * 0)
    found, rounds = fitted(task, lambda label: label[:, 0] + label[:, -1])
    assert found.sum(1) == pytest.approx(1)
    assert found.std(0).min() > 0
    assert len(rounds) == 1


def test_samples_that_cannot_be_split_give_their_share(store, tmp_path):
    """Of a label that never varies there are no trees, and their arrays are empty."""
    few = trial("decompensation", max_samples=1)
    train(few, store, tmp_path / "run")
    predicted = pl.read_parquet(tmp_path / "run" / "predictions_test.parquet")["p0"]
    assert predicted.n_unique() == 1
    assert 0 < predicted[0] < 1
    assert evaluate(tmp_path / "run") == read_scores(tmp_path / "run")


def test_the_library_is_a_part_of_the_trial(store, tmp_path, monkeypatch):
    assert trial().model.options["library"] == boosting.INSTALLED == "lightgbm"
    monkeypatch.setitem(sys.modules, "lightgbm", None)  # an import fails
    with pytest.raises(
        InputError, match=r"pip install \"mimic-reg\[boosting\]\".*, or set library"
    ):
        train(trial(), store, tmp_path / "run")
    assert read_trial(tmp_path / "run")["trial"]["model"]["boosting"]["library"] == "lightgbm"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"library": "xgboost"}, "one of 'lightgbm', 'scikit_learn', got 'xgboost'"),
        ({"learning_rate": 0.0}, r"learning_rate must be in \(0, 1\], got 0.0"),
        ({"leaves": 1}, r"leaves must be at least 2 .* got 1"),
        ({"patience": 0}, r"patience must be at least 1 .* got 0"),
        ({"min_leaf_samples": 10**12}, "at most 2,147,483,647, got 1,000,000,000,000"),
        ({"l2": -0.1}, r"l2 must be at least 0 .* got -0.1"),
        ({"l2": float("nan")}, r"l2 must be at least 0 .* got nan"),
        ({"rounds": 3}, "no option 'rounds'"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        trial(**options)
