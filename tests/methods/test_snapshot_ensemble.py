"""The schedule by its published numbers; the ensemble by hand."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.snapshot_ensemble import cosine_rate, cycle_of
from tests.methods.fits import linear_model, make_fit

CONTRACT = {"cycles": 2, "members": 2}


def test_the_learning_rate_falls_and_jumps_back():
    rates = [cosine_rate(0.1, step, 5) for step in range(6)]
    expected = [0.1, 0.09045, 0.06545, 0.03455, 0.00955, 0.1]
    assert rates == pytest.approx(expected, abs=1e-5)


def test_cycles_have_about_the_same_length():
    assert [cycle_of(e, 3, 10) for e in range(10)] == [(0, 3)] * 3 + [(3, 6)] * 3 + [(6, 10)] * 4
    assert {cycle_of(e, 1, 7) for e in range(7)} == {(0, 7)}


def test_a_fit_keeps_the_ends_of_its_cycles():
    model, fit = linear_model([[0.0]]), make_fit(max_epochs=4, epoch_steps=2, target="binary")
    method = methods.create("snapshot_ensemble", cycles=2, members=2)
    method.prepare(model, fit)
    optimizer = method.optimizer(torch.optim.SGD(model.parameters(), lr=0.1), fit)
    rates, eligible = [], []
    for fit.epoch in range(4):
        method.tick("epoch_start", fit)
        for _ in range(2):
            rates.append(optimizer.param_groups[0]["lr"])
            fit.step += 1
            with torch.no_grad():
                model.head.weight.fill_(fit.step)
            method.tick("step", fit)
        fit.eligible = True  # as the engine says first
        method.tick("before_validation", fit)
        eligible.append(fit.eligible)
    assert rates == pytest.approx([cosine_rate(0.1, step, 4) for step in range(8)])
    assert eligible == [False, False, False, True]
    x, ones = torch.ones(1, 1), torch.ones(1, dtype=torch.int64)
    with torch.no_grad():
        p = method.predictor(model, model)(x, ones).sigmoid()
    expected = (torch.tensor(4.0).sigmoid() + torch.tensor(8.0).sigmoid()) / 2
    assert p.item() == pytest.approx(expected.item())


def test_impossible_options_are_refused():
    for options, rule in (
        ({"cycles": 0}, "cycles must be at least 1"),
        ({"cycles": 2}, "members must be from 1 to the number of cycles, 2, got 5"),
        ({"members": 0}, "members must be from 1"),
    ):
        with pytest.raises(InputError, match=rule):
            methods.create("snapshot_ensemble", **options)
    short = make_fit(max_epochs=2, epoch_steps=2)
    with pytest.raises(InputError, match="cycles must be at most the steps of the fit, 4, got 5"):
        methods.create("snapshot_ensemble").tick("epoch_start", short)
