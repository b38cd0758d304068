"""Jacobian regularisation against closed forms and `torch.autograd.functional.jacobian`."""

import math

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.jacobian import exact_penalty, projected_penalty, random_directions
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"weight": 0.5, "projections": 2}


def test_linear_logits():
    W = torch.randn(5, 7, dtype=torch.float64)
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    assert exact_penalty(x @ W.T, x).item() == pytest.approx(W.square().sum().item() / 2)


def test_a_network_against_autograd_s_jacobian():
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)
    ).double()
    x = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    jacobians = [torch.autograd.functional.jacobian(net, sample) for sample in x]
    expected = torch.stack([j.square().sum() for j in jacobians]).mean() / 2
    assert exact_penalty(net(x), x).item() == pytest.approx(expected.item())


def test_random_projections_are_unbiased():
    W = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    x = torch.zeros(20_000, 4, requires_grad=True)  # 20,000 directions at once
    generator = torch.Generator().manual_seed(1)
    logits = x @ W.T
    v = random_directions(logits.detach(), generator)
    assert torch.allclose(v.square().sum(1), torch.ones(len(v)), atol=1e-5)
    error = 6 / 2 * (v @ W).square().sum(1).std().item() / math.sqrt(len(v))
    exact = W.square().sum().item() / 2
    got = projected_penalty(logits, x, 1, generator).item()
    assert abs(got - exact) < 4 * error


def test_more_projections_are_their_mean():
    W = torch.randn(6, 4)
    x = torch.randn(3, 4, requires_grad=True)
    one_by_one = torch.Generator().manual_seed(1)
    singles = [projected_penalty(x @ W.T, x, 1, one_by_one).item() for _ in range(3)]
    together = projected_penalty(x @ W.T, x, 3, torch.Generator().manual_seed(1))
    assert together.item() == pytest.approx(sum(singles) / 3, rel=1e-5)


@pytest.mark.parametrize(("outputs", "options"), [(1, {}), (4, {"projections": 0})])
def test_one_output_and_no_projections_are_exact(outputs, options):
    W = torch.randn(outputs, 6)
    model = linear_model(W)
    x, y = torch.randn(3, 6), torch.zeros(3, outputs)
    fit, batch = make_fit(num_outputs=outputs), make_batch(x, y)
    state = fit.generator.get_state()
    method = methods.create("jacobian", weight=0.3, **options)
    penalty = objective(method, model, batch, fit)
    plain = objective(methods.create("none"), model, batch, fit)
    expected = 0.3 * W.square().sum().item() / 2
    assert (penalty - plain).item() == pytest.approx(expected, rel=1e-4)
    assert torch.equal(fit.generator.get_state(), state)  # nothing was drawn


def test_its_gradient_at_zero_is_zero_not_nan():
    W = torch.zeros(2, 3, requires_grad=True)
    x = torch.randn(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(exact_penalty(x @ W.T, x), W)
    assert gradient.eq(0).all()


@pytest.mark.parametrize("options", [{"weight": -1}, {"weight": 1, "projections": -1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="at least 0, got -1"):
        methods.create("jacobian", **options)
