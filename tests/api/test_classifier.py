"""The classifier keeps scikit-learn's rules, and predicts as the run that it is made from."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

import mimic_reg as mr
from tests.api.own import Mean, Noise

# those of the rules that fits of 200 samples test; others of the kind repeat them
SLOW = {
    "check_classifiers_train",
    "check_classifiers_classes",
    "check_classifier_data_not_an_array",
    "check_estimators_dtypes",
    "check_array_api_input",  # needs an environment variable of scipy's
}


def small(**changes):
    training = {"max_epochs": 20, "learning_rate": 0.1, "batch_size": 64}
    return mr.Classifier(**{"model": Mean, "training": training, **changes})


def test_rules_of_scikit_learn():
    checked = set()
    for estimator, check in estimator_checks_generator(
        small(training={"max_epochs": 1, "batch_size": 64})
    ):
        name = check.func.__name__
        if name not in SLOW:
            check(estimator)
            checked.add(name)
    assert len(checked) > 40


def sequences(num=60, seed=0):
    """Return (num, 5, 3) with ends, and three classes that the means tell."""
    rng = np.random.default_rng(seed)
    y = np.array(["a", "b", "c"])[np.arange(num) % 3]
    X = rng.normal(size=(num, 5, 3)) + 2 * np.eye(3)[np.arange(num) % 3][:, None]
    for sample, length in enumerate(rng.integers(2, 6, num)):
        X[sample, length:] = np.nan
    return X, y


def test_sequences_and_classes_with_names():
    X, y = sequences()
    classifier = small(methods=[mr.component(Noise, std=0.01)])
    assert cross_val_score(classifier, X, y, cv=3).mean() > 0.8
    fitted = clone(classifier).fit(X, y)
    assert fitted.classes_.tolist() == ["a", "b", "c"]
    p = fitted.predict_proba(X)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
    assert (fitted.predict(X) == y).mean() > 0.8
    longer = np.concatenate([X, np.full((60, 2, 3), np.nan)], axis=1)
    np.testing.assert_allclose(fitted.predict_proba(longer), p, rtol=1e-5)
    assert (pickle.loads(pickle.dumps(fitted)).predict_proba(X) == p).all()
    assert len(fitted.history_) <= 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (np.where(np.arange(5)[:, None] == 0, np.nan, X), y), "NaN within a seq"),
        (lambda X, y: (X * np.nan, y), "a sequence without an hour"),
        (lambda X, y: (X, np.r_[["d"], y[1:]]), "two samples of each class"),
        (lambda X, y: (X, np.full(60, "a")), "two classes or more; y has 1 class"),
        (lambda X, y: (X, y[1:]), "inconsistent numbers of samples"),
    ],
)
def test_what_cannot_be_fitted(change, message):
    with pytest.raises(ValueError, match=message):
        small().fit(*change(*sequences()))


def test_settings_are_checked_when_it_is_fitted():
    X, y = sequences()
    for settings, message in (
        ({"validation_fraction": 2}, "must lie between 0 and 1"),
        ({"training": {"max_epoch": 1}}, "Did you mean 'max_epochs'"),
        ({"model": "lstn"}, "Did you mean 'lstm'"),
        ({"methods": "itsp"}, "Did you mean 'itps'"),
    ):
        with pytest.raises(mr.InputError, match=message):
            small(**settings).fit(X, y)
    with pytest.raises(ValueError, match="X has 2 features, but Classifier is expecting 3"):
        small().fit(X, y).predict(X[..., :2])


def test_a_run_as_a_classifier(store, tmp_path):
    run = mr.fit(store, "in_hospital_mortality", Mean, [Noise], out=tmp_path / "run", max_epochs=1)
    X, _, y = store.samples(run.task, normalizer="raw").test.to_numpy(padding=np.nan)
    classifier = mr.Classifier.from_run(run)
    np.testing.assert_allclose(classifier.predict_proba(X)[:, 1], run.predict(), rtol=1e-4)
    again = clone(classifier).fit(X, y)
    assert [r.name for r in again.trial_.regularisers] == ["tests.api.own:Noise", "early_stopping"]
    other = mr.fit(store, "length_of_stay", Mean, out=tmp_path / "other", max_epochs=1)
    with pytest.raises(mr.InputError, match="length_of_stay is a regression task"):
        mr.Classifier.from_run(other)
