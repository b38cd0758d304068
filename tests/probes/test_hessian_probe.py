"""The probe of the Hessian's trace: when it looks, at what, and that it leaves the fit alone."""

import numpy as np
import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.probes.hessian_probe import hessian_trace
from mimic_reg.samples import from_arrays
from tests.methods.fits import linear_model, make_fit

CONTRACT = {"every": 2, "vectors": 3, "samples": 20}


def some_samples(n=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    return from_arrays(x, (rng.random((n, 1)) < 0.4).astype(np.int8), "binary")


def logistic():
    return linear_model(torch.tensor([[0.3, -0.7, 0.2]]), bias=0.1)


def closed_form(samples):
    """Logistic regression with a bias: the mean of s(1 - s) (||x||² + 1)."""
    x = samples.units.values.double()
    s = (x @ torch.tensor([0.3, -0.7, 0.2]).double() + 0.1).sigmoid()
    return float((s * (1 - s) * (x.square().sum(1) + 1)).mean())


def test_it_estimates_the_trace_of_logistic_regression():
    samples = some_samples()
    found = hessian_trace(logistic(), samples, num_vectors=4000)
    assert found.mean == pytest.approx(closed_form(samples), abs=4 * found.standard_error)
    assert found.standard_error < 0.01 * found.mean


def test_batches_weigh_as_many_samples_as_they_hold():
    samples = some_samples()
    whole = hessian_trace(logistic(), samples, num_vectors=8)
    parts = hessian_trace(logistic(), samples, num_vectors=8, batch_numbers=9)  # of 3, and one of 1
    assert parts.mean == pytest.approx(whole.mean, rel=1e-5)
    assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-4)


def test_the_subset_is_fixed_and_not_the_first_rows():
    samples = some_samples(400)
    one, two = (hessian_trace(logistic(), samples, num_vectors=4, num_samples=7) for _ in range(2))
    assert one == two
    first = samples.keep(np.arange(7))
    assert hessian_trace(logistic(), first, num_vectors=4).mean != one.mean


def test_it_leaves_mode_and_gradients_alone():
    model = logistic().train()
    model.head.weight.grad = torch.ones(1, 3)
    hessian_trace(model, some_samples(), num_vectors=2)
    assert model.training
    assert model.head.weight.grad.equal(torch.ones(1, 3))
    assert model.head.bias.grad is None


def test_it_looks_after_the_first_epoch_and_every_third():
    probe, fit = methods.create("hessian_probe", every=3, vectors=2), make_fit()
    fit.train = some_samples()
    probe.prepare(logistic(), fit)
    looked = []
    for fit.epoch in range(9):
        fit.records.clear()
        for event in ("epoch_start", "step", "epoch_end"):
            probe.tick(event, fit)
        if fit.records:
            assert fit.records.keys() == {"hessian_trace", "hessian_trace_se"}
            looked.append(fit.epoch)
    assert looked == [0, 2, 5, 8]


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="every must be at least 1, got 0"):
        methods.create("hessian_probe", every=0)
    probe = methods.create("hessian_probe")
    probe.prepare(logistic(), make_fit())  # to predict it needs none
    with pytest.raises(InputError, match="must have samples"):
        probe.tick("epoch_end", make_fit())
