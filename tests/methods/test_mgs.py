"""The trace penalty: exact on a linear model, unbiased, differentiable; its strength."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.mgs import trace_estimate
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"weight": 0.01}


def signs(n, c):
    """All vectors of signs (2^(n c), n, c)."""
    codes = torch.arange(2 ** (n * c))[:, None] >> torch.arange(n * c)
    return (2.0 * (codes & 1) - 1).double().view(-1, n, c)


def test_the_estimate_is_the_trace_in_the_mean_over_all_signs():
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2).double()
    x = torch.randn(3, 3, dtype=torch.float64)
    parameters = list(net.parameters())
    found = torch.stack([trace_estimate(net(x), v, parameters) for v in signs(3, 2)]).mean()
    exact = 2 * (x.square().sum() + 3) / 6  # C times the sum of ||x||² + 1, over R
    assert found.item() == pytest.approx(exact.item())


def test_its_gradient_is_that_of_the_norm():
    """z = w2 w1 x: J'v = (v w2 x, v w1 x), so R's gradient by w1 is 2 w1 x²."""
    w1, w2 = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (3.0, 2.0))
    logits = (w2 * w1 * torch.tensor([[1.5]], dtype=torch.float64)).view(1, 1)
    penalty = trace_estimate(logits, torch.ones(1, 1).double(), [w1, w2])
    assert penalty.item() == pytest.approx((9 + 4) * 2.25)
    penalty.backward()
    assert w1.grad.item() == pytest.approx(2 * 3 * 2.25)


def test_it_is_added_with_its_weight():
    weight = torch.tensor([[0.3, -0.7, 0.2]])
    batch = make_batch(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0]]))
    plain, penalised = (
        objective(methods.create("mgs", weight=w), linear_model(weight), batch, make_fit())
        for w in (0.0, 0.5)
    )
    assert (penalised - plain).item() == pytest.approx(0.5 * (1 + 4 + 9 + 1))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="weight must be at least 0, got -1"):
        methods.create("mgs", weight=-1.0)
    assert methods.create("mgs", weight=0.0).needs == frozenset()
