"""The benchmark's logistic regression, against SciPy, and the choice of the penalty."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize

from mimic_reg.errors import InputError
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners import restore, statistics
from mimic_reg.learners.benchmark_logistic_regression import filled_moments, standardised
from mimic_reg.learners.trials import resolve
from mimic_reg.runs.record import read_scores
from mimic_reg.samples import load
from mimic_reg.store import Store
from tests.stores import write_store

NAME = "benchmark_logistic_regression"


def trial(**options):
    settings = {"task": "in_hospital_mortality", "model": {NAME: options}}
    return resolve({**settings, "training": {"normalizer": "fitted"}})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store"), num_subjects=90)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "path"
    train(trial(C=[0.01, 0.0001]), store, folder)
    return folder


def test_empty_features_get_the_mean_of_training():
    found = np.array([[1.0, np.nan, 4], [3, np.nan, np.nan]])
    mean, std = filled_moments(found)
    assert mean.tolist() == [2, 0, 4]
    assert std.tolist() == [1, 1, 1]  # of constant features, too
    assert standardised(found, mean, std).tolist() == [[-1, 0, 0], [1, 0, 0]]
    assert filled_moments(np.array([[1.0], [5], [np.nan]]))[1] == pytest.approx(np.sqrt(8 / 3))


def test_predictions_are_scipy_s(run, store):
    """The chosen model against a minimum of the penalised likelihood on all training samples."""
    opened = Store.open(store)
    task = opened.spec.task("in_hospital_mortality")
    splits = load(opened, task, normalizer="fitted")
    layout = statistics.layout(opened.spec.channels)
    x, new = (statistics.features(splits[s], layout).astype(float) for s in ("train", "test"))
    mean = np.nan_to_num(np.nanmean(x, axis=0)) if not np.isnan(x).all(0).any() else None
    assert mean is not None
    x, new = (np.where(np.isnan(part), mean, part) for part in (x, new))
    std = np.where(x.std(0) < 1e-6, 1, x.std(0))
    x, new = (x - mean) / std, (new - mean) / std
    sign = 2.0 * splits["train"].label[:, 0].numpy() - 1
    C = 0.0001

    def objective(w):
        margin = sign * (x @ w[1:] + w[0])
        gradient = -sign / (1 + np.exp(margin))
        value = C * np.logaddexp(0, -margin).sum() + w[1:] @ w[1:] / 2
        return value, np.append(C * gradient.sum(), C * x.T @ gradient + w[1:])

    tight = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 10_000}
    w = minimize(objective, np.zeros(715), jac=True, method="L-BFGS-B", options=tight).x
    expected = 1 / (1 + np.exp(-(new @ w[1:] + w[0])))
    fixed = trial(C=[C], penalties=["l2"])
    train(fixed, store, run.parent / "fixed")
    found = predictions(run.parent / "fixed", fixed, opened, splits["test"])
    assert found == pytest.approx(expected, abs=1e-4)


def predictions(folder, of, opened, samples):
    from mimic_reg.engine.checkpoint import load_state
    from mimic_reg.samples.base import CPU

    state = load_state(folder / "best.safetensors")
    assert state["model"]["weight"].shape == (1, 714)
    return restore(of, opened.spec, state, CPU).predict(samples)[:, 0]


def test_the_best_on_validation_is_kept_and_all_are_told(run):
    (row,) = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    tried = [(fit["C"], fit["penalty"]) for fit in row["tried"]]
    assert tried == [(0.0001, "l2"), (0.0001, "l1"), (0.01, "l2"), (0.01, "l1")]
    best = max(row["tried"], key=lambda fit: fit["score"])  # the first of equal ones
    assert row["chosen"] == {"C": best["C"], "penalty": best["penalty"]}
    assert row["validation"]["auroc"] == best["score"]
    assert evaluate(run) == read_scores(run)


def test_what_does_not_converge_is_left_out(store, tmp_path):
    with pytest.raises(InputError, match="did not converge in 1 iterations"):
        train(trial(C=[1.0], penalties=["l2"], max_iterations=1), store, tmp_path / "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"C": []}, "must name one value or more"),
        ({"C": [0.1, -1.0]}, "C must be above 0, got -1.0"),
        ({"penalties": ["l3"]}, r"each one of 'l2', 'l1', got \['l3'\]"),
        ({"max_samples": 0}, "max_samples must be above 0, got 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        trial(**options)
