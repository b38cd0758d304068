"""The probe of gradient similarity: its numbers, when it looks, and that the fit stays as it is."""

import numpy as np
import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.metrics.similarity import gradient_rows, similarity
from mimic_reg.probes.mgs_probe import gradient_similarity
from mimic_reg.samples import from_arrays
from tests.methods.fits import linear_model, make_fit

CONTRACT = {"every": 2, "samples": 4}


def some_samples(n=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    return from_arrays(x, (rng.random((n, 1)) < 0.4).astype(np.int8), "binary")


def test_a_linear_layer_against_its_closed_form():
    torch.manual_seed(0)
    net, x = torch.nn.Linear(7, 5).double(), torch.randn(6, 7, dtype=torch.float64)
    rows = gradient_rows([lambda s=s: net(s) for s in x], list(net.parameters()))
    assert rows.shape == (30, 40)
    # K is the Kronecker product of X X' + 1 and the identity of the outputs
    gram = x @ x.T + 1
    found = similarity(rows)
    assert found.trace == pytest.approx(5 * (x.square().sum() + 6).item() / 30)
    jitter = 1e-6 * found.trace * torch.eye(6).double()
    assert found.log_det == pytest.approx(torch.linalg.slogdet(gram + jitter)[1].item() / 6)


def test_equal_samples_have_the_least_determinant():
    net = torch.nn.Linear(3, 1).double()
    one = torch.ones(3, dtype=torch.float64)
    rows = gradient_rows([lambda: net(one)] * 4, list(net.parameters()))
    found = similarity(rows)
    assert found.trace == pytest.approx(4)
    expected = (np.log(16 + 4e-6) + 3 * np.log(4e-6)) / 4  # eigenvalues 16, 0, 0, 0
    assert found.log_det == pytest.approx(expected, abs=1e-3)


def test_products_keep_the_digits_that_tell_similar_samples_apart(monkeypatch):
    monkeypatch.setattr("mimic_reg.metrics.similarity.AT_ONCE", 300)  # blocks, the last one smaller
    torch.manual_seed(0)
    rows = torch.randn(1, 1000) + 1e-4 * torch.randn(6, 1000)
    exact, found = similarity(rows.double()), similarity(rows)
    values = torch.linalg.eigvalsh(rows.double() @ rows.double().T) + 1e-6 * exact.trace
    assert found == exact
    assert found.log_det == pytest.approx(values.log().mean().item(), rel=1e-9)


def test_of_logistic_regression_it_is_the_norm_of_the_inputs():
    samples = some_samples()
    model = linear_model(torch.tensor([[0.3, -0.7, 0.2]]))
    found = gradient_similarity(model, samples, num_samples=12)
    expected = (samples.units.values.square().sum(1) + 1).mean().item()
    assert found.trace == pytest.approx(expected, rel=1e-5)


def test_the_subset_is_fixed_and_mode_and_gradients_stay():
    model, samples = linear_model(torch.tensor([[0.3, -0.7, 0.2]])).train(), some_samples(300)
    model.head.weight.grad = torch.ones(1, 3)
    one, two = (gradient_similarity(model, samples, num_samples=5) for _ in range(2))
    assert one == two
    assert gradient_similarity(model, samples.keep(np.arange(5)), num_samples=5) != one
    assert model.training
    assert model.head.weight.grad.equal(torch.ones(1, 3))


def test_it_looks_after_the_first_epoch_and_every_third():
    probe, fit = methods.create("mgs_probe", every=3, samples=2), make_fit()
    fit.train = some_samples()
    probe.prepare(linear_model(torch.tensor([[0.3, -0.7, 0.2]])), fit)
    looked = []
    for fit.epoch in range(7):
        fit.records.clear()
        for event in ("epoch_start", "step", "epoch_end"):
            probe.tick(event, fit)
        if fit.records:
            assert fit.records.keys() == {"mgs_trace", "mgs_log_det"}
            looked.append(fit.epoch)
    assert looked == [0, 2, 5]


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="every must be at least 1, got 0"):
        methods.create("mgs_probe", every=0)
    probe = methods.create("mgs_probe")
    probe.prepare(linear_model(torch.tensor([[0.3]])), make_fit())  # to predict it needs none
    with pytest.raises(InputError, match="must have samples"):
        probe.tick("epoch_end", make_fit())
