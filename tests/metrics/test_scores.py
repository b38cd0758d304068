"""Scores equal scikit-learn's, intervals resample subjects, what is undefined is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit as sigmoid
from scipy.special import logit
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.metrics.bootstrap import (
    basic_interval,
    calibration_statistic,
    draw_counts,
    percentile_interval,
    ranking_statistic,
    replicate,
)
from mimic_reg.metrics.scores import METRICS, improves, metric, score


def data(seed: int, n: int = 300, num_labels: int = 1, ties: bool = False):
    rng = np.random.default_rng(seed)
    y = (rng.random((n, num_labels)) < 0.3).astype(np.float32)
    p = 1 / (1 + np.exp(-(y - 0.5 + rng.normal(size=y.shape))))
    if ties:
        p = np.round(p, 1)
    return y, p.astype(np.float32), rng.integers(0, max(2, n // 4), n)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 200), ties=st.booleans())
def test_weighted_rankings_equal_scikit_learn(seed, n, ties):
    y, p, subject = data(seed, n, ties=ties)
    statistic = ranking_statistic(y[:, 0], p[:, 0], subject)
    counts = np.random.default_rng(seed).integers(0, 4, subject.max() + 1)
    auroc, average_precision = statistic(counts)
    weight = counts[subject]
    drawn = y[weight > 0, 0]
    if len(np.unique(drawn)) == 2:
        assert auroc == pytest.approx(roc_auc_score(y, p, sample_weight=weight), abs=1e-12)
    else:
        assert np.isnan(auroc)
    if drawn.any():
        expected = average_precision_score(y[:, 0], p[:, 0], sample_weight=weight)
        assert average_precision == pytest.approx(expected, abs=1e-12)
    else:
        assert np.isnan(average_precision)


@pytest.mark.parametrize("ties", [False, True])
def test_binary(ties):
    y, p, subject = data(1, ties=ties)
    scores = score("binary", y, p, subject, num_replicates=200)
    assert set(scores) == {"auroc", "auprc", "brier", "calibration_error"}
    assert scores["auroc"].value == roc_auc_score(y, p)
    assert scores["brier"].value == pytest.approx(brier_score_loss(y, p.astype(float)), abs=1e-12)
    for s in scores.values():
        assert s.replicates == 200
        assert s.low < s.high
    for name in ("auroc", "auprc", "brier"):
        assert scores[name].low < scores[name].value < scores[name].high


def test_multilabel():
    y, p, subject = data(2, num_labels=4)
    scores = score("multilabel", y, p, subject, num_replicates=20)
    assert scores["macro_auroc"].value == pytest.approx(
        np.mean([roc_auc_score(y[:, c], p[:, c]) for c in range(4)])
    )
    assert scores["micro_auroc"].value == roc_auc_score(y.ravel(), p.ravel())
    assert scores["macro_auroc"].low < scores["macro_auroc"].value < scores["macro_auroc"].high
    assert scores["micro_auprc"].low < scores["micro_auprc"].value < scores["micro_auprc"].high


def test_multiclass():
    y = np.array([0, 1, 2, 1])
    p = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    scores = score("multiclass", y, p)
    assert scores["accuracy"].value == 0.75
    assert scores["brier"].value == pytest.approx((0.06 + 0.14 + 0.98 + 0.26) / 4)
    # four bins of one sample each: |1-.8|, |1-.7|, |0-.5|, |1-.6|
    assert scores["calibration_error"].value == pytest.approx((0.2 + 0.3 + 0.5 + 0.4) / 4)
    assert scores["accuracy"].low is None


def test_regression():
    scores = score("regression", np.array([[1.0], [3.0]]), np.array([[2.0], [0.0]]))
    assert scores["mean_absolute_deviation"].value == 2.0
    assert scores["root_mean_squared_error"].value == pytest.approx(np.sqrt(5))


def test_calibration_by_hand():
    hit = np.array([[1.0], [0.0], [1.0], [1.0]])
    confidence = np.array([[0.9], [0.95], [0.05], [1.0]])
    statistic = calibration_statistic(hit, confidence, np.arange(4), 10)
    # bin 9 holds the first, second and last: |2 - 2.85| / 4; bin 0 the third: .95 / 4
    assert statistic(np.ones(4)) == pytest.approx((0.85 + 0.95) / 4)
    assert statistic(np.array([1, 0, 0, 0])) == pytest.approx(0.1)


def test_one_class_is_undefined_with_its_reason():
    y, p, subject = data(3, 50)
    scores = score("binary", np.zeros_like(y), p, subject, labels=("y",), num_replicates=5)
    for name in ("auroc", "auprc"):
        assert scores[name].value is None
        assert scores[name].low is None
        assert scores[name].reason == "all samples have label 'y' = 0"
    assert scores["brier"].value > 0
    assert score("binary", np.ones_like(y), p)["auprc"].value == 1.0
    y, p, subject = data(3, 50, num_labels=3)
    y[:, 1] = 1
    scores = score("multilabel", y, p, labels=("a", "b", "c"))
    assert scores["macro_auroc"].value == roc_auc_score(y[:, [0, 2]], p[:, [0, 2]])
    assert scores["macro_auroc"].reason == "without labels of one class: b"
    assert scores["micro_auroc"].value is not None
    scores = score("multilabel", np.ones_like(y), p, num_replicates=3)
    assert scores["macro_auroc"].value is None
    assert scores["micro_auroc"].value is None


def test_replicates_without_positives_are_left_out_of_the_interval():
    y, p, subject = np.zeros((30, 1)), np.linspace(0, 1, 30)[:, None], np.arange(30)
    y[3] = 1
    scores = score("binary", y, p, subject, num_replicates=300)
    assert 100 < scores["auroc"].replicates < 280
    assert percentile_interval(np.array([np.nan, np.nan, 0.5])) is None


def test_predictions_that_cannot_be_scored_are_refused():
    empty = np.zeros((0, 1))
    with pytest.raises(InputError, match="no samples"):
        score("binary", empty, empty)
    y, p, _ = data(1)
    with pytest.raises(AssertionError, match="299 predictions for 300 samples"):
        score("binary", y, p[1:])
    p[0] = np.nan
    with pytest.raises(MimicRegError, match="not finite"):
        score("binary", y, p)


@pytest.mark.parametrize("target", ["binary", "multilabel", "multiclass", "regression"])
def test_the_registry_knows_each_score_of_each_target(target):
    y = np.array([0, 1, 1, 0]) if target == "multiclass" else np.array([[0.0, 1], [1, 0]] * 2)
    y = y[:, :1] if target in ("binary", "regression") else y
    p = np.full((4, 1 if y.ndim == 2 and y.shape[1] == 1 else 2), 0.5)
    assert list(score(target, y, p)) == [m.name for m in METRICS.values() if target in m.targets]


def test_an_unknown_score_has_no_direction():
    with pytest.raises(InputError, match=r"no score 'aurok'.*auroc"):
        metric("aurok")


def test_first_best_wins_ties():
    assert improves("auroc", 0.5, None)
    assert improves("auroc", 0.6, 0.5)
    assert not improves("auroc", 0.5, 0.5)
    assert improves("brier", 0.4, 0.5)
    assert not improves("mean_absolute_deviation", 2.0, 1.0)


def test_counts_draw_every_subject_once_on_average_and_repeat():
    counts = draw_counts(40, 500)
    assert (counts.sum(1) == 40).all()
    assert counts.mean(0) == pytest.approx(np.ones(40), abs=0.25)
    assert np.array_equal(counts, draw_counts(40, 500))


def test_intervals_widen_when_subjects_hold_many_samples():
    y, p, _ = data(5, 400)
    alone = score("binary", y, p, np.arange(400), num_replicates=200)["auroc"]
    order = np.argsort(p[:, 0])
    together = np.empty(400, int)
    together[order] = np.arange(400) // 20  # similar predictions belong to one subject
    clustered = score("binary", y, p, together, num_replicates=200)["auroc"]
    assert clustered.high - clustered.low > 1.3 * (alone.high - alone.low)


def test_intervals_have_about_their_nominal_coverage():
    # p = y + noise: AUROC = Phi(1 / sqrt 2) = 0.7602
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = np.repeat([0.0, 1.0], 60)
        statistic = ranking_statistic(y, y + rng.normal(size=120), np.arange(120))
        low, high = percentile_interval(replicate(statistic, draw_counts(120, 200))[:, 0])
        covered += low < 0.7602 < high
    assert covered >= 52


def test_the_calibration_error_s_interval_is_not_inflated():
    """A replicate is about as far above the estimate as that is above the truth."""
    rng = np.random.default_rng(0)
    covered = {"basic": 0, "percentile": 0}
    population = rng.beta(1, 6, 200_000)
    truth = sigmoid(logit(population) + 0.3)
    gap = np.bincount((population * 15).astype(int), truth - population)
    error = np.abs(gap).sum() / len(population)
    for _ in range(40):
        drawn = rng.integers(0, len(population), 300)
        p, subject = population[drawn][:, None], np.arange(300)
        y = (rng.random(300) < truth[drawn]).astype(float)[:, None]
        found = score("binary", y, p, subject, num_replicates=200)["calibration_error"]
        replicates = replicate(calibration_statistic(y, p, subject, 15), draw_counts(300, 200))
        low, high = percentile_interval(replicates.ravel())
        covered["basic"] += found.low <= error <= found.high
        covered["percentile"] += low <= error <= high
    assert covered["basic"] >= 34
    assert covered["percentile"] <= 20


def test_the_basic_interval_reflects_the_percentile_one():
    values = np.linspace(0.2, 0.4, 1001)
    low, high = percentile_interval(values)
    assert basic_interval(0.25, values) == pytest.approx((0.5 - high, 0.5 - low))
    assert basic_interval(0.15, values) == (0.0, pytest.approx(0.3 - low))
    assert basic_interval(0.1, np.array([np.nan, np.nan, 0.5])) is None
