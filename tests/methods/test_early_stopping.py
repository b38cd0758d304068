"""Early stopping on given scores."""

import pytest

from mimic_reg import methods
from mimic_reg.errors import InputError
from tests.methods.fits import make_fit

CONTRACT = {"patience": 3}


def stopped_at(scores, started=True, explained=None, **options):
    """The epoch after which the fit ends, or None."""
    method, fit = methods.create("early_stopping", **options), make_fit()
    flags = started if isinstance(started, list) else [started] * len(scores)
    shares = explained or [None] * len(scores)
    for fit.epoch, (fit.score, has_started) in enumerate(zip(scores, flags, strict=True)):
        fit.explained, fit.learned = shares[fit.epoch], True
        method.tick("before_validation", fit)
        if not has_started:
            fit.started = False
        method.tick("epoch_end", fit)
        if fit.stop_reason:
            return fit.epoch
    return None


@pytest.mark.parametrize(
    ("scores", "patience", "epoch"),
    [
        ([0.5, 0.6, 0.6, 0.6], 2, 3),  # a tie is no improvement: the first best wins
        ([0.5, 0.6, 0.5, 0.7, 0.6, 0.6], 2, 5),
        ([0.5, 0.6, 0.7, 0.8], 1, None),
        ([0.5, 0.4], 1, 1),
        ([0.5, float("nan"), float("nan")], 2, 2),
        ([float("nan"), 0.5, 0.6], 2, None),
        ([-3.0, -2.0, -2.5], 1, 2),
    ],
)
def test_patience(scores, patience, epoch):
    assert stopped_at(scores, patience=patience) == epoch


def test_small_improvements_do_not_count():
    assert stopped_at([0.5, 0.505, 0.511, 0.515, 0.522], patience=2, min_delta=0.01) is None
    assert stopped_at([0.5, 0.505, 0.509], patience=2, min_delta=0.01) == 2


def test_epochs_before_a_method_has_begun_do_not_count():
    assert stopped_at([0.5] * 6, patience=2) == 2
    assert stopped_at([0.5] * 6, started=False, patience=2) is None
    assert stopped_at([0.5] * 6, started=[False] * 3 + [True] * 3, patience=2) == 4


def test_epochs_before_the_model_beats_a_constant_prediction_do_not_count():
    """As with ITPS where 5 % die: it moves the output bias first, and scores as it began."""
    scores, options = [0.9, 0.8, 0.7, 0.6, 0.6, 0.6], {"patience": 2, "min_explained": 0.01}
    assert stopped_at(scores, **options, explained=[-3.0, -1.0, 0.0, 0.009, 0.009, 0.009]) is None
    assert stopped_at(scores, **options, explained=[-3.0, -1.0, 0.01, 0.02, 0.03, 0.04]) == 4
    assert stopped_at(scores, **options, explained=[-3.0, -1.0, 0.01, 0.0, 0.0, 0.0]) == 4
    old = {"patience": 2, "min_explained": None}
    assert stopped_at(scores, **old, explained=[-3.0] * 6) == 2
    assert stopped_at(scores, **options) == 2  # not measured


def test_epochs_that_cannot_be_selected_are_no_best_and_do_not_count():
    method, fit = methods.create("early_stopping", patience=2), make_fit()
    for fit.epoch, fit.score in enumerate([0.9, 0.8, 0.7, 0.6, 0.5, 0.5]):
        assert fit.stop_reason is None
        fit.eligible = fit.epoch >= 3
        method.tick("epoch_end", fit)
    assert fit.stop_reason
    assert method.best == 0.6


def test_the_reason_is_told():
    method, fit = methods.create("early_stopping", patience=1), make_fit(score=0.5)
    method.tick("epoch_end", fit)
    method.tick("step", fit)
    assert fit.stop_reason is None
    method.tick("epoch_end", fit)
    assert fit.stop_reason == "no better validation score for 1 epochs"


def test_a_missing_score_is_refused():
    with pytest.raises(InputError, match="no validation score"):
        methods.create("early_stopping").tick("epoch_end", make_fit())


@pytest.mark.parametrize(
    "options", [{"patience": 0}, {"min_delta": -1}, {"min_explained": -0.1}, {"min_explained": 1.0}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="at least"):
        methods.create("early_stopping", **options)


def test_it_continues_where_it_stopped():
    method, fit = methods.create("early_stopping", patience=2), make_fit(explained=0.5)
    for fit.score in (0.7, 0.6):
        method.tick("before_validation", fit)
        method.tick("epoch_end", fit)
    resumed = methods.create("early_stopping", patience=2)
    fit = make_fit(score=0.65, explained=0.0)  # it fell back, and the patience goes on
    resumed.load_state_dict(method.state_dict())
    resumed.tick("before_validation", fit)
    resumed.tick("epoch_end", fit)
    assert fit.stop_reason is not None
